"""What the site keeps of its past: means of quarter hours, for five weeks, whatever happens to the file."""

import sqlite3
from pathlib import Path

import pytest

from edge_agent.sync.quarters import FILE, KEPT, Quarters, write
from protos.vpp.v1.local_pb2 import SnapshotReport

START_S = 1_800_000_000
QUARTER_S = 900


def lived(quarters: Quarters, from_s: int, to_s: int, **measured: float) -> int:
    """A snapshot every half second; how many quarter hours ended."""
    return sum(
        quarters.add(SnapshotReport(at_ms=ms, **measured))  # type: ignore[arg-type]
        for ms in range(1000 * from_s, 1000 * to_s, 500)
    )


@pytest.fixture
def quarters(tmp_path: Path) -> Quarters:
    return Quarters(tmp_path, 0)


def test_load_is_what_the_inverter_gives_less_what_the_meter_exports(quarters: Quarters, tmp_path: Path) -> None:
    middle = START_S + 600
    # Exports 500 W of 2,000 W; later draws 300 W from the grid and nothing from the inverter, in the dark.
    lived(quarters, START_S, middle, inverter_power_w=2000.0, grid_power_w=500.0, pv_power_w=3000.0)
    ended = lived(
        quarters, middle, START_S + 2 * QUARTER_S + 1, inverter_power_w=0.0, grid_power_w=-300.0, pv_power_w=-2.0
    )
    assert ended == 2
    first, second = quarters.past(START_S + 2 * QUARTER_S, 2)
    assert list(first) == pytest.approx([(600 * 1500 + 300 * 300) / 900, 2000.0])
    assert second == (300.0, 0.0)
    quarters.close()
    assert Quarters(tmp_path, 0).past(START_S + QUARTER_S, 1) == [first], "still there at the next start"


def test_what_was_hardly_measured_is_a_hole(quarters: Quarters) -> None:
    lived(quarters, START_S, START_S + 400, inverter_power_w=1.0, grid_power_w=0.0)
    lived(quarters, START_S, START_S + QUARTER_S, pv_power_w=100.0)
    lived(quarters, START_S + QUARTER_S, START_S + QUARTER_S + 1)
    assert quarters.past(START_S + 2 * QUARTER_S, 3) == [(None, None), (None, 100.0), (None, None)]


def test_the_oldest_go_and_a_clock_that_leaps_takes_nothing_with_it(tmp_path: Path) -> None:
    write(tmp_path, {START_S + QUARTER_S * n: (1.0, 2.0) for n in range(KEPT)})
    quarters = Quarters(tmp_path, 0)
    far_s = START_S + 80 * 365 * 86_400
    quarters.put(far_s - far_s % QUARTER_S, (5.0, 6.0))
    quarters.put(0, (7.0, 8.0))  # and one that woke up in 1970
    assert quarters.past(START_S + QUARTER_S, 1) == [(None, None)]
    assert quarters.past(START_S + KEPT * QUARTER_S, KEPT - 1) == [(1.0, 2.0)] * (KEPT - 1)
    assert quarters.past(QUARTER_S, 1) == [(None, None)]


def test_a_damaged_file_costs_the_past_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    quarters = Quarters(tmp_path, 0)
    quarters.put(START_S, (1.0, None))
    assert quarters.past(START_S + QUARTER_S, 1) == [(1.0, None)]
    assert [path.name for path in tmp_path.glob("*.corrupt-*")]


def test_where_there_is_no_disk_for_it_the_past_is_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    quarters = Quarters(tmp_path, 0)
    quarters.put(START_S, (1.0, None))
    assert quarters.past(START_S + QUARTER_S, 1) == [(1.0, None)]


def test_a_disk_that_does_not_write_loses_quarter_hours_and_goes_on(
    quarters: Quarters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("disk is full")

    with monkeypatch.context() as during:
        during.setattr(quarters, "put", full)
        lived(quarters, START_S, START_S + QUARTER_S + 1, pv_power_w=1.0)
    assert lived(quarters, START_S + QUARTER_S + 1, START_S + 2 * QUARTER_S + 1, pv_power_w=3.0) == 1
    assert quarters.past(START_S + 2 * QUARTER_S, 2) == [(None, None), (None, pytest.approx(3.0, abs=0.01))]


def test_an_agent_that_does_not_run_can_be_given_a_past(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write(folder, {START_S: (1.0, 2.0), START_S + QUARTER_S: (3.0, None)})
    assert folder.stat().st_mode & 0o077 == 0
    assert Quarters(folder, 0).past(START_S + 2 * QUARTER_S, 2) == [(1.0, 2.0), (3.0, None)]
