"""Seasonal persistence: what a home did at the same time of the week before it will do again.

Arrays in, arrays out. An array holds the energy of consecutive market time units [Wh]; NaN marks one nobody measured.
Persistence is the baseline that every learned forecast has to beat (reference: Lago et al. 2021, naive benchmarks).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

DAYS_BACK = (7, 1, 2, 3, 4, 5, 6, 14)
"""Where to look for each unit, in this order: the same weekday first, then the nearest day."""


class ForecastError(ValueError):
    """There is nothing to forecast from; says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Energy expected in each unit of the horizon."""

    energy_wh: Array
    days_back: npt.NDArray[np.int64]  # where each unit's value came from; 0: the mean of the whole history

    @property
    def seasonal_share(self) -> float:
        """Share of the units that repeat the same time of an earlier day."""
        return float(np.mean(self.days_back > 0)) if self.days_back.size else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """How a forecast would have done on the past."""

    mae_wh: float
    mean_wh: float  # of what happened
    units: int  # judged

    @property
    def nmae(self) -> float:
        """Mean absolute error as a share of the mean."""
        return self.mae_wh / self.mean_wh


def persist(history_wh: Array, units: int, units_per_day: int, days_back: Sequence[int] = DAYS_BACK) -> Forecast:
    """The next `units` units after the history's last one.

    Each takes the value of the same time of day from the first of `days_back` on which it was measured, else the mean
    of everything measured. Raises ForecastError where the history holds no measured unit.
    """
    history = np.asarray(history_wh, dtype=np.float64)
    measured = np.isfinite(history)
    if not measured.any():
        raise ForecastError("no measured unit in the history")
    energy = np.full(units, np.nan)
    source = np.zeros(units, dtype=np.int64)
    ahead = np.arange(units)
    for days in days_back:
        index = history.size + ahead - days * units_per_day
        usable = np.isnan(energy) & (index >= 0) & (index < history.size)
        usable[usable] = measured[index[usable]]
        energy[usable] = history[index[usable]]
        source[usable] = days
    energy[np.isnan(energy)] = float(history[measured].mean())
    return Forecast(energy_wh=energy, days_back=source)


def backtest(
    series_wh: Array,
    horizon: int,
    units_per_day: int,
    *,
    warm_up: int,
    days_back: Sequence[int] = DAYS_BACK,
) -> Backtest:
    """Forecasts issued every `horizon` units over the series, judged against what followed.

    The first is issued after `warm_up` units; each sees only what lay before it. Units nobody measured are not judged.
    Raises ForecastError where nothing can be judged.
    """
    series = np.asarray(series_wh, dtype=np.float64)
    errors: list[Array] = []
    actuals: list[Array] = []
    for origin in range(warm_up, series.size - horizon + 1, horizon):
        actual = series[origin : origin + horizon]
        forecast = persist(series[:origin], horizon, units_per_day, days_back).energy_wh
        judged = np.isfinite(actual)
        errors.append(np.abs(forecast - actual)[judged])
        actuals.append(actual[judged])
    error = np.concatenate(errors) if errors else np.empty(0)
    if error.size == 0:
        raise ForecastError("the series is too short to judge a forecast")
    return Backtest(mae_wh=float(error.mean()), mean_wh=float(np.concatenate(actuals).mean()), units=error.size)
