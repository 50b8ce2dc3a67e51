"""Groups inside groups: feeders in an area, areas in a region, each with its own limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.dispatch.prices import Array

_ROUNDED_W: Final = 0.001  # by which two ways of adding up a million sites may differ


@dataclass(frozen=True, slots=True)
class Limits:
    """What each node may give [W], positive towards the grid; infinite where nothing limits it."""

    lower_w: Array  # float64 [nodes]
    upper_w: Array  # float64 [nodes]


class Tree:
    """Nodes 0 to n - 1, of which 0 is the root; sites may belong to any of them.

    parents: the node above each, -1 for the root; in any order. Raises ValueError for what is no tree.
    """

    def __init__(self, parents: Sequence[int] | Array) -> None:
        parent = np.asarray(parents, dtype=np.int64)
        count = len(parent)
        if count == 0 or parent[0] != -1 or (parent[1:] < 0).any() or (parent >= count).any():
            raise ValueError("a tree has its root first, with parent -1, and every other node has one of them above it")
        levels = [np.zeros(1, dtype=np.int64)]
        children = np.argsort(parent, kind="stable")  # by parent
        begin = np.searchsorted(parent[children], np.arange(count + 1))
        while len(levels[-1]):
            above = levels[-1]
            levels.append(np.concatenate([children[begin[node] : begin[node + 1]] for node in above.tolist()]))
        if sum(map(len, levels)) != count:
            raise ValueError("groups that stand in a circle, none of them below the root")
        self.nodes = count
        self.parent = parent
        self._levels = levels[1:-1]  # without the root; children of one parent side by side
        self._starts = [np.flatnonzero(np.diff(parent[level], prepend=-2)) for level in self._levels]
        self.depth = len(self._levels)

    def sums(self, own: Array, limits: Limits) -> Array:
        """What each node would give if its own limits were not: its own sites and its children inside theirs.

        own: float64 [nodes] or [prices, nodes], power of the node's own sites.
        """
        total = own.copy()
        for level, starts in zip(reversed(self._levels), reversed(self._starts), strict=True):
            kept = np.clip(total[..., level], limits.lower_w[level], limits.upper_w[level])
            total[..., self.parent[level[starts]]] += np.add.reduceat(kept, starts, axis=-1)
        return total

    def down(self, value: Array) -> Array:
        """[nodes]: the value of the nearest node at or above each that has one (not negative); -1 where none has."""
        found = value.copy()
        for level in self._levels:
            found[level] = np.where(found[level] >= 0, found[level], found[self.parent[level]])
        return found

    def highest(self, chosen: Array) -> Array:
        """bool [nodes]: the chosen nodes above which no other one is chosen."""
        above = np.zeros(self.nodes, dtype=bool)
        for level in self._levels:
            parent = self.parent[level]
            above[level] = above[parent] | chosen[parent]
        result: Array = chosen & ~above
        return result

    def within(self, limits: Limits, lowest_w: Array, highest_w: Array) -> tuple[Limits, Array]:
        """The limits that can be kept, and int8 [nodes]: 1 where the lower, 2 where the upper one cannot be.

        lowest_w, highest_w: of each node's own sites. A limit that cannot be kept gives way to the nearest power that
        can. The root's limits are its target's business and stay.
        """
        lower, upper = limits.lower_w.copy(), limits.upper_w.copy()
        least, most = lowest_w.copy(), highest_w.copy()
        broken = np.zeros(self.nodes, dtype=np.int8)
        for level, starts in zip(reversed(self._levels), reversed(self._starts), strict=True):
            short, over = lower[level] - most[level] > _ROUNDED_W, least[level] - upper[level] > _ROUNDED_W
            broken[level] = np.where(short, 1, np.where(over, 2, 0))
            lower[level] = np.minimum(lower[level], most[level])
            upper[level] = np.maximum(upper[level], least[level])
            above = self.parent[level[starts]]
            least[above] += np.add.reduceat(np.clip(least[level], lower[level], upper[level]), starts)
            most[above] += np.add.reduceat(np.clip(most[level], lower[level], upper[level]), starts)
        return Limits(lower, upper), broken
