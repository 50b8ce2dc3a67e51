"""Frequency response by a service's own numbers: state in, state and share out; no clock, no I/O.

A share is of the contracted power, positive towards the grid, and adds to the baseline that the controllers below
settle on. `law()` gives the law of a service; its `start`, `step` and `recall` make new states out of old ones.

Where frequency cannot be acted upon, a Curve holds its target for BLIND_HOLD_S and then lets go along its ramp. A
Trigger that is not delivering stays ready; one that delivers goes on to the end of its hold, because from the
threshold on its contract no longer asks what the frequency is.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from edge_agent.model.values import Sample
from protos.services import Curve, Service, Trigger

BLIND_HOLD_S = 1.0  # a lost reading or two is no reason to move power
BLIND_RELEASE_PU_PER_S = 0.2  # and none to drop it at once, either
CREDIBLE_DEVIATION_HZ = 5.0  # further from nominal nothing is connected any more
RESPONDING_PU = 0.05  # a Curve's response is worth telling from here
QUIET_PU = 0.01  # and over from here
ENDED_PU = 0.005  # an exponential tail below this is cut


class Phase(Enum):
    """Where a service stands."""

    READY = "ready"
    DELIVERING = "delivering"
    RELEASING = "releasing"
    RECOVERING = "recovering"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseState:
    """All that a law remembers between two cycles."""

    phase: Phase
    since_s: float  # monotonic instant the phase began
    at_s: float  # of the last step
    share: float = 0.0  # of the contracted power
    target: float = 0.0  # a Curve's, before its lag
    seen_s: float = -math.inf  # when frequency could last be acted upon
    seen_hz: float = math.nan  # and what it was
    recalled: bool = False
    note: str = ""


class ResponseLaw(Protocol):
    """One service's law."""

    @property
    def direction(self) -> tuple[bool, bool]:
        """Whether it may add power towards the grid, and whether it may take some."""
        ...

    def start(self, now_s: float) -> ResponseState:
        """Armed, not responding."""
        ...

    def step(self, state: ResponseState, frequency_hz: Sample, now_s: float) -> ResponseState:
        """The state after this cycle; `share` is what to deliver now."""
        ...

    def recall(self, state: ResponseState, now_s: float) -> ResponseState:
        """Told to end: the following steps release, then the phase is ENDED."""
        ...

    def hold_left_s(self, state: ResponseState, now_s: float) -> float:
        """For how long full power may still have to be held [s]; 0 where the service does not say."""
        ...


def law(service: Service, *, contracted_w: float, rated_power_w: float) -> ResponseLaw:
    """The law of a service for an inverter of this rating [W]."""
    if service.trigger is not None:
        return TriggerLaw(trigger=service.trigger, nominal_hz=service.nominal_hz)
    assert service.curve is not None, "protos.services.parse lets nothing else pass"  # noqa: S101
    scale = rated_power_w / contracted_w if service.curve.reference == "rating" else 1.0
    return CurveLaw(curve=service.curve, nominal_hz=service.nominal_hz, scale=scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveLaw:
    """Piecewise linear, capped at the contracted power, then a first-order lag.

    The lag is IEEE 1547-2018's open-loop response: p(t) = p_end + (p_0 - p_end) 10^(-t / T90), exact for any step
    width. Its p_pre is the baseline, which is the schedule below this service and not a measurement.
    """

    curve: Curve
    nominal_hz: float
    scale: float  # from the curve's shares to shares of the contracted power

    @property
    def direction(self) -> tuple[bool, bool]:
        shares = [share for _, share in self.curve.knots]
        return max(shares) > 0, min(shares) < 0

    def target(self, frequency_hz: float) -> float:
        """Share of the contracted power due at this frequency once the lag is over."""
        knots = self.curve.knots
        deviation = frequency_hz - self.nominal_hz
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
        return ResponseState(phase=Phase.READY, since_s=now_s, at_s=now_s, seen_s=now_s)

    def step(self, state: ResponseState, frequency_hz: Sample, now_s: float) -> ResponseState:
        if state.phase is Phase.ENDED:
            return state
        dt_s = max(0.0, now_s - state.at_s)
        state = replace(state, at_s=now_s)
        if state.recalled:
            share = self._let_go(state.share, dt_s)
            if share == 0.0:
                return replace(state, share=0.0, target=0.0, phase=Phase.ENDED, since_s=now_s)
            return replace(state, share=share, target=0.0)
        hz, note = _credible(frequency_hz, self.nominal_hz)
        if hz is not None:
            target = self.target(hz)
            state = replace(state, target=target, seen_s=now_s, seen_hz=hz, note="")
        elif now_s - state.seen_s <= BLIND_HOLD_S:
            target = state.target
            state = replace(state, note=f"{note}: response held")
        else:
            share = self._let_go(state.share, dt_s)
            return self._with_phase(replace(state, target=0.0, share=share, note=f"{note}: response let go"), now_s)
        share = target + (state.share - target) * self._remains(dt_s)
        return self._with_phase(replace(state, share=share), now_s)

    def recall(self, state: ResponseState, now_s: float) -> ResponseState:
        if state.phase is Phase.ENDED:
            return state
        return replace(state, recalled=True, phase=Phase.RELEASING, since_s=now_s, at_s=now_s, note="recalled")

    def hold_left_s(self, state: ResponseState, now_s: float) -> float:
        return 0.0

    def _remains(self, dt_s: float) -> float:
        return 10.0 ** (-dt_s / self.curve.response_90_s) if self.curve.response_90_s > 0 else 0.0

    def _let_go(self, share: float, dt_s: float) -> float:
        """Towards nothing along the service's own lag, but never faster than the ramp."""
        size = max(abs(share) * self._remains(dt_s), abs(share) - BLIND_RELEASE_PU_PER_S * dt_s)
        return math.copysign(size, share) if size > ENDED_PU else 0.0

    @staticmethod
    def _with_phase(state: ResponseState, now_s: float) -> ResponseState:
        size = abs(state.share)
        if state.phase is Phase.READY and size >= RESPONDING_PU:
            return replace(state, phase=Phase.DELIVERING, since_s=now_s)
        if state.phase is Phase.DELIVERING and size < QUIET_PU and abs(state.target) < QUIET_PU:
            return replace(state, phase=Phase.READY, since_s=now_s)
        return state


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerLaw:
    """Everything at once at or below the threshold; held; let go along the ramp; ready again after a while."""

    trigger: Trigger
    nominal_hz: float

    @property
    def direction(self) -> tuple[bool, bool]:
        return True, False

    def start(self, now_s: float) -> ResponseState:
        return ResponseState(phase=Phase.READY, since_s=now_s, at_s=now_s, seen_s=now_s)

    def step(self, state: ResponseState, frequency_hz: Sample, now_s: float) -> ResponseState:
        if state.phase is Phase.ENDED:
            return state
        dt_s = max(0.0, now_s - state.at_s)
        hz, note = _credible(frequency_hz, self.nominal_hz)
        state = replace(state, at_s=now_s, note="recalled" if state.recalled else note)
        if hz is not None:
            state = replace(state, seen_s=now_s, seen_hz=hz)
        if state.phase is Phase.DELIVERING and now_s >= self._held_until_s(state):
            # The ramp begins where the hold ended, also when this cycle is late.
            dt_s = now_s - self._held_until_s(state)
            state = replace(state, phase=Phase.RELEASING, since_s=now_s - dt_s)
        if state.phase is Phase.RELEASING:
            share = state.share - self.trigger.release_pu_per_s * dt_s
            if share > 0:
                return replace(state, share=share)
            after = Phase.ENDED if state.recalled else Phase.RECOVERING
            return replace(state, share=0.0, phase=after, since_s=now_s)
        if state.phase is Phase.RECOVERING and now_s - state.since_s >= self.trigger.rearm_s:
            state = replace(state, phase=Phase.READY, since_s=now_s)
        if state.phase is Phase.READY and hz is not None and hz <= self.trigger.under_hz:
            state = replace(state, phase=Phase.DELIVERING, since_s=now_s, share=1.0, target=1.0)
        return state

    def recall(self, state: ResponseState, now_s: float) -> ResponseState:
        if state.phase is Phase.ENDED:
            return state
        # A ramp under way goes on from where it is.
        phase = Phase.RELEASING if state.share > 0 else Phase.ENDED
        at_s = state.at_s if state.phase is Phase.RELEASING else now_s
        return replace(state, recalled=True, phase=phase, since_s=now_s, at_s=at_s, note="recalled")

    def hold_left_s(self, state: ResponseState, now_s: float) -> float:
        match state.phase:
            case Phase.READY:
                return self.trigger.full_delivery_s + self.trigger.hold_s
            case Phase.DELIVERING:
                return max(0.0, self._held_until_s(state) - now_s)
            case _:
                return 0.0

    def _held_until_s(self, state: ResponseState) -> float:
        """The hold counts from full delivery, which takes at most what the service allows."""
        return state.since_s + self.trigger.full_delivery_s + self.trigger.hold_s


def _credible(frequency_hz: Sample, nominal_hz: float) -> tuple[float | None, str]:
    """The frequency if it may be acted upon, else why not."""
    hz = frequency_hz.good
    if hz is None:
        return None, f"frequency is {frequency_hz.quality.value}"
    if not math.isfinite(hz) or abs(hz - nominal_hz) > CREDIBLE_DEVIATION_HZ:
        return None, f"{hz:.3f} Hz cannot be true"
    return hz, ""
