"""Clears a target over groups inside groups, each with limits of its own: who is behind a full line sees a local price.

What a node gives at price p is the sum of its sites and of its children, clipped to its limits. That never falls with
p, so a node at its limit is one whose price is clipped: its sites see the price at which it reaches the limit, whatever
the price above it. Powers of all nodes are kept at 128 prices; these tell between which two the answer lies, and only
breakpoints between those are then looked at. Depth, and how many nodes are at a limit, hardly matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.dispatch.curve import MET_W, Clearing
from cloud.dispatch.node_sums import BUCKETS, Events, NodeSums
from cloud.dispatch.prices import Array, PriceGrid
from cloud.dispatch.rows import Rows
from cloud.dispatch.tree import Limits, Tree

_NODE_MET_W: Final = 1e-6  # a node so near to its limit keeps it
_TRIES: Final = 80

Sums = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class NestedClearing:
    """A target met, or come nearest to, and the price that each node sees."""

    total: Clearing  # of the root
    position: Array  # float64 [nodes]: the price for the node's own sites, by cloud.dispatch.prices
    power_w: Array  # float64 [nodes]: what each gives
    limited: Array  # bool [nodes]: whose price is another than that of the node above
    broken: Array  # int8 [nodes]: 1 the lower, 2 the upper limit cannot be kept; it gave way to the nearest power


class Nested(NodeSums):
    """Sites with supply functions at the nodes of a tree. Takes the rows over: `update` changes them in place."""

    def __init__(self, rows: Rows, node: Array, tree: Tree, grid: PriceGrid) -> None:
        """node: int [n], where each site belongs. Raises ValueError for one that the tree has not."""
        super().__init__(rows, node, tree.nodes, grid)
        self.tree = tree

    def clear(self, target_w: float, limits: Limits) -> NestedClearing:
        """The lowest price at which the root meets the target, and the local prices below it.

        Raises ValueError where a lower limit is above the upper one of the same node.
        """
        wrong = np.flatnonzero(limits.lower_w > limits.upper_w)
        if len(wrong):
            raise ValueError(f"node {wrong[0]}: its lower limit is above its upper one")
        power_w, _ = self.at_knots()
        limits, broken = self.tree.within(limits, power_w[0], power_w[-1])
        lowest, highest = (self.tree.sums(power_w[end], limits)[0] for end in (0, -1))
        wanted = min(max(target_w, lowest), highest)
        everywhere = np.zeros(self.tree.nodes, dtype=np.int64)
        found, sums = self._find(everywhere, np.zeros(1, np.int64), np.array([wanted]), MET_W, limits)
        position = np.full(self.tree.nodes, found[0])
        limited = np.zeros(self.tree.nodes, dtype=bool)
        while True:
            over, under = sums > limits.upper_w + _NODE_MET_W, sums < limits.lower_w - _NODE_MET_W
            bound = (over | under) & ~limited
            bound[0] = False
            nodes = np.flatnonzero(self.tree.highest(bound))
            if not len(nodes):
                break
            owner = np.full(self.tree.nodes, -1, dtype=np.int64)
            owner[nodes] = np.arange(len(nodes))
            owner = self.tree.down(owner)
            wanted_w = np.where(over, limits.upper_w, limits.lower_w)[nodes]
            found, inner = self._find(owner, nodes, wanted_w, _NODE_MET_W, limits)
            below = owner >= 0
            position[below] = found[owner[below]]
            sums[below] = inner[below]
            limited[nodes] = True
        given = np.clip(sums, limits.lower_w, limits.upper_w)
        given[0] = sums[0]
        return NestedClearing(Clearing(float(position[0]), float(sums[0]), target_w), position, given, limited, broken)

    def _find(self, owner: Array, roots: Array, wanted_w: Array, met_w: float, limits: Limits) -> tuple[Array, Array]:
        """The lowest position at which each root's sum is within `met_w` of what is wanted; all nodes' sums there.

        owner: [nodes], index of the root at or above each; -1: none, it does not matter. A root is none's child.
        """
        power_w, slope = self.at_knots()
        within, of, every = owner >= 0, np.maximum(owner, 0), np.arange(self.tree.nodes)
        enough_w = wanted_w - met_w

        def sums(own: Array) -> Array:
            return self.tree.sums(np.where(within, own, 0.0), limits)

        low, high = np.zeros(len(roots), np.int64), np.full(len(roots), BUCKETS)
        while (high - low > 1).any():
            middle = (low + high) // 2
            short = sums(power_w[middle[of], every])[roots] < enough_w
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        begin, knot = self.knots[low], low[of]
        events = self.events(owner, begin, self.knots[high])
        window = _Window(power_w[knot, every], slope[knot, every], begin, of, events)
        low, high = 2 * begin, 2 * self.knots[high]
        while (high - low > 1).any():
            middle = (low + high) // 2
            short = sums(window.own_at(middle))[roots] < enough_w
            low, high = np.where(short, middle, low), np.where(short, high, middle)
            window.narrow(low, high)
        own_low, own_high = window.own_at(low), window.own_at(high)
        into = self._between(own_low, own_high, of, roots, wanted_w, sums)
        position = np.minimum(low + into * (high - low), self.grid.end)
        return position, sums(own_low + into[of] * (own_high - own_low))

    def _between(self, own_low: Array, own_high: Array, of: Array, roots: Array, wanted_w: Array, sums: Sums) -> Array:
        """How far between two neighbouring positions each root meets what it wants, 0..1.

        The nodes' own powers are straight lines there; sums of clipped ones bend, so a secant that keeps its bracket
        (the Illinois method: Dowell and Jarratt, BIT 11, 1971) goes on until it fits.
        """
        left, right = np.zeros(len(roots)), np.ones(len(roots))
        at_left, at_right = sums(own_low)[roots] - wanted_w, sums(own_high)[roots] - wanted_w
        into = np.where(at_left >= 0, 0.0, 1.0)
        open_ = (at_left < 0) & (at_right > 0)
        for _ in range(_TRIES):
            if not open_.any():
                break
            guess = np.where(
                open_, (left * at_right - right * at_left) / np.where(open_, at_right - at_left, 1.0), into
            )
            into = np.clip(guess, 0.0, 1.0)
            error = sums(own_low + into[of] * (own_high - own_low))[roots] - wanted_w
            above = error > 0
            at_left = np.where(open_ & above, at_left / 2, at_left)
            at_right = np.where(open_ & ~above, at_right / 2, at_right)
            right, at_right = np.where(open_ & above, into, right), np.where(open_ & above, error, at_right)
            left, at_left = np.where(open_ & ~above, into, left), np.where(open_ & ~above, error, at_left)
            open_ &= (np.abs(error) > _NODE_MET_W / 10) & (right - left > 1e-15)
        return into


class _Window:
    """Power of each node's own sites between two whole positions of its root, which close in on each other."""

    def __init__(self, power_w: Array, slope: Array, tick: Array, of: Array, events: Events) -> None:
        """power_w, slope: [nodes], before the steps of the root's tick. of: [nodes], index of each one's root."""
        self._power_w, self._slope, self._tick, self._of, self._events = power_w, slope, tick, of, events

    def own_at(self, position: Array) -> Array:
        """At a whole position of each root that is inside of the window."""
        tick, behind = position >> 1, position & 1
        events = self._events
        away = tick[events.root] - events.tick
        weight = np.where(away > 0, events.slope * away + events.jump, 0.0)
        weight += np.where(away == 0, events.jump * behind[events.root], 0.0)
        result: Array = self._power_w + self._slope * (tick - self._tick)[self._of]
        return result + np.bincount(events.node, weight, len(result))

    def narrow(self, low: Array, high: Array) -> None:
        """Looks no more at what is below or above these whole positions."""
        events, nodes = self._events, len(self._power_w)
        before = self._events.take(np.flatnonzero(events.tick < (low >> 1)[events.root]))
        tick = low >> 1
        self._power_w = self._power_w + self._slope * (tick - self._tick)[self._of]
        self._power_w += np.bincount(before.node, before.slope * (tick[before.root] - before.tick) + before.jump, nodes)
        self._slope = self._slope + np.bincount(before.node, before.slope, nodes)
        self._tick = tick
        inside = (events.tick >= tick[events.root]) & (events.tick <= (high >> 1)[events.root])
        self._events = events.take(np.flatnonzero(inside))
