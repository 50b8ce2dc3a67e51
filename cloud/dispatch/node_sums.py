"""What the sites of each node of a tree give at a price: sums of their supply functions, kept as sites change.

Powers of all nodes are kept at 128 prices, exactly. Between two of them a node's breakpoints are looked up where they
are asked for.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.dispatch.prices import Array, PriceGrid
from cloud.dispatch.rows import Rows, changes, in_chunks

BUCKETS: Final = 128
MOST_POINTS: Final = 40_000  # told of all nodes at once where nothing is looked up


class NodeSums:
    """Sites with supply functions, each at one of some nodes. Takes the rows over: `update` changes them in place."""

    def __init__(self, rows: Rows, node: Array, nodes: int, grid: PriceGrid) -> None:
        """node: int [n], where each site belongs. Raises ValueError for one that there is not."""
        if len(node) != rows.sites or (len(node) and (node.min() < 0 or node.max() >= nodes)):
            raise ValueError("each site belongs to one node of the tree")
        self.rows, self.nodes, self.grid = rows, nodes, grid
        self.node = node.astype(np.int32)
        by_node = np.argsort(self.node, kind="stable")
        self._by_node = by_node.astype(np.int32)
        self._begin = np.searchsorted(self.node[by_node], np.arange(nodes + 1))
        self.knots = _knots(rows, grid)
        self._bucket = np.repeat(np.arange(BUCKETS, dtype=np.uint8), np.diff(self.knots))
        self._slope = np.zeros((BUCKETS, nodes))  # changes in each bucket, W a tick
        self._gain = np.zeros((BUCKETS, nodes))  # what they add by the bucket's end, W
        self._lowest_w = np.zeros(nodes)
        self._at_knots: tuple[Array, Array] | None = None
        self._add(rows, self.node, 1.0)

    def update(self, sites: Array, new: Rows) -> None:
        """Gives the sites other functions."""
        self._add(self.rows.take(sites), self.node[sites], -1.0)
        self.rows.ticks[:, sites] = new.ticks
        self.rows.power_w[:, sites] = new.power_w
        self._add(new, self.node[sites], 1.0)

    def _add(self, rows: Rows, node: Array, sign: float) -> None:
        self._at_knots = None
        np.add.at(self._lowest_w, node, sign * rows.lowest_w)
        slopes, gains, nodes = self._slope.reshape(-1), self._gain.reshape(-1), self.nodes

        def prepare(part: slice) -> tuple[Array, Array, Array]:
            change = changes(rows.take(part))
            bucket = self._bucket[change.ticks]
            gain = change.slope * (self.knots[1:][bucket] - change.ticks)
            if change.jump is not None:
                gain += change.jump
            return (bucket.astype(np.int64) * nodes + node[part]).reshape(-1), change.slope, gain

        for where, slope, gain in in_chunks(prepare, rows.sites):
            np.add.at(slopes, where, sign * slope.reshape(-1))
            np.add.at(gains, where, sign * gain.reshape(-1))

    def at_knots(self) -> tuple[Array, Array]:
        """[knots, nodes], twice: power of each node's own sites before each knot's steps [W], and slope there."""
        if self._at_knots is None:
            slope = np.zeros((BUCKETS + 1, self.nodes))
            np.cumsum(self._slope, axis=0, out=slope[1:])
            power_w = np.empty_like(slope)
            power_w[0] = self._lowest_w
            np.multiply(slope[:-1], np.diff(self.knots)[:, None], out=power_w[1:])
            power_w[1:] += self._gain
            np.cumsum(power_w, axis=0, out=power_w)
            self._at_knots = power_w, slope
        return self._at_knots

    def points(self, low: Array, high: Array, most: int = MOST_POINTS) -> "Points":
        """Each node's sum as points: every breakpoint from tick `low` to `high` and somewhat around, knots elsewhere.

        low, high: int64 [nodes]; nothing is looked up where low is above high. most: knots in all.
        """
        power_w, slope = self.at_knots()
        wanted = low <= high
        begin = np.where(wanted, np.searchsorted(self.knots, low, side="right") - 1, 0).clip(0, BUCKETS)
        end = np.where(wanted, np.searchsorted(self.knots, high, side="right"), 0).clip(0, BUCKETS)
        every = np.arange(self.nodes)
        first = self.knots[begin]
        node, tick, before_w, behind_w = self._bends(
            self.events(every, first, self.knots[end]), first, power_w[begin, every], slope[begin, every]
        )
        stride = -(-self.nodes * BUCKETS // most)
        knot = np.arange(BUCKETS + 1)[:, None]
        told = (knot % stride == 0) | (knot == BUCKETS) | (knot == begin) | (knot == end)
        at, of = np.nonzero(told & ~((knot > begin) & (knot < end)))
        steps = behind_w > before_w
        last = self.grid.ticks - 1
        ticks = np.concatenate((np.minimum(self.knots[at], last), tick, tick[steps]))
        powers_w = np.concatenate((power_w[at, of], before_w, behind_w[steps]))
        nodes = np.concatenate((of, node, node[steps]))
        # At one tick: before its steps, behind them, and the knot that is one past the grid's last tick.
        turn = np.concatenate((np.where(at == BUCKETS, 3, 0), np.full(len(tick), 1), np.full(int(steps.sum()), 2)))
        order = np.lexsort((turn, ticks, nodes))
        return Points(
            np.searchsorted(nodes[order], np.arange(self.nodes + 1)),
            ticks[order],
            powers_w[order],
            2.0 * first,
            np.minimum(2.0 * self.knots[end], self.grid.end),
        )

    def _bends(self, events: "Events", begin: Array, power_w: Array, slope: Array) -> tuple[Array, Array, Array, Array]:
        """Node, tick, power before and behind the tick's steps of each breakpoint of the sums, in this order.

        begin, power_w, slope: [nodes], where looking began, and how the sums stand just before.
        """
        key, which = np.unique(events.node.astype(np.int64) * self.grid.ticks + events.tick, return_inverse=True)
        node, tick = np.divmod(key, self.grid.ticks)
        if not len(key):
            return node, tick, np.empty(0), np.empty(0)
        bend, jump = (np.bincount(which, column, len(key)) for column in (events.slope, events.jump))
        starts = np.diff(node, prepend=-1) > 0
        before_tick = np.where(starts, begin[node], np.roll(tick, 1))
        # Running sums that begin anew with each node.
        slopes = slope[node] + _running(bend, starts)
        into = np.where(starts, slope[node], np.roll(slopes, 1))
        grown = into * (tick - before_tick) + np.where(starts, 0.0, np.roll(jump, 1))
        before_w = power_w[node] + _running(grown, starts)
        return node, tick, before_w, before_w + jump

    def events(self, owner: Array, begin: Array, end: Array) -> "Events":
        """Breakpoints of the sites under each root from tick `begin` to before `end` of that root."""
        sites = None
        if not (owner >= 0).all():
            nodes = np.flatnonzero(owner >= 0)
            sites = np.concatenate(
                [self._by_node[a:b] for a, b in zip(self._begin[nodes], self._begin[nodes + 1], strict=True)]
            )
        ticks, power_w, size = self.rows.ticks, self.rows.power_w, self.rows.sites

        def pick(part: slice) -> tuple[Array, Array]:
            chosen = ticks[:, part] if sites is None else ticks[:, sites[part]]
            first: Array | np.int32
            width: Array | np.uint32
            if len(begin) == 1:
                first, width = np.int32(begin[0]), np.uint32(end[0] - begin[0])
            else:
                root = owner[self.node[part if sites is None else sites[part]]]
                first, width = begin[root].astype(np.int32), (end - begin)[root].astype(np.uint32)
            where = np.flatnonzero((chosen - first).view(np.uint32) < width)
            row, column = np.divmod(where, chosen.shape[1])
            return row, column + part.start

        picked = list(in_chunks(pick, size if sites is None else len(sites)))
        row, site = (np.concatenate([pair[i] for pair in picked] or [np.empty(0, np.int64)]) for i in (0, 1))
        if sites is not None:
            site = sites[site].astype(np.int64)
        node = self.node[site]
        last = len(ticks) - 1
        flat_ticks, flat_power = ticks.reshape(-1), power_w.reshape(-1)

        def at(row: Array) -> tuple[Array, Array]:
            where = np.clip(row, 0, last) * size + site
            return flat_ticks[where], flat_power[where]

        (t0, p0), (t1, p1), (t2, p2) = at(row - 1), at(row), at(row + 1)
        rise = (p2 - p1).astype(np.float64)
        ahead = np.where(t2 > t1, rise / np.maximum(t2 - t1, 1), 0.0)
        behind = np.where(t1 > t0, (p1 - p0) / np.maximum(t1 - t0, 1), 0.0)
        return Events(owner[node], node, t1.astype(np.int64), ahead - behind, np.where(t2 == t1, rise, 0.0))


@dataclass(frozen=True, slots=True)
class Points:
    """Sums of the sites of some nodes: straight lines between points, constant outside. Two at one tick are a step."""

    begin: Array  # int64 [nodes + 1]: where each node's points begin
    ticks: Array  # int64 [m], from the grid's first, never falling inside of a node
    power_w: Array  # float64 [m]
    exact_low: Array  # float64 [nodes]: positions between which nothing is left out
    exact_high: Array


@dataclass(frozen=True, slots=True)
class Events:
    """Breakpoints, each with the node and the root that it counts for."""

    root: Array
    node: Array
    tick: Array
    slope: Array  # W a tick more from here on
    jump: Array  # W

    def take(self, which: Array) -> "Events":
        return Events(*(column[which] for column in (self.root, self.node, self.tick, self.slope, self.jump)))


def _running(values: Array, starts: Array) -> Array:
    """Sums of all up to each, from the last start on."""
    total = np.cumsum(values)
    run = np.cumsum(starts) - 1
    result: Array = total - (total - values)[starts][run]
    return result


def _knots(rows: Rows, grid: PriceGrid) -> Array:
    """int64 [BUCKETS + 1] ticks from 0 to one past the last, close where breakpoints are."""
    sample = rows.ticks[:, :: max(1, rows.sites // 20_000)].reshape(-1)
    inner = np.quantile(sample, np.linspace(0, 1, BUCKETS - 1)) if len(sample) else np.empty(0)
    wanted = np.unique(np.clip(inner.astype(np.int64), 1, grid.ticks - 1))
    spread = np.setdiff1d(np.linspace(1, grid.ticks - 1, 2 * BUCKETS).astype(np.int64), wanted)
    missing = BUCKETS - 1 - len(wanted)
    filling = spread[np.linspace(0, len(spread) - 1, missing).astype(np.int64)] if missing else spread[:0]
    return np.concatenate(([0], np.sort(np.concatenate((wanted, filling))), [grid.ticks]))
