"""A vehicle at its charger: energy in, and out where it can, between what the driver left and a full battery."""

from dataclasses import dataclass

_S_PER_H = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargerRating:
    """Powers are magnitudes at the charger's AC terminals [W]."""

    max_draw_w: float
    least_draw_w: float  # 6 A a phase by IEC 61851: less cannot be offered to a vehicle
    max_feed_w: float = 0.0
    efficiency: float = 0.92  # from the terminals into the battery, and back again


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What the driver said when the vehicle was plugged in."""

    stored_wh: float  # in the battery on arrival
    capacity_wh: float
    wanted_wh: float  # in the battery when it leaves
    ready_at_s: float  # on the plant's clock


class Charger:
    """The charger with a vehicle, or without one. Positive power feeds the grid."""

    def __init__(self, rating: ChargerRating) -> None:
        self.rating = rating
        self._visit: Visit | None = None
        self._stored_wh = 0.0
        self.drawn_wh = 0.0  # at the terminals since the vehicle came
        self._now_s = 0.0
        self.asked_w: float | None = None  # None: its own default, which charges as fast as it can

    @property
    def plugged(self) -> bool:
        return self._visit is not None

    @property
    def stored_wh(self) -> float:
        """In the vehicle's battery; 0 where there is none."""
        return self._stored_wh

    @property
    def power_w(self) -> float:
        """What flows now: no more than asked, nothing below the least current, nothing into a full battery."""
        visit, rating = self._visit, self.rating
        if visit is None:
            return 0.0
        asked_w = -rating.max_draw_w if self.asked_w is None else self.asked_w
        if asked_w < 0:
            draws = -asked_w >= rating.least_draw_w and self._stored_wh < visit.capacity_wh
            return max(asked_w, -rating.max_draw_w) if draws else 0.0
        return min(asked_w, rating.max_feed_w) if self._stored_wh > 0 else 0.0

    @property
    def needed_wh(self) -> float:
        """At the terminals until the battery holds what is wanted; below 0: what is to spare."""
        visit = self._visit
        if visit is None:
            return 0.0
        missing_wh = visit.wanted_wh - self._stored_wh
        return missing_wh / self.rating.efficiency if missing_wh > 0 else missing_wh * self.rating.efficiency

    @property
    def ready_in_s(self) -> float | None:
        return self._visit.ready_at_s - self._now_s if self._visit is not None else None

    def plug(self, visit: Visit | None) -> None:
        """A vehicle comes, or goes; what was asked of the charger was for the one before."""
        self._visit = visit
        self._stored_wh = visit.stored_wh if visit is not None else 0.0
        self.drawn_wh = 0.0
        self.asked_w = None

    def advance(self, to_s: float) -> None:
        """Charges, or discharges, until an instant of its clock, in steps of which none is longer than 10 s."""
        while self._now_s < to_s:
            dt_s = min(10.0, to_s - self._now_s)
            self._now_s += dt_s
            if self._visit is None:
                continue
            power_w, efficiency = self.power_w, self.rating.efficiency
            self.drawn_wh += max(0.0, -power_w) * dt_s / _S_PER_H
            stored_w = -power_w * efficiency if power_w < 0 else -power_w / efficiency
            stored_wh = self._stored_wh + stored_w * dt_s / _S_PER_H
            self._stored_wh = max(0.0, min(self._visit.capacity_wh, stored_wh))
