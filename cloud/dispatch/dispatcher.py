"""Carries out what the ledger asks for: orders to sites, and activations of groups, a broadcast price a cycle.

Everything stands in the ledger, so that a coordinator that takes over goes on where the other one stopped: an order is
sent once, an activation that runs is steered on, and sites that follow its price already are not told again.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol

import numpy as np
from google.protobuf.json_format import Parse, ParseError
from opentelemetry import trace

from cloud.dispatch.activation import ANSWER_S, Running, Workers
from cloud.dispatch.prices import MILLION, Price, PriceGrid
from cloud.dispatch.share import HOLD_S
from cloud.gateway.broadcasts import BroadcastBody, BroadcastHeld, BroadcastNotSent
from cloud.gateway.intents import Body, IntentHeld, IntentNotSent
from cloud.ingest.members import Members
from cloud.model.dispatch import Activation, ActivationState, GroupLimit, Order
from cloud.model.records import EventRecord, Severity
from cloud.store.audit import COORDINATOR
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger
from protos.vpp.v1 import broadcast_pb2, intent_pb2

log = logging.getLogger(__name__)

CYCLE_S: Final = 2.0
_LOOK_S: Final = 10.0  # at the registry and at limits
_AT_ONCE: Final = 32  # intents on their way
_LET_GO_MS: Final = 1000
_ASKED_OF: Final = 20  # sites, for the fallback that an earlier coordinator told them

_TRACER: Final = trace.get_tracer("murmuration")


class IntentSender(Protocol):
    """What of cloud.gateway.intents.IntentSender is used."""

    async def send(
        self, body: Body, site: str, kind: str, valid_from_ms: int, expires_ms: int, *, actor: str = COORDINATOR
    ) -> int: ...


class BroadcastSender(Protocol):
    """What of cloud.gateway.broadcasts.BroadcastSender is used."""

    async def send(self, body: BroadcastBody, group: str, expires_ms: int, *, actor: str = COORDINATOR) -> int: ...


class Dispatcher:
    """Of the coordinator that leads. What it knows of sites' powers and functions is what its workers sum up."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        workers: Workers,
        grid: PriceGrid,
        intents: IntentSender,
        broadcasts: BroadcastSender,
        utc_ms: Callable[[], int],
        cycle_s: float = CYCLE_S,
    ) -> None:
        self._ledger = ledger
        self._workers = workers
        self._grid = grid
        self._intents = intents
        self._broadcasts = broadcasts
        self._utc_ms = utc_ms
        self._cycle_s = cycle_s
        self._running: dict[str, Running] = {}
        self._untold: set[str] = set()  # of them, those of which a site may not know whose price to follow
        self._finishing: dict[str, asyncio.Task[None]] = {}
        self._members: Members | None = None
        self._limits: dict[str, GroupLimit] = {}
        self._looked_ms = -(10**15)
        self._mute = False
        self._problems: dict[str, str] = {}
        self.cycle_took_s = 0.0

    @property
    def running(self) -> Mapping[str, Running]:
        """Activations that are steered now, by id."""
        return self._running

    def errors_w(self) -> dict[str, float]:
        """Power less target of each activation that is steered."""
        return {
            name: running.last.estimate_w - running.activation.target_w
            for name, running in self._running.items()
            if running.last is not None
        }

    async def run(self) -> None:
        """A cycle every `cycle_s`, for ever; one that takes longer leaves out what it missed."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        try:
            while True:
                begun_s = loop.time()
                await self.cycle()
                self.cycle_took_s = loop.time() - begun_s
                due_s = max(due_s + self._cycle_s, loop.time())
                await asyncio.sleep(due_s - loop.time())
        finally:
            for task in self._finishing.values():
                task.cancel()

    async def cycle(self) -> None:
        """One cycle: what waits is sent, what is due begins, what runs is steered, what is over is accounted for."""
        now_ms = self._utc_ms()
        await self._send_orders()
        asked = await asyncio.to_thread(
            self._ledger.activations, ActivationState.ASKED, ActivationState.ACTIVE, limit=1000
        )
        due = {activation.activation_id: activation for activation in asked if activation.start_ms <= now_ms}
        if (due or self._running) and (self._members is None or now_ms - self._looked_ms >= 1000 * _LOOK_S):
            self._looked_ms = now_ms
            known = self._members
            self._members = await asyncio.to_thread(known.renewed if known else Members, self._ledger)
            self._limits = await asyncio.to_thread(self._ledger.group_limits, now_ms)
        steered = []
        for activation in sorted(due.values(), key=lambda each: (each.start_ms, each.activation_id)):
            if activation.end_ms <= now_ms:
                if activation.activation_id not in self._finishing:
                    finish = asyncio.create_task(self._finish(activation, now_ms))
                    self._finishing[activation.activation_id] = finish
            elif (running := await self._ready(activation, now_ms)) is not None:
                steered.append(running)
        async with asyncio.TaskGroup() as group:
            for running in steered:
                group.create_task(self._steer(running, now_ms))
        await self._finished()

    async def _finished(self) -> None:
        """Waits a moment for what is being accounted for: a worker that is away must not hold up the others."""
        if not self._finishing:
            return
        done, _ = await asyncio.wait(self._finishing.values(), timeout=ANSWER_S)
        self._finishing = {name: task for name, task in self._finishing.items() if task not in done}
        for task in done:
            task.result()

    async def _ready(self, activation: Activation, now_ms: int) -> Running | None:
        """The activation as it runs; None where it cannot."""
        running, members = self._running.get(activation.activation_id), self._members
        assert members is not None, "looked at when anything is due"  # noqa: S101
        try:
            if running is None:
                running = await self._open(activation, members, now_ms)
            elif await asyncio.to_thread(running.build, members, self._limits):
                self._untold.add(activation.activation_id)
        except ValueError as error:
            await self._fail(activation, str(error), now_ms)
            return None
        if activation.activation_id in self._untold and not await self._begin(running, now_ms):
            return None
        return running

    async def _steer(self, running: Running, now_ms: int) -> None:
        activation = running.activation
        with _TRACER.start_as_current_span("dispatch.cycle", attributes={"activation": activation.activation_id}):
            prices = await running.cycle(self._limits, now_ms)
            if (problem := running.problem) != self._problems.get(activation.activation_id, ""):
                log.log(logging.WARNING if problem else logging.INFO, "activation %s: %s",
                        activation.activation_id, problem or "all is well again")  # fmt: skip
                self._problems[activation.activation_id] = problem
            await self._say(prices, min(now_ms + round(1000 * HOLD_S), activation.end_ms), activation.actor)

    async def _open(self, activation: Activation, members: Members, now_ms: int) -> Running:
        """The activation with its opening prices; nobody was told yet. Raises ValueError where it cannot be."""
        running = Running(activation, self._workers, grid=self._grid, cycle_s=self._cycle_s)
        await asyncio.to_thread(running.build, members, self._limits)
        if not running.sites:
            raise ValueError(f"no site of group {activation.group!r} is enrolled")
        for other in self._running.values():
            if len(both := np.intersect1d(other.slots, running.slots)):
                raise ValueError(f"{len(both)} of its sites are in activation {other.activation.activation_id}")
        taken_over = activation.state is ActivationState.ACTIVE
        fallback = await asyncio.to_thread(self._told_fallback, running, now_ms) if taken_over else None
        await running.open(self._limits, now_ms, fallback)
        self._running[activation.activation_id] = running
        self._untold.add(activation.activation_id)
        return running

    async def _begin(self, running: Running, now_ms: int) -> bool:
        """Tells sites whose price to follow; whether all that could be were.

        Not before the first prices were let through: sites go to the fallback price by themselves.
        """
        activation = running.activation
        until_ms = min(now_ms + round(1000 * HOLD_S), activation.end_ms)
        if running.opening and not await self._say(running.opening, until_ms, activation.actor):
            return False
        running.opening = {}
        if activation.state is ActivationState.ASKED:
            activation = running.activation = replace(activation, state=ActivationState.ACTIVE)
            await asyncio.to_thread(self._ledger.put_activation, activation, now_ms)
            text = f"activation {activation.activation_id}: {activation.target_w} W of {activation.group} begin"
            await self._tell("activation.began", activation, Severity.INFO, text, now_ms)
        if await self._tell_sites(running, now_ms):
            self._untold.discard(activation.activation_id)
        return True

    def _told_fallback(self, running: Running, now_ms: int) -> Price | None:
        """What the sites were told to go to without a price, by who coordinated before."""
        groups = {running.group_of(number) for number in range(len(running.sites))}
        for site in running.sites[:_ASKED_OF]:
            known = self._ledger.latest_intent(site, "price")
            if known is not None and known.in_force(now_ms):
                said = Parse(known.body, intent_pb2.Intent()).price
                if said.group in groups:
                    return Price(said.fallback_ticks, 0.0, 0.0)
        return None

    async def _tell_sites(self, running: Running, now_ms: int, expires_ms: int | None = None) -> bool:
        """Whose price to follow, to every site that does not know it yet; False where one waits for a second person."""
        held = False
        untold = enumerate(running.sites)
        actor = running.activation.actor
        until_ms = running.activation.end_ms if expires_ms is None else expires_ms

        async def tell() -> None:
            nonlocal held
            for number, site in untold:
                body = intent_pb2.FollowPrice(group=running.group_of(number), fallback_ticks=running.fallback.ticks)
                known = await asyncio.to_thread(self._ledger.latest_intent, site, "price")
                if (
                    known is not None
                    and (known.expires_ms == until_ms and known.in_force(now_ms))
                    and Parse(known.body, intent_pb2.Intent()).price.group == body.group
                ):
                    continue
                try:
                    await self._intents.send(body, site, "price", now_ms, until_ms, actor=actor)
                except (IntentNotSent, LedgerError) as error:
                    held = held or isinstance(error, IntentHeld)
                    log.warning("activation %s: %s was not told: %s", running.activation.activation_id, site, error)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(running.sites))):
                group.create_task(tell())
        return not held

    async def _say(self, prices: Mapping[str, Price], expires_ms: int, actor: str) -> bool:
        """Whether none waits for a second person.

        actor: whoever wants the activation: the fleet guard lets nobody grant what he asked for himself.
        """
        held = False
        for group, price in prices.items():
            body = broadcast_pb2.Price(
                ticks=price.ticks,
                step_share_e6=round(price.step_share * MILLION),
                tick_fraction_e6=round(price.tick_fraction * MILLION),
            )
            try:
                await self._broadcasts.send(body, group, expires_ms, actor=actor)
            except (BroadcastNotSent, ValueError) as error:
                held = held or isinstance(error, BroadcastHeld)
                if not self._mute:
                    log.warning("price to %s was not said: %s", group, error)
                self._mute = True
            else:
                self._mute = False
        return not held

    async def _finish(self, activation: Activation, now_ms: int) -> None:
        running = self._running.pop(activation.activation_id, None)
        self._untold.discard(activation.activation_id)
        if running is None:
            await self._fail(activation, "nobody coordinated while it was to run", now_ms)
            return
        if running.activation.state is ActivationState.ASKED:
            await self._fail(activation, "no second person granted it while it was to run", now_ms)
            return
        self._problems.pop(activation.activation_id, None)
        ended_early = running.activation.end_ms > activation.end_ms
        if ended_early:
            await self._tell_sites(running, now_ms, now_ms + _LET_GO_MS)
        running.activation = replace(running.activation, end_ms=activation.end_ms)
        done, deviated = await running.finish(running.problem, now_ms)
        await asyncio.to_thread(self._ledger.put_activation, done, now_ms)
        text = (
            f"activation {done.activation_id} of {done.group} is over: {done.measured_wh} Wh measured, "
            f"{done.target_wh} Wh asked for, {deviated} of {len(running.sites)} sites deviated"
        )
        await self._tell("activation.over", done, Severity.INFO, text, now_ms)

    async def _fail(self, activation: Activation, why: str, now_ms: int) -> None:
        self._running.pop(activation.activation_id, None)
        self._untold.discard(activation.activation_id)
        self._problems.pop(activation.activation_id, None)
        failed = replace(activation, state=ActivationState.FAILED, note=why)
        await asyncio.to_thread(self._ledger.put_activation, failed, now_ms)
        text = f"activation {activation.activation_id} of {activation.group} failed: {why}"
        log.error("%s", text)
        await self._tell("activation.failed", activation, Severity.ALARM, text, now_ms)

    async def _tell(self, code: str, activation: Activation, severity: Severity, text: str, now_ms: int) -> None:
        event = EventRecord(
            site=None,
            event_id=f"{code}-{activation.activation_id}",
            at_ms=now_ms,
            severity=severity,
            code=code,
            text=text,
        )
        await asyncio.to_thread(self._ledger.add_event, event)

    async def _send_orders(self) -> None:
        for order in await asyncio.to_thread(lambda: self._ledger.orders(waiting=True)):
            try:
                sequence = await self._intents.send(
                    _body_of(order), order.site, order.kind, order.valid_from_ms, order.expires_ms, actor=order.actor
                )
            except IntentNotSent as error:
                if order.expires_ms > self._utc_ms():
                    log.warning("order %s waits: %s", order.order_id, error)
                    continue
                await asyncio.to_thread(self._ledger.set_order, order.order_id, problem="it expired before it was sent")
            except (LedgerError, ValueError) as error:
                await asyncio.to_thread(self._ledger.set_order, order.order_id, problem=str(error))
            else:
                await asyncio.to_thread(self._ledger.set_order, order.order_id, sequence=sequence)


def _body_of(order: Order) -> Body:
    """The message that an order carries. Raises ValueError."""
    try:
        intent = Parse(order.body, intent_pb2.Intent())
    except ParseError as error:
        raise ValueError(f"order {order.order_id} carries no intent: {error}") from error
    name = intent.WhichOneof("body")
    if name is None:
        raise ValueError(f"order {order.order_id} carries nothing")
    body: Body = getattr(intent, name)
    return body
