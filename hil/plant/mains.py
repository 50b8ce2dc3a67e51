"""Mains voltage as a converter sees it, in counts of 16 bits around 32768."""

import secrets
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

AMPLITUDE: Final = 17_000.0  # counts; 228 V at the firmware's usual 19 mV a count


class FrequencySteps:
    """Mains whose frequency jumps between two values at instants that bear no relation to the estimator's hops."""

    def __init__(self, count: int, high_hz: float, low_hz: float, gap_s: float = 0.45) -> None:
        """From 2 s on, `gap_s` to a third more of it apart."""
        rng = np.random.default_rng(secrets.randbits(32))
        self.gap_s = gap_s
        self.at_s: Array = 2.0 + np.cumsum(rng.uniform(gap_s, gap_s * 4 / 3, count))
        self.hz: Array = np.where(np.arange(count) % 2 == 0, low_hz, high_hz)
        edges = np.concatenate(([0.0], self.at_s))
        self._edges, self._levels = edges, np.concatenate(([high_hz], self.hz))
        self._turns = np.concatenate(([0.0], np.cumsum(np.diff(edges) * self._levels[:-1])))

    @property
    def end_s(self) -> float:
        return float(self.at_s[-1]) + self.gap_s

    def __call__(self, t: Array) -> Array:
        i = np.searchsorted(self._edges, t, side="right") - 1
        turns = self._turns[i] + self._levels[i] * (t - self._edges[i])
        return 32768 + AMPLITUDE * np.cos(2 * np.pi * turns)
