"""Frequency services as data: the one text that is sold, armed, run, proven and settled.

A service answers a frequency deviation f - nominal [Hz] with a share of power, positive towards the grid (the answer
to low frequency). It is either a `Curve` (piecewise linear, with a first-order lag) or a `Trigger` (full power at a
threshold, held, released). `parse` reads a text, `load` one that ships with the product or stands in
a file.
"""

import datetime as dt
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]


class ServiceError(ValueError):
    """A service text that cannot be used; says which service, which key and why."""


class Curve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Piecewise-linear response."""

    reference: Literal["contracted", "rating"]  # what a share is a share of
    knots: tuple[tuple[float, float], ...]  # (deviation [Hz], share), deviations strictly increasing
    response_90_s: NonNegative = 0.0  # time to 90 % of a step [s]; 0: immediate


class Trigger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of the contracted power at a threshold, held, then released."""

    under_hz: Positive  # acts at or below [Hz]
    full_delivery_s: Positive  # from crossing to all of it [s]
    hold_s: Positive  # [s]
    release_pu_per_s: Positive  # ramp back, share a second
    rearm_s: NonNegative  # until it may act again, from the end of the release [s]


class Performance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How delivery is judged."""

    delay_s: NonNegative  # the response may trail the frequency by this much [s]
    tolerance_pu: NonNegative  # share of the contracted power, either side
    full_payment_error: NonNegative  # mean error up to which all is paid
    no_payment_error: Positive  # mean error from which nothing is paid


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One frequency service."""

    id: str
    version: Annotated[int, msgspec.Meta(ge=1)]
    title: str
    source: str
    date: dt.date
    nominal_hz: Literal[50, 60]
    performance: Performance
    curve: Curve | None = None
    trigger: Trigger | None = None


def parse(text: str) -> Service:
    """The service a TOML text describes. Raises ServiceError."""
    try:
        service = msgspec.toml.decode(text, type=Service)
    except msgspec.DecodeError as error:
        raise ServiceError(f"service: {error}") from error
    if (service.curve is None) == (service.trigger is None):
        raise ServiceError(f"service {service.id}: give either [curve] or [trigger]")
    if service.curve is not None:
        knots = service.curve.knots
        if len(knots) < 2 or any(a[0] >= b[0] for a, b in pairwise(knots)):
            raise ServiceError(f"service {service.id}: curve.knots: two or more, deviations strictly increasing")
        if any(abs(share) > 1 for _, share in knots):
            raise ServiceError(f"service {service.id}: curve.knots: a share lies in -1..1")
    if service.performance.no_payment_error <= service.performance.full_payment_error:
        raise ServiceError(f"service {service.id}: performance.no_payment_error must exceed full_payment_error")
    return service


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
