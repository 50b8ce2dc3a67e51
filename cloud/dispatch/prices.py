"""Prices as clearing searches them: whole market ticks, and at each tick first its steps, then the way to the next one.

A *position* is one float for all of it. On a grid that begins at tick f, position 2 (t - f) is the price t before any
vertical step at t, 2 (t - f) + 1 the price t behind them, and 2 (t - f) + 2 the price t + 1; between the first two lies
a share of the steps, between the last two a fraction of a tick. Along it every supply function is continuous, so that a
price under limits is just a position that is clipped.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """A price as it is said to sites (vpp.v1.Price)."""

    ticks: int  # [0.01 currency/MWh]
    step_share: float  # of a vertical step at exactly `ticks`, 0..1
    tick_fraction: float  # of a tick above `ticks`, 0..1; steps at `ticks` are taken whole where it is above 0


@dataclass(frozen=True, slots=True)
class PriceGrid:
    """The market's ticks [0.01 currency/MWh], both ends included. The default is wider than -500 to 4000 EUR/MWh, what
    the coupled day-ahead auction takes (harmonised limits of SDAC, 2022)."""

    first: int = -50_000
    last: int = 409_600

    def __post_init__(self) -> None:
        if self.last <= self.first:
            raise ValueError(f"price grid {self.first}..{self.last}: the last tick must be above the first")

    @property
    def ticks(self) -> int:
        """How many."""
        return self.last - self.first + 1

    @property
    def end(self) -> float:
        """The highest position: behind the steps of the last tick."""
        return 2.0 * (self.ticks - 1) + 1.0

    def position(self, price: Price) -> float:
        """Where a price lies; what is off the grid lies at its end."""
        into = 1.0 + price.tick_fraction if price.tick_fraction > 0 else price.step_share
        return min(max(2.0 * (price.ticks - self.first) + into, 0.0), self.end)

    def price(self, position: float) -> Price:
        """The price at a position, rounded to what vpp.v1.Price can say: millionths."""
        cell = math.floor(position)
        tick = self.first + cell // 2
        share = round((position - cell) * MILLION) / MILLION
        if cell % 2 == 0:
            return Price(tick, share, 0.0)
        return Price(tick + 1, 0.0, 0.0) if share == 1.0 else Price(tick, 1.0, share)


def split(position: Array) -> tuple[Array, Array, Array]:
    """Tick from the grid's first (int64), share of its steps, fraction of the tick above it: of each position."""
    cell = np.floor(position)
    into = position - cell
    odd = (cell % 2).astype(bool)
    return (cell // 2).astype(np.int64), np.where(odd, 1.0, into), np.where(odd, into, 0.0)
