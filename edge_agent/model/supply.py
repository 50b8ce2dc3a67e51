"""Supply functions: power as a monotone piecewise-linear function of price, on the market's own tick.

Prices are whole ticks of 0.01 currency/MWh. Power [W] is positive towards the grid and never falls with the price; it
is linear between two breakpoints, jumps where two have the same price, and is constant outside.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from edge_agent.model.values import PowerBounds

MOST_POINTS = 16  # of a function that leaves the site, as in vpp.v1.SupplyFunction

Point = tuple[int, float]  # price [ticks], power [W]


@dataclass(frozen=True, slots=True)
class SupplyFunction:
    """Breakpoints, by price and then by power. Raises ValueError where they are none or fall."""

    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        if not self.points or not all(math.isfinite(power_w) for _, power_w in self.points):
            raise ValueError("a supply function has a breakpoint, and powers that are numbers")
        if any(a[0] > b[0] or a[1] > b[1] for a, b in pairwise(self.points)):
            raise ValueError("a supply function never falls: neither its prices nor its powers")

    @classmethod
    def constant(cls, power_w: float) -> "SupplyFunction":
        """The same at every price."""
        return cls(((0, power_w),))

    @classmethod
    def step(cls, ticks: int, below_w: float, above_w: float) -> "SupplyFunction":
        """One power below a price and another above it."""
        return cls(((ticks, below_w), (ticks, above_w)))

    def power_w(self, ticks: float, step_share: float = 0.0) -> float:
        """The power at a price; at exactly the price of a step, `step_share` (0..1) of the way up it."""
        first = bisect_left(self.points, ticks, key=lambda point: point[0])
        last = bisect_right(self.points, ticks, key=lambda point: point[0]) - 1
        if first <= last:
            lowest_w, highest_w = self.points[first][1], self.points[last][1]
            return min(highest_w, lowest_w + step_share * (highest_w - lowest_w)) if step_share < 1.0 else highest_w
        if last < 0:
            return self.points[0][1]
        if first == len(self.points):
            return self.points[-1][1]
        (t0, p0), (t1, p1) = self.points[last], self.points[first]
        return min(p1, p0 + (p1 - p0) * (ticks - t0) / (t1 - t0))

    def clipped(self, bounds: PowerBounds) -> "SupplyFunction":
        """Kept within bounds; exact at every whole price."""
        points: list[Point] = []
        for before, point in zip((None, *self.points), self.points, strict=False):
            if before is not None and before[0] < point[0]:
                ticks = {
                    tick for limit_w in (bounds.lower_w, bounds.upper_w) for tick in _around(before, point, limit_w)
                }
                points.extend((tick, self.power_w(tick)) for tick in sorted(ticks))
            points.append(point)
        return SupplyFunction(_lean((ticks, bounds.clip(power_w)) for ticks, power_w in points))

    def shortened(self, most: int = MOST_POINTS) -> "SupplyFunction":
        """No more than so many breakpoints: those go first whose absence changes the least, never the two ends."""
        points = list(self.points)
        while len(points) > most:
            del points[min(range(1, len(points) - 1), key=lambda i: _loss(points[i - 1], points[i], points[i + 1]))]
        return SupplyFunction(tuple(points))


def total(parts: Iterable[SupplyFunction]) -> SupplyFunction:
    """What all of them do together at every price; of none: nothing."""
    functions = list(parts)
    if not functions:
        return SupplyFunction.constant(0.0)
    points: list[Point] = []
    for ticks in sorted({ticks for each in functions for ticks, _ in each.points}):
        points.extend((ticks, sum(each.power_w(ticks, share) for each in functions)) for share in (0.0, 1.0))
    return SupplyFunction(_lean(points))


def _around(before: Point, after: Point, limit_w: float) -> list[int]:
    """The whole ticks on either side of where a line meets a limit, strictly between its ends."""
    (t0, p0), (t1, p1) = before, after
    if not p0 < limit_w < p1:
        return []
    meets = t0 + (limit_w - p0) * (t1 - t0) / (p1 - p0)
    return [tick for tick in (math.floor(meets), math.ceil(meets)) if t0 < tick < t1]


def _lean(points: Iterable[Point]) -> tuple[Point, ...]:
    """Without the points that change nothing: repetitions, middles of a step, and ends that only go on level."""
    kept: list[Point] = []
    for point in points:
        if kept and kept[-1] == point:
            continue
        if len(kept) > 1 and kept[-2][0] == kept[-1][0] == point[0]:
            kept[-1] = point
            continue
        if len(kept) > 1 and kept[-2][1] == kept[-1][1] == point[1]:
            kept[-1] = point
            continue
        kept.append(point)
    if len(kept) > 1 and kept[0][1] == kept[1][1]:
        del kept[0]
    if len(kept) > 1 and kept[-1][1] == kept[-2][1]:
        del kept[-1]
    return tuple(kept)


def _loss(before: Point, point: Point, after: Point) -> float:
    """The area between a bend and the line that would take its place [W ticks]."""
    return abs((point[0] - before[0]) * (after[1] - before[1]) - (after[0] - before[0]) * (point[1] - before[1]))
