"""What an ingest worker sums up of its sites for whoever holds a group at a power: asked over the broker, every cycle.

One share a telemetry stream and activation. Columns are read in the event loop that fills them, in copies; all else is
done in a thread. What each site was to do and did is kept here, and goes to the ledger when the activation is over or
the stream is somebody else's.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg
from opentelemetry import propagate, trace

from cloud.dispatch.prices import Array
from cloud.dispatch.rows import Rows
from cloud.dispatch.share import Ask, Share, Telemetry, Told
from cloud.dispatch.summary import from_steer, to_messages
from cloud.fleet.supply import BREAKPOINTS, SupplyColumns
from cloud.ingest.members import Members
from cloud.model.dispatch import ActivationSite
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger
from protos import subjects
from protos.vpp.v1 import steer_pb2

log = logging.getLogger(__name__)

REFRESH_S: Final = 10.0  # of the registry, while somebody asks
KEPT_MS: Final = 60_000  # after its end, a share that nobody asked to finish
_ROWS: Final = 4_096  # copied at once: the event loop goes on in between
_PARTS: Final = 2_000  # of sites, put into the ledger at once

_NOTHING: Final = np.empty(0, np.int64), Rows.empty(0, BREAKPOINTS)

_TRACER: Final = trace.get_tracer("murmuration")


class Fleet(Protocol):
    """What of cloud.fleet.state.FleetState is looked at."""

    def reserve(self, slots: int) -> None: ...

    @property
    def grid_power_w(self) -> Array: ...

    @property
    def steered_power_w(self) -> Array: ...

    @property
    def last_seen_ms(self) -> Array: ...


@dataclass(slots=True)
class _Held:
    """A stream's share of an activation."""

    activation: str
    end_ms: int
    slots: Array  # int64: of its sites, rising
    places: Array  # int64: of these in `members`
    share: Share
    seq: Array  # int64 [slots]: of the function that each site told
    nodes: tuple[str, ...]
    house_slots: Array  # of all sites of all nodes' groups, a node after the other
    house_node: Array
    house_ours: Array  # bool: which of these are in the activation
    members: Members
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class _Columns:
    """Copies of the fleet's columns at one instant."""

    steered_w: Array  # inverters, chargers and loads that can wait
    grid_w: Array
    seen_ms: Array
    until_ms: Array
    now_ms: int


class Shares:
    """streams: partitions of each telemetry stream that this process ingests, by its name, as it is now."""

    def __init__(
        self,
        *,
        columns: SupplyColumns,
        fleet: Fleet,
        ledger: Ledger,
        utc_ms: Callable[[], int],
        streams: Callable[[], Mapping[str, range]],
    ) -> None:
        self._columns = columns
        self._fleet = fleet
        self._ledger = ledger
        self._utc_ms = utc_ms
        self._streams = streams
        self._held: dict[tuple[str, str], _Held] = {}  # by activation and stream
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}
        self._asked: dict[tuple[str, str], int] = {}  # the newest request
        self._members: Members | None = None
        self._members_s = 0.0
        self._looking = asyncio.Lock()
        self.answer_s: dict[str, float] = {}  # by stream: what the last answer took

    async def run(self, connection: Client) -> None:
        """Answers for ever; what is held goes to the ledger at the end."""
        working: set[asyncio.Task[None]] = set()

        async def on_message(message: Msg) -> None:
            for stream in self._streams():
                task = asyncio.create_task(self._reply(connection, stream, message))
                working.add(task)
                task.add_done_callback(working.discard)

        subscription = await connection.subscribe(subjects.STEER, cb=on_message)
        try:
            while True:
                with suppress(LedgerError):  # whoever asks is told
                    await self._current()
                await self.sweep()
                await asyncio.sleep(REFRESH_S)
        finally:
            if connection.is_connected:
                await subscription.unsubscribe()
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
            await self._let_go([*self._held])

    async def _reply(self, connection: Client, stream: str, message: Msg) -> None:
        try:
            steer = steer_pb2.Steer.FromString(message.data)
            context = propagate.extract(dict(message.headers or {}))
            with _TRACER.start_as_current_span("dispatch.share", context, attributes={"stream": stream}):
                for part in await self.answer(stream, steer):
                    await connection.publish(message.reply, part.SerializeToString())
        except (DecodeError, LedgerError) as error:
            log.warning("a request for the share of %s is not answered: %s", stream, error)

    async def answer(self, stream: str, steer: steer_pb2.Steer) -> list[steer_pb2.Share]:
        """One stream's share, in its parts; none where a newer request is being answered. Raises LedgerError."""
        begun_s = time.monotonic()
        key = steer.activation, stream
        self._asked[key] = max(steer.sequence, self._asked.get(key, 0))
        async with self._turns.setdefault(key, asyncio.Lock()):
            held = self._held.get(key)
            if steer.sequence < self._asked.get(key, 0) or (held is not None and steer.sequence <= held.sequence):
                return []
            held = self._held[key] = await self._renewed(stream, steer, held)
            held.sequence, held.end_ms = steer.sequence, steer.end_ms
            ask = from_steer(steer)
            changed, news = self._told_since(held) if steer.step else _NOTHING
            told = await asyncio.to_thread(_work, stream, held, ask, changed, news, self._look(held))
            if steer.finish:
                await self._let_go([key])
            messages = await asyncio.to_thread(to_messages, told, activation=steer.activation, sequence=steer.sequence)
        self.answer_s[stream] = time.monotonic() - begun_s
        return messages

    async def sweep(self) -> None:
        """Lets go of what is over and of streams that are somebody else's."""
        now_ms, ours = self._utc_ms(), self._streams()
        over = [key for key, held in self._held.items() if held.end_ms + KEPT_MS < now_ms or key[1] not in ours]
        await self._let_go(over)

    async def _let_go(self, keys: Sequence[tuple[str, str]]) -> None:
        for key in keys:
            self._turns.pop(key, None)
            self._asked.pop(key, None)
            if (held := self._held.pop(key, None)) is not None:
                try:
                    await asyncio.to_thread(self._account, held)
                except LedgerError as error:
                    log.error("activation %s: what sites of %s did is not recorded: %s", *key, error)

    async def _current(self) -> Members:
        """The registry, looked at `REFRESH_S` ago at most. Raises LedgerError."""
        async with self._looking:
            if self._members is None:
                self._members = await asyncio.to_thread(Members, self._ledger)
            elif time.monotonic() - self._members_s > REFRESH_S:
                self._members = await asyncio.to_thread(self._members.renewed, self._ledger)
            else:
                return self._members
            self._members_s = time.monotonic()
            return self._members

    async def _renewed(self, stream: str, steer: steer_pb2.Steer, held: _Held | None) -> _Held:
        """What is held, of the registry and the nodes as they are now."""
        members = await self._current()
        if held is not None and held.members is members and held.nodes == tuple(node.group for node in steer.nodes):
            return held
        fresh = await asyncio.to_thread(self._new, steer, stream, members, held)
        if held is None or fresh.share is not held.share:
            if held is not None:
                await asyncio.to_thread(self._account, held)
            await self._fill(fresh)
        return fresh

    def _new(self, steer: steer_pb2.Steer, stream: str, members: Members, before: _Held | None) -> _Held:
        within = self._streams().get(stream, range(0))
        nodes = tuple(node.group for node in steer.nodes)
        places = members.of(steer.group, within)
        slots = members.slots[places]
        node = np.zeros(len(slots), np.int64)
        house_slots, house_node = [], []
        for number, name in enumerate(nodes):
            everybody = members.slots[members.of(name, within)]
            house_slots.append(everybody)
            house_node.append(np.full(len(everybody), number))
            if number:
                node[np.isin(slots, everybody)] = number
        if before is not None and np.array_equal(before.slots, slots):
            share, seq = before.share, before.seq
            if before.nodes != nodes or not np.array_equal(share.node, node):
                share.regroup(node, len(nodes))
        else:
            empty, seq = Rows.empty(len(slots), BREAKPOINTS), np.zeros(len(slots), np.int64)
            share = Share(empty, node, len(nodes), grid=self._columns.grid, cycle_s=steer.cycle_ms / 1000.0)
        everywhere = np.concatenate(house_slots) if house_slots else np.empty(0, np.int64)
        return _Held(
            activation=steer.activation,
            end_ms=steer.end_ms,
            slots=slots,
            places=places,
            share=share,
            seq=seq,
            nodes=nodes,
            house_slots=everywhere,
            house_node=np.concatenate(house_node) if house_node else np.empty(0, np.int64),
            house_ours=np.isin(everywhere, slots),
            members=members,
        )

    async def _fill(self, held: _Held) -> None:
        """All functions as they are told now, a part at a time."""
        self._reserve(held)
        rows = Rows.empty(len(held.slots), BREAKPOINTS)
        for begin in range(0, len(held.slots), _ROWS):
            part = slice(begin, begin + _ROWS)
            some = self._columns.rows.take(held.slots[part])
            rows.ticks[:, part], rows.power_w[:, part] = some.ticks, some.power_w
            held.seq[part] = self._columns.seq[held.slots[part]]
            await asyncio.sleep(0)
        await asyncio.to_thread(held.share.replace, rows)

    def _told_since(self, held: _Held) -> tuple[Array, Rows]:
        """Numbers of the sites that told a function since the last step, and these."""
        self._reserve(held)
        now = self._columns.seq[held.slots]
        changed = np.flatnonzero(now != held.seq)
        held.seq = now
        return changed, self._columns.rows.take(held.slots[changed])

    def _reserve(self, held: _Held) -> None:
        room = int(max(held.slots.max(initial=-1), held.house_slots.max(initial=-1))) + 1
        self._columns.reserve(room)
        self._fleet.reserve(room)

    def _look(self, held: _Held) -> _Columns:
        self._reserve(held)
        return _Columns(
            self._fleet.steered_power_w.copy(),
            self._fleet.grid_power_w.copy(),
            self._fleet.last_seen_ms.copy(),
            self._columns.until_ms.copy(),
            self._utc_ms(),
        )

    def _account(self, held: _Held) -> None:
        """Puts each site's part into the ledger. Raises LedgerError."""
        expected, measured, missing = held.share.account
        deviating = held.share.deviating
        if not held.share.cycles:
            return
        for begin in range(0, len(held.slots), _PARTS):
            self._ledger.add_activation_sites(
                [
                    ActivationSite(
                        activation_id=held.activation,
                        site=held.members.names[held.places[number]],
                        expected_wh=round(expected[number]),
                        measured_wh=round(measured[number]),
                        cycles_missing=int(missing[number]),
                        deviated=bool(deviating[number]),
                    )
                    for number in range(begin, min(begin + _PARTS, len(held.slots)))
                ]
            )


def _work(stream: str, held: _Held, ask: Ask, changed: Array, news: Rows, columns: _Columns) -> Told:
    """A step, where one is asked for, and the answer."""
    inverter_w, grid_w = (column[held.house_slots] for column in (columns.steered_w, columns.grid_w))
    house_w = np.nan_to_num(inverter_w - grid_w) - np.where(held.house_ours, 0.0, np.nan_to_num(inverter_w))
    if ask.step:
        seen_ms = columns.seen_ms[held.slots]
        quiet_s = np.where(seen_ms > 0, (columns.now_ms - seen_ms) / 1000.0, np.inf)
        offers = columns.until_ms[held.slots] > columns.now_ms
        held.share.step(changed, news, offers, Telemetry(columns.steered_w[held.slots], quiet_s), ask)
    return held.share.tell(stream, columns.now_ms, np.bincount(held.house_node, house_w, len(held.nodes)), ask)
