"""How the operator of a signal scores its following, where that is not by an envelope: arrays in, a score out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SAMPLE_S: Final = 10.0  # PJM scores means over so long
WINDOW: Final = 30  # samples scored together, and the latest that a response is looked for
FLAT: Final = 0.01  # a signal that varies less has no correlation
LEAST_PAID: Final = 0.25
SHORTEST_S: Final = 2 * WINDOW * SAMPLE_S
"""What is shorter than this is not scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PjmScore:
    """Means over the windows of five minutes; each 0..1."""

    correlation: float
    delay: float
    precision: float

    @property
    def score(self) -> float:
        return (self.correlation + self.delay + self.precision) / 3

    @property
    def paid(self) -> float:
        """The share of the credit: the score, or nothing where it is below a quarter."""
        return self.score if self.score >= LEAST_PAID else 0.0


def pjm_score(signal: Array, response: Array, sample_s: float) -> PjmScore:
    """PJM's performance score of regulation (manuals 11, 12 and 28, as GMLC-1-4-2/battery_interface computes it).

    One value a sample of both, shares of the contracted power; means over 10 s are scored in windows of 30 of them. A
    window is scored where the response is known for as long again, as far as a late one is looked for: of the last five
    minutes only the response counts. Raises ValueError for less than ten minutes or arrays of different length.
    """
    if signal.shape != response.shape:
        raise ValueError("signal and response have one value a sample")
    x, y = _means(signal, sample_s), _means(np.nan_to_num(response), sample_s)
    windows = (x.size - WINDOW) // WINDOW
    if windows < 1:
        raise ValueError(f"a score needs {SHORTEST_S:g} s, ten minutes")
    scored = [_window(x[at : at + WINDOW], y[at : at + 2 * WINDOW]) for at in range(0, windows * WINDOW, WINDOW)]
    correlation, delay, precision = np.mean(scored, axis=0)
    return PjmScore(correlation=float(correlation), delay=float(delay), precision=float(precision))


def _means(values: Array, sample_s: float) -> Array:
    per_mean = round(SAMPLE_S / sample_s)
    whole = values.size // per_mean * per_mean
    means: Array = values[:whole].reshape(-1, per_mean).mean(axis=1)
    return means


def _window(x: Array, later: Array) -> tuple[float, float, float]:
    """Correlation, delay and precision; `later`: the response over the window and as long after it."""
    y = later[:WINDOW]
    size = np.abs(x).mean()
    error = np.abs(y - x).mean()
    precision = max(0.0, 1.0 - error / size) if size > 0 else float(error == 0)
    if x.std() < FLAT:
        slopes = [np.polyfit(np.arange(WINDOW), values, 1)[0] for values in (x, y)]
        return max(0.0, 1.0 - abs(slopes[0] - slopes[1])), 1.0, precision
    shifted = np.lib.stride_tricks.sliding_window_view(later, WINDOW)
    spread = shifted - shifted.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.square(spread).sum(axis=1) * np.square(x - x.mean()).sum())
    products = spread @ (x - x.mean())
    correlations = np.divide(products, norms, out=np.zeros_like(products), where=norms > 1e-12)
    # The earliest of lags that are as good: rounding is no delay.
    lag = int(np.flatnonzero(correlations >= correlations.max() - 1e-9)[0])
    if correlations[lag] <= 0:  # what answers nothing has no delay to be praised for
        return 0.0, 0.0, precision
    return float(correlations[lag]), abs(SAMPLE_S * lag - 300.0) / 300.0, precision


def _pjm_error(signal: Array, response: Array, sample_s: float) -> float:
    return 1.0 - pjm_score(signal, response, sample_s).paid


SCORERS: Final[dict[str, Callable[[Array, Array, float], float]]] = {"pjm": _pjm_error}
"""By `Performance.score`: the error (0..1) of a response, of what was due, what was delivered and a sample's length."""
