"""Frequency services as data: the one text that is sold, armed, run, proven and settled.

A service answers with a share of power, positive towards the grid (the answer to low frequency). Its law is one of
four: of the grid's frequency a `Curve` (piecewise linear in the deviation f - nominal [Hz], with a lag or a ramp), a
`Trigger` (all of it at a threshold, held, released) or an `Inertia` (against the rate of change); or of what is
broadcast to its group a `Signal` (automatic generation control). `Timing` says how fast the operator wants it.
`parse` reads a text, `load` one that ships with the product or stands in a file.
"""

import datetime as dt
import math
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import msgspec

# The upper ends keep infinities out; no service comes near them.
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
NonNegative = Annotated[float, msgspec.Meta(ge=0, le=1e6)]

GRID_RANGE_HZ = 5.0
"""No service acts further from nominal than this: nothing is connected there any more."""


class ServiceError(ValueError):
    """A service text that cannot be used; says which service, which key and why."""


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator allows after a step of the frequency, or of the signal."""

    initiation_s: Positive  # power has begun to move
    full_delivery_s: Positive  # all that is due is there, to 1 % of the contracted power
    overshoot_pu: NonNegative = 0.05  # most beyond what is due, share of the contracted power


class ReserveMode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a storage that is nearly empty or full goes on: it follows the deviation less its mean, at no energy.

    What is left is counted as seconds of the contracted power, between the owner's limits of charge and in the
    direction that has less, losses aside.
    """

    mean_s: Positive  # the mean is over so long; it fades in and out over the same time [s]
    enter_s: Positive  # begins with less than this left [s]
    leave_s: Positive  # ends with more than this left [s]


class Curve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Piecewise-linear response."""

    reference: Literal["contracted", "rating"]  # what a share is a share of
    knots: tuple[tuple[float, float], ...]  # (deviation [Hz], share), deviations strictly increasing
    insensitivity_hz: NonNegative = 0.0  # up to here nothing is due; beyond it the curve holds, not shifted
    response_90_s: NonNegative = 0.0  # time to 90 % of a step [s]; 0: immediate
    ramp_pu_per_s: Positive | None = None  # fastest change, share of the contracted power a second; None: immediate
    sustain_s: NonNegative = 0.0  # all of it must be possible for so long [s]; 0: the service does not say
    reserve_mode: ReserveMode | None = None


class Trigger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of the contracted power at a threshold, held, then released."""

    under_hz: Positive | None = None  # gives power at or below [Hz]
    over_hz: Positive | None = None  # or takes power at or above [Hz]
    hold_s: Positive  # from full delivery [s]
    release_pu_per_s: Positive  # ramp back, share a second
    rearm_s: NonNegative  # until it may act again, from the end of the release [s]

    @property
    def sign(self) -> float:
        """+1 towards the grid, -1 out of it."""
        return 1.0 if self.under_hz is not None else -1.0

    @property
    def threshold_hz(self) -> float:
        """The one that is given."""
        threshold = self.under_hz if self.under_hz is not None else self.over_hz
        assert threshold is not None, "parse lets nothing else pass"  # noqa: S101
        return threshold


class Inertia(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Share -(2 H / nominal) df/dt."""

    reference: Literal["contracted", "rating"]  # what a share is a share of
    constant_s: Positive  # H
    window_s: Annotated[float, msgspec.Meta(ge=0.1, le=10)]  # df/dt is the slope of the least-squares line through it


class Signal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The share that is broadcast to the service's group, followed.

    Without a fresh one the last is held for `hold_s` and then let go along `release_pu_per_s` until one comes.
    """

    direction: Literal["both", "up", "down"]  # what lies on the other side of 0 is taken as 0
    interval_s: Positive  # a new one comes so often [s]
    hold_s: Positive  # the last one is good for so long after it came [s]
    release_pu_per_s: Positive  # share a second
    ramp_pu_per_s: Positive | None = None  # fastest change, share of the contracted power a second; None: immediate
    sustain_s: NonNegative = 0.0  # all of it must be possible for so long [s]; 0: the service does not say

    def due(self, signal: float) -> float:
        """What of the contracted power a signal asks for before any ramp: within -1..1 and the direction."""
        lowest, highest = (0.0 if self.direction == "up" else -1.0), (0.0 if self.direction == "down" else 1.0)
        return max(lowest, min(highest, signal))


class Performance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How delivery is judged."""

    delay_s: NonNegative  # the response may trail the frequency by this much [s]
    tolerance_pu: NonNegative  # share of the contracted power, either side
    full_payment_error: NonNegative  # mean error up to which all is paid
    no_payment_error: Positive  # mean error from which nothing is paid
    score: Literal["envelope", "pjm"] = "envelope"  # the judge's method, as in cloud/dispatch/scores.py


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One frequency service, or one that follows a signal."""

    id: str
    version: Annotated[int, msgspec.Meta(ge=1)]
    title: str
    source: str
    date: dt.date
    nominal_hz: Literal[50, 60]
    timing: Timing
    performance: Performance
    curve: Curve | None = None
    trigger: Trigger | None = None
    inertia: Inertia | None = None
    signal: Signal | None = None

    @property
    def directions(self) -> tuple[bool, bool]:
        """Whether it may ask for power towards the grid, and whether for power out of it."""
        if self.trigger is not None:
            return self.trigger.sign > 0, self.trigger.sign < 0
        if self.curve is not None:
            shares = [share for _, share in self.curve.knots]
            return max(shares) > 0, min(shares) < 0
        if self.signal is not None:
            return self.signal.direction != "down", self.signal.direction != "up"
        return True, True

    @property
    def sustain_s(self) -> float:
        """For how long all of it must be possible [s]; 0 where the service does not say."""
        if self.trigger is not None:
            return self.timing.full_delivery_s + self.trigger.hold_s
        if self.signal is not None:
            return self.signal.sustain_s
        return self.curve.sustain_s if self.curve is not None else 0.0

    @property
    def always_moves(self) -> bool:
        """Whether it answers without a deadband, and is judged by an envelope: at rest only by accident."""
        if self.signal is not None:
            return self.performance.score == "envelope"
        return self.curve is not None and not _begins(self.curve)

    @property
    def thresholds_hz(self) -> list[float]:
        """Where its answer begins: a trigger's threshold, the ends of a curve's deadband; else none."""
        if self.trigger is not None:
            return [self.trigger.threshold_hz]
        if self.curve is None:
            return []
        return [round(self.nominal_hz + deviation, 6) for deviation in _begins(self.curve)]


def _begins(curve: Curve) -> list[float]:
    if curve.insensitivity_hz > 0:
        return [-curve.insensitivity_hz, curve.insensitivity_hz]
    shares = [0.0, *(share for _, share in curve.knots), 0.0]
    deviations = [deviation for deviation, _ in curve.knots]
    return [
        deviation
        for deviation, before, share, after in zip(deviations, shares, shares[1:], shares[2:], strict=False)
        if share == 0 and (before != 0 or after != 0)
    ]


def parse(text: str) -> Service:
    """The service a TOML text describes. Raises ServiceError."""
    try:
        service = msgspec.toml.decode(text, type=Service)
    except msgspec.DecodeError as error:
        raise ServiceError(f"service: {error}") from error
    findings = [*_laws(service), *_timing(service)]
    if service.performance.no_payment_error <= service.performance.full_payment_error:
        findings.append("performance.no_payment_error must exceed full_payment_error")
    if findings:
        raise ServiceError(f"service {service.id}: {findings[0]}")
    return service


def _laws(service: Service) -> list[str]:
    """What is wrong with its law."""
    if [service.curve, service.trigger, service.inertia, service.signal].count(None) != 3:
        return ["give either [curve] or [trigger] or [inertia] or [signal]"]
    if service.signal is not None and service.signal.hold_s < service.signal.interval_s:
        return ["signal.hold_s must not be less than interval_s, or it is let go between two signals"]
    if service.performance.score == "pjm" and service.signal is None:
        return ["performance.score: pjm scores a [signal]"]
    if service.curve is not None:
        return _curve(service.curve)
    trigger = service.trigger
    if trigger is not None:
        if (trigger.under_hz is None) == (trigger.over_hz is None):
            return ["trigger: give either under_hz or over_hz"]
        beyond_hz = (service.nominal_hz - trigger.threshold_hz) * trigger.sign
        if not 0 < beyond_hz < GRID_RANGE_HZ:
            key, side = ("under_hz", "below") if trigger.sign > 0 else ("over_hz", "above")
            return [f"trigger.{key}: lies {side} nominal_hz, by less than {GRID_RANGE_HZ:g} Hz"]
    return []


def _curve(curve: Curve) -> list[str]:
    knots = curve.knots
    if not all(math.isfinite(value) for knot in knots for value in knot):
        return ["curve.knots: a deviation and a share are numbers"]
    if len(knots) < 2 or any(a[0] >= b[0] for a, b in pairwise(knots)):
        return ["curve.knots: two or more, deviations strictly increasing"]
    if any(abs(share) > 1 for _, share in knots):
        return ["curve.knots: a share lies in -1..1"]
    if any(a[1] < b[1] for a, b in pairwise(knots)):
        return ["curve.knots: a share must not rise with the frequency, or the service drives the grid away"]
    if not any(share for _, share in knots):
        return ["curve.knots: every share is 0: the service asks for nothing"]
    mode = curve.reserve_mode
    if mode is not None and not mode.enter_s < mode.leave_s:
        return ["curve.reserve_mode.leave_s must exceed enter_s"]
    if curve.response_90_s > 0 and curve.ramp_pu_per_s is not None:
        return ["curve: give either response_90_s or ramp_pu_per_s"]
    return []


def _timing(service: Service) -> list[str]:
    """What of its own law its timing does not allow."""
    timing = service.timing
    if timing.initiation_s > timing.full_delivery_s:
        return ["timing.initiation_s must not exceed full_delivery_s"]
    if service.curve is not None:
        # A lag has 99 % of a step after twice the time it takes to 90 %.
        ramp = service.curve.ramp_pu_per_s
        takes_s = 1 / ramp if ramp is not None else 2 * service.curve.response_90_s
        if takes_s > timing.full_delivery_s + 1e-9:
            return [f"curve: its own law takes {takes_s:g} s, timing.full_delivery_s allows {timing.full_delivery_s:g}"]
    if service.signal is not None and service.signal.ramp_pu_per_s is not None:
        takes_s = 1 / service.signal.ramp_pu_per_s
        if takes_s > timing.full_delivery_s + 1e-9:
            return [f"signal: its ramp takes {takes_s:g} s, timing.full_delivery_s allows {timing.full_delivery_s:g}"]
    if service.inertia is not None and service.inertia.window_s > timing.full_delivery_s:
        return ["inertia.window_s must not exceed timing.full_delivery_s"]
    return []


def text(reference: str) -> str:
    """The TOML text of a service: one that ships with the product, by its id, or a file ending in .toml.

    Raises ServiceError.
    """
    if reference in shipped():
        return (resources.files(__name__) / f"{reference}.toml").read_text(encoding="utf-8")
    if not reference.endswith(".toml"):
        raise ServiceError(f"service {reference!r} is unknown: a .toml file, or one of {', '.join(shipped())}")
    try:
        return Path(reference).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"service {reference}: cannot be read ({error})") from error


def load(reference: str) -> Service:
    """A service that ships with the product, by its id, or one from a .toml file. Raises ServiceError."""
    return parse(text(reference))


def shipped() -> list[str]:
    """Ids of the services that ship with the product."""
    return sorted(f.name[:-5] for f in resources.files(__name__).iterdir() if f.name.endswith(".toml"))
