"""What the coordinator asked of this site, as the control process keeps it: instants are monotonic seconds here."""

from dataclasses import dataclass, replace

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
    ahead_ms: float = 0.0  # what the coordinator's UTC less the monotonic clock was taken to be

    def by(self, ahead_ms: float) -> "Intent":
        """The same intent, its instants by a better measurement of the coordinator's clock."""
        later_s = (self.ahead_ms - ahead_ms) / 1e3
        body = self.body
        if isinstance(body, Schedule):
            body = replace(body, start_s=body.start_s + later_s)
        starts_s, ends_s = self.starts_s + later_s, self.ends_s + later_s
        return replace(self, starts_s=starts_s, ends_s=ends_s, body=body, ahead_ms=ahead_ms)
