"""Values that cross the agent's layers. Frozen; units in the names; generator reference: positive towards the grid."""

from dataclasses import dataclass
from enum import Enum
from typing import assert_never


class Quality(Enum):
    """Whether a value may be acted upon."""

    GOOD = "good"
    STALE = "stale"  # true once, too old now
    BAD = "bad"  # not measured, or not believable


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured value."""

    value: float
    quality: Quality
    at_s: float  # monotonic instant of the reading [s]
    reason: str = ""  # why it is not good, where more is known than that

    @property
    def good(self) -> float | None:
        """The value if it may be acted upon, else None."""
        return self.value if self.quality is Quality.GOOD else None


MISSING = Sample(float("nan"), Quality.BAD, float("-inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerBounds:
    """Active power a device can hold now [W], at its AC terminals."""

    lower_w: float
    upper_w: float

    def clip(self, power_w: float) -> float:
        return max(self.lower_w, min(self.upper_w, power_w))

    def narrowed(self, other: "PowerBounds") -> "PowerBounds":
        """These bounds, narrowed by other; where they do not meet, the end of these that is nearest to other."""
        return PowerBounds(lower_w=self.clip(other.lower_w), upper_w=self.clip(other.upper_w))


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameplate:
    """What a device says it is. Ratings are magnitudes; 0 where there is none."""

    manufacturer: str
    model: str
    serial: str
    sunspec_models: tuple[int, ...] = ()
    rated_power_w: float = 0.0  # AC
    max_charge_w: float = 0.0
    max_discharge_w: float = 0.0
    storage_capacity_wh: float = 0.0
    # Whether its panels give way when it is asked to import. Else they go on, and take their share of the charging.
    throttles_to_import: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything known about a site in one control cycle; constant while the cycle lasts."""

    at_s: float  # monotonic instant the cycle's picture was frozen [s]
    utc_ms: int
    frequency_hz: Sample = MISSING  # of the best source that can be true
    voltage_v: Sample = MISSING
    inverter_power_w: Sample = MISSING  # at the inverter's AC terminals
    pv_power_w: Sample = MISSING  # DC, positive when generating
    soc: Sample = MISSING  # 0..1
    grid_power_w: Sample = MISSING  # at the grid meter: positive exports
    ev_power_w: Sample = MISSING  # of all chargers at their AC terminals: what they draw is negative
    ev_session_wh: Sample = MISSING  # into the vehicles that stand there, since they came
    ev_connected: Sample = MISSING  # how many stand there
    flexible_load_power_w: Sample = MISSING  # of all loads that can wait: what they draw is negative
    bounds: PowerBounds | None = None  # what the inverter can hold now; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Setpoint:
    """Power asked of the inverter at its AC terminals. None lives for ever."""

    power_w: float
    source: str  # the controller, or controllers, it came from
    expires_s: float  # monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A controller's wish for one cycle.

    `power_w` is preferred absolute power; None: no wish. `offset_w` is added on top of what the controllers below
    settle on (frequency response adds to the baseline rather than replacing it). `reserve_up_w` and `reserve_down_w`
    are held back from every controller below, so that nobody can sell the same power twice.
    """

    source: str
    power_w: float | None = None
    offset_w: float = 0.0
    reserve_up_w: float = 0.0
    reserve_down_w: float = 0.0
    bounds: PowerBounds | None = None  # imposed on all below
    note: str = ""  # why, where a person would ask


@dataclass(frozen=True, slots=True)
class Applied:
    """The setpoint may reach the device as asked."""

    setpoint: Setpoint


@dataclass(frozen=True, slots=True)
class Clipped:
    """The setpoint may reach the device, with less power than asked."""

    setpoint: Setpoint
    asked_w: float
    by: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing may reach the device."""

    reason: str


Verdict = Applied | Clipped | Refused
Admitted = Applied | Clipped


def admitted(verdict: Verdict) -> Admitted | None:
    """The verdict if it lets something through."""
    match verdict:
        case Applied() | Clipped():
            return verdict
        case Refused():
            return None
        case _:
            assert_never(verdict)
