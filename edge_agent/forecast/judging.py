"""Runs a model on the site's past: what is to come, and how it would have done on the days that are known."""

import numpy as np

from edge_agent.forecast.exchange import JUDGED_DAYS, Request
from edge_agent.forecast.features import Array, Features, features
from edge_agent.forecast.horizon import DAY, HISTORY, HORIZON
from edge_agent.forecast.model import Model, ModelFault
from edge_agent.forecast.persistence import persist

_JUDGED_QUARTERS = DAY // 2  # measured ones, at least


def expect(model: Model, request: Request) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Load and sun to come [W], None where too little was measured. Raises ModelFault."""
    load, sun = model.expect(*_looked_at(_array(request.load_w), _array(request.sun_w), request, days_ago=0))
    return _told(load), _told(sun)


def past_errors(model: Model, request: Request) -> tuple[float | None, float | None]:
    """Mean absolute error over the last days, of load plus of sun [W]: the model's, and seasonal persistence's.

    Each day is forecast from what was known at its beginning. None, None where too little was measured. Raises
    ModelFault.
    """
    series = _array(request.load_w), _array(request.sun_w)
    errors: dict[int, list[tuple[Array, Array]]] = {0: [], 1: []}
    for days_ago in range(1, JUDGED_DAYS + 1):
        expected = model.expect(*_looked_at(*series, request, days_ago=days_ago))
        end = series[0].size - days_ago * DAY
        for which, (one, said) in enumerate(zip(series, expected, strict=True)):
            usual = persist([None if np.isnan(value) else float(value) for value in one[end - HISTORY : end]])
            if said is None or usual is None:
                continue
            actual = one[end : end + DAY]
            known = np.isfinite(actual)
            errors[which].append((np.abs(said[:DAY] - actual)[known], np.abs(np.array(usual[:DAY]) - actual)[known]))
    mine = usuals = 0.0
    judged = 0
    for pairs in errors.values():
        if sum(pair[0].size for pair in pairs) < _JUDGED_QUARTERS:
            continue
        judged += 1
        mine += float(np.concatenate([pair[0] for pair in pairs]).mean())
        usuals += float(np.concatenate([pair[1] for pair in pairs]).mean())
    return (mine, usuals) if judged else (None, None)


def try_sample(model: Model) -> None:
    """Has the model forecast a plain home: the same day four weeks long. Raises ModelFault."""
    hour = np.arange(DAY) / 4.0
    load_w = 400.0 + 900.0 * np.exp(-((hour - 19.0) ** 2) / 8.0)
    sun_w = 3000.0 * np.maximum(0.0, np.sin((hour - 6.0) / 12.0 * np.pi))
    days = HISTORY // DAY
    rows = [
        features(np.tile(day, days), weekday=2, quarter=0, peak=peak) for day, peak in ((load_w, False), (sun_w, True))
    ]
    expected = model.expect(rows[0], rows[1])
    for name, said, day in (("load", expected[0], load_w), ("sun", expected[1], sun_w)):
        if said is None or np.abs(said[:DAY] - day).mean() > day.mean():
            raise ModelFault(f"its {name} of a home whose days are all alike is nothing like them")


def _looked_at(
    load_w: Array, sun_w: Array, request: Request, *, days_ago: int
) -> tuple[Features | None, Features | None]:
    end = load_w.size - days_ago * DAY
    weekday = (request.weekday - days_ago) % 7
    load, sun = (
        features(one[end - HISTORY : end], weekday=weekday, quarter=request.quarter, peak=peak)
        for one, peak in ((load_w, False), (sun_w, True))
    )
    return load, sun


def _array(values: tuple[float | None, ...]) -> Array:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _told(powers_w: Array | None) -> tuple[float, ...] | None:
    return None if powers_w is None else tuple(round(float(value), 1) for value in powers_w[:HORIZON])
