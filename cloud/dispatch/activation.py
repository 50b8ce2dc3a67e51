"""One activation while it runs: what its workers are asked, and the account of what was asked and delivered."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

import numpy as np

from cloud.dispatch.curve import EXACT_W
from cloud.dispatch.prices import Price, PriceGrid
from cloud.dispatch.share import Ask, Told
from cloud.dispatch.steering import AGES_S, Asking, Cycle, Steering
from cloud.dispatch.summary import ShareError, from_messages, to_steer
from cloud.dispatch.tree import Limits
from cloud.ingest.members import Members
from cloud.model.dispatch import Activation, ActivationState, GroupLimit
from protos.vpp.v1 import steer_pb2

SETTLED_S: Final = 30.0  # from the beginning, until errors count
OPENING_S: Final = 5.0  # for the first answers: workers must find their sites
ANSWER_S: Final = 1.0  # for a cycle's
FINISH_S: Final = 30.0  # for the last ones: sites' parts go to the ledger


class Workers(Protocol):
    """What of cloud.gateway.workers.FleetWorkers is used."""

    @property
    def names(self) -> Sequence[str]:
        """Who is to answer."""
        ...

    async def ask(self, steer: steer_pb2.Steer, within_s: float) -> list[list[steer_pb2.Share]]:
        """The whole answers, each in its parts, that came in time."""
        ...


class Running:
    """Built anew when sites, groups or limits change; the account goes on."""

    def __init__(self, activation: Activation, workers: Workers, *, grid: PriceGrid, cycle_s: float) -> None:
        self.activation = activation
        self._workers = workers
        self._grid = grid
        self._cycle_s = cycle_s
        self._sequence = 0
        self._errors_w: list[float] = []
        self._cycles = 0
        self._expected_wh = self._measured_wh = 0.0
        self._given: tuple[object, ...] = ()
        self._built: tuple[object, ...] = ()
        self._refused = ""
        self.sites: list[str] = []
        self.steering: Steering | None = None
        self.last: Cycle | None = None
        self.opening: Mapping[str, Price] = {}  # what is said first

    def build(self, members: Members, limits: Mapping[str, GroupLimit]) -> bool:
        """Whether anything is other than before, so that sites must be told whose price to follow.

        members: the registry. limits: in force now. Raises ValueError for limited groups that overlap without one being
        inside the other. Takes a while for many sites.
        """
        given = members, tuple(limits)
        if given == self._given:
            return False
        self._given = given
        groups = members.groups({self.activation.group, *limits})
        self.slots = groups.slots(self.activation.group)
        names, parents, node = groups.nesting(self.activation.group, list(limits))
        built = (self.slots.tobytes(), tuple(names), tuple(parents), node.tobytes())
        if built == self._built:
            return False
        self.sites = [members.names[place] for place in members.of(self.activation.group).tolist()]
        self._node = node
        if self.steering is None:
            self.steering = Steering(names, parents, self._workers.names, grid=self._grid, cycle_s=self._cycle_s)
        elif self._built[1:3] != built[1:3]:
            self.steering.regroup(names, parents)
        self._built = built
        return True

    def group_of(self, number: int) -> str:
        """The group whose price a site follows: the smallest limited one that it is in."""
        return self._steering.names[int(self._node[number])]

    async def open(self, limits: Mapping[str, GroupLimit], now_ms: int, fallback: Price | None) -> None:
        """Finds the price to fall back to. fallback: what sites were told by another coordinator before."""
        if fallback is not None:
            self._steering.fall_back_to(fallback)
            return
        asking = self._steering.open(self.activation.target_w, self._limits(limits), now_ms)
        self.opening = (await self._run(asking, now_ms, OPENING_S)).prices

    @property
    def fallback(self) -> Price:
        return self._grid.price(self._steering.fallback)

    async def cycle(self, limits: Mapping[str, GroupLimit], now_ms: int) -> Mapping[str, Price]:
        """The prices to say now."""
        asking = self._steering.cycle(self.activation.target_w, self._limits(limits), now_ms)
        self.last = await self._run(asking, now_ms, ANSWER_S)
        self._cycles += 1
        hours = self._cycle_s / 3600.0
        self._expected_wh += self.last.expected_w * hours
        self._measured_wh += self.last.measured_w * hours
        if now_ms >= self.activation.start_ms + 1000 * SETTLED_S:
            self._errors_w.append(abs(self.last.estimate_w - self.activation.target_w))
        return self.last.prices

    async def _run(self, asking: Asking, now_ms: int, within_s: float) -> Cycle:
        try:
            wanted = next(asking)
            while True:
                wanted = asking.send(await self._ask(wanted, now_ms, within_s))
        except StopIteration as over:
            cycle: Cycle = over.value
            return cycle

    async def _ask(self, ask: Ask, now_ms: int, within_s: float, *, finish: bool = False) -> list[Told]:
        steer = to_steer(ask, self._steering.names)
        self._sequence = max(self._sequence + 1, now_ms)
        steer.activation, steer.group = self.activation.activation_id, self.activation.group
        steer.sequence, steer.at_ms, steer.end_ms = self._sequence, now_ms, self.activation.end_ms
        steer.cycle_ms, steer.finish = round(1000 * self._cycle_s), finish
        told = []
        self._refused = ""
        for parts in await self._workers.ask(steer, within_s):
            try:
                told.append(from_messages(parts, len(self._steering.names), self._grid))
            except ShareError as error:
                self._refused = str(error)
        return [one for one in told if one.worker in self._workers.names]

    def _limits(self, limits: Mapping[str, GroupLimit]) -> Limits:
        """Of the nodes' meters."""
        names = self._steering.names
        lower, upper = np.full(len(names), -np.inf), np.full(len(names), np.inf)
        for number, name in enumerate(names):
            if name in limits:
                lower[number], upper[number] = -limits[name].import_limit_w, limits[name].export_limit_w
        return Limits(lower, upper)

    @property
    def _steering(self) -> Steering:
        assert self.steering is not None, "it is built first"  # noqa: S101
        return self.steering

    @property
    def problem(self) -> str:
        """Why the target cannot be met now, or by whom it is not seen; empty where all is well."""
        if self.last is None:
            return ""
        total, broken = self.last.cleared.total, np.flatnonzero(self.last.cleared.broken)
        found = []
        if self.last.lost:
            found.append(
                f"nothing was heard of {', '.join(self.last.lost)} for {AGES_S:.0f} s: its sites are not steered"
            )
        if self.last.late:
            found.append(f"{', '.join(self.last.late)} did not answer: its sites are counted as it told last")
        if self._refused:
            found.append(self._refused)
        if len(broken):
            found.append(f"the limit of {self._steering.names[int(broken[0])]} cannot be kept by what its sites offer")
        elif not (total.feasible and abs(total.power_w - total.target_w) <= EXACT_W):
            found.append(f"sites offer {total.power_w:.0f} W of the {total.target_w:.0f} W that are needed")
        return "; ".join(found)

    async def finish(self, note: str, now_ms: int) -> tuple[Activation, int]:
        """The account, once the activation is over, and how many sites deviated in the end.

        Workers put each site's part into the ledger.
        """
        nodes = len(self._steering.names)
        nothing = Ask(False, self._steering.fallback, np.zeros(nodes), np.ones(nodes, int), np.zeros(nodes, int))
        told = await self._ask(nothing, now_ms, FINISH_S, finish=True)
        silent_to_us = sorted(set(self._workers.names) - {one.worker for one in told})
        if silent_to_us:
            note = "; ".join(filter(None, (note, f"{', '.join(silent_to_us)} did not account for its sites")))
        hours = self._cycles * self._cycle_s / 3600.0
        done = replace(
            self.activation,
            state=ActivationState.VERIFIED,
            note=note,
            target_wh=round(self.activation.target_w * hours),
            expected_wh=round(self._expected_wh),
            measured_wh=round(self._measured_wh),
            error_p95_w=round(float(np.percentile(self._errors_w, 95))) if self._errors_w else None,
            cycles=self._cycles,
        )
        return done, sum(int(one.sites.sum()) - one.tally.relied_on for one in told)
