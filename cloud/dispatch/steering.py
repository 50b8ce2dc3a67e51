"""One group held at a target: what its workers sum up becomes, every cycle, a price a node.

Nothing here sees a site. Workers tell each node's sum exactly around the last price and roughly elsewhere; where the
new price lies outside of that they are asked once more, so that the price found is that of clearing all sites.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from cloud.dispatch.correction import Disturbance, Tally
from cloud.dispatch.nested import Nested, NestedClearing
from cloud.dispatch.node_sums import Points
from cloud.dispatch.prices import Array, Price, PriceGrid
from cloud.dispatch.rows import Rows, powers_at
from cloud.dispatch.share import Ask, Told
from cloud.dispatch.tree import Limits, Tree

AGES_S: Final = 300.0  # a worker's last sums without a newer one: then its sites' functions have run out
AROUND: Final = 32  # ticks around a price that workers tell exactly
_ASKED_AGAIN: Final = 5  # at most, in one cycle

Asking = Generator[Ask, Sequence[Told], "Cycle"]


@dataclass(frozen=True, slots=True)
class Cycle:
    """What a cycle came to."""

    prices: Mapping[str, Price]  # to be broadcast, one a node: as many whatever the number of sites
    cleared: NestedClearing
    offset_w: float  # that was taken off the target
    estimate_w: float  # the group's power now; what is not measured is estimated
    following: int
    deviating: int
    silent: int
    expected_w: float  # by the functions, at the prices heard
    measured_w: float
    late: tuple[str, ...]  # workers that did not answer: counted by what they told last
    lost: tuple[str, ...]  # workers of which there is nothing to count by, or too old
    asked: int  # times in this cycle


class Steering:
    """Nodes are groups: the first is the whole, the others are limited groups inside of it (cloud.fleet.groups)."""

    def __init__(
        self, names: Sequence[str], parents: Sequence[int], workers: Sequence[str], *, grid: PriceGrid, cycle_s: float
    ) -> None:
        """workers: who is to answer."""
        self.names = tuple(names)
        self.grid = grid
        self._tree = Tree(parents)
        self._workers = tuple(workers)
        self._told: dict[str, Told] = {}
        self._disturbance = Disturbance(cycle_s=cycle_s)
        self._nested: Nested | None = None
        self.fallback = 0.0  # position that sites without a fresh price go to
        self._heard = np.zeros(len(self.names))  # positions

    def open(self, target_w: float, limits: Limits, now_ms: int) -> Asking:
        """Finds the price to fall back to: the one that would do before anything was measured."""
        cycle = yield from self._cycle(target_w, limits, now_ms, step=False)
        whole = cycle.prices[self.names[0]]
        self.fall_back_to(Price(whole.ticks, 0.0, 0.0))
        self._heard = cycle.cleared.position  # is broadcast at once
        return cycle

    def fall_back_to(self, price: Price) -> None:
        """The price that sites were told to go to, and are at when steering begins."""
        self.fallback = self.grid.position(price)
        self._heard = np.full(len(self.names), self.fallback)

    def regroup(self, names: Sequence[str], parents: Sequence[int]) -> None:
        """Other nodes: limits came or went. What the last ones heard goes on for those that stay."""
        heard = dict(zip(self.names, self._heard.tolist(), strict=True))
        self._heard = np.array([heard.get(name, self._heard[0]) for name in names])
        self.names, self._tree = tuple(names), Tree(parents)
        self._told.clear()

    def cycle(self, target_w: float, limits: Limits, now_ms: int) -> Asking:
        """Yields what to ask of every worker, takes what has come back in time.

        limits: at the meters of each node's group, less what homes there take (Told.house_w).
        """
        return self._cycle(target_w, limits, now_ms, step=True)

    def power_at(self, group: str, price: Price) -> float | None:
        """What the sites that hear the group's price would do at it, as counted in the last cycle [W]."""
        if self._nested is None or group not in self.names:
            return None
        of = np.flatnonzero(self._nested.node == self.names.index(group))
        return float(powers_at(self._nested.rows.take(of), self.grid.position(price)).sum())

    def _cycle(self, target_w: float, limits: Limits, now_ms: int, *, step: bool) -> Asking:
        answered = yield self._ask(step, self._heard)
        if step:
            self._disturbance.learn([told.tally for told in self._all(answered)])
        offset_w = self._disturbance.power_w
        asked = 1
        while True:
            told = self._all(answered)
            house_w = sum((one.house_w for one in told), np.zeros(len(self.names)))
            bounds = Limits(limits.lower_w + house_w, limits.upper_w + house_w)
            wanted_w = float(np.clip(target_w, bounds.lower_w[0], bounds.upper_w[0])) - offset_w
            self._nested = self._merged(told, now_ms)
            cleared = self._nested.clear(wanted_w, bounds)
            names = {one.worker for one in answered}
            if asked >= _ASKED_AGAIN or not self._unsure(cleared, [one for one in told if one.worker in names]):
                break
            again = yield self._ask(False, cleared.position)
            answered = list(({one.worker: one for one in answered} | {one.worker: one for one in again}).values())
            asked += 1
        prices = {name: self.grid.price(at) for name, at in zip(self.names, cleared.position.tolist(), strict=True)}
        heard = self._heard
        if step:
            self._heard = np.array([self.grid.position(price) for price in prices.values()])
        names = {one.worker for one in answered}
        lost = tuple(w for w in self._workers if w not in names and self._age_s(w, now_ms) > AGES_S)
        late = tuple(w for w in self._workers if w not in names and w not in lost)
        tallies = [one.tally for one in answered]
        return Cycle(
            prices,
            cleared,
            offset_w,
            sum(float(one.estimate_w.sum()) for one in answered)
            + sum(self._given_w(self._told[worker], heard) for worker in late)
            + sum(float(self._told[worker].estimate_w.sum()) for worker in lost if worker in self._told),
            sum(tally.following for tally in tallies),
            sum(tally.deviating for tally in tallies),
            sum(tally.silent for tally in tallies),
            sum(one.expected_w for one in answered),
            sum(one.measured_w for one in answered),
            late,
            lost,
            asked,
        )

    def _ask(self, step: bool, around: Array) -> Ask:
        ticks = np.floor(around / 2).astype(np.int64)
        low, high = np.maximum(ticks - AROUND, 0), np.minimum(ticks + AROUND, self.grid.ticks - 1)
        return Ask(step, self.fallback, self._heard, low, high)

    def _all(self, answered: Sequence[Told]) -> list[Told]:
        """The newest of every worker. One that did not answer counts as it told last, without what it measured."""
        names = {one.worker for one in answered}
        self._told |= {one.worker: one for one in answered}
        return [one if name in names else self._unseen(one) for name, one in self._told.items()]

    @staticmethod
    def _unseen(told: Told) -> Told:
        return replace(told, tally=Tally.nothing(relied_on=told.tally.relied_on))

    def _age_s(self, worker: str, now_ms: int) -> float:
        told = self._told.get(worker)
        return float("inf") if told is None else (now_ms - told.at_ms) / 1000.0

    def _given_w(self, told: Told, position: Array) -> float:
        """What a worker's sites give at the nodes' positions, by the sums that it told."""
        rows, node = _segments(told.points)
        return float(powers_at(rows, position[node]).sum())

    def _merged(self, told: Sequence[Told], now_ms: int) -> Nested:
        """All workers' sums, each straight line a function of two breakpoints; what is too old stays as it was."""
        parts = []
        for one in told:
            if self._age_s(one.worker, now_ms) > AGES_S:
                constant = np.tile(one.estimate_w, (2, 1))
                parts.append((Rows(np.zeros(constant.shape, np.int32), constant), np.arange(len(self.names))))
            else:
                parts.append(_segments(one.points))
        if not parts:
            parts = [(Rows(np.zeros((2, 0), np.int32), np.zeros((2, 0))), np.empty(0, np.int64))]
        rows = Rows(np.hstack([part.ticks for part, _ in parts]), np.hstack([part.power_w for part, _ in parts]))
        return Nested(rows, np.concatenate([node for _, node in parts]), self._tree, self.grid)

    def _unsure(self, cleared: NestedClearing, told: Sequence[Told]) -> bool:
        """Whether any worker has told a node's sum only roughly where its price is."""
        at = cleared.position
        return any(((at < one.points.exact_low) | (at > one.points.exact_high)).any() for one in told)


def answer(asking: Asking, ask: Callable[[Ask], Sequence[Told]]) -> Cycle:
    """Runs a cycle where answers are at hand."""
    try:
        wanted = next(asking)
        while True:
            wanted = asking.send(ask(wanted))
    except StopIteration as over:
        cycle: Cycle = over.value
        return cycle


def _segments(points: Points) -> tuple[Rows, Array]:
    """Rows of two breakpoints that sum up to the points of each node, and the node of each row."""
    count = len(points.begin) - 1
    node = np.repeat(np.arange(count), np.diff(points.begin))
    rise = np.diff(points.power_w)
    inner = np.flatnonzero((node[1:] == node[:-1]) & (rise > 0))
    first = points.begin[:-1]
    ticks = np.hstack((np.zeros((2, count), np.int32), np.stack((points.ticks[inner], points.ticks[inner + 1]))))
    base = points.power_w[first]
    power_w = np.hstack((np.stack((base, base)), np.stack((np.zeros(len(inner)), rise[inner]))))
    return Rows(ticks.astype(np.int32), power_w), np.concatenate((np.arange(count), node[inner]))
