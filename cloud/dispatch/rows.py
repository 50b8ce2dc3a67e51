"""Supply functions as arrays: one column a site, a row a breakpoint. What a site gives at a price is read off here."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeVar

import numpy as np

from cloud.dispatch.prices import Array, PriceGrid

CHUNK: Final = 16_384  # sites at a time: their intermediate arrays stay in a core's own cache
AHEAD: Final = 2 * (os.cpu_count() or 1)  # chunks
Result = TypeVar("Result")

_GOLDEN: Final = 0.6180339887498949
_ROUNDED: Final = 1e-3  # a sum so near to a whole number is one


@dataclass(frozen=True, slots=True)
class Rows:
    """Breakpoints of n sites, k each; a function with fewer repeats its last one. Constant outside of them.

    Two breakpoints at one tick are a vertical step. All zero: a site without a function.
    """

    ticks: Array  # int32 [k, n], from the grid's first tick, never falling along k
    power_w: Array  # int32 [k, n], positive towards the grid, never falling along k

    @property
    def sites(self) -> int:
        return int(self.ticks.shape[1])

    def take(self, sites: Array | slice) -> "Rows":
        return Rows(self.ticks[:, sites], self.power_w[:, sites])

    @property
    def lowest_w(self) -> Array:
        """int32 [n]: power at the lowest price."""
        lowest: Array = self.power_w[0]
        return lowest

    @staticmethod
    def empty(sites: int, breakpoints: int = 8) -> "Rows":
        return Rows(np.zeros((breakpoints, sites), np.int32), np.zeros((breakpoints, sites), np.int32))


def usable(rows: Rows, grid: PriceGrid) -> Array:
    """bool [n]: which are supply functions on the grid. One that is not would spoil the sum of all, silently."""
    ordered = (np.diff(rows.ticks, axis=0) >= 0).all(axis=0) & (np.diff(rows.power_w, axis=0) >= 0).all(axis=0)
    result: Array = ordered & (rows.ticks[0] >= 0) & (rows.ticks[-1] < grid.ticks)
    return result


@dataclass(frozen=True, slots=True)
class Changes:
    """Where slope and power of some functions change: all [k, n] as their rows."""

    ticks: Array
    slope: Array  # float64: W a tick more than before
    jump: Array | None  # float64: step at the tick; None: there is none


def changes(rows: Rows) -> Changes:
    """Slope changes and steps. Always the same floats for the same row: what was added can be taken away again."""
    run = rows.ticks[1:] - rows.ticks[:-1]
    rise = rows.power_w[1:] - rows.power_w[:-1]
    jump = None
    steps = run == 0
    if steps.any():
        if rise[steps].any():
            jump = np.zeros(rows.ticks.shape)
            np.copyto(jump[:-1], rise, where=steps)
        rise[steps] = 0
        run[steps] = 1
    slope = np.zeros(rows.ticks.shape)
    np.divide(rise, run, out=slope[:-1])
    slope[1:] -= slope[:-1].copy()
    return Changes(rows.ticks, slope, jump)


def powers_at(rows: Rows, position: Array | float) -> Array:
    """float64 [n]: what each site gives at its position, or all at one."""
    at = np.broadcast_to(np.asarray(position, dtype=np.float64), (rows.sites,))
    result = np.empty(rows.sites)
    flat = Rows(rows.ticks.reshape(-1), rows.power_w.reshape(-1))

    def fill(part: slice) -> None:
        result[part] = _powers(rows, flat, part, at[part])

    for _ in in_chunks(fill, rows.sites):
        pass
    return result


def _powers(rows: Rows, flat: Rows, part: slice, position: Array) -> Array:
    """Along the line from the last breakpoint not above the tick to the next, and in the tick's own steps."""
    cell = position.astype(np.int32)
    into = position - cell
    tick, in_steps = cell >> 1, (cell & 1) == 0
    site = np.arange(part.start, part.stop)
    last = len(rows.ticks) - 1
    below = np.zeros(len(position), np.int64)
    for row in rows.ticks[:, part]:
        below += row <= tick
    before = np.maximum(below - 1, 0) * rows.sites + site
    after = np.minimum(below, last) * rows.sites + site  # the same one at either end, so that the line is flat there
    x0, y0 = flat.ticks[before], flat.power_w[before]
    run, rise = flat.ticks[after] - x0, (flat.power_w[after] - y0).astype(np.float64)
    result: Array = y0 + rise * ((tick - x0) + np.where(in_steps, 0.0, into)) / np.maximum(run, 1)
    stepping = np.flatnonzero(in_steps & (x0 == tick))
    if len(stepping):
        first = (rows.ticks[:, part][:, stepping] < tick[stepping]).sum(axis=0) * rows.sites + site[stepping]
        behind = result[stepping]
        start = flat.power_w[first]
        result[stepping] = start + into[stepping] * (behind - start)
    return result


def whole_watts(power_w: Array, cycle: int) -> Array:
    """int64 [n]: each power rounded down or up; the sum is that of all, rounded likewise (a whole sum is met exactly).

    Which sites get the watts that are left rotates: they are dealt where the running sum of the fractions passes a
    whole number, and that sum begins at another place every cycle (multiples of the golden ratio). Over many cycles a
    site's mean is its exact share, whatever its place among the others.
    """
    floor = np.floor(power_w)
    begin = _ROUNDED + (1 - 2 * _ROUNDED) * (cycle * _GOLDEN % 1.0)
    passed = np.floor(np.cumsum(power_w - floor) + begin)
    result: Array = (floor + np.diff(passed, prepend=0.0)).astype(np.int64)
    return result


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="dispatch")


def in_chunks(work: Callable[[slice], Result], sites: int) -> Iterator[Result]:
    """`work` on slices of the sites, on all cores (numpy lets go of the interpreter in its loops), in order.

    Only a few results are ahead of what was taken: those of a million sites are hundreds of megabytes.
    """
    parts = [slice(begin, min(begin + CHUNK, sites)) for begin in range(0, sites, CHUNK)]
    if len(parts) < 2:
        yield from map(work, parts)
        return
    under_way: deque[Future[Result]] = deque()
    for part in parts:
        under_way.append(_pool().submit(work, part))
        if len(under_way) > AHEAD:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()
