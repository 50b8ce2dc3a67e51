"""What the model looks at: a site's own last four weeks, folded into a row for each quarter hour to come.

Arrays in, arrays out; a quantity is the mean power of consecutive quarter hours [W], a magnitude, NaN where it was not
measured. Everything is told in shares of the site's own scale, and nothing by the hour of the day: its own days say
when its sun shines and its people cook, so that a gateway whose time zone is wrong is forecast just as well. Used where
the model runs and where it is trained.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_agent.forecast.horizon import DAY, HISTORY, HORIZON

Array = npt.NDArray[np.float64]

WEEK = 7 * DAY
HOUR = DAY // 24
LEAST_MEASURED = round(1.5 * DAY)  # quarter hours of the last week; below them nothing is known of the site
LEAST_SCALE_W = 1.0  # of a quantity that is there at all
_LAGS = (1, 2, 3, 7, 14)
NAMES = (
    *(f"lag {days} d" for days in _LAGS),
    "mean 7 d",
    "least 7 d",
    "most 7 d",
    "spread 7 d",
    "mean 28 d",
    "mean same weekday",
    "mean 7 d, 2 h about",
    "mean 28 d, 2 h about",
    "last hour",
    "last hour beyond its mean",
    "last 4 h beyond their mean",
    "last 24 h beyond their mean",
    "ratio of the last 4 h",
    "ratio of the last 24 h",
    "mean 7 d by that ratio",
    "ahead",
    "soon",
    "today",
    "last hour beyond its mean, soon",
    "last 4 h beyond their mean, today",
    "weekend",
    "weekend of lag 1 d",
)
BASE = NAMES.index("mean 7 d, 2 h about")  # the model says what is to be added to it


@dataclass(frozen=True, slots=True)
class Features:
    """Of one quantity at one origin."""

    rows: npt.NDArray[np.float32]  # (HORIZON, len(NAMES))
    scale_w: float  # by which what the model says is multiplied


def features(history_w: Array, *, weekday: int, quarter: int, peak: bool) -> Features | None:
    """The rows for the HORIZON quarter hours that follow the history.

    Args:
        history_w: the last HISTORY quarter hours, the oldest first.
        weekday: of the first quarter hour to come, 0 is Monday.
        quarter: of its day, 0..95.
        peak: the scale is the most of two weeks (sun), else the mean of one (load).

    None where too little was measured, or there is nothing of it at the site.
    """
    history = np.asarray(history_w, dtype=np.float64)
    if history.shape != (HISTORY,):
        raise ValueError(f"a history of {history.shape}: give the last {HISTORY} quarter hours")
    last_week = history[-WEEK:]
    if np.isfinite(last_week).sum() < LEAST_MEASURED:
        return None
    scale_w = float(np.nanmax(history[-2 * WEEK :]) if peak else np.nanmean(last_week))
    if not scale_w >= LEAST_SCALE_W:
        return None
    days = (history / scale_w).reshape(-1, DAY)  # a row ends where the history does: column 0 is the origin's time
    week = days[-7:]
    mean_7, mean_28 = _mean(week), _mean(days)
    everything = float(np.nanmean(days))
    mean_28 = np.where(np.isfinite(mean_28), mean_28, everything)
    mean_7 = np.where(np.isfinite(mean_7), mean_7, mean_28)
    ahead = np.arange(HORIZON)
    column, extra_days = ahead % DAY, ahead // DAY

    def lag(number: int) -> Array:
        """The value so many whole days before each quarter hour, or at least so many and known at the origin."""
        row = len(days) - np.maximum(number - extra_days, 1)
        found = days[row, column] if number <= len(days) else np.full(HORIZON, np.nan)
        return np.where(np.isfinite(found), found, mean_7[column])

    same_weekday = _mean(np.array([lag(number) for number in (7, 14, 21, 28)]))
    with np.errstate(invalid="ignore"):
        least, most = np.fmin.reduce(week), np.fmax.reduce(week)
    spread = np.sqrt(np.maximum(_mean(np.square(week - mean_7)), 0.0))
    last = (history / scale_w)[-DAY:]

    def beyond(quarters: int) -> float:
        more = (last - mean_7)[-quarters:]
        return float(more[np.isfinite(more)].mean()) if np.isfinite(more).any() else 0.0

    def ratio(quarters: int) -> float:
        known = np.isfinite(last[-quarters:])
        usual = float(mean_7[-quarters:][known].sum())
        return (
            float(np.clip(last[-quarters:][known].sum() / usual, 0.0, 3.0)) if usual > 0.05 * quarters / HOUR else 1.0
        )

    hour, four, day = beyond(HOUR), beyond(4 * HOUR), beyond(DAY)
    soon, today = np.exp(-(ahead + 1) / HOUR), np.exp(-(ahead + 1) / (6 * HOUR))
    ratio_4 = ratio(4 * HOUR)
    of_day = (weekday + (quarter + ahead) // DAY) % 7
    before = (of_day - 1 - extra_days) % 7
    wide = np.ones(HORIZON)
    columns = (
        *(lag(number) for number in _LAGS),
        mean_7[column],
        np.where(np.isfinite(least), least, mean_7)[column],
        np.where(np.isfinite(most), most, mean_7)[column],
        np.nan_to_num(spread)[column],
        mean_28[column],
        same_weekday,
        _about(mean_7, HOUR)[column],
        _about(mean_28, HOUR)[column],
        wide * (hour + float(mean_7[-HOUR:].mean())),
        wide * hour,
        wide * four,
        wide * day,
        wide * ratio_4,
        wide * ratio(DAY),
        mean_7[column] * ratio_4,
        ahead / HORIZON,
        soon,
        today,
        soon * hour,
        today * four,
        (of_day >= 5).astype(np.float64),
        (before >= 5).astype(np.float64),
    )
    return Features(np.stack(columns, axis=1).astype(np.float32), scale_w)


def _mean(rows: Array) -> Array:
    """Of each column's measured values; NaN where there is none."""
    known = np.isfinite(rows)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, rows, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _about(day: Array, quarters: int) -> Array:
    """The mean over so many quarter hours to either side, round the clock."""
    padded = np.concatenate([day[-quarters:], day, day[:quarters]])
    return np.convolve(padded, np.ones(2 * quarters + 1) / (2 * quarters + 1), mode="valid")
