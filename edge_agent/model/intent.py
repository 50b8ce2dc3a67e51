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
    stored_value_ticks: tuple[int, ...] = ()  # of energy in the storage, a unit [0.01 currency/MWh]; empty: not told


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmService:
    """Be ready to answer the grid's frequency, or to follow a signal."""

    award_id: str
    service: Service
    contracted_w: float  # magnitude [W]
    group: str = ""  # whose signal is followed


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """End what was armed now, with the service's own release."""

    award_id: str  # empty: whatever is armed


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What the grid operator allows at the grid connection, one pair of limits a market time unit; magnitudes."""

    envelope_id: str
    start_s: float  # monotonic instant of the first market time unit's beginning
    mtu_s: float
    import_limit_w: tuple[float, ...]
    export_limit_w: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSetpoint:
    """One power at the inverter's AC terminals; positive towards the grid."""

    power_w: float
    reason: str  # for the site's owner


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowPrice:
    """Read the own supply function at the price that is broadcast to a group."""

    group: str
    fallback_ticks: int  # the price while no broadcast holds [0.01 currency/MWh]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopOrder:
    """Emergency stop, or its end. It stands until it is lifted, also when what brought it has expired."""

    stop: bool
    issued_ms: int  # UTC of the coordinator; orders are newer or older by it
    reason: str  # for people


Body = Schedule | ArmService | Release | Envelope | PowerSetpoint | FollowPrice | StopOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One intent, its signature, site and sequence already checked by sync."""

    kind: str  # as in protos.subjects.INTENT_KINDS
    sequence: int
    starts_s: float  # monotonic; in force from then
    ends_s: float  # monotonic; over then, whatever happens
    body: Body
    ahead_ms: float = 0.0  # what the coordinator's UTC less the monotonic clock was taken to be

    def by(self, ahead_ms: float) -> "Intent":
        """The same intent, its instants by a better measurement of the coordinator's clock."""
        later_s = (self.ahead_ms - ahead_ms) / 1e3
        body = self.body
        if isinstance(body, Schedule | Envelope):
            body = replace(body, start_s=body.start_s + later_s)
        starts_s, ends_s = self.starts_s + later_s, self.ends_s + later_s
        return replace(self, starts_s=starts_s, ends_s=ends_s, body=body, ahead_ms=ahead_ms)
