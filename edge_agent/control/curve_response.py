"""Response along a curve of the frequency: containment, regulation, droop, limited frequency sensitive mode."""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace

from edge_agent.control import reserve_mode
from edge_agent.control.response import FrequencyFollowing, ResponseState, follow, ready, recall_following
from edge_agent.model.values import Sample
from protos.services import Curve

_EDGE_HZ = 1e-9  # 50.01 - 50 is a little more than 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveLaw(FrequencyFollowing):
    """Piecewise linear, capped at the contracted power, then a first-order lag or a ramp.

    The lag is IEEE 1547-2018's open-loop response: p(t) = p_end + (p_0 - p_end) 10^(-t / T90), exact for any step
    width. Its p_pre is the baseline, which is the schedule below this service and not a measurement.
    """

    curve: Curve
    scale: float  # from the curve's shares to shares of the contracted power

    @property
    def direction(self) -> tuple[bool, bool]:
        shares = [share for _, share in self.curve.knots]
        return max(shares) > 0, min(shares) < 0

    def target(self, frequency_hz: float) -> float:
        """Share of the contracted power due at this frequency once the lag is over."""
        knots = self.curve.knots
        deviation = frequency_hz - self.nominal_hz
        if self.curve.insensitivity_hz > 0 and abs(deviation) <= self.curve.insensitivity_hz + _EDGE_HZ:
            return 0.0
        i = bisect_right(knots, deviation, key=lambda knot: knot[0])
        if i == 0:
            share = knots[0][1]
        elif i == len(knots):
            share = knots[-1][1]
        else:
            (x0, y0), (x1, y1) = knots[i - 1], knots[i]
            share = y0 + (y1 - y0) * (deviation - x0) / (x1 - x0)
        return max(-1.0, min(1.0, share * self.scale))

    def start(self, now_s: float) -> ResponseState:
        state = ready(now_s)
        return state if self.curve.reserve_mode is None else replace(state, reserve=reserve_mode.begin(now_s))

    def step(self, state: ResponseState, measured: Sample, now_s: float, left_s: float = math.inf) -> ResponseState:
        if self.curve.reserve_mode is not None:
            state = replace(state, left_s=left_s)
        return follow(self, state, measured, now_s)

    def aim(self, state: ResponseState, value: float, now_s: float) -> ResponseState:
        mode = self.curve.reserve_mode
        if mode is None or state.reserve is None:
            return replace(state, target=self.target(value))
        reserve = reserve_mode.advance(mode, state.reserve, value - self.nominal_hz, state.left_s, now_s)
        answered_hz = value - reserve_mode.taken_off_hz(mode, reserve)
        note = "reserve mode: the storage is nearly empty or full" if reserve.on else ""
        return replace(state, target=self.target(answered_hz), reserve=reserve, note=note)

    def approach(self, share: float, target: float, dt_s: float) -> float:
        if self.curve.ramp_pu_per_s is not None:
            most = self.curve.ramp_pu_per_s * dt_s
            return share + max(-most, min(most, target - share))
        if self.curve.response_90_s > 0:
            remains: float = 10.0 ** (-dt_s / self.curve.response_90_s)
            return target + (share - target) * remains
        return target

    def recall(self, state: ResponseState, now_s: float) -> ResponseState:
        return recall_following(state, now_s)

    def hold_left_s(self, state: ResponseState, now_s: float) -> float:
        return 0.0 if state.recalled else self.curve.sustain_s
