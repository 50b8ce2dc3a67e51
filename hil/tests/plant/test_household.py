"""A recorded home between its hours: not a flat line, and still the recorded energy."""

from datetime import datetime

import numpy as np
import pytest

from hil.data.recordings import fontana_home
from hil.plant.household import HOUR_MS, MINUTE_MS, RecordedHousehold, local_ms

FIRST = local_ms(datetime(2016, 9, 1))  # noqa: DTZ001
OFFSET_MS = -123_456_789.0  # wall instant + offset = the recording's axis
START = FIRST - OFFSET_MS  # wall instant of the recording's first hour


@pytest.fixture
def home() -> RecordedHousehold:
    return RecordedHousehold(fontana_home(1), offset_ms=OFFSET_MS, pv_rating_w=4000, seed="a/home-01")


def test_every_hour_keeps_its_recorded_energy(home: RecordedHousehold) -> None:
    recorded = fontana_home(1).load_wh
    for hour in range(0, 24 * 24, 7):
        start_ms = START + hour * HOUR_MS
        minutes_w = [home.load_w(start_ms + (m + 0.5) * MINUTE_MS) for m in range(60)]
        assert sum(minutes_w) / 60 == pytest.approx(recorded[hour], rel=1e-12)
        assert home.load_energy_wh(start_ms, start_ms + HOUR_MS) == pytest.approx(recorded[hour], rel=1e-9)


def test_an_hour_is_not_a_flat_line_and_never_negative(home: RecordedHousehold) -> None:
    minutes_w = np.array([home.load_w(START + (m + 0.5) * MINUTE_MS) for m in range(60)])
    assert minutes_w.min() > 0
    assert 0.05 < minutes_w.std() / minutes_w.mean() < 1.0


def test_the_same_seed_lives_the_same_minutes_and_another_one_others(home: RecordedHousehold) -> None:
    instants = [START + m * MINUTE_MS for m in range(600)]
    again = RecordedHousehold(fontana_home(1), offset_ms=OFFSET_MS, pv_rating_w=4000, seed="a/home-01")
    other = RecordedHousehold(fontana_home(1), offset_ms=OFFSET_MS, pv_rating_w=4000, seed="a/home-02")
    assert [home.load_w(t) for t in instants] == [again.load_w(t) for t in instants]
    assert [home.load_w(t) for t in instants] != [other.load_w(t) for t in instants]


def test_pv_is_the_recorded_mean_in_the_middle_of_its_hour_and_straight_between(home: RecordedHousehold) -> None:
    recorded_w = fontana_home(1).pv_w_per_kw * 4.0
    middles_ms = START + (np.arange(len(recorded_w)) + 0.5) * HOUR_MS
    instants = np.linspace(middles_ms[5], middles_ms[40], 333)
    assert [home.pv_w(t) for t in instants] == pytest.approx(np.interp(instants, middles_ms, recorded_w), abs=1e-6)


def test_energy_of_a_span_is_the_integral_of_its_power(home: RecordedHousehold) -> None:
    start_ms, end_ms = START + 13.37 * HOUR_MS, START + 15.11 * HOUR_MS
    grid = np.linspace(start_ms, end_ms, 200_001)
    middles = (grid[1:] + grid[:-1]) / 2
    hours = (end_ms - start_ms) / HOUR_MS
    load_wh = np.mean([home.load_w(t) for t in middles]) * hours
    pv_wh = np.mean([home.pv_w(t) for t in middles]) * hours
    assert home.load_energy_wh(start_ms, end_ms) == pytest.approx(load_wh, rel=1e-4)
    assert home.pv_energy_wh(start_ms, end_ms) == pytest.approx(pv_wh, rel=1e-6)


def test_the_recorded_days_repeat(home: RecordedHousehold) -> None:
    days_ms = 24 * 24 * HOUR_MS
    assert home.pv_w(START + 12 * HOUR_MS) == pytest.approx(home.pv_w(START + 12 * HOUR_MS + days_ms))
    again_wh = home.load_energy_wh(START + days_ms, START + days_ms + HOUR_MS)
    assert again_wh == pytest.approx(fontana_home(1).load_wh[0])
