"""Which frequency may be acted upon: one that cannot be true never moves power, and what is wrong with it has a name.

A device on a dead or disturbed line goes on "measuring" (47 Hz falling to 40 Hz was recorded in the Iberian blackout),
a register read half way through an update holds anything, and one that has died holds its last value for ever. So each
source is judged by itself (dead line, silence, range, jump) and against the others (frozen, parted), and the best one
that stands is used.

How late a source is, is measured: an inverter's register that is renewed once a second looks no different in its map.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edge_agent.model.values import MISSING, Quality, Sample
from protos.services import Service

LOWEST_HZ = 40.0
HIGHEST_HZ = 70.0
JUMP_HZ = 0.5  # believed at once; 10 Hz/s at 20 readings a second
JUMP_HZ_PER_S = 10.0  # after a gap between readings
DEAD_LINE_PU = 0.5  # of the nominal voltage, below which a line is dead
DEAD_LINE_V = 50.0  # the same where nobody says what is nominal

PART_HZ = 0.1  # two meters of one grid agree within this, and a late one with what the other showed a moment ago
WINDOW_S = 5.0  # that moment is one to two of these: some meters show the mean of seconds
STILL_S = 1.0  # one that stands still for less is not looked at
FROZEN_AFTER_S = 10.0  # of standing still while another source
MOVED_HZ = 0.03  # has gone so far (three steps of the coarsest register)
MOVES = 20  # and so often: one that jumped once and stays there proves nothing

GAPS = 256  # changes remembered
ENOUGH_GAPS = 8
LONGEST_GAP_S = 5.0  # a coarse register on a quiet grid stands still for longer; that says nothing
LARGEST_RENEWAL_HZ = 0.05  # a larger change is the grid's doing, and the time before it no interval
_SMOOTHING = 0.05  # of ages and reading intervals, per reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one source says in this cycle; `frequency_hz` is already stale where its device does not answer."""

    source: str
    frequency_hz: Sample
    voltage_v: Sample = MISSING
    interval_s: float | None = None  # between two renewals, where the source itself says so


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How far a source is behind the grid: measured, and what the source tells of itself."""

    interval_s: float  # between two renewals of its value
    age_s: float  # of a value when it is acted upon; of a source that tells its age, from the middle of its window
    measured: bool  # False: it has not moved often enough, so the interval is that of the readings

    def delay_s(self, period_s: float) -> float:
        """From a change of the grid to the action, at worst, in a loop of this period [s]."""
        return self.interval_s + self.age_s + period_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is remembered of one source."""

    believed: Sample | None = None
    doubted: Sample | None = None  # waits to be confirmed
    read_s: float = -math.inf
    changed_s: float = -math.inf
    renewed_s: float = -math.inf  # the same, once a change was seen: how long the first value had stood nobody knows
    changes: int = 0
    gaps_s: tuple[float, ...] = ()
    poll_s: float = 0.0
    told_s: float | None = None  # between two renewals, by the source itself
    age_s: float = 0.0
    window_s: float = -math.inf  # when the present window began
    now_hz: tuple[float, float] = (math.inf, -math.inf)  # lowest and highest in it
    before_hz: tuple[float, float] = (math.inf, -math.inf)  # and in the one before
    # While it stands still: (Hz, changes) of the others when that began, and since when each is away from there.
    others_then: Mapping[str, tuple[float, int]] | None = None
    away_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def timing(self) -> Timing:
        """The shortest gaps between changes, but for the odd glitch: a grid that hardly moves makes longer ones."""
        if self.told_s is not None:
            return Timing(interval_s=max(self.poll_s, self.told_s), age_s=self.age_s, measured=True)
        if len(self.gaps_s) < ENOUGH_GAPS:
            return Timing(interval_s=self.poll_s, age_s=self.age_s, measured=False)
        shortest_s = sorted(self.gaps_s)[len(self.gaps_s) // 16]
        return Timing(interval_s=max(self.poll_s, shortest_s), age_s=self.age_s, measured=True)

    def near(self, other: "Watch") -> bool:
        """Whether one of the two may be what the other showed a moment ago."""
        return self._near_hz(other.hz) or other._near_hz(self.hz)

    @property
    def hz(self) -> float:
        """What was believed last."""
        return self.believed.value if self.believed is not None else math.nan

    def _near_hz(self, hz: float) -> bool:
        lowest = min(self.now_hz[0], self.before_hz[0])
        highest = max(self.now_hz[1], self.before_hz[1])
        return lowest - PART_HZ <= hz <= highest + PART_HZ


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The frequency of this cycle."""

    frequency_hz: Sample  # where it may not be acted upon, its reason says why
    source: str = ""  # empty: none
    doubts: Mapping[str, str] = field(default_factory=dict)  # source -> what is wrong with it
    silent: bool = False  # nothing is wrong with any source but that it does not answer


def choose(
    watches: Mapping[str, Watch], readings: Sequence[Reading], *, now_s: float, nominal_v: float | None = None
) -> tuple[dict[str, Watch], Chosen]:
    """The best reading that can be true, and what to remember for the next cycle.

    Args:
        watches: what the last call returned; empty at first.
        readings: best source first.
        now_s: monotonic.
        nominal_v: of the line, to neutral; None: a line counts as dead below DEAD_LINE_V.
    """
    dead_below_v = DEAD_LINE_PU * nominal_v if nominal_v is not None else DEAD_LINE_V
    seen: dict[str, Watch] = {}
    good: dict[str, Sample] = {}
    doubts: dict[str, str] = {}
    silent = True
    for reading in readings:
        name, sample = reading.source, reading.frequency_hz
        watch, doubt = _judge(watches.get(name, Watch()), reading, dead_below_v, now_s)
        seen[name] = watch
        if doubt:
            doubts[name] = doubt
            silent = silent and sample.quality is Quality.STALE
        else:
            good[name] = sample
    if len(seen) > 1:
        for name, watch in seen.items():
            seen[name] = _compare(watch, name, seen, now_s)
        frozen = {name: while_ for name in good if (while_ := _frozen(name, seen, now_s))}
        for name, while_ in frozen.items():
            doubts[name] = f"frozen at {good.pop(name).value:.3f} Hz while {while_} moves"
        for name in list(good):
            others = [other for other in good if other != name]
            parted = [other for other in others if not seen[name].near(seen[other])]
            if 2 * len(parted) > len(others):
                said = ", ".join(f"{other} {good[other].value:.3f} Hz" for other in parted)
                doubts[name] = f"{good[name].value:.3f} Hz parts from {said}"
        silent = silent and not frozen
    for reading in readings:
        if reading.source in good and reading.source not in doubts:
            return seen, Chosen(frequency_hz=good[reading.source], source=reading.source, doubts=doubts)
    reason = "; ".join(f"{name}: {doubt}" for name, doubt in doubts.items()) or "nothing measures it"
    best = readings[0].frequency_hz if readings else MISSING
    quality = Quality.STALE if best.quality is Quality.STALE else Quality.BAD
    return seen, Chosen(
        frequency_hz=replace(best, quality=quality, reason=reason), doubts=doubts, silent=silent and not good
    )


def misfit(service: Service, timing: Timing, source: str, *, period_s: float, swing_s: float = 0.0) -> str:
    """Why a service cannot be kept on this measurement; empty where it can.

    swing_s: what the site's own ramp limit needs for the contracted power [s].
    """
    delay_s, limits = timing.delay_s(period_s), service.timing
    late = (
        f"frequency from {source} comes up to {delay_s:.2f} s late (renewed every {timing.interval_s:.2f} s, "
        f"{timing.age_s:.2f} s old, cycle {period_s:.2f} s)"
    )
    if delay_s > limits.initiation_s:
        return f"{service.id} must begin within {limits.initiation_s:g} s, and {late}"
    if delay_s + swing_s > limits.full_delivery_s:
        ramp = f", and the ramp limit of this site takes {swing_s:.2f} s" if swing_s else ""
        return f"{service.id} must be delivered in full within {limits.full_delivery_s:g} s, and {late}{ramp}"
    return ""


def _judge(watch: Watch, reading: Reading, dead_below_v: float, now_s: float) -> tuple[Watch, str]:
    """One source by itself: what to remember, and what is wrong with it."""
    sample, hz = reading.frequency_hz, reading.frequency_hz.good
    if hz is None:
        return watch, sample.reason or ("does not answer" if sample.quality is Quality.STALE else "not measured")
    voltage_v = reading.voltage_v.good
    if voltage_v is not None and not voltage_v >= dead_below_v:
        return watch, f"dead line ({voltage_v:.0f} V)"
    if not (math.isfinite(hz) and LOWEST_HZ <= hz <= HIGHEST_HZ):
        return watch, f"out of range ({hz:.3f} Hz)"
    if watch.believed is not None and _could_follow(watch.believed, sample):
        return _believed(watch, reading, now_s), ""
    doubted = watch.doubted
    if doubted is not None and sample.at_s > doubted.at_s and _could_follow(doubted, sample):
        return _believed(watch, reading, now_s), ""
    if doubted is None or sample.at_s > doubted.at_s:
        watch = replace(watch, doubted=sample)
    return watch, f"jumped to {hz:.3f} Hz" if watch.believed is not None else "first reading, to be confirmed"


def _believed(watch: Watch, reading: Reading, now_s: float) -> Watch:
    """Its sample is believed: when it was read, whether it was renewed, and where it has been lately."""
    sample = reading.frequency_hz
    if sample.at_s <= watch.read_s:
        return watch
    hz, first = sample.value, math.isinf(watch.read_s)
    gaps_s, changed_s, renewed_s, changes = watch.gaps_s, watch.changed_s, watch.renewed_s, watch.changes
    if hz != watch.hz:
        gap_s = sample.at_s - renewed_s
        if gap_s <= LONGEST_GAP_S and abs(hz - watch.hz) <= LARGEST_RENEWAL_HZ:
            gaps_s = (*gaps_s[1 - GAPS :], gap_s)
        changed_s, renewed_s, changes = sample.at_s, -math.inf if first else sample.at_s, changes + 1
    now_hz, before_hz, window_s = watch.now_hz, watch.before_hz, watch.window_s
    if now_s - window_s >= WINDOW_S:
        fresh = now_s - window_s < 2 * WINDOW_S
        now_hz, before_hz, window_s = (hz, hz), now_hz if fresh else (hz, hz), now_s
    else:
        now_hz = (min(now_hz[0], hz), max(now_hz[1], hz))
    age_s, poll_s = now_s - sample.at_s, sample.at_s - watch.read_s
    return replace(
        watch,
        believed=sample,
        doubted=None,
        read_s=sample.at_s,
        changed_s=changed_s,
        renewed_s=renewed_s,
        changes=changes,
        gaps_s=gaps_s,
        # A pause in the readings is told as such and is no interval.
        told_s=reading.interval_s,
        poll_s=_smoothed(watch.poll_s, poll_s) if poll_s <= LONGEST_GAP_S else watch.poll_s,
        age_s=age_s if first else _smoothed(watch.age_s, age_s),
        window_s=window_s,
        now_hz=now_hz,
        before_hz=before_hz,
    )


def _smoothed(before: float, now: float) -> float:
    return before + _SMOOTHING * (now - before) if before else now


def _compare(watch: Watch, name: str, seen: Mapping[str, Watch], now_s: float) -> Watch:
    """Where the others stood when this source came to a standstill, and since when they stand there no more."""
    then = watch.others_then
    if now_s - watch.changed_s < STILL_S:
        return replace(watch, others_then=None, away_s={}) if then is not None else watch
    if then is None:
        others = {other: (peer.hz, peer.changes) for other, peer in seen.items() if other != name}
        return replace(watch, others_then=others)
    gone = {
        other: now_s
        for other, (hz, _) in then.items()
        if other not in watch.away_s and other in seen and abs(seen[other].hz - hz) > MOVED_HZ
    }
    return replace(watch, away_s={**watch.away_s, **gone}) if gone else watch


def _frozen(name: str, seen: Mapping[str, Watch], now_s: float) -> str:
    """The source that moves while this one stands still; empty where there is none."""
    watch = seen[name]
    for other, since_s in watch.away_s.items():
        if watch.others_then is None or other not in seen:
            continue
        moves = seen[other].changes - watch.others_then[other][1]
        if now_s - since_s >= FROZEN_AFTER_S and moves >= MOVES:
            return other
    return ""


def _could_follow(earlier: Sample, sample: Sample) -> bool:
    """Whether a grid could have gone from one reading to the other."""
    return abs(sample.value - earlier.value) <= max(JUMP_HZ, JUMP_HZ_PER_S * (sample.at_s - earlier.at_s))
