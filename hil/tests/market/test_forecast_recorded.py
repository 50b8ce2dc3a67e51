"""The coordinator's forecast on the recorded homes of Fontana.

One-day persistence was measured on the whole year of this data as 54 % of the mean per home and 23 % for the eleven
together (shared reference, part 7); these are its three September weeks, among the hottest of the year.
"""

import numpy as np
import pytest

from cloud.forecast.persistence import backtest
from hil.data.recordings import HOMES, fontana_home

DAY = 24


@pytest.fixture(scope="module")
def loads() -> np.ndarray:
    return np.array([fontana_home(number).load_wh for number in range(1, HOMES + 1)])


def test_one_day_persistence_is_as_bad_as_it_was_measured_to_be(loads: np.ndarray) -> None:
    each = [backtest(load, DAY, DAY, warm_up=DAY, days_back=(1,)).nmae for load in loads]
    assert np.mean(each) == pytest.approx(0.54, abs=0.15)
    together = backtest(loads.sum(axis=0), DAY, DAY, warm_up=DAY, days_back=(1,)).nmae
    assert together == pytest.approx(0.23, abs=0.10)


def test_a_fleet_is_easier_to_forecast_than_its_homes(loads: np.ndarray) -> None:
    each = [backtest(load, DAY, DAY, warm_up=7 * DAY).nmae for load in loads]
    assert backtest(loads.sum(axis=0), DAY, DAY, warm_up=7 * DAY).nmae < min(each)


def test_sun_is_easier_to_forecast_than_load(loads: np.ndarray) -> None:
    sun = fontana_home(1).pv_w_per_kw
    assert backtest(sun, DAY, DAY, warm_up=7 * DAY).nmae < 0.25
    assert backtest(sun, DAY, DAY, warm_up=7 * DAY).nmae < backtest(loads[0], DAY, DAY, warm_up=7 * DAY).nmae
