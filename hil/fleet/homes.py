"""A fleet of homes as arrays: batteries and sun that follow a broadcast price, late, not quite, or not at all."""

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.dispatch.prices import Array, Price, PriceGrid
from cloud.dispatch.rows import Rows, powers_at
from cloud.dispatch.share import HOLD_S

STEP_S: Final = 0.5
BREAKPOINTS: Final = 8
_HEARD_S: Final = 0.5  # until a price is at the inverter
_TELEMETRY_S: Final = 1.5  # until a measured power is in the fleet's columns
_REPORTED_S: Final = (10.0, 120.0)  # between two reports of a supply function
_ROUND_TRIP: Final = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Shares of the sites."""

    silent: float = 0.05  # no telemetry, no report, and no price is heard; each from some instant on
    lying: float = 0.02  # do not do what their function says: stuck, or 40 % of the way


@dataclass(frozen=True, slots=True)
class Seen:
    """What the coordinator can know."""

    rows: Rows  # as told last
    changed: Array  # int64: told since the last look
    measured_w: Array  # float64: late; the last one before a site fell silent
    last_seen_s: Array


class Homes:
    """Half a second a step. Generator reference; every figure drawn from a seed.

    A home has 3 to 7 kW of inverter, a battery that buys and sells at prices of its own with a slope between two ticks
    some currency apart, and sun that drifts with the clouds all have in common. Its inverter answers with a first-order
    lag of 0.5 to 4 s; its meter is off by up to 1 % and 15 W of noise.
    """

    def __init__(self, sites: int, grid: PriceGrid, faults: Faults, *, seed: int, length_s: float) -> None:
        rng = self._rng = np.random.default_rng(seed)
        self.sites, self.grid = sites, grid
        self.rated_w = rng.uniform(3_000, 7_000, sites)
        self._worth = rng.normal(9_000, 2_500, sites).clip(2_000, 20_000)  # of stored energy [ticks]
        self._width = rng.integers(1, 1_200, sites)
        self._sun_share = np.where(rng.random(sites) < 0.6, rng.uniform(0.1, 0.5, sites), 0.0)
        self._lag_s = rng.uniform(0.5, 4.0, sites)
        self._gain = rng.normal(1.0, 0.004, sites).clip(0.99, 1.01)
        order = rng.permutation(sites)
        quiet, liars = round(faults.silent * sites), round(faults.lying * sites)
        self._silent_from_s = np.full(sites, np.inf)
        self._silent_from_s[order[:quiet]] = rng.uniform(0, 0.7 * length_s, quiet)
        self._follows = np.ones(sites)
        self._follows[order[quiet : quiet + liars]] = np.where(rng.random(liars) < 0.5, 0.0, 0.4)
        self._clouds, self._own_clouds = 1.0, np.zeros(sites)
        self.now_s = 0.0
        self.told = self._functions()
        self._next_report_s = rng.uniform(0, _REPORTED_S[1], sites)
        start = np.full(sites, self.grid.position(Price(9_000, 1.0, 0.0)))
        self._heard = start
        self._heard_s = 0.0
        self.fallback = start
        self.power_w = powers_at(self.told, start)
        self._stuck_w = self.power_w.copy()
        self._on_the_way: deque[tuple[float, Array]] = deque()
        self._telemetry: deque[Array] = deque(maxlen=round(_TELEMETRY_S / STEP_S))
        self._last_seen_s = np.zeros(sites)
        self._measured_w = self.power_w.copy()
        self._changed: list[Array] = []

    @property
    def silent(self) -> Array:
        """bool: which really are."""
        result: Array = self.now_s >= self._silent_from_s
        return result

    @property
    def lying(self) -> Array:
        """bool: which do not do what their function says."""
        result: Array = self._follows < 1.0
        return result

    def say(self, position: Array) -> None:
        """A price for each site, as broadcast now."""
        self._on_the_way.append((self.now_s + _HEARD_S, position))

    def look(self) -> Seen:
        changed = np.unique(np.concatenate(self._changed)) if self._changed else np.empty(0, np.int64)
        self._changed.clear()
        return Seen(self.told, changed, self._measured_w.copy(), self._last_seen_s.copy())

    def step(self) -> None:
        rng = self._rng
        self.now_s += STEP_S
        self._clouds += STEP_S / 300 * (1.0 - self._clouds) + 0.002 * float(rng.normal())
        self._own_clouds += STEP_S / 120 * -self._own_clouds + 0.01 * rng.normal(size=self.sites)
        silent = self.silent
        while self._on_the_way and self._on_the_way[0][0] <= self.now_s:
            _, position = self._on_the_way.popleft()
            self._heard, self._heard_s = np.where(silent, self._heard, position), self.now_s
        deaf = silent & (self.now_s - self._silent_from_s > HOLD_S)
        true = self._functions()
        wanted_w = powers_at(true, np.where(deaf, self.fallback, self._heard))
        wanted_w = self._stuck_w + self._follows * (wanted_w - self._stuck_w)
        self.power_w += (1 - np.exp(-STEP_S / self._lag_s)) * (wanted_w - self.power_w)
        measured_w = self._gain * self.power_w + rng.normal(0.0, 15.0, self.sites)
        self._telemetry.append(measured_w)
        self._measured_w = np.where(silent, self._measured_w, self._telemetry[0])
        self._last_seen_s = np.where(silent, self._last_seen_s, self.now_s - _TELEMETRY_S)
        telling = np.flatnonzero((self._next_report_s <= self.now_s) & ~silent)
        self.told.ticks[:, telling], self.told.power_w[:, telling] = true.ticks[:, telling], true.power_w[:, telling]
        self._next_report_s[telling] = self.now_s + rng.uniform(*_REPORTED_S, len(telling))
        self._changed.append(telling)

    def _functions(self) -> Rows:
        """What every home would really do now."""
        sun_w = self.rated_w * self._sun_share * (self._clouds + self._own_clouds).clip(0.0, 1.5)
        one_way = np.sqrt(_ROUND_TRIP)
        buy, sell = np.floor(self._worth * one_way), np.ceil(self._worth / one_way)
        ticks = np.stack([np.full(self.sites, -1.0), np.zeros(self.sites), buy - self._width, buy, sell,
                          sell + self._width, sell + self._width, sell + self._width])  # fmt: skip
        battery_w = 0.6 * self.rated_w
        rest = np.zeros(self.sites)
        power_w = np.stack([-battery_w, sun_w - battery_w, sun_w - battery_w, sun_w + rest, sun_w + rest,
                            sun_w + battery_w, sun_w + battery_w, sun_w + battery_w])  # fmt: skip
        power_w = np.clip(power_w, -self.rated_w, self.rated_w)
        order = np.maximum.accumulate(ticks, axis=0) - self.grid.first
        return Rows(order.astype(np.int32), np.rint(power_w).astype(np.int32))
