"""Groups of sites as index sets: a portfolio, a feeder, a neighbourhood, a market area. A site may be in several."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.dispatch.prices import Array
from cloud.model.records import Site

PERCENTILES: Final = (5.0, 50.0, 95.0)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A column over a group, over those of its sites for which it is known."""

    sites: int
    known: int
    total: float
    percentiles: tuple[float, ...]  # as asked for; NaN where nothing is known


class Groups:
    """Slots by group name, rising; the groups of a registry at one instant.

    parents: by group, the one it stands in, where that was said (cloud.store.assets).
    """

    def __init__(self, slots: Mapping[str, Array], parents: Mapping[str, str] | None = None) -> None:
        self._slots = dict(slots)
        self._parents = parents or {}

    @staticmethod
    def of(sites: Iterable[Site]) -> "Groups":
        slots: dict[str, list[int]] = {}
        for site in sites:
            for group in site.groups:
                slots.setdefault(group, []).append(site.slot)
        return Groups({group: np.array(sorted(members), dtype=np.int64) for group, members in slots.items()})

    @property
    def names(self) -> list[str]:
        return sorted(self._slots)

    def slots(self, group: str) -> Array:
        """int64: empty for a group without sites."""
        return self._slots.get(group, np.empty(0, dtype=np.int64))

    def nesting(self, root: str, inner: Sequence[str]) -> tuple[list[str], list[int], Array]:
        """Names of the nodes with the root first, each one's parent, and int64 [sites of the root]: each one's node.

        A group inside another is below it, of two with the same sites the one that was said to be; a site belongs to
        the smallest that has it. Only sites of the root count. Raises ValueError for two groups that overlap, neither
        of them inside the other.
        """
        members = self.slots(root)
        sets = {name: np.intersect1d(self.slots(name), members) for name in inner if name != root}
        order = sorted(
            (name for name in sets if len(sets[name])), key=lambda name: (-len(sets[name]), self._depth(name), name)
        )
        node, parents = np.zeros(len(members), dtype=np.int64), [-1]
        for number, name in enumerate(order, start=1):
            place = np.searchsorted(members, sets[name])
            above = np.unique(node[place])
            if len(above) > 1:
                other = order[int(above.max()) - 1]
                raise ValueError(f"groups {name!r} and {other!r} overlap, and neither is inside the other")
            parents.append(int(above[0]))
            node[place] = number
        return [root, *order], parents, node

    def _depth(self, name: str) -> int:
        depth = 0
        while (parent := self._parents.get(name)) is not None:
            depth, name = depth + 1, parent
        return depth


def aggregate(column: Array, slots: Array | None = None, percentiles: Sequence[float] = PERCENTILES) -> Aggregate:
    """Sum and percentiles of a column over some slots, or all. NaN: not known."""
    chosen = column if slots is None else column[slots]
    known = chosen[~np.isnan(chosen)]
    if not len(known):
        return Aggregate(len(chosen), 0, 0.0, tuple(float("nan") for _ in percentiles))
    found = tuple(float(value) for value in np.percentile(known, percentiles))
    return Aggregate(len(chosen), len(known), float(known.sum()), found)
