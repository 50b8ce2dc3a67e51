"""Synthetic inertia: power against the rate of change of the frequency."""

import math
from dataclasses import dataclass, replace

from edge_agent.control.response import FrequencyFollowing, ResponseState, follow, ready, recall_following
from edge_agent.model.values import Sample
from protos.services import Inertia

_WHOLE = 1.0 - 1e-6  # of the window, against the rounding of instants


@dataclass(frozen=True, slots=True, kw_only=True)
class InertiaLaw(FrequencyFollowing):
    """Share -(2 H / f0) df/dt, df/dt the slope of the least-squares line through the last window.

    Until a whole window has been seen nothing is due. One reading older than the window stays in it, so that it is
    never shorter, whatever the cycle.
    """

    inertia: Inertia
    scale: float  # from shares of the reference to shares of the contracted power

    @property
    def direction(self) -> tuple[bool, bool]:
        return True, True

    def start(self, now_s: float) -> ResponseState:
        return ready(now_s)

    def step(self, state: ResponseState, measured: Sample, now_s: float, left_s: float = math.inf) -> ResponseState:
        return follow(self, state, measured, now_s)

    def aim(self, state: ResponseState, value: float, now_s: float) -> ResponseState:
        window = (*state.window, (now_s, value))
        whole_s = self.inertia.window_s * _WHOLE
        oldest = 0
        while oldest + 1 < len(window) and now_s - window[oldest + 1][0] >= whole_s:
            oldest += 1
        window = window[oldest:]
        target = 0.0
        if now_s - window[0][0] >= whole_s:
            share = -2.0 * self.inertia.constant_s / self.nominal_hz * _slope(window) * self.scale
            target = max(-1.0, min(1.0, share))
        return replace(state, window=window, target=target)

    def approach(self, share: float, target: float, dt_s: float) -> float:
        return target

    def recall(self, state: ResponseState, now_s: float) -> ResponseState:
        return recall_following(state, now_s)

    def hold_left_s(self, state: ResponseState, now_s: float) -> float:
        return 0.0


def _slope(window: tuple[tuple[float, float], ...]) -> float:
    """Of the least-squares line [Hz/s]."""
    count = len(window)
    mean_t = sum(t for t, _ in window) / count
    mean_hz = sum(hz for _, hz in window) / count
    squares = sum((t - mean_t) ** 2 for t, _ in window)
    return sum((t - mean_t) * (hz - mean_hz) for t, hz in window) / squares if squares > 0 else 0.0
