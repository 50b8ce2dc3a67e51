"""When a number from a device's registers may be believed; the one place where a value is called unbelievable."""

import math

from edge_agent.model.values import Quality, Sample

FREQUENCY_HZ = (40.0, 70.0)  # a meter that shows anything else does not measure a 50 or 60 Hz grid
DEAD_LINE_PU = 0.5  # below half its nominal voltage a line is dead, and what stands for its frequency is noise
DEAD_LINE_V = 50.0  # the same where the device does not tell its nominal voltage
SHARE = (0.0, 1.0)
INSANE_POWER_PU = 2.0  # no inverter delivers twice its rating for longer than a fault lasts
ANY = (-math.inf, math.inf)


def sample(value: float | None, at_s: float, inside: tuple[float, float] = ANY) -> Sample:
    """A value measured at `at_s` [s]; bad where it is none, or outside the range."""
    if value is None or not math.isfinite(value):
        return Sample(math.nan, Quality.BAD, at_s)
    if inside[0] <= value <= inside[1]:
        return Sample(value, Quality.GOOD, at_s)
    return Sample(value, Quality.BAD, at_s, f"out of range ({value:g})")


def believable_power(rated_w: float) -> tuple[float, float]:
    """The range of power that an inverter of this rating can have [W]; 0: its rating is not known."""
    limit_w = INSANE_POWER_PU * rated_w if rated_w else math.inf
    return -limit_w, limit_w


def frequency(value: float | None, voltage_v: float | None, nominal_v: float | None, at_s: float) -> Sample:
    """Frequency of a live line. Where the device measures no voltage at all, the range alone decides."""
    dead_below_v = DEAD_LINE_PU * nominal_v if nominal_v else DEAD_LINE_V
    if voltage_v is not None and voltage_v < dead_below_v:
        return Sample(value if value is not None else math.nan, Quality.BAD, at_s, f"dead line ({voltage_v:.0f} V)")
    return sample(value, at_s, FREQUENCY_HZ)
