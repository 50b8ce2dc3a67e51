"""What chargers and loads tell is kept beside the rest: with it, or not at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cloud.model.telemetry import FLEXIBLE_POINTS, HOLE, SAMPLES, Frames
from cloud.store.history import History
from cloud.store.rollups import QUARTER_MS
from cloud.tests.store.test_history import NOW_MS, T0_MS, frames_of, position


def with_charger(slot: int, seqs: list[int], power_w: int) -> Frames:
    """A vehicle that charges with power_w, and nothing of a load."""
    frames = frames_of([slot] * len(seqs), seqs)
    flexible = np.full((len(seqs), len(FLEXIBLE_POINTS), SAMPLES), HOLE, dtype=np.int32)
    flexible[:, FLEXIBLE_POINTS.index("ev_power_w")] = -power_w
    flexible[:, FLEXIBLE_POINTS.index("ev_connected")] = 1
    return replace(frames, flexible=flexible)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history")


def test_charging_is_read_back_and_summed_while_sites_without_leave_no_row(history: History) -> None:
    history.append(0, position(2), 1, [frames_of([1], [0]), with_charger(7, list(range(60)), 7400)])
    read = history.read([1, 7], T0_MS, T0_MS + 60_000, ["ev_power_w", "flexible_load_power_w"])
    assert np.isnan(read.columns["ev_power_w"][0]).all()
    assert (read.columns["ev_power_w"][1] == -7400.0).all()
    assert np.isnan(read.columns["flexible_load_power_w"]).all()
    assert history.counts()[7].stored == 60, "frames are counted once"

    def energy_wh() -> float:
        rows = list(history.series(None, T0_MS, T0_MS + QUARTER_MS, ["ev_power_w"]))
        return float(sum(batch.column("ev_energy_wh").to_numpy().sum() for batch in rows))

    assert energy_wh() == pytest.approx(-7400 / 60)  # a minute
    assert history.upkeep(0, NOW_MS).summed > 0
    assert energy_wh() == pytest.approx(-7400 / 60), "the sums say what the samples said"


def test_it_counts_only_once_the_rest_is_written(
    tmp_path: Path, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.append(0, position(1), 1, with_charger(7, [0], 3000))
    writer, made = pq.ParquetWriter, 0

    def full_at_the_second(*given: object, **named: object) -> object:
        nonlocal made
        made += 1
        if made == 2:
            raise OSError(28, "No space left on device")
        return writer(*given, **named)

    monkeypatch.setattr(pq, "ParquetWriter", full_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        history.append(0, position(2), 2, with_charger(7, [1], 3000))
    monkeypatch.undo()
    assert made == 2
    assert len(list((tmp_path / "history" / "flexible").rglob("*.parquet"))) == 1
    history.append(0, position(3), 2, with_charger(7, [1, 2], 3000))
    assert _known(history) == 30


def test_what_a_killed_writer_left_ahead_of_the_rest_is_removed_and_never_summed(
    tmp_path: Path, history: History
) -> None:
    history.append(0, position(1), 1, with_charger(7, [0], 3000))
    history.append(0, position(2), 2, with_charger(7, [1], 3000))
    newest = max((tmp_path / "history" / "raw").rglob("*.parquet"))
    newest.unlink()  # as if it had been killed between the two
    history.upkeep(0, NOW_MS)
    again = History(tmp_path / "history")
    again.begin(0)
    assert _known(again) == 10
    again.append(0, position(2), 2, with_charger(7, [1], 3000))
    again.upkeep(0, NOW_MS)
    (batch,) = again.series([7], T0_MS, T0_MS + QUARTER_MS, ["ev_power_w"])
    known_ms = batch.column("ev_power_w_coverage").to_numpy() * QUARTER_MS
    assert known_ms == pytest.approx([2 * SAMPLES * 100])


def test_points_that_lie_apart_are_not_asked_for_together(history: History) -> None:
    with pytest.raises(ValueError, match="ev_power_w"):
        list(history.samples(None, T0_MS, NOW_MS, ["soc", "ev_power_w"]))
    with pytest.raises(ValueError, match="ev_power"):
        list(history.series(None, T0_MS, NOW_MS, ["ev_power"]))


def _known(history: History) -> int:
    read = history.read([7], T0_MS, T0_MS + 10_000, ["ev_power_w"])
    return int((~np.isnan(read.columns["ev_power_w"])).sum())
