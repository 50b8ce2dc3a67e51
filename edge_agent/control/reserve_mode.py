"""Going on with a storage that is nearly empty or full: the frequency's deviation less its mean.

A mean of nothing costs no energy, so fast answers go on while the storage recovers. Pure: state in, state out.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace

from edge_agent.control.bounds import Storage, believable_soc
from edge_agent.model.values import Sample
from protos.services import ReserveMode

_GRAIN_S = 1.0  # the running mean is kept in steps of this


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveState:
    """What the mode remembers."""

    on: bool = False
    blend: float = 0.0  # how much of the mean is taken off, 0..1
    at_s: float  # of the last step
    integral: float = 0.0  # of the deviation since arming [Hz s]
    trail: tuple[tuple[float, float], ...]  # (instant, integral), over the last mean_s


def begin(now_s: float) -> ReserveState:
    return ReserveState(at_s=now_s, trail=((now_s, 0.0),))


def advance(mode: ReserveMode, state: ReserveState, deviation_hz: float, left_s: float, now_s: float) -> ReserveState:
    """The next state; left_s: seconds of the contracted power that the storage still has."""
    dt_s = max(0.0, now_s - state.at_s)
    integral = state.integral + deviation_hz * dt_s
    trail = state.trail
    if now_s - trail[-1][0] >= _GRAIN_S:
        oldest = 0
        while oldest + 1 < len(trail) and trail[oldest + 1][0] <= now_s - mode.mean_s:
            oldest += 1
        trail = (*trail[oldest:], (now_s, integral))
    on = left_s < mode.enter_s or (state.on and left_s <= mode.leave_s)
    step = dt_s / mode.mean_s
    blend = min(1.0, state.blend + step) if on else max(0.0, state.blend - step)
    return replace(state, on=on, blend=blend, at_s=now_s, integral=integral, trail=trail)


def taken_off_hz(mode: ReserveMode, state: ReserveState) -> float:
    """The part of the deviation that is not answered now [Hz]."""
    if state.blend == 0.0:
        return 0.0
    points = (*state.trail, (state.at_s, state.integral))
    begin_s = max(state.at_s - mode.mean_s, points[0][0])
    before = bisect_right(points, begin_s, key=lambda point: point[0]) - 1
    (t0, i0), (t1, i1) = points[before], points[min(before + 1, len(points) - 1)]
    earlier = i0 + (i1 - i0) * (begin_s - t0) / (t1 - t0) if t1 > t0 else i0
    elapsed_s = state.at_s - begin_s
    return state.blend * (state.integral - earlier) / elapsed_s if elapsed_s > 0 else 0.0


def left_s(storage: Storage, soc: Sample, contracted_w: float, direction: tuple[bool, bool]) -> float:
    """Seconds of the contracted power between the owner's limits, in the direction that has less.

    Infinite where there is no storage, or its charge is not known: what cannot be set anyway needs no mode.
    """
    charge = believable_soc(soc)
    if charge is None or not storage.present:
        return math.inf
    up, down = direction
    share = min(charge - storage.soc_min if up else math.inf, storage.soc_max - charge if down else math.inf)
    return max(0.0, share) * storage.nameplate.storage_capacity_wh * 3600.0 / contracted_w
