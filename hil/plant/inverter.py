"""A hybrid inverter's power control: how it follows a setpoint, and the reversion timer that lets go of it.

Following is a first-order lag with a slope limit, dP/dt = clamp((target - P) / lag, -ramp, +ramp), which has a closed
form while the target holds: a straight ramp until the gap is ramp * lag, then an exponential.

The setpoint and its reversion are those of SunSpec model 704 (WSet...): when the timer runs out, enable and setpoint
become what their reversion twins say.
"""

import math
from dataclasses import dataclass, field, replace

from hil.plant.battery import Battery


@dataclass(frozen=True, slots=True, kw_only=True)
class InverterRating:
    """What an inverter is."""

    power_w: float  # AC, both ways
    lag_s: float = 0.015
    ramp_pu_per_s: float = 10.0  # share of the rating a second

    @property
    def ramp_w_per_s(self) -> float:
        return self.ramp_pu_per_s * self.power_w


def follow(power_w: float, target_w: float, dt_s: float, rating: InverterRating) -> tuple[float, float]:
    """(power at the end, mean power) [W] of following a constant target for a time."""
    gap_w = target_w - power_w
    if gap_w == 0.0 or dt_s <= 0.0:
        return power_w, power_w
    slope = math.copysign(rating.ramp_w_per_s, gap_w)
    ramp_s = max(0.0, abs(gap_w) / rating.ramp_w_per_s - rating.lag_s)
    if dt_s <= ramp_s:
        end_w = power_w + slope * dt_s
        return end_w, (power_w + end_w) / 2
    knee_w = power_w + slope * ramp_s
    rest_s = dt_s - ramp_s
    left = math.exp(-rest_s / rating.lag_s)
    area = ramp_s * (power_w + knee_w) / 2 + target_w * rest_s - (target_w - knee_w) * rating.lag_s * (1.0 - left)
    return target_w - (target_w - knee_w) * left, area / dt_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a control asks of the plant."""

    power_w: float  # at the AC terminals
    pv_w: float  # that may be used of what the sun gives; more is throttled


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One side of a power setpoint: the active one, or the one reverted to."""

    enabled: bool = False
    power_w: float = 0.0
    share: float = 0.0  # of the rating, used instead of power_w in percent mode


@dataclass(slots=True)
class PowerControl:
    """The active-power setpoint of an inverter, with its reversion timer."""

    active: Setting = field(default_factory=Setting)
    reversion: Setting = field(default_factory=Setting)
    percent_mode: bool = False
    reversion_time_s: int = 0  # 0: no timer
    expires_ms: float | None = None  # UTC; None: no timer runs

    def commanded_w(self, rated_w: float) -> float | None:
        """The power asked for [W], or None while the inverter follows its own default."""
        if not self.active.enabled:
            return None
        return self.active.share * rated_w if self.percent_mode else self.active.power_w

    def order(self, available_w: float, rated_w: float, battery: Battery) -> Order | None:
        """What the setpoint makes of this sun; None: the inverter's own default."""
        commanded_w = self.commanded_w(rated_w)
        return None if commanded_w is None else Order(power_w=commanded_w, pv_w=available_w)

    def rearm(self, now_ms: float) -> None:
        """Starts the timer anew, or stops it where no time is set or nothing is enabled."""
        running = self.active.enabled and self.reversion_time_s > 0
        self.expires_ms = now_ms + 1000.0 * self.reversion_time_s if running else None

    def remaining_s(self, now_ms: float) -> int:
        """Whole seconds, rounded up, until the timer lets go; 0 if none runs."""
        return 0 if self.expires_ms is None else max(0, math.ceil((self.expires_ms - now_ms) / 1000.0))

    def revert(self) -> None:
        """What happens when the timer runs out."""
        self.active = replace(self.reversion)
        self.expires_ms = None
