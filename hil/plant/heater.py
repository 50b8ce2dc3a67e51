"""A hot-water tank with a heating rod and a thermostat: one temperature, losses to the room, water drawn off."""

import math
from dataclasses import dataclass

_J_PER_WH = 3600.0
WATER_J_PER_L_K = 4186.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaterRating:
    """A common tank of 200 l that loses 1.5 kWh a day at 60 degrees in a room of 20."""

    power_w: float = 2_000.0
    least_w: float = 2_000.0  # a plain rod is on or off; power electronics give less, too
    volume_l: float = 200.0
    loss_w_per_k: float = 1_500.0 / 24 / 40
    room_c: float = 20.0
    cold_c: float = 10.0  # of the water that takes the place of what is drawn off
    comfort_min_c: float = 48.0
    comfort_max_c: float = 62.0
    cut_out_c: float = 75.0  # a safety thermostat of the tank's own, whatever it is told


class Heater:
    """The tank. What it draws is negative."""

    def __init__(self, rating: HeaterRating, temperature_c: float) -> None:
        self.rating = rating
        self.temperature_c = temperature_c
        self._now_s = 0.0
        self._heats = False  # by its own thermostat
        self.asked_w: float | None = None  # None: its own thermostat, between the ends of comfort

    @property
    def level(self) -> float:
        """How full within comfort: 0 at its least, 1 at its most."""
        low_c, high_c = self.rating.comfort_min_c, self.rating.comfort_max_c
        return (self.temperature_c - low_c) / (high_c - low_c)

    @property
    def power_w(self) -> float:
        """As much as it is asked for, and nothing below its least."""
        rating = self.rating
        if self.temperature_c >= rating.cut_out_c:
            return 0.0
        if self.asked_w is None:
            return -rating.power_w if self._heats else 0.0
        return -min(-self.asked_w, rating.power_w) if -self.asked_w >= rating.least_w else 0.0

    def draw_off(self, litres: float) -> None:
        """Somebody takes a bath."""
        share = min(1.0, litres / self.rating.volume_l)
        self.temperature_c += share * (self.rating.cold_c - self.temperature_c)

    def advance(self, to_s: float) -> None:
        """Heats and cools until an instant of its clock, in steps of which none is longer than 10 s."""
        rating = self.rating
        heat_j_per_k = rating.volume_l * WATER_J_PER_L_K
        while self._now_s < to_s:
            dt_s = min(10.0, to_s - self._now_s)
            self._now_s += dt_s
            if self.level <= 0.0:
                self._heats = True
            elif self.level >= 1.0:
                self._heats = False
            # Exact over a step: the tank goes towards where rod and losses balance.
            balance_c = rating.room_c - self.power_w / rating.loss_w_per_k
            left = math.exp(-rating.loss_w_per_k * dt_s / heat_j_per_k)
            self.temperature_c = balance_c + (self.temperature_c - balance_c) * left
