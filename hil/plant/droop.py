"""The frequency droop of an inverter's own, as IEEE 1547-2018, 6.5.2.7.1 defines it (without its lag)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Droop:
    """Deadbands on both sides of nominal, and the per-unit frequency change that is worth full power."""

    nominal_hz: float
    deadband_over_hz: float
    deadband_under_hz: float
    droop_over: float
    droop_under: float

    def share(self, frequency_hz: float) -> float:
        """Of the rating, on top of what is delivered anyway; positive below nominal."""
        over_hz = frequency_hz - self.nominal_hz - self.deadband_over_hz
        under_hz = self.nominal_hz - frequency_hz - self.deadband_under_hz
        if over_hz > 0:
            return -over_hz / (self.nominal_hz * self.droop_over)
        if under_hz > 0:
            return under_hz / (self.nominal_hz * self.droop_under)
        return 0.0
