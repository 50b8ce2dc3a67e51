"""What is asked of a group, and what came of it: rows of the ledger as frozen values.

Power is at the inverters' AC terminals unless it says otherwise, positive towards the grid; limits are magnitudes.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SOURCES: Final = ("own", "market", "grid")
"""Who wants an activation: this power plant itself, a market it sold to, the grid operator."""


class DispatchRefused(Exception):
    """What was asked cannot be: names it and the remedy in one line."""


class ActivationState(StrEnum):
    """How far an activation has come."""

    ASKED = "asked"
    ACTIVE = "active"
    VERIFIED = "verified"  # it is over, and what was delivered stands beside what was asked
    FAILED = "failed"  # it never began; the note says why


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A power that a group is to have for a time. Results are None before it is over."""

    activation_id: str
    group: str
    target_w: int  # of the group's inverters together
    start_ms: int
    end_ms: int
    source: str  # one of SOURCES
    reason: str
    actor: str
    created_ms: int
    state: ActivationState = ActivationState.ASKED
    note: str = ""
    target_wh: int | None = None
    expected_wh: int | None = None  # by the functions that the sites told, at the prices that were said
    measured_wh: int | None = None  # what was not measured counts as nothing
    error_p95_w: int | None = None  # of power against target, from half a minute after the beginning
    cycles: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationSite:
    """A site's part of an activation that is over."""

    activation_id: str
    site: str
    expected_wh: int
    measured_wh: int
    cycles_missing: int  # in which it was not heard of
    deviated: bool  # in the end it was not counted on: it did not do what it had told


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An intent that somebody wants sent to a site; the coordinator that leads sends it."""

    order_id: str
    site: str
    kind: str  # as in protos.subjects.INTENT_KINDS
    body: str  # the Intent's body as protobuf JSON
    valid_from_ms: int
    expires_ms: int
    actor: str
    created_ms: int
    sequence: int | None = None  # of the intent, once it was sent: its state is that one's
    problem: str = ""  # why it was not


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLimit:
    """What the sites of a group may exchange with the grid together: an envelope of a feeder."""

    limit_id: str
    group: str
    start_ms: int
    end_ms: int
    import_limit_w: int  # magnitude, at the grid meters together
    export_limit_w: int
    actor: str
    created_ms: int
