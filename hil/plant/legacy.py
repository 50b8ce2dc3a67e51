"""The power controls of an older hybrid inverter: a window for the storage's power, and a cap on what leaves it.

They are those of SunSpec models 124 and 123. A rate below zero forces the other direction, so that a window of one
value pins the storage. Each control has a time-out of its own, after which the device returns to its default.
"""

from dataclasses import dataclass, fields

from hil.plant.battery import Battery
from hil.plant.inverter import Order

CHARGE, DISCHARGE = 1, 2  # which end of the window is set


@dataclass(slots=True)
class LegacyControl:
    """Powers in shares: of the storage's greatest charge and discharge, and of the inverter's rating."""

    mode: int = 0
    into: float = 1.0
    out: float = 1.0
    from_grid: bool = False  # whether the battery may be charged with more than the panels give
    window_time_s: int = 0  # 0: no time-out
    window_expires_ms: float | None = None  # UTC; None: no time-out runs
    capped: bool = False
    cap: float = 1.0
    cap_time_s: int = 0
    cap_expires_ms: float | None = None

    def become(self, other: "LegacyControl") -> None:
        """Takes all values of another."""
        for value in fields(self):
            setattr(self, value.name, getattr(other, value.name))

    @property
    def expires_ms(self) -> float | None:
        """The next time-out [UTC ms]."""
        running = [ms for ms in (self.window_expires_ms, self.cap_expires_ms) if ms is not None]
        return min(running, default=None)

    def revert(self) -> None:
        """What happens at the next time-out."""
        due_ms = self.expires_ms
        if self.window_expires_ms == due_ms:
            self.mode, self.into, self.out, self.window_expires_ms = 0, 1.0, 1.0, None
        if self.cap_expires_ms == due_ms:
            self.capped, self.cap, self.cap_expires_ms = False, 1.0, None

    def rearm_window(self, now_ms: float) -> None:
        running = self.mode != 0 and self.window_time_s > 0
        self.window_expires_ms = now_ms + 1000.0 * self.window_time_s if running else None

    def rearm_cap(self, now_ms: float) -> None:
        running = self.capped and self.cap_time_s > 0
        self.cap_expires_ms = now_ms + 1000.0 * self.cap_time_s if running else None

    def order(self, available_w: float, rated_w: float, battery: Battery) -> Order | None:
        """What the registers make of this sun and this battery; None: its own default. A free battery rests."""
        if self.mode == 0 and not self.capped:
            return None
        # Rounded to what is far below a register's step, so that 28 % of 5000 W are 1400 W.
        lowest_w = round(-self.into * battery.rating.max_charge_w, 6) if self.mode & CHARGE else 0.0
        highest_w = round(self.out * battery.rating.max_discharge_w, 6) if self.mode & DISCHARGE else 0.0
        storage_w = min(max(0.0, lowest_w), highest_w) if highest_w >= lowest_w else highest_w
        storage_w = max(-battery.max_charge_w, min(battery.max_discharge_w, storage_w))
        if not self.from_grid:
            storage_w = max(storage_w, -available_w)
        ceiling_w = round(self.cap * rated_w, 6) if self.capped else rated_w
        pv_w = min(available_w, max(0.0, ceiling_w - storage_w))
        return Order(power_w=min(pv_w + storage_w, ceiling_w), pv_w=pv_w)
