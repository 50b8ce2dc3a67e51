"""The recorded past of a home, and the one mapping between wall clock and recording."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hil.data.recordings import fontana_home
from hil.plant.household import local_ms
from hil.rigs.history import household, write_history_csv
from hil.rigs.recorded import RecordedTime
from hil.rigs.scenario import load

NOW = datetime(2027, 1, 15, 8, 37, 21, tzinfo=UTC)
START = datetime(2027, 1, 15, 8, 30, tzinfo=UTC)  # of the quarter-hour NOW lies in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    told = {"scenario": "underfrequency", "recorded_start_utc": START.isoformat()}
    (tmp_path / "rig.json").write_text(json.dumps(told))
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_recorded_time_goes_both_ways_from_the_quarter_hour() -> None:
    time = RecordedTime(NOW)
    assert time.start_utc == START
    assert time.recorded(START) == datetime(2016, 9, 21, 14)  # noqa: DTZ001
    assert time.recorded(NOW) == datetime(2016, 9, 21, 14, 7, 21)  # noqa: DTZ001
    assert time.utc(time.recorded(NOW)) == NOW
    assert START.timestamp() * 1000 + time.offset_ms() == local_ms(time.recorded_start)


def test_a_naive_start_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        RecordedTime(datetime(2027, 1, 15))  # noqa: DTZ001


def test_fourteen_days_of_quarter_hours_end_where_the_run_begins(folder: Path) -> None:
    past = rows(write_history_csv(0, folder, NOW, days=14))
    starts = [datetime.fromisoformat(row["utc_start"]) for row in past]
    assert list(past[0]) == ["utc_start", "interval_s", "load_wh", "pv_wh"]
    assert starts == [START - timedelta(days=14) + i * timedelta(minutes=15) for i in range(14 * 96)]
    assert {row["interval_s"] for row in past} == {"900"}


def test_the_past_is_the_recorded_hours(folder: Path) -> None:
    past = rows(write_history_csv(2, folder, NOW, days=14))
    recorded = fontana_home(3)
    # START is 14:00 of 21 September: the last four rows are the hour 13:00 to 14:00 of that day, the 21st of the file.
    for hours_before, row in ((1, 20 * 24 + 13), (24, 19 * 24 + 14), (300, 8 * 24 + 2)):
        end = len(past) - 4 * (hours_before - 1)
        load_wh = sum(float(quarter["load_wh"]) for quarter in past[end - 4 : end])
        assert load_wh == pytest.approx(recorded.load_wh[row], abs=0.01)
    pv_wh = sum(float(quarter["pv_wh"]) for quarter in past)
    rating_kw = load("underfrequency").home(2).rating.pv_w / 1000
    assert pv_wh == pytest.approx(recorded.pv_w_per_kw[6 * 24 + 14 : 20 * 24 + 14].sum() * rating_kw, rel=0.005)


def test_the_past_meets_the_present(folder: Path) -> None:
    """What the file says of its last quarter is what the plant's own household lived."""
    scenario = load("underfrequency")
    last = rows(write_history_csv(4, folder, NOW))[-1]
    lived = household(scenario.home(4), RecordedTime(NOW))
    end_ms = START.timestamp() * 1000
    assert float(last["load_wh"]) == pytest.approx(lived.load_energy_wh(end_ms - 900_000, end_ms), abs=0.001)


def test_a_reused_home_lives_a_day_earlier(folder: Path) -> None:
    scenario = load("underfrequency")
    first, twelfth = scenario.home(0), scenario.home(11)
    assert (twelfth.recorded_home, twelfth.days_earlier) == (first.recorded_home, 1)
    first_past = rows(write_history_csv(0, folder, NOW, days=3))
    twelfth_past = rows(write_history_csv(11, folder, NOW, days=3))
    hour = slice(24 * 4, 25 * 4)
    day_before_wh = sum(float(row["load_wh"]) for row in first_past[:4])
    assert sum(float(row["load_wh"]) for row in twelfth_past[hour]) == pytest.approx(day_before_wh, abs=0.01)
