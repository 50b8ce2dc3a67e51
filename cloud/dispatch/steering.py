"""One group held at a target: every cycle its supply functions, what it does and its limits become a price a node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.dispatch.correction import Correction, Counted
from cloud.dispatch.nested import Nested, NestedClearing
from cloud.dispatch.prices import Array, Price, PriceGrid
from cloud.dispatch.rows import Rows, powers_at
from cloud.dispatch.tree import Limits, Tree

HOLD_S: Final = 15.0  # a broadcast price; a site that hears no newer one then goes to its fallback
QUIET_S: Final = 10.0  # without telemetry: what was measured last is not what it does now


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Of the group's sites, by the same order in every cycle."""

    power_w: Array  # float64 [n] at the inverter, NaN where it was never measured
    quiet_s: Array  # float64 [n] since the newest sample


@dataclass(frozen=True, slots=True)
class Cycle:
    """What a cycle came to."""

    prices: Mapping[str, Price]  # to be broadcast, one a node: as many whatever the number of sites
    cleared: NestedClearing
    counted: Counted
    expected_w: Array  # float64 [n]: of each site at the price that is said now, by the function that it told


class Steering:
    """Nodes are groups: the first is the whole, the others are limited groups inside of it (cloud.fleet.groups).

    grid, cycle_s: as everywhere. fallback: the price that sites without a fresh broadcast go to.
    """

    def __init__(
        self,
        rows: Rows,
        node: Array,
        names: Sequence[str],
        parents: Sequence[int],
        *,
        grid: PriceGrid,
        cycle_s: float,
    ) -> None:
        """rows: the sites' functions now; a copy is kept."""
        self.names = tuple(names)
        self.grid = grid
        self._rows = Rows(rows.ticks.copy(), rows.power_w.copy())
        self._nested = Nested(Rows(rows.ticks.copy(), rows.power_w.copy()), node, Tree(parents), grid)
        self._correction = Correction(rows.sites, cycle_s=cycle_s)
        self._heard: Array | None = None  # position, by node
        self.fallback = 0.0  # position

    @property
    def deviating(self) -> Array:
        """bool [n]: sites that are not counted on."""
        return self._correction.deviating

    def open(self, target_w: float, limits: Limits) -> Price:
        """The price to fall back to: the one that would do before anything was measured."""
        price = self.grid.price(self._nested.clear(target_w, limits).total.position)
        self.fallback = self.grid.position(Price(price.ticks, 0.0, 0.0))
        self._heard = np.full(len(self.names), self.fallback)
        return Price(price.ticks, 0.0, 0.0)

    def cycle(
        self, changed: Array, news: Rows, offers: Array, telemetry: Telemetry, target_w: float, limits: Limits
    ) -> Cycle:
        """changed, news: sites that told a function since the last cycle. offers: bool [n], whose function holds."""
        self._rows.ticks[:, changed], self._rows.power_w[:, changed] = news.ticks, news.power_w
        if self._heard is None:
            self.open(target_w, limits)
        heard, node, sites = self._heard, self._nested.node, self._rows.sites
        assert heard is not None  # noqa: S101 (open has set it)
        silent = telemetry.quiet_s > max(QUIET_S, HOLD_S)
        counted = self._correction.step(
            self._rows,
            changed,
            heard[node],
            np.full(sites, self.fallback),
            np.where(telemetry.quiet_s > QUIET_S, np.nan, telemetry.power_w),
            silent,
            offers,
        )
        self._nested.update(counted.sites, counted.rows)
        cleared = self._nested.clear(target_w - counted.offset_w, limits)
        prices = {name: self.grid.price(at) for name, at in zip(self.names, cleared.position.tolist(), strict=True)}
        self._heard = np.array([self.grid.position(price) for price in prices.values()])
        expected_w = powers_at(self._rows, np.where(silent, self.fallback, self._heard[node]))
        return Cycle(prices, cleared, counted, expected_w)
