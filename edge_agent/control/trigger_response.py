"""Response at a threshold: fast frequency reserves, up or down."""

import math
from dataclasses import dataclass, replace

from edge_agent.control.response import Phase, ResponseState, credible, ready
from edge_agent.model.values import Sample
from protos.services import Trigger

_INSTANT_S = 1e-6  # nearer than this, two instants are one


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerLaw:
    """Everything at once at or beyond the threshold; held; let go along the ramp; ready again after a while.

    Where frequency cannot be acted upon, a trigger that is not delivering stays ready; one that delivers goes on to the
    end of its hold, because from the threshold on its contract no longer asks what the frequency is.
    """

    trigger: Trigger
    nominal_hz: float
    full_delivery_s: float  # what the service allows from the crossing to all of it

    @property
    def direction(self) -> tuple[bool, bool]:
        return self.trigger.sign > 0, self.trigger.sign < 0

    def start(self, now_s: float) -> ResponseState:
        return ready(now_s)

    def step(self, state: ResponseState, measured: Sample, now_s: float, left_s: float = math.inf) -> ResponseState:
        if state.phase is Phase.ENDED:
            return state
        dt_s = max(0.0, now_s - state.at_s)
        hz, note = credible(measured, self.nominal_hz)
        state = replace(state, at_s=now_s, note="recalled" if state.recalled else note)
        if hz is not None:
            state = replace(state, seen_s=now_s, seen=hz)
        if state.phase is Phase.DELIVERING and now_s >= self._held_until_s(state):
            # The ramp begins where the hold ended, also when this cycle is late.
            dt_s = now_s - self._held_until_s(state)
            state = replace(state, phase=Phase.RELEASING, since_s=now_s - dt_s)
        if state.phase is Phase.RELEASING:
            size = abs(state.share) - self.trigger.release_pu_per_s * dt_s
            if size > 0:
                return replace(state, share=size * self.trigger.sign)
            after = Phase.ENDED if state.recalled else Phase.RECOVERING
            # The ramp ended where it reached nothing, also when this cycle is late.
            released_s = now_s + size / self.trigger.release_pu_per_s
            state = replace(state, share=0.0, target=0.0, phase=after, since_s=released_s)
        if state.phase is Phase.RECOVERING and now_s - state.since_s >= self.trigger.rearm_s - _INSTANT_S:
            state = replace(state, phase=Phase.READY, since_s=now_s)
        if state.phase is Phase.READY and hz is not None and self._acts_at(hz):
            share = self.trigger.sign
            state = replace(state, phase=Phase.DELIVERING, since_s=now_s, share=share, target=share)
        return state

    def recall(self, state: ResponseState, now_s: float) -> ResponseState:
        if state.phase is Phase.ENDED:
            return state
        # A ramp under way goes on from where it is.
        phase = Phase.RELEASING if state.share else Phase.ENDED
        at_s = state.at_s if state.phase is Phase.RELEASING else now_s
        return replace(state, recalled=True, phase=phase, since_s=now_s, at_s=at_s, note="recalled")

    def hold_left_s(self, state: ResponseState, now_s: float) -> float:
        match state.phase:
            case Phase.READY:
                return self.full_delivery_s + self.trigger.hold_s
            case Phase.DELIVERING:
                return max(0.0, self._held_until_s(state) - now_s)
            case _:
                return 0.0

    def _acts_at(self, hz: float) -> bool:
        return (self.trigger.threshold_hz - hz) * self.trigger.sign >= 0

    def _held_until_s(self, state: ResponseState) -> float:
        """The hold counts from full delivery, which takes at most what the service allows."""
        return state.since_s + self.full_delivery_s + self.trigger.hold_s
