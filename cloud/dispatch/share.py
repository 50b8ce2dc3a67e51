"""One worker's part of a group that is held at a target: its sites are judged and summed where their telemetry is."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.dispatch.correction import Correction, Tally
from cloud.dispatch.node_sums import NodeSums, Points
from cloud.dispatch.prices import Array, PriceGrid
from cloud.dispatch.rows import Rows

HOLD_S: Final = 15.0  # a broadcast price; a site that hears no newer one then goes to its fallback
QUIET_S: Final = 10.0  # without telemetry: what was measured last is not what it does now
MISSING_S: Final = 30.0  # without telemetry: nothing is measured, as far as the account goes


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Of the sites, by the same order in every cycle."""

    power_w: Array  # float64 [n] at the inverter, NaN where it was never measured
    quiet_s: Array  # float64 [n] since the newest sample


@dataclass(frozen=True, slots=True)
class Ask:
    """What whoever clears wants to know of every share."""

    step: bool  # a cycle has gone by: sites are judged; otherwise more of the sums is wanted
    fallback: float  # position that sites without a fresh price go to
    heard: Array  # float64 [nodes]: position that was said to each last
    low: Array  # int64 [nodes] ticks from the grid's first, between which every breakpoint is wanted
    high: Array  # int64 [nodes]; below `low`: none


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker answered. The last four are over all its sites, of the last step."""

    worker: str
    at_ms: int
    points: Points
    sites: Array  # int64 [nodes]
    estimate_w: Array  # float64 [nodes]: power now, silent sites estimated
    house_w: Array  # float64 [nodes]: what a limit at the group's meters is more at the inverters
    tally: Tally
    expected_w: float  # by their functions at the prices they heard
    measured_w: float
    missing: int  # sites that were not measured lately


class Share:
    """Of n sites at the nodes of a tree, numbered 0 to n - 1. Arrays in, arrays out."""

    def __init__(self, rows: Rows, node: Array, nodes: int, *, grid: PriceGrid, cycle_s: float) -> None:
        """rows: the sites' functions now; a copy is kept. node: int [n]."""
        self._cycle_s = cycle_s
        self._rows = Rows(rows.ticks.copy(), rows.power_w.copy())
        self._correction = Correction(rows.sites, cycle_s=cycle_s)
        self._estimate_w = np.zeros(rows.sites)
        self.cycles = 0
        self.account = np.zeros((3, rows.sites))  # expected [Wh], measured [Wh], cycles in which it was not heard of
        self._tally = Tally.nothing(relied_on=rows.sites)
        self._sums = (0.0, 0.0, 0)
        self._counted = NodeSums(Rows(rows.ticks.copy(), rows.power_w.copy()), node, nodes, grid)

    def regroup(self, node: Array, nodes: int) -> None:
        """The same sites at other nodes: limits came or went."""
        self._counted = NodeSums(self._counted.rows, node, nodes, self._counted.grid)

    def replace(self, rows: Rows) -> None:
        """Functions of all sites, as they are told now, before the first step."""
        self._rows = rows
        self._counted = NodeSums(
            Rows(rows.ticks.copy(), rows.power_w.copy()), self.node, self._counted.nodes, self._counted.grid
        )

    @property
    def node(self) -> Array:
        return self._counted.node

    @property
    def deviating(self) -> Array:
        """bool [n]: sites that are not counted on."""
        return self._correction.deviating

    def step(self, changed: Array, news: Rows, offers: Array, telemetry: Telemetry, ask: Ask) -> None:
        """A cycle. changed, news: sites that told a function since the last. offers: bool [n], whose function holds."""
        self._rows.ticks[:, changed], self._rows.power_w[:, changed] = news.ticks, news.power_w
        counted = self._correction.step(
            self._rows,
            changed,
            ask.heard[self.node],
            ask.fallback,
            np.where(telemetry.quiet_s > QUIET_S, np.nan, telemetry.power_w),
            telemetry.quiet_s > max(QUIET_S, HOLD_S),
            offers,
        )
        self._counted.update(counted.sites, counted.rows)
        self._estimate_w, self._tally = counted.estimate_w, counted.tally
        missing = np.isnan(telemetry.power_w) | (telemetry.quiet_s > MISSING_S)
        measured_w = np.where(missing, 0.0, telemetry.power_w)
        hours = self._cycle_s / 3600.0
        self.cycles += 1
        self.account[0] += counted.expected_w * hours
        self.account[1] += measured_w * hours
        self.account[2] += missing
        self._sums = float(counted.expected_w.sum()), float(measured_w.sum()), int(missing.sum())

    def tell(self, worker: str, at_ms: int, house_w: Array, ask: Ask) -> Told:
        """The answer."""
        expected_w, measured_w, missing = self._sums
        return Told(
            worker=worker,
            at_ms=at_ms,
            points=self._counted.points(ask.low, ask.high),
            sites=np.bincount(self.node, minlength=self._counted.nodes),
            estimate_w=np.bincount(self.node, self._estimate_w, self._counted.nodes),
            house_w=house_w,
            tally=self._tally,
            expected_w=expected_w,
            measured_w=measured_w,
            missing=missing,
        )
