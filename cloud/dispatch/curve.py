"""The sum of any number of supply functions on the market's own ticks, and the price at which it meets a target.

Adding a site is adding its slope changes to one histogram and its steps to another; the sum is then exact at every
tick, and a straight line between two. What a clearing costs depends on how many ticks there are, not on how many sites.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.dispatch.prices import Array, PriceGrid
from cloud.dispatch.rows import Rows, changes, in_chunks

BLOCK: Final = 512  # ticks that are summed before one of them is looked into
MET_W: Final = 1e-3  # a sum so near to its target meets it
EXACT_W: Final = 1.0


@dataclass(frozen=True, slots=True)
class Clearing:
    """The lowest price at which a sum meets its target, or where it comes nearest to it."""

    position: float  # on the grid (cloud.dispatch.prices)
    power_w: float  # of the sum there
    target_w: float

    @property
    def feasible(self) -> bool:
        """False: proven that no price meets the target; `power_w` is the end of what can be reached."""
        return abs(self.power_w - self.target_w) <= EXACT_W


class Curve:
    """A sum that sites can be added to, taken from and changed in.

    Between two ticks, and inside a step, power is a straight line: whoever stands at a step gives the same share of it.
    """

    def __init__(self, grid: PriceGrid) -> None:
        self.grid = grid
        room = -(-(grid.ticks + 1) // BLOCK) * BLOCK
        self._slope = np.zeros(room)  # W a tick more from this tick on
        self._jump = np.zeros(room)  # W
        self._lowest_w = 0.0  # at the grid's lowest price

    @staticmethod
    def of(rows: Rows, grid: PriceGrid) -> "Curve":
        """The sum of all rows, which must be usable (cloud.dispatch.rows.usable)."""
        curve = Curve(grid)
        curve.add(rows)
        return curve

    def copy(self) -> "Curve":
        other = Curve(self.grid)
        other.merge(self)
        return other

    def add(self, rows: Rows, sign: float = 1.0) -> None:
        """Adds the rows; sign -1 takes away what was added before, to be given just as it was."""
        self._lowest_w += sign * float(rows.lowest_w.sum(dtype=np.float64))
        for change in in_chunks(lambda part: changes(rows.take(part)), rows.sites):
            where = change.ticks.reshape(-1)
            np.add.at(self._slope, where, sign * change.slope.reshape(-1))
            if change.jump is not None:
                stepping = np.flatnonzero(change.jump)
                np.add.at(self._jump, where[stepping], sign * change.jump.reshape(-1)[stepping])

    def update(self, old: Rows, new: Rows) -> None:
        """The same sites with other functions."""
        self.add(old, -1.0)
        self.add(new)

    def merge(self, other: "Curve") -> None:
        """Adds another sum on the same grid, such as that of another worker."""
        if other.grid != self.grid:
            raise ValueError(f"sums on different price grids: {self.grid} and {other.grid}")
        self._slope += other._slope
        self._jump += other._jump
        self._lowest_w += other._lowest_w

    def drift_w(self, other: "Curve") -> float:
        """How far two sums are apart at most, at any tick: rounding that updates have left, against a new one."""
        (mine, mine_behind), (fresh, fresh_behind) = self.at_ticks(), other.at_ticks()
        return float(max(np.abs(mine - fresh).max(), np.abs(mine_behind - fresh_behind).max()))

    def at_ticks(self) -> tuple[Array, Array]:
        """float64 [ticks], twice: power before and behind the steps of every tick."""
        steps = np.cumsum(self._jump)
        slope = np.cumsum(self._slope)
        before = self._lowest_w + np.concatenate(([0.0], np.cumsum(slope[:-1]))) + steps - self._jump
        return before[: self.grid.ticks], (before + self._jump)[: self.grid.ticks]

    @property
    def range_w(self) -> tuple[float, float]:
        """Power at the lowest and at the highest price."""
        blocks = self._blocks()
        return self._lowest_w, self._cells(blocks, -1)[1][-1]

    def power_at(self, position: float) -> float:
        """Power of the sum at a position."""
        blocks = self._blocks()
        block = min(int(position) // (2 * BLOCK), len(blocks[0]) - 1)
        first, values = self._cells(blocks, block)
        return float(np.interp(position, first + np.arange(len(values)), values))

    def clear(self, target_w: float) -> Clearing:
        """The lowest price at which the sum is within a milliwatt of the target; where there is none, the nearest end.

        Where nobody reacts between two prices, both meet the same target: the lower one is taken.
        """
        blocks = self._blocks()
        wanted = target_w - MET_W
        block = max(0, int(np.searchsorted(blocks[0], wanted, side="left")) - 1)
        first, values = self._cells(blocks, block)
        cell = int(np.searchsorted(values, wanted, side="left"))
        if cell == 0:
            return Clearing(float(first), float(values[0]), target_w)
        if cell == len(values):  # only in the last block: beyond all that there is
            return Clearing(self._first_of_highest(float(values[-1])), float(values[-1]), target_w)
        low, high = float(values[cell - 1]), float(values[cell])
        into = min(max((target_w - low) / (high - low), 0.0), 1.0)
        return Clearing(min(first + cell - 1 + into, self.grid.end), low + into * (high - low), target_w)

    def _first_of_highest(self, highest_w: float) -> float:
        """The lowest position that gives all there is."""
        return self.clear(highest_w).position if highest_w > self._lowest_w + MET_W else 0.0

    def _blocks(self) -> tuple[Array, Array]:
        """float64 [blocks], twice: power before the first tick of each block, and slope just before that."""
        slopes, jumps = self._slope.reshape(-1, BLOCK), self._jump.reshape(-1, BLOCK)
        gained = np.cumsum(slopes.sum(axis=1))
        slope = np.concatenate(([0.0], gained[:-1]))
        grown = BLOCK * gained - slopes @ np.arange(BLOCK, dtype=np.float64) + jumps.sum(axis=1)
        power = self._lowest_w + np.concatenate(([0.0], np.cumsum(grown)[:-1]))
        return power, slope

    def _cells(self, blocks: tuple[Array, Array], block: int) -> tuple[int, Array]:
        """First position of a block, and power at every whole position of it up to that of the next block."""
        starts, slopes = blocks
        block %= len(starts)
        begin = block * BLOCK
        inside = slice(begin, begin + BLOCK)
        slope = slopes[block] + np.cumsum(self._slope[inside])
        jump = self._jump[inside]
        values = np.empty(2 * BLOCK + 1)
        behind = starts[block] + np.cumsum(np.concatenate(([0.0], slope[:-1])) + jump)
        values[1::2] = behind
        values[0:-1:2] = behind - jump
        values[-1] = behind[-1] + slope[-1]
        # Rounding must not make a sum of rising functions fall, or the search goes astray.
        return 2 * begin, np.maximum.accumulate(values)
