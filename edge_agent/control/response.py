"""What every law of frequency response shares: its state, its phases, and which frequency it may act upon.

A share is of the contracted power, positive towards the grid, and adds to the baseline that the controllers below
settle on. A law's `start`, `step` and `recall` make new states out of old ones: no clock, no I/O.

Where frequency cannot be acted upon, a law that follows it holds its target for BLIND_HOLD_S and then lets go along a
ramp.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from edge_agent.control.reserve_mode import ReserveState
from edge_agent.model.values import Sample
from protos.services import GRID_RANGE_HZ

BLIND_HOLD_S = 1.0  # a lost reading or two is no reason to move power
BLIND_RELEASE_PU_PER_S = 0.2  # and none to drop it at once, either
RESPONDING_PU = 0.05  # a response that follows the frequency is worth telling from here
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
    target: float = 0.0  # before its lag or ramp
    seen_s: float = -math.inf  # when what was measured could last be acted upon
    seen: float = math.nan  # and what it was: [Hz], or the share that a signal asked for
    window: tuple[tuple[float, float], ...] = ()  # (instant, Hz) that df/dt is taken from
    left_s: float = math.inf  # what the storage still has, in seconds of the contracted power
    reserve: ReserveState | None = None  # of a service that has such a mode
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

    def step(self, state: ResponseState, measured: Sample, now_s: float, left_s: float = math.inf) -> ResponseState:
        """The state after this cycle; `share` is what to deliver now.

        measured: what the law answers: the frequency [Hz], or the signal of its group (a share).
        left_s: what the storage still has, in seconds of the contracted power (`reserve_mode.left_s`).
        """
        ...

    def recall(self, state: ResponseState, now_s: float) -> ResponseState:
        """Told to end: the following steps release, then the phase is ENDED."""
        ...

    def hold_left_s(self, state: ResponseState, now_s: float) -> float:
        """For how long full power may still have to be held [s]; 0 where the service does not say."""
        ...


def ready(now_s: float) -> ResponseState:
    """Armed, not responding."""
    return ResponseState(phase=Phase.READY, since_s=now_s, at_s=now_s, seen_s=now_s)


def credible(frequency_hz: Sample, nominal_hz: float) -> tuple[float | None, str]:
    """The frequency if it may be acted upon, else why not."""
    hz = frequency_hz.good
    if hz is None:
        why = f" ({frequency_hz.reason})" if frequency_hz.reason else ""
        return None, f"frequency is {frequency_hz.quality.value}{why}"
    if not math.isfinite(hz) or abs(hz - nominal_hz) > GRID_RANGE_HZ:
        return None, f"{hz:.3f} Hz cannot be true"
    return hz, ""


class Following(Protocol):
    """How a law turns what it follows into a share; `follow` does the rest."""

    @property
    def blind_hold_s(self) -> float:
        """For how long the target is held where nothing can be believed [s]."""
        ...

    @property
    def blind_release_pu_per_s(self) -> float:
        """How fast it is let go at most after that, share a second."""
        ...

    def believe(self, measured: Sample, now_s: float) -> tuple[float | None, str]:
        """What may be acted upon, else None and why not."""
        ...

    def aim(self, state: ResponseState, value: float, now_s: float) -> ResponseState:
        """The state with its target at what was measured."""
        ...

    def approach(self, share: float, target: float, dt_s: float) -> float:
        """The share after dt_s on its way from `share` to a target."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequencyFollowing:
    """What the laws that follow the frequency have in common."""

    nominal_hz: float

    @property
    def blind_hold_s(self) -> float:
        return BLIND_HOLD_S

    @property
    def blind_release_pu_per_s(self) -> float:
        return BLIND_RELEASE_PU_PER_S

    def believe(self, measured: Sample, now_s: float) -> tuple[float | None, str]:
        return credible(measured, self.nominal_hz)


def follow(law: Following, state: ResponseState, measured: Sample, now_s: float) -> ResponseState:
    """A cycle of a law that follows what is measured; blind or recalled, it lets go."""
    if state.phase is Phase.ENDED:
        return state
    dt_s = max(0.0, now_s - state.at_s)
    state = replace(state, at_s=now_s)
    if state.recalled:
        share = _let_go(law, state.share, dt_s)
        if share == 0.0:
            return replace(state, share=0.0, target=0.0, phase=Phase.ENDED, since_s=now_s)
        return replace(state, share=share, target=0.0)
    value, note = law.believe(measured, now_s)
    if value is not None:
        state = law.aim(replace(state, seen_s=now_s, seen=value, note=""), value, now_s)
    elif now_s - state.seen_s <= law.blind_hold_s:
        state = replace(state, note=f"{note}: response held")
    else:
        share = _let_go(law, state.share, dt_s)
        state = replace(state, target=0.0, share=share, window=(), note=f"{note}: response let go")
        return _with_phase(state, now_s)
    return _with_phase(replace(state, share=law.approach(state.share, state.target, dt_s)), now_s)


def recall_following(state: ResponseState, now_s: float) -> ResponseState:
    """Told to end, a law that follows lets go from where it is."""
    if state.phase is Phase.ENDED:
        return state
    return replace(state, recalled=True, phase=Phase.RELEASING, since_s=now_s, at_s=now_s, note="recalled")


def _let_go(law: Following, share: float, dt_s: float) -> float:
    """Towards nothing as the service approaches it, but never faster than the ramp."""
    size = max(abs(law.approach(share, 0.0, dt_s)), abs(share) - law.blind_release_pu_per_s * dt_s)
    return math.copysign(size, share) if size > ENDED_PU else 0.0


def _with_phase(state: ResponseState, now_s: float) -> ResponseState:
    size = abs(state.share)
    if state.phase is Phase.READY and size >= RESPONDING_PU:
        return replace(state, phase=Phase.DELIVERING, since_s=now_s)
    if state.phase is Phase.DELIVERING and size < QUIET_PU and abs(state.target) < QUIET_PU:
        return replace(state, phase=Phase.READY, since_s=now_s)
    return state
