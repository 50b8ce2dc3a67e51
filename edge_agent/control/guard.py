"""What may be asked of the site from outside, however well it is signed: how fast, how often, how much. Pure.

A stolen command key, or a coordinator gone wrong, signs whatever it likes; a thousand sites that follow at once swing a
grid. So each way in which what is sent moves the site counts here:

- a setpoint, a price, a schedule: by a ramp, with so many turns in any hour, after a moment that is each site's own;
- a regulation signal: by the same ramp, and no further in any hour than so many times the rated power, up and down
  together; back to nothing it may always go;
- the arming of a service, which holds back what others may use: no more often in any hour than there are turns;
- an operating envelope: narrower at once, for it protects a feeder; wider is a turn, and by the ramp;
- whatever of these uses the storage: so much energy in any day.

The answer to the grid's frequency is nobody's order, and a stop is never held up.
"""

from dataclasses import dataclass, replace
from math import inf, isfinite

HOUR_S = 3600.0
DAY_HOURS = 24
TURN_SHARE = 0.02  # of the rated power: so far back from the farthest is no turn yet
LONGEST_STEP_S = 1.0  # of time between two cycles; what lies between them is not ramped after
BURST_SHARE = 0.25  # of an hour's movement by signals that may be made at once

RAMP = "ramp"
TURNS = "turned round too often in this hour"
CYCLING = "the storage was used too much in this day"
MILEAGE = "a signal moved it too much in this hour"
WAITS = "begins in a moment of its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLimits:
    """The site's own."""

    ramp_w_per_s: float
    turns_per_hour: int
    throughput_wh_per_day: float  # in and out together
    turn_w: float  # less than this back from the farthest is no turn
    mileage_w_per_hour: float  # of signals, up and down together


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What is remembered from cycle to cycle."""

    at_s: float = -inf
    allowed_w: float | None = None  # as last allowed; None: what comes from outside is not followed
    wish_w: float | None = None  # as last asked
    starts_s: float = -inf  # a change that was asked is held up until then
    farthest_w: float = 0.0  # since the last turn
    upwards: bool = True  # where it went since
    turns_s: tuple[float, ...] = ()  # those of the last hour count
    arms_s: tuple[float, ...] = ()  # those of them that armed a service
    used_wh: tuple[tuple[int, float], ...] = ()  # (hour, energy) of the last day
    moved_w: float = 0.0  # by signals lately; wears off by what an hour allows
    signal_s: float = -inf  # when a signal was last asked for
    signal_w: float = 0.0  # as last allowed
    limited: str = ""  # by what, now


def turn(limits: GuardLimits, guard: Guard, now_s: float) -> Guard | None:
    """The guard after one more turn; None where this hour has no more."""
    turns_s = _of_the_last_hour(guard.turns_s, now_s)
    return replace(guard, turns_s=(*turns_s, now_s)) if len(turns_s) < limits.turns_per_hour else None


def arm(limits: GuardLimits, guard: Guard, now_s: float) -> Guard | None:
    """The guard after a service was armed; None where that was done too often in this hour.

    It counts as a turn, and is not held up by turns of another cause: what was sold is to stand ready.
    """
    arms_s = _of_the_last_hour(guard.arms_s, now_s)
    if len(arms_s) >= limits.turns_per_hour:
        return None
    return replace(guard, arms_s=(*arms_s, now_s), turns_s=(*_of_the_last_hour(guard.turns_s, now_s), now_s))


def signal(limits: GuardLimits, guard: Guard, asked_w: float, now_s: float) -> tuple[Guard, str]:
    """The guard after this cycle's regulation signals, and what limits them; `signal_w` is what may be followed.

    asked_w: what they ask for together, beside the baseline [W]; 0 where none is followed.
    """
    elapsed_s = max(0.0, min(LONGEST_STEP_S, now_s - guard.signal_s))
    hour_w, from_w = limits.mileage_w_per_hour, guard.signal_w
    moved_w = max(0.0, guard.moved_w - hour_w * elapsed_s / HOUR_S)
    most_w = limits.ramp_w_per_s * elapsed_s
    to_w = max(from_w - most_w, min(from_w + most_w, asked_w)) if isfinite(asked_w) else from_w
    limited = RAMP if to_w != asked_w else ""
    spent = moved_w >= hour_w * BURST_SHARE
    if spent or _throughput_is_used(limits, guard):
        nearer_w = max(min(0.0, from_w), min(max(0.0, from_w), to_w))
        if nearer_w != to_w:
            to_w, limited = nearer_w, MILEAGE if spent else CYCLING
    return replace(guard, signal_s=now_s, signal_w=to_w, moved_w=moved_w + abs(to_w - from_w)), limited


def step(
    limits: GuardLimits,
    guard: Guard,
    wish_w: float | None,
    *,
    power_w: float | None,
    storage_w: float | None,
    spread_s: float,
    now_s: float,
) -> Guard:
    """The guard after this cycle; `allowed_w` is what of the wish may be followed.

    Args:
        limits: the site's own.
        guard: as it was after the last cycle.
        wish_w: what is asked from outside [W]; None: nothing.
        power_w: of the inverter as measured [W]: what a start begins from; None: not known, and nothing is begun.
        storage_w: into or out of the storage as measured [W], whatever its sign; None: not known, and not counted.
        spread_s: how much later a change may begin; drawn anew by the caller, 0 for what is urgent.
        now_s: monotonic.
    """
    elapsed_s = max(0.0, min(LONGEST_STEP_S, now_s - guard.at_s))
    used_wh = _used(guard, storage_w, elapsed_s, now_s)
    guard = replace(guard, at_s=now_s, used_wh=used_wh, limited="")
    if wish_w is None or not isfinite(wish_w):
        return replace(guard, allowed_w=None, wish_w=None, starts_s=-inf)
    if _throughput_is_used(limits, guard):
        return replace(guard, allowed_w=None, wish_w=wish_w, starts_s=-inf, limited=CYCLING)
    waits = now_s < guard.starts_s
    if not waits and (guard.wish_w is None or abs(wish_w - guard.wish_w) > limits.turn_w):
        waits = spread_s > 0.0
        guard = replace(guard, starts_s=now_s + spread_s)
    guard = replace(guard, wish_w=wish_w)
    if waits:
        return replace(guard, limited=WAITS)
    if guard.allowed_w is None:
        guard = _begun(limits, guard, power_w, wish_w)
    if guard.allowed_w is None:
        return guard
    return _moved(limits, guard, guard.allowed_w, wish_w, elapsed_s)


def _used(guard: Guard, storage_w: float | None, elapsed_s: float, now_s: float) -> tuple[tuple[int, float], ...]:
    """Energy by the hour of the last day, with what was used on somebody else's behalf since the last cycle."""
    hour = int(now_s / HOUR_S)
    used = {at: wh for at, wh in guard.used_wh if hour - at < DAY_HOURS}
    followed = guard.allowed_w is not None or guard.signal_w != 0.0
    if followed and storage_w is not None and isfinite(storage_w):
        used[hour] = used.get(hour, 0.0) + abs(storage_w) * elapsed_s / HOUR_S
    return tuple(used.items())


def _begun(limits: GuardLimits, guard: Guard, power_w: float | None, wish_w: float) -> Guard:
    """Following begins, from the power of now. That is a turn: what begins and ends again and again swings, too."""
    if power_w is None or not isfinite(power_w):
        return guard
    begun = turn(limits, guard, guard.at_s)
    if begun is None:
        return replace(guard, limited=TURNS)
    return replace(begun, allowed_w=power_w, farthest_w=power_w, upwards=wish_w >= power_w)


def _moved(limits: GuardLimits, guard: Guard, from_w: float, wish_w: float, elapsed_s: float) -> Guard:
    most_w = limits.ramp_w_per_s * elapsed_s
    to_w = max(from_w - most_w, min(from_w + most_w, wish_w))
    limited = RAMP if to_w != wish_w else ""
    farther_w = to_w - guard.farthest_w if guard.upwards else guard.farthest_w - to_w
    if farther_w >= -limits.turn_w:
        farthest_w = max(to_w, guard.farthest_w) if guard.upwards else min(to_w, guard.farthest_w)
        return replace(guard, allowed_w=to_w, farthest_w=farthest_w, limited=limited)
    if (turned := turn(limits, guard, guard.at_s)) is not None:
        return replace(turned, allowed_w=to_w, farthest_w=to_w, upwards=not guard.upwards, limited=limited)
    back_w = -limits.turn_w if guard.upwards else limits.turn_w
    return replace(guard, allowed_w=guard.farthest_w + back_w, limited=TURNS)


def _throughput_is_used(limits: GuardLimits, guard: Guard) -> bool:
    return sum(wh for _, wh in guard.used_wh) >= limits.throughput_wh_per_day


def _of_the_last_hour(instants_s: tuple[float, ...], now_s: float) -> tuple[float, ...]:
    return tuple(at_s for at_s in instants_s if now_s - at_s < HOUR_S)
