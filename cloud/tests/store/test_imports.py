"""A site's past from CSV: every fault names its row, and nothing of a faulty file is kept."""

from pathlib import Path

import numpy as np
import pytest

from cloud.store.errors import HistoryError
from cloud.store.history import History
from cloud.store.imports import import_csv
from cloud.store.quarters import QuarterHours

HEADER = "utc_start,interval_s,load_wh,pv_wh\n"
MIDNIGHT_MS = 1_789_948_800_000  # 2026-09-21T00:00:00Z


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history")


def csv(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    path = tmp_path / "past.csv"
    path.write_text(header + "".join(f"{row}\n" for row in rows))
    return path


def energy(history: History, slot: int, quarters: int) -> tuple[list[float], list[float]]:
    read = history.quarter_hours(slot, MIDNIGHT_MS, MIDNIGHT_MS + quarters * 900_000)
    return read.load_wh.tolist(), read.pv_wh.tolist()


def test_quarter_hours_are_kept_to_the_thousandth(tmp_path: Path, history: History) -> None:
    path = csv(tmp_path, "2026-09-21T00:00:00Z,900,125.125,0", "2026-09-21T02:15:00+02:00,900,80,1.0005")
    assert import_csv(history, 3, path) == 2
    assert energy(history, 3, 2) == ([125.125, 80.0], [0.0, 1.0])  # 1.0005 to the nearest even thousandth
    assert np.isnan(energy(history, 4, 1)[0]).all()


def test_shorter_and_longer_intervals_become_quarter_hours(tmp_path: Path, history: History) -> None:
    rows = [f"2026-09-21T00:{minute:02}:00Z,300,{10 + minute},3" for minute in range(0, 30, 5)]
    path = csv(tmp_path, *rows, "2026-09-21T00:30:00Z,1800,50,20", "2026-09-21T01:00:00Z,3600,400,0")
    assert import_csv(history, 0, path) == 8
    load_wh, pv_wh = energy(history, 0, 8)
    assert load_wh == [45.0, 90.0, 25.0, 25.0, 100.0, 100.0, 100.0, 100.0]
    assert pv_wh == [9.0, 9.0, 10.0, 10.0, 0.0, 0.0, 0.0, 0.0]


def test_the_same_file_again_replaces_and_another_span_must_not_overlap(tmp_path: Path, history: History) -> None:
    import_csv(history, 0, csv(tmp_path, "2026-09-21T00:00:00Z,900,1,1", "2026-09-21T00:15:00Z,900,2,2"))
    import_csv(history, 0, csv(tmp_path, "2026-09-21T00:00:00Z,900,7,7", "2026-09-21T00:15:00Z,900,8,8"))
    assert energy(history, 0, 2) == ([7.0, 8.0], [7.0, 8.0])
    import_csv(history, 0, csv(tmp_path, "2026-09-21T00:30:00Z,900,9,9"))  # what follows is welcome
    assert energy(history, 0, 3)[0] == [7.0, 8.0, 9.0]
    with pytest.raises(HistoryError, match="overlaps what was imported before"):
        import_csv(history, 0, csv(tmp_path, "2026-09-21T00:15:00Z,900,1,1"))
    assert energy(history, 0, 3)[0] == [7.0, 8.0, 9.0]
    import_csv(history, 1, csv(tmp_path, "2026-09-21T00:15:00Z,900,1,1"))  # another site is another matter


FIRST = "2026-09-21T00:00:00Z,900,100,10"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        pytest.param([FIRST, "2026-09-21T00:30:00Z,900,1,1"], "row 3: a gap", id="gap"),
        pytest.param([FIRST, FIRST], "row 3: overlaps", id="overlap"),
        pytest.param([FIRST, "2026-09-20T23:45:00Z,900,1,1"], "row 3: overlaps", id="backwards"),
        pytest.param(["2026-09-21T00:00:00Z,900,-1,0"], "row 2: load_wh '-1'", id="negative load"),
        pytest.param([FIRST, "2026-09-21T00:15:00Z,900,1,-0.5"], "row 3: pv_wh '-0.5'", id="negative generation"),
        pytest.param(["2026-09-21T00:00:00Z,900,nan,0"], "row 2: load_wh 'nan'", id="nan"),
        pytest.param(["2026-09-21T00:00:00Z,900,inf,0"], "row 2: load_wh 'inf'", id="infinite"),
        pytest.param(["2026-09-21T00:00:00Z,900,much,0"], "row 2: load_wh 'much'", id="no number"),
        pytest.param(["2026-09-21T00:00:00Z,900,1"], "row 2: 4 fields expected, found 3", id="field missing"),
        pytest.param(["2026-09-21T00:00:00,900,1,1"], "row 2: .*no time zone", id="local time"),
        pytest.param(["yesterday,900,1,1"], "row 2: .*ISO 8601", id="no instant"),
        pytest.param(["2026-09-21T00:00:00Z,15m,1,1"], "row 2: interval_s '15m'", id="no seconds"),
        pytest.param(["2026-09-21T00:00:00Z,420,1,1"], "row 2: interval_s 420", id="straddles quarter hours"),
        pytest.param(["2026-09-21T00:00:00Z,0,1,1"], "row 2: interval_s 0", id="no interval"),
        pytest.param(["2026-09-21T00:00:00Z,86400,1,1"], "row 2: interval_s 86400", id="a day"),
        pytest.param(["2026-09-21T00:07:00Z,900,1,1"], "row 2: .*not a multiple", id="off the grid"),
        pytest.param(["2026-09-21T00:05:00Z,300,1,1"], "begin and end it on a quarter hour", id="part of a quarter"),
        pytest.param([], "has no rows", id="no rows"),
    ],
)
def test_a_faulty_row_is_named_and_nothing_is_kept(
    tmp_path: Path, history: History, rows: list[str], says: str
) -> None:
    path = csv(tmp_path, *rows)
    with pytest.raises(HistoryError, match=says) as error:
        import_csv(history, 0, path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert np.isnan(energy(history, 0, 4)[0]).all()


@pytest.mark.parametrize(
    "header", ["", "time,interval_s,load_wh,pv_wh\n", "utc_start,interval_s,load_kwh,pv_wh\n", "utc_start\n"]
)
def test_another_header_is_refused(tmp_path: Path, history: History, header: str) -> None:
    with pytest.raises(HistoryError, match="row 1: the header must be utc_start,interval_s,load_wh,pv_wh"):
        import_csv(history, 0, csv(tmp_path, FIRST, header=header) if header else csv(tmp_path, header=header))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, history: History) -> None:
    with pytest.raises(HistoryError, match=r"absent\.csv"):
        import_csv(history, 0, tmp_path / "absent.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HistoryError, match=r"binary\.csv"):
        import_csv(history, 0, binary)


def test_measured_beats_imported_where_it_covers_as_much() -> None:
    imported = QuarterHours(np.array([0, 1]), np.array([1.0, 2.0]), np.array([0.0, 0.0]), np.array([1.0, 1.0]))
    measured = QuarterHours(np.array([0, 1]), np.array([5.0, 6.0]), np.array([3.0, 3.0]), np.array([1.0, 0.4]))
    assert imported.better(measured).load_wh.tolist() == [5.0, 2.0]
