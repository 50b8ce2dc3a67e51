"""What the live page is sent: columns of whole numbers, a list per quantity, null where nothing is known.

Whole units keep the JSON short and exact: W, mHz, permille, ms. Power is positive towards the grid.
"""

from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from cloud.model.records import EventRecord

Whole = list[int | None]

LINKS: Final = ("live", "late", "silent", "never")
LIVE, LATE, SILENT, NEVER = range(4)
SERVICE_STATES: Final = ("sent", "accepted", "armed", "active", "refused", "received")
SENT, ACCEPTED, ARMED, ACTIVE, REFUSED, RECEIVED = range(6)


class Roster(msgspec.Struct, frozen=True):
    """Who the sites are; the order of all columns."""

    sites: list[str]
    groups: list[list[str]]


class Columns(msgspec.Struct, frozen=True):
    """The newest of every site."""

    soc_permille: Whole
    inverter_power_w: Whole
    grid_power_w: Whole
    pv_power_w: Whole
    frequency_mhz: Whole
    service: Whole  # index into System.services
    contracted_w: Whole  # magnitude
    service_state: Whole  # index into System.states
    link: list[int]  # index into System.links
    age_ms: Whole  # since the last sample


class Flexible(msgspec.Struct, frozen=True):
    """Of every site: what chargers and loads that can wait draw, and the vehicles. Not sent to the live page."""

    ev_power_w: Whole
    ev_connected: Whole
    ev_session_wh: Whole
    flexible_load_power_w: Whole


class ArmedSummary(msgspec.Struct, frozen=True):
    """A service in force, over all sites that hold it ready."""

    service: str
    sites: int
    contracted_w: int
    thresholds_hz: list[float]  # where its answer begins


class System(msgspec.Struct, frozen=True):
    """The state of the whole, and what the codes in the columns mean."""

    broker: bool
    sites: int
    online: int
    armed: list[ArmedSummary]
    nominal_hz: float | None
    services: list[str]
    states: tuple[str, ...] = SERVICE_STATES
    links: tuple[str, ...] = LINKS


class Samples(msgspec.Struct, frozen=True):
    """A run of samples; the first at `t0_ms`, one each `step_ms`."""

    t0_ms: int
    step_ms: int
    frequency_mhz: Whole
    power_w: Whole  # of all inverters
    target_w: Whole


class Happening(msgspec.Struct, frozen=True):
    """An event in the list."""

    number: int
    at_ms: int
    severity: str
    site: str | None
    code: str
    text: str


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One server-sent event, a whole picture or a change: what is left out has not changed."""

    now_ms: int
    system: System
    roster: Roster | None = None
    columns: Columns | None = None
    samples: Samples | None = None
    events: list[Happening] | None = None


def whole(values: npt.ArrayLike, scale: float = 1.0) -> Whole:
    """`values` times `scale`, rounded; None where not finite."""
    scaled = np.asarray(values, dtype=np.float64) * scale
    known = np.isfinite(scaled)
    result: list[Any] = np.rint(np.where(known, scaled, 0.0)).astype(np.int64).tolist()
    for index in np.flatnonzero(~known).tolist():
        result[index] = None
    return result


def happening(event: EventRecord) -> Happening:
    return Happening(
        number=event.number or 0,
        at_ms=event.at_ms,
        severity=str(event.severity),
        site=event.site,
        code=event.code,
        text=event.text,
    )
