"""The history: what was measured comes back from the files, holes and all; positions and counts tell the truth."""

import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloud.model.telemetry import HOLE, POINTS, SAMPLES, SCALES, Array, Frames
from cloud.store.errors import HistoryError
from cloud.store.history import History
from cloud.store.place import Place
from cloud.store.raw import HOUR_MS, RAW
from cloud.store.segments import Position, Segments
from cloud.store.upkeep import FANOUT, Done

T0_MS = 1_790_001_000_000 // 900_000 * 900_000
NOW_MS = T0_MS + 20 * 60_000
CREATED_NS = 1_790_000_000_000_000_000


def frames_of(slot: list[int], seq: list[int], counts: Array | None = None, interval_ms: int = 100) -> Frames:
    """Frames whose sequence number tells their time."""
    number = len(slot)
    if counts is None:
        counts = np.arange(number * len(POINTS) * SAMPLES, dtype=np.int32).reshape(number, len(POINTS), SAMPLES)
    seqs = np.array(seq, dtype=np.int64)
    return Frames(
        message=np.zeros(number, dtype=np.int64),
        slot=np.array(slot, dtype=np.int64),
        seq=seqs,
        t0_ms=T0_MS + seqs * SAMPLES * interval_ms,
        interval_ms=np.full(number, interval_ms, dtype=np.int64),
        blocks=counts,
    )


def position(last: int, epoch: int = 0) -> Position:
    return Position(epoch, CREATED_NS + epoch, last)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history")


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "history" / "raw").rglob("*.parquet"))


COUNTS = hnp.arrays(
    np.int32,
    st.tuples(st.integers(1, 6), st.just(len(POINTS)), st.just(SAMPLES)),
    elements=st.one_of(st.just(HOLE), st.integers(-0x7FFFFFFF, 0x7FFFFFFF), st.integers(-5, 5)),
    fill=st.just(HOLE),
)


@given(COUNTS, st.sampled_from([100, 1000]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_appended_is_read_back_with_its_holes(tmp_path: Path, counts: Array, interval_ms: int) -> None:
    shutil.rmtree(tmp_path / "history", ignore_errors=True)
    history = History(tmp_path / "history")
    number = len(counts)
    frames = frames_of([3] * number, list(range(number)), counts, interval_ms)
    history.append(0, position(number), 1, frames)
    end_ms = T0_MS + number * SAMPLES * interval_ms
    read = history.read([3], T0_MS, end_ms)
    assert read.interval_ms == interval_ms
    assert read.t_ms.tolist() == list(range(T0_MS, end_ms, interval_ms))
    for index, point in enumerate(POINTS):
        expected = np.where(counts[:, index] == HOLE, np.nan, counts[:, index].astype(np.float64) * SCALES[index])
        np.testing.assert_array_equal(read.columns[point], expected.reshape(1, -1))


def test_sites_are_read_on_one_grid_with_gaps_between_frames(history: History) -> None:
    history.append(0, position(1), 1, frames_of([5, 2], [1, 1]))
    history.append(0, position(2), 2, frames_of([2], [3]))
    read = history.read([2, 9, 5], T0_MS + 1500, T0_MS + 4000, ["soc"])
    assert read.slots == (2, 9, 5)
    assert list(read.columns) == ["soc"]
    measured = ~np.isnan(read.columns["soc"])
    assert measured[0].tolist() == [True] * 5 + [False] * 10 + [True] * 10  # frames 1 and 3, frame 2 never came
    assert not measured[1].any()
    assert measured[2].tolist() == [True] * 5 + [False] * 20
    with pytest.raises(ValueError, match="twice"):
        history.read([2, 2], T0_MS, T0_MS + 1000)


def test_nothing_gives_an_empty_grid(history: History) -> None:
    read = history.read([1], T0_MS, T0_MS + 5000)
    assert (read.interval_ms, len(read.t_ms)) == (1000, 5)
    assert np.isnan(read.columns["frequency_hz"]).all()
    assert (history.position(0), history.counts(), history.size().values, history.next_seq(0)) == (None, {}, 0, 1)


def test_the_position_is_that_of_the_newest_life_of_the_stream(history: History) -> None:
    history.append(0, position(10), 1, frames_of([1], [1]))
    history.append(0, position(500), 11, frames_of([1], [2]))
    history.append(1, position(900), 1, frames_of([1], [3]))
    assert history.position(0) == position(500)
    history.append(0, position(7, epoch=1), 1, frames_of([1], [4]))
    assert history.position(0) == position(7, epoch=1)
    assert history.position(1) == position(900)


def test_counts_come_from_the_rows(history: History) -> None:
    history.append(0, position(1), 1, frames_of([1, 1, 2], [1, 2, 5]))
    history.append(0, position(2), 2, frames_of([1, 1], [2, 6]))
    counts = history.counts()
    one, two = counts[1], counts[2]
    assert (one.stored, one.distinct, one.duplicate, one.missing) == (4, 3, 1, 3)  # 3, 4, 5 never came, 2 did twice
    assert (two.stored, two.duplicate, two.missing, two.last_seq) == (1, 0, 4, 5)
    assert (history.next_seq(1), history.next_seq(2), history.next_seq(3)) == (7, 6, 1)


def test_upkeep_joins_small_neighbours_and_keeps_rows_position_and_runs(tmp_path: Path, history: History) -> None:
    number = FANOUT * 2 + 3
    for seq in range(1, number + 1):
        history.append(0, position(10 * seq), 10 * seq - 9, frames_of([4, 7], [seq, seq]))
    before = history.read([4, 7], T0_MS, T0_MS + 100_000)
    assert history.upkeep(0, NOW_MS).joins == 2
    assert len(files(tmp_path)) == 2 + 3
    after = history.read([4, 7], T0_MS, T0_MS + 100_000)
    for point in POINTS:
        np.testing.assert_array_equal(before.columns[point], after.columns[point])
    assert history.position(0) == position(10 * number)
    assert {(count.stored, count.distinct, count.missing) for count in history.counts().values()} == {
        (number, number, 0)
    }
    assert history.next_seq(4) == number + 1
    assert history.upkeep(0, NOW_MS) == Done(summed=0, joins=0, removed=0)
    size = history.size()
    assert size.values == 2 * number * SAMPLES * len(POINTS)
    assert size.bytes == sum(path.stat().st_size for path in files(tmp_path))


def test_a_closed_hour_becomes_one_file_and_still_knows_the_position(tmp_path: Path, history: History) -> None:
    for seq in range(1, 6):
        history.append(0, position(seq), seq, frames_of([0], [seq]))
    assert history.upkeep(0, NOW_MS + HOUR_MS).joins >= 1
    assert len(files(tmp_path)) == 1
    assert history.position(0) == position(5)


def test_segments_of_different_days_or_lives_are_not_joined(tmp_path: Path, history: History) -> None:
    for seq in range(1, 4):
        history.append(0, position(seq), seq, frames_of([0], [seq]))
    history.append(0, position(4), 4, frames_of([0], [200_000]))  # two days on
    for seq in range(1, 4):
        history.append(0, position(seq, epoch=1), seq, frames_of([0], [200_000 + seq]))
    history.upkeep(0, NOW_MS + 90 * HOUR_MS)
    assert len(files(tmp_path)) == 3
    assert history.counts()[0].stored == 7


def test_leftovers_of_an_interrupted_compaction_are_not_read_and_removed(tmp_path: Path, history: History) -> None:
    for seq in range(1, FANOUT + 1):
        history.append(0, position(seq), seq, frames_of([0], [seq]))
    kept = {path: path.read_bytes() for path in files(tmp_path)}
    history.upkeep(0, NOW_MS)
    for path, content in list(kept.items())[FANOUT // 2 :]:  # as if the process had died while it removed them
        path.write_bytes(content)
    unfinished = files(tmp_path)[0].with_name(".half.parquet.1.tmp")
    unfinished.write_bytes(b"half")
    assert history.counts()[0].duplicate == 0
    assert history.size().files == 1
    history.tidy(0)
    assert len(files(tmp_path)) == 1
    assert not unfinished.exists()
    assert history.counts()[0].stored == FANOUT


def test_a_damaged_or_strange_file_is_named(tmp_path: Path, history: History) -> None:
    history.append(0, position(1), 1, frames_of([0], [1]))
    (path,) = files(tmp_path)
    renamed = path.with_name(path.name.replace("000000000000001-1", "000000000000002-1"))
    assert renamed != path
    path.rename(renamed)
    with pytest.raises(HistoryError, match="name and footer differ"):
        history.position(0)
    renamed.write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(HistoryError, match=str(renamed)):
        history.position(0)
    renamed.rename(renamed.with_name("holiday.parquet"))
    with pytest.raises(HistoryError, match=r"holiday\.parquet"):
        history.position(0)


def test_rows_that_are_damaged_are_an_error_of_the_history(tmp_path: Path, history: History) -> None:
    for seq in range(1, FANOUT + 1):
        history.append(0, position(seq), seq, frames_of([0], [seq]))
    path = files(tmp_path)[3]
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)  # the footer still stands
    path.write_bytes(content)
    for read in (
        history.counts,
        lambda: history.read([0], T0_MS, T0_MS + 60_000),
        lambda: history.quarter_hours(0, T0_MS, T0_MS + 60_000),
        lambda: history.upkeep(0, NOW_MS),
    ):
        with pytest.raises(HistoryError):
            read()


def test_files_are_plain_parquet_for_others(tmp_path: Path, history: History) -> None:
    history.append(3, position(9), 1, frames_of([1, 2], [1, 1]))
    (path,) = files(tmp_path)
    assert path.parent.name == "part=3"
    assert path.parent.parent.name == "day=2026-09-21"
    metadata = pq.read_metadata(path)
    encodings = {
        metadata.row_group(0).column(index).path_in_schema: metadata.row_group(0).column(index).encodings
        for index in range(metadata.num_columns)
    }
    assert all("BYTE_STREAM_SPLIT" in encodings[point] for point in POINTS)
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    query = f"SELECT count(*), max(part), min(t_ms) FROM '{tmp_path}/history/raw/**/*.parquet'"
    with duckdb.connect() as connection:
        assert connection.execute(query).fetchall() == [(20, 3, T0_MS + 1000)]
    raw = Segments(Place.at(tmp_path / "history"), RAW)
    footer, number = raw.footer(raw.find()[0][0])
    assert (footer.part, footer.first_sequence, footer.last_sequence, number) == (3, 1, 9, 20)
    assert footer.scales["frequency_hz"] == 0.001


def test_a_disk_that_refuses_leaves_nothing_behind(
    tmp_path: Path, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.append(0, position(1), 1, frames_of([0], [1]))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "ParquetWriter", full)
    with pytest.raises(OSError, match="No space left"):
        history.append(0, position(2), 2, frames_of([0], [2]))
    monkeypatch.undo()
    assert history.position(0) == position(1)
    assert len(list((tmp_path / "history" / "raw").rglob("*.*"))) == 1
    with pytest.raises(ValueError, match="at least one frame"):
        history.append(0, position(2), 2, frames_of([], []))


def test_measured_energy_is_load_and_pv_by_the_quarter_hour(history: History) -> None:
    """1 kW of load in the first 100 s, 3 kW in the next, of which the inverter gives 500 W and the grid the rest."""
    counts = np.zeros((200, len(POINTS), SAMPLES), dtype=np.int32)
    counts[:, POINTS.index("inverter_power_w")] = 500
    counts[:100, POINTS.index("grid_power_w")] = -500
    counts[100:, POINTS.index("grid_power_w")] = -2500
    counts[:, POINTS.index("pv_power_w")] = 600
    counts[::2, POINTS.index("pv_power_w")] = HOLE
    history.append(0, position(1), 1, frames_of([6] * 200, list(range(200)), counts))
    quarters = history.quarter_hours(6, T0_MS - 1, T0_MS + 900_001)
    assert quarters.start_ms.tolist() == [T0_MS, T0_MS + 900_000]
    assert quarters.load_wh[0] == pytest.approx(2000 / 4)  # at the mean power of what was measured
    assert quarters.pv_wh[0] == pytest.approx(600 / 4)
    assert quarters.coverage.tolist() == [pytest.approx(200 / 900), 0.0]
    assert np.isnan(quarters.load_wh[1])


READ_FOREVER = """
import sys
from pathlib import Path
from cloud.store.history import History

history = History(Path(sys.argv[1]))
print("ready", flush=True)
stored = 0
while stored < int(sys.argv[2]):
    count = history.counts().get(0)
    if count is not None:
        assert count.duplicate == 0 and count.missing == 0, count
        assert count.stored >= stored
        stored = count.stored
"""


def test_another_process_reads_while_segments_are_written_and_joined(tmp_path: Path, history: History) -> None:
    total = 150
    command = [sys.executable, "-c", READ_FOREVER, str(tmp_path / "history"), str(total)]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for seq in range(1, total + 1):
            history.append(0, position(seq), seq, frames_of([0], [seq]))
            if seq % 10 == 0:
                history.upkeep(0, NOW_MS)
        assert reader.wait(60) == 0
    finally:
        reader.kill()
        reader.communicate()
