"""Seasonal persistence: which past value stands for which unit, and the backtest against plain arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.forecast.persistence import ForecastError, backtest, persist

DAY = 4  # units a day in these tests


def days(*values: list[float]) -> np.ndarray:
    return np.array(values, dtype=float).reshape(-1)


def test_the_same_time_of_the_week_before_comes_first() -> None:
    history = np.arange(8 * DAY, dtype=float)  # day d, unit u holds 4 d + u
    forecast = persist(history, 2 * DAY, DAY)
    assert forecast.energy_wh.tolist() == [4, 5, 6, 7, 8, 9, 10, 11]  # days 1 and 2: a week before days 8 and 9
    assert set(forecast.days_back.tolist()) == {7}
    assert forecast.seasonal_share == 1.0


def test_it_falls_back_by_steps() -> None:
    nan = float("nan")
    history = days([10, 11, 12, 13], [20, 21, nan, nan], [30, nan, nan, 33])
    forecast = persist(history, 5, DAY)
    # yesterday; the day before; three days back; yesterday; and for the second day, two days back
    assert forecast.energy_wh.tolist() == [30, 21, 12, 33, 30]
    assert forecast.days_back.tolist() == [1, 2, 3, 1, 2]


def test_a_time_of_day_never_measured_takes_the_mean() -> None:
    nan = float("nan")
    forecast = persist(days([4, nan, 8, 6]), DAY, DAY)
    assert forecast.energy_wh.tolist() == [4, 6, 8, 6]
    assert forecast.days_back.tolist() == [1, 0, 1, 1]
    assert forecast.seasonal_share == 0.75


@pytest.mark.parametrize("history", [np.empty(0), np.full(9, np.nan)], ids=["no history", "nothing measured"])
def test_nothing_to_forecast_from_is_said(history: np.ndarray) -> None:
    with pytest.raises(ForecastError, match="no measured unit"):
        persist(history, 4, DAY)


@settings(deadline=None)
@given(
    history=st.lists(st.one_of(st.just(float("nan")), st.floats(0, 1e4)), min_size=1, max_size=80),
    units=st.integers(1, 30),
)
def test_a_forecast_is_whole_and_only_repeats_what_was(history: list[float], units: int) -> None:
    past = np.array(history)
    known = past[np.isfinite(past)]
    if not known.size:
        return
    forecast = persist(past, units, DAY)
    assert np.isfinite(forecast.energy_wh).all()
    assert forecast.energy_wh.min() >= known.min() - 1e-9
    assert forecast.energy_wh.max() <= known.max() + 1e-9
    for unit, back in enumerate(forecast.days_back.tolist()):
        if back:
            assert forecast.energy_wh[unit] == past[past.size + unit - back * DAY]


def test_a_repeating_week_is_forecast_without_error() -> None:
    week = np.random.default_rng(1).uniform(0, 5, 7 * DAY)
    result = backtest(np.tile(week, 4), DAY, DAY, warm_up=7 * DAY)
    assert result.mae_wh == 0
    assert result.units == 3 * 7 * DAY


def test_the_error_of_persistence_is_the_mean_difference_of_days() -> None:
    series = np.random.default_rng(2).uniform(0, 5, 30 * DAY)
    by_day = series.reshape(-1, DAY)
    expected = np.abs(by_day[2:] - by_day[1:-1]).mean() / by_day[2:].mean()
    assert backtest(series, DAY, DAY, warm_up=2 * DAY, days_back=(1,)).nmae == pytest.approx(expected)


def test_what_was_not_measured_is_not_judged() -> None:
    series = np.ones(6 * DAY)
    series[-DAY:] = np.nan
    result = backtest(series, DAY, DAY, warm_up=DAY)
    assert (result.units, result.mae_wh) == (4 * DAY, 0)
    with pytest.raises(ForecastError, match="too short"):
        backtest(np.ones(3), DAY, DAY, warm_up=0)
