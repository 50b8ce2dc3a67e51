"""Who writes a part: a writer that was followed adds nothing, whatever it believes."""

from pathlib import Path

import numpy as np
import pytest

from cloud.model.telemetry import NARROW, POINTS, SAMPLES, Frames
from cloud.store.errors import Superseded
from cloud.store.history import History
from cloud.store.segments import Position
from cloud.store.tenure import Tenures, Writer
from cloud.store.upkeep import FANOUT

T0_MS = 1_790_001_000_000 // 900_000 * 900_000
FIRST, SECOND = Writer((1_790_000_000_000, 5), "first"), Writer((1_790_000_000_000, 9), "second")


def commit(history: History, seq: int) -> None:
    """Frame number `seq` of site 0, as the stream's message of that number."""
    one = np.zeros(1, dtype=np.int64)
    frame = Frames(
        message=one,
        slot=one,
        seq=one + seq,
        t0_ms=one + T0_MS + seq * 1000 * SAMPLES,
        interval_ms=one + 1000,
        blocks=np.zeros((1, len(POINTS)), dtype=NARROW),
    )
    history.append(0, Position(0, 1, seq), seq, frame)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "history"


@pytest.fixture
def first(folder: Path) -> History:
    history = History(folder)
    history.begin(0, FIRST)
    commit(history, 1)
    return history


def followed(folder: Path) -> History:
    history = History(folder)
    history.begin(0, SECOND)
    return history


def stored(folder: Path) -> tuple[int, int]:
    count = History(folder).counts()[0]
    return count.stored, count.distinct


def test_who_was_followed_is_refused_and_told_by_whom(folder: Path, first: History) -> None:
    second = followed(folder)
    with pytest.raises(Superseded, match="part 0 is written by second, who took it over from first"):
        commit(first, 2)
    with pytest.raises(Superseded, match="written by second"):
        first.begin(0, FIRST)
    with pytest.raises(Superseded, match="written by second, who took it over from a process of its own"):
        commit(History(folder), 2)
    commit(second, 2)
    assert stored(folder) == (2, 2)


def test_what_is_committed_after_the_take_over_is_void(
    folder: Path, first: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by one that stood still between its last look and its rename."""
    second = followed(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Tenures, "check", lambda *_: None)
        commit(first, 2)
        commit(first, 3)
    files = len(list(folder.rglob("*.parquet")))
    assert files == 3
    position = second.position(0)
    assert position is not None
    assert position.last_sequence == 1
    assert stored(folder) == (1, 1)
    for seq in (2, 3, 4):
        commit(second, seq)
    assert stored(folder) == (4, 4)
    second.begin(0, SECOND)  # begins again, and tidies up
    assert len(list(folder.rglob("*.parquet"))) == 4
    assert stored(folder) == (4, 4)


def test_what_was_there_at_the_take_over_is_summed_up_and_joined_by_the_next(folder: Path, first: History) -> None:
    for seq in range(2, FANOUT + 2):
        commit(first, seq)
    first.upkeep(0, T0_MS + 3_600_000)
    second = followed(folder)
    for seq in range(FANOUT + 2, 2 * FANOUT + 2):
        commit(second, seq)
    with pytest.raises(Superseded, match="written by second"):
        first.upkeep(0, T0_MS + 7_200_000)
    second.upkeep(0, T0_MS + 7_200_000)
    frames = 2 * FANOUT + 1
    assert stored(folder) == (frames, frames)
    rows = list(second.series([0], T0_MS, T0_MS + 3_600_000, ["grid_power_w"]))
    coverage = sum(float(batch.column("grid_power_w_coverage").to_numpy().sum()) for batch in rows)
    assert coverage * 900 == pytest.approx(frames * SAMPLES)
