"""What the coordinator asked of this site, as the control process keeps it: instants are monotonic seconds here."""

from dataclasses import dataclass

from protos.services import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Power at the inverter's AC terminals, one value a market time unit; positive towards the grid."""

    start_s: float  # monotonic instant of the first market time unit's beginning
    mtu_s: float
    power_w: tuple[float, ...]
    plan_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmService:
    """Be ready to answer the grid's frequency."""

    award_id: str
    service: Service
    contracted_w: float  # magnitude [W]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """End what was armed now, with the service's own release."""

    award_id: str  # empty: whatever is armed


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One intent, its signature, site and sequence already checked by sync."""

    kind: str  # "schedule" or "service"
    sequence: int
    starts_s: float  # monotonic; in force from then
    ends_s: float  # monotonic; over then, whatever happens
    body: Schedule | ArmService | Release
