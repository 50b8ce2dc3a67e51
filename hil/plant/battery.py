"""A battery: energy in and out with losses, inside its power and state-of-charge limits."""

from dataclasses import dataclass

_S_PER_H = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatteryRating:
    """What a battery is. Powers are magnitudes at the inverter's side of the conversion [W]."""

    capacity_wh: float
    max_charge_w: float
    max_discharge_w: float
    charge_efficiency: float = 0.95  # stored / taken
    discharge_efficiency: float = 0.95  # given / released
    soc_min: float = 0.05  # the battery's own limits, 0..1
    soc_max: float = 1.0


class Battery:
    """State of charge under power. Positive power discharges."""

    def __init__(self, rating: BatteryRating, soc: float) -> None:
        """Raises ValueError if the state of charge lies outside the battery's own limits."""
        if not rating.soc_min <= soc <= rating.soc_max:
            raise ValueError(f"state of charge {soc} lies outside {rating.soc_min}..{rating.soc_max}")
        self.rating = rating
        self._stored_wh = soc * rating.capacity_wh

    @property
    def soc(self) -> float:
        """State of charge, 0..1."""
        return self._stored_wh / self.rating.capacity_wh

    @property
    def stored_wh(self) -> float:
        return self._stored_wh

    @property
    def max_discharge_w(self) -> float:
        """The most it can give at this moment [W]."""
        empty = self._stored_wh <= self.rating.soc_min * self.rating.capacity_wh
        return 0.0 if empty else self.rating.max_discharge_w

    @property
    def max_charge_w(self) -> float:
        """The most it can take at this moment, as a magnitude [W]."""
        full = self._stored_wh >= self.rating.soc_max * self.rating.capacity_wh
        return 0.0 if full else self.rating.max_charge_w

    def step(self, power_w: float, dt_s: float) -> float:
        """Holds a power for a time; returns the mean power [W] it could give (or take) inside its limits.

        Stored energy changes by -P dt / efficiency while discharging and by -P dt * efficiency while charging.
        """
        rating = self.rating
        hours = dt_s / _S_PER_H
        if hours <= 0.0:
            return max(-rating.max_charge_w, min(rating.max_discharge_w, power_w))
        if power_w >= 0.0:
            floor_wh = rating.soc_min * rating.capacity_wh
            possible_w = max(0.0, self._stored_wh - floor_wh) * rating.discharge_efficiency / hours
            power_w = min(power_w, rating.max_discharge_w, possible_w)
            self._stored_wh = max(floor_wh, self._stored_wh - power_w * hours / rating.discharge_efficiency)
        else:
            ceiling_wh = rating.soc_max * rating.capacity_wh
            possible_w = max(0.0, ceiling_wh - self._stored_wh) / rating.charge_efficiency / hours
            power_w = -min(-power_w, rating.max_charge_w, possible_w)
            self._stored_wh = min(ceiling_wh, self._stored_wh - power_w * hours * rating.charge_efficiency)
        return power_w
