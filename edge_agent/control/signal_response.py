"""Following what is broadcast to a group: regulation (PJM RegA and RegD), automatic frequency restoration reserve."""

import math
from dataclasses import dataclass, replace

from edge_agent.control.response import ResponseState, follow, ready, recall_following
from edge_agent.model.values import Sample
from protos.services import Service, Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalLaw:
    """The signal's share of the contracted power, along the service's ramp where it has one.

    Where the signal has expired or is older than `hold_s`, the response is let go along `release_pu_per_s`; the next
    one takes it up again from where it is.
    """

    signal: Signal

    @property
    def direction(self) -> tuple[bool, bool]:
        return self.signal.direction != "down", self.signal.direction != "up"

    @property
    def blind_hold_s(self) -> float:
        return 0.0  # holding is in what it believes

    @property
    def blind_release_pu_per_s(self) -> float:
        return self.signal.release_pu_per_s

    def believe(self, measured: Sample, now_s: float) -> tuple[float | None, str]:
        share = measured.good
        if share is None:
            return None, measured.reason or f"signal is {measured.quality.value}"
        if not math.isfinite(share):
            return None, "the signal is no number"
        age_s = now_s - measured.at_s
        if age_s > self.signal.hold_s:
            return None, f"the last signal came {age_s:.0f} s ago"
        return share, ""

    def start(self, now_s: float) -> ResponseState:
        return ready(now_s)

    def step(self, state: ResponseState, measured: Sample, now_s: float, left_s: float = math.inf) -> ResponseState:
        return follow(self, state, measured, now_s)

    def aim(self, state: ResponseState, value: float, now_s: float) -> ResponseState:
        return replace(state, target=self.signal.due(value))

    def approach(self, share: float, target: float, dt_s: float) -> float:
        if self.signal.ramp_pu_per_s is None:
            return target
        most = self.signal.ramp_pu_per_s * dt_s
        return share + max(-most, min(most, target - share))

    def recall(self, state: ResponseState, now_s: float) -> ResponseState:
        return recall_following(state, now_s)

    def hold_left_s(self, state: ResponseState, now_s: float) -> float:
        return 0.0 if state.recalled else self.signal.sustain_s


def misfit(service: Service, *, swing_s: float) -> str:
    """Why a service that follows a signal cannot be kept here; empty where it can.

    swing_s: what the site's own ramp limit needs for the contracted power [s].
    """
    allowed_s = service.timing.full_delivery_s
    if swing_s <= allowed_s:
        return ""
    return f"{service.id} must be delivered whole within {allowed_s:g} s, and the site's own ramp takes {swing_s:.1f} s"
