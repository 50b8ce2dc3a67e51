"""Sums by minute and quarter hour against a plain loop over the samples; late data; object stores; retention."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from cloud.model.telemetry import HOLE, POINTS, SAMPLES, Frames
from cloud.store.history import History
from cloud.store.place import Place
from cloud.store.segments import DAY_MS, Position
from cloud.store.upkeep import Done, Retention

T0_MS = 1_790_001_000_000 // 900_000 * 900_000
HOUR_MS = 3_600_000
NOW_MS = T0_MS + 30 * HOUR_MS


def some_frames(draw: np.random.Generator, number: int, since_ms: int, seq: int) -> Frames:
    """Of ten sites, at two resolutions, with holes, in half an hour from since_ms on."""
    interval_ms = draw.choice([100, 1000], number)
    counts = draw.integers(-30_000, 30_000, (number, len(POINTS), SAMPLES)).astype(np.int32)
    counts[draw.random(counts.shape) < 0.1] = HOLE
    counts[draw.random((number, len(POINTS))) < 0.1] = HOLE
    return Frames(
        np.zeros(number, dtype=np.int64),
        draw.integers(0, 10, number),
        seq * 1000 + np.arange(number),
        since_ms + draw.integers(0, 180, number) * 10_000,
        interval_ms,
        counts,
    )


def counted(parts: list[Frames], bucket_ms: int) -> dict[tuple[int, int], list[list[float]]]:
    """By slot and bucket, for each point: known ms, W ms, least, most. Sample by sample."""
    nothing = [0, 0, np.inf, -np.inf]
    found: dict[Any, list[list[float]]] = defaultdict(lambda: [list(nothing) for _ in POINTS])
    for frames in parts:
        for slot, interval, instants, counts in zip(
            frames.slot, frames.interval_ms, frames.sample_ms(), frames.counts, strict=True
        ):
            for sample, instant in enumerate(instants):
                row = found[int(slot), int(instant) // bucket_ms * bucket_ms]
                for point, count in enumerate(counts[:, sample].tolist()):
                    if count != HOLE:
                        known, total, low, high = row[point]
                        row[point] = [known + interval, total + count * interval, min(low, count), max(high, count)]
    return found


def asked(history: History, bucket_ms: int) -> dict[tuple[int, int], dict[str, Any]]:
    rows = [
        row
        for batch in history.series(None, T0_MS - DAY_MS, NOW_MS, resolution_ms=bucket_ms)
        for row in batch.to_pylist()
    ]
    assert [(row["slot"], row["start_ms"]) for row in rows] == sorted((row["slot"], row["start_ms"]) for row in rows)
    return {(row["slot"], row["start_ms"]): row for row in rows}


def assert_same(history: History, parts: list[Frames], bucket_ms: int) -> None:
    rows, expected = asked(history, bucket_ms), counted(parts, bucket_ms)
    assert rows.keys() == expected.keys()
    for key, row in rows.items():
        known, total, low, high = expected[key][0]  # grid_power_w: a count is a watt
        assert round(row["grid_power_w_coverage"] * bucket_ms) == known
        assert row["grid_energy_wh"] == (pytest.approx(total / HOUR_MS, abs=1e-9) if known else None)
        assert row["grid_power_w_min"] == (low if known else None)
        assert row["grid_power_w_max"] == (high if known else None)
        known, total, low, high = expected[key][3]
        assert row["frequency_hz"] == (pytest.approx(total / known / 1000) if known else None)


@pytest.mark.parametrize("bucket_ms", [60_000, 900_000, HOUR_MS])
@given(st.integers(0, 1 << 32), st.lists(st.sampled_from(["append", "late", "upkeep", "much later"]), max_size=9))
@settings(deadline=None, max_examples=8)
def test_sums_are_those_of_the_samples_whenever_they_are_made(
    tmp_path_factory: pytest.TempPathFactory, bucket_ms: int, seed: int, acts: list[str]
) -> None:
    """Asked before any upkeep, between, and after joins: always every sample, once."""
    draw = np.random.default_rng(seed)
    history = History(tmp_path_factory.mktemp("history"))
    parts: list[Frames] = []
    for number, act in enumerate([*acts, "append", "upkeep"], start=1):
        if act == "upkeep":
            history.upkeep(0, T0_MS + HOUR_MS)
        elif act == "much later":
            history.upkeep(0, NOW_MS + 2 * DAY_MS)
        else:
            since_ms = T0_MS if act == "append" else T0_MS - int(draw.integers(1, 20)) * HOUR_MS
            parts.append(some_frames(draw, 12, since_ms, number))
            history.append(0, Position(0, 1, number), number, parts[-1])
    assert_same(history, parts, bucket_ms)
    assert sum(count.stored for count in history.counts().values()) == sum(map(len, parts))


def test_a_backfill_lands_in_its_own_hours_and_days_and_corrects_their_sums(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    history = History(tmp_path)
    now = some_frames(draw, 20, T0_MS, 1)
    history.append(0, Position(0, 1, 5), 1, now)
    history.upkeep(0, NOW_MS)
    backfill = [some_frames(draw, 20, T0_MS - 3 * HOUR_MS, 2), some_frames(draw, 20, T0_MS - 10 * HOUR_MS, 3)]
    written = history.append(0, Position(0, 1, 9), 6, [*backfill, some_frames(draw, 5, T0_MS, 4)])
    assert [segment.late for segment in written].count(False) == 1
    for segment in written:
        assert segment.newest_ms // HOUR_MS - segment.oldest_ms // HOUR_MS <= 1  # a frame may reach into the next hour
    assert {segment.day for segment in written} >= {"2026-09-21"}
    history.upkeep(0, NOW_MS)
    rows = asked(history, 900_000)
    expected = counted([now, *backfill], 900_000)
    late = [key for key in expected if key[1] < T0_MS - HOUR_MS]
    assert late
    for key in late:
        assert round(rows[key]["grid_power_w_coverage"] * 900_000) == expected[key][0][0]


def test_late_files_without_their_commit_are_no_part_of_the_next_start(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    history = History(tmp_path)
    history.append(0, Position(0, 1, 5), 1, some_frames(draw, 5, T0_MS, 1))
    written = history.append(
        0, Position(0, 1, 9), 6, [some_frames(draw, 5, T0_MS, 2), some_frames(draw, 5, T0_MS - 5 * HOUR_MS, 3)]
    )
    commit = next(segment for segment in written if not segment.late)
    (tmp_path / "raw" / commit.path).unlink()  # as if the process was killed before its last rename
    position = history.position(0)
    assert position is not None
    assert position.last_sequence == 5
    assert history.upkeep(0, NOW_MS).summed == 2  # the first commit alone: by the minute, and by the quarter hour
    history.tidy(0)
    assert sum(count.stored for count in history.counts().values()) == 5


def test_the_sum_of_a_group_is_the_sum_of_its_sites(tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    history = History(tmp_path)
    history.append(0, Position(0, 1, 1), 1, some_frames(draw, 200, T0_MS, 1))
    for slots in ([3], [1, 2, 3], [0, 4, 9], None):
        alone: dict[int, float] = defaultdict(float)
        for batch in history.series(slots, T0_MS, NOW_MS, ["grid_power_w"]):
            for row in batch.to_pylist():
                alone[row["start_ms"]] += row["grid_energy_wh"] or 0.0
        summed = {
            row["start_ms"]: row
            for batch in history.series(slots, T0_MS, NOW_MS, ["grid_power_w"], summed=True)
            for row in batch.to_pylist()
        }
        assert {start: row["grid_energy_wh"] for start, row in summed.items()} == pytest.approx(alone)
        assert all(row["grid_power_w"] == pytest.approx(row["grid_energy_wh"] * 4) for row in summed.values())


@pytest.mark.parametrize("kind", ["subtree", "mock"])
def test_the_same_in_an_object_store(tmp_path: Path, kind: str) -> None:
    """No renames, no appends: what pyarrow offers of S3 and its like, here by two of its own file systems."""
    store = fs._MockFileSystem() if kind == "mock" else fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    history = History(Place(store, "bucket/history"))
    draw = np.random.default_rng(4)
    parts = [some_frames(draw, 15, T0_MS - late * HOUR_MS, late + 1) for late in (0, 2, 0)]
    for number, frames in enumerate(parts, start=1):
        history.append(0, Position(0, 1, number), number, frames)
    assert_same(history, parts, 900_000)
    assert history.upkeep(0, NOW_MS).joins > 0
    assert_same(history, parts, 900_000)
    assert History(history.place).position(0) == Position(0, 1, 3)


def test_retention_by_tier_never_forgets_the_position(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    history = History(tmp_path)
    parts = [some_frames(draw, 10, T0_MS + day * DAY_MS, day + 1) for day in range(4)]
    for number, frames in enumerate(parts, start=1):
        history.append(0, Position(0, 1, number), number, frames)
    end_ms = T0_MS + 40 * DAY_MS
    removed = history.upkeep(0, end_ms, Retention(raw_days=10, minute_days=20)).removed
    assert removed >= 6
    assert history.position(0) == Position(0, 1, 4)
    assert_same_quarters(history, parts, end_ms)


def assert_same_quarters(history: History, parts: list[Frames], end_ms: int) -> None:
    known = sum(row[0][0] for row in counted(parts, 900_000).values())
    measured = sum(
        row["grid_power_w_coverage"] * 900_000
        for batch in history.series(None, T0_MS - DAY_MS, end_ms)
        for row in batch.to_pylist()
    )
    assert round(measured) == known


def test_runs_that_were_kept_are_known_when_the_raw_rows_are_gone(tmp_path: Path) -> None:
    draw = np.random.default_rng(6)
    history = History(tmp_path)
    frames = some_frames(draw, 10, T0_MS, 1)
    history.append(0, Position(0, 1, 1), 1, frames)
    history.keep_runs(0, Position(0, 1, 1), history.runs())
    history.append(0, Position(0, 1, 2), 2, some_frames(draw, 5, T0_MS + 20 * DAY_MS, 2))
    before = history.next_seq(int(frames.slot[0]))
    history.upkeep(0, T0_MS + 40 * DAY_MS, Retention(raw_days=1))
    assert history.next_seq(int(frames.slot[0])) == before
    assert len(history.runs()) >= 10


def test_an_upkeep_that_is_stopped_leaves_nothing_and_is_made_up_for(tmp_path: Path) -> None:
    draw = np.random.default_rng(7)
    history = History(tmp_path)
    parts = [some_frames(draw, 20, T0_MS, number) for number in range(1, 5)]
    for number, frames in enumerate(parts, start=1):
        history.append(0, Position(0, 1, number), number, frames)
    before = sorted(tmp_path.rglob("*.*"))
    assert history.upkeep(0, NOW_MS, stopping=lambda: True) == Done(summed=0, joins=0, removed=0)
    assert sorted(tmp_path.rglob("*.*")) == before
    answers = iter([False, False, True])
    history.upkeep(0, NOW_MS, stopping=lambda: next(answers, True))
    assert_same(history, parts, 900_000)
    assert history.upkeep(0, NOW_MS).joins > 0
    assert_same(history, parts, 900_000)


def test_answers_that_are_read_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    history, draw = History(tmp_path), np.random.default_rng(5)
    parts = [some_frames(draw, 60, T0_MS, seq) for seq in range(2)]
    for number, frames in enumerate(parts):
        history.append(0, Position(0, 1, number + 1), number + 1, frames)
    history.upkeep(0, NOW_MS)
    alone = {slot: rows_of(history, [slot]) for slot in range(10)}
    assert any(alone.values())
    with ThreadPoolExecutor(4) as threads:
        for slot, rows in zip(range(10), threads.map(lambda slot: rows_of(history, [slot]), range(10)), strict=True):
            assert rows == alone[slot]
    one, other = (history.series([slot], T0_MS - DAY_MS, NOW_MS) for slot in (0, 1))
    pairs = list(zip_longest(one, other))
    assert [row for batch, _ in pairs if batch is not None for row in batch.to_pylist()] == alone[0]
    assert [row for _, batch in pairs if batch is not None for row in batch.to_pylist()] == alone[1]


def rows_of(history: History, slots: list[int]) -> list[dict[str, Any]]:
    return [row for batch in history.series(slots, T0_MS - DAY_MS, NOW_MS) for row in batch.to_pylist()]
