"""Concentrators that send for their sites: ramp-up, steady state, burst, outages and storms of reconnection."""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import zstandard

from cloud.ingest.owners import partitions
from cloud.model.telemetry import Array
from hil.load.fleet import FRAME_MS, RECORD, SimulatedFleet, grid_counts
from hil.load.link import Link, LoadError, Login
from protos import subjects

PROBE_EVERY: Final = 1000  # of these sites the instant of each frame is noted
_SINGLE_CHUNK: Final = 40
_SINGLE_UNDER_WAY: Final = 8000  # of all connections: the broker refuses beyond 10,000
_RETRY_S: Final = 0.2
_GIVE_UP_S: Final = 60.0


def site_name(slot: int) -> str:
    return f"load-{slot:07}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How frames are sent."""

    batch: int = 500  # frames in a message; 1: a message a frame, each on its site's own subject
    compressed: bool = False
    window: int = 8  # messages under way on a connection
    prepared: bool = False  # frames are made before the first is sent, as far as the rate tells how many that are


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of time. frames_per_s: as many as will go where it is infinite."""

    name: str
    seconds: float
    frames_per_s: float


@dataclass(frozen=True, slots=True)
class Round:
    """A frame of each site of a concentrator, ready to be sent."""

    number: int  # from 0
    data: memoryview  # of frames, or of whole PUB operations of one frame each
    stride: int  # bytes of each
    grid_counts: Array  # by site

    def of(self, chunk: slice) -> memoryview:
        return self.data[chunk.start * self.stride : chunk.stop * self.stride]


@dataclass(slots=True, kw_only=True)
class Concentrator:
    """A connection and the sites behind it, all of one partition."""

    name: str
    partition: int
    sites: Array  # slots
    link: Link
    heads: Array | None = None  # by site: how a PUB of one frame on its own subject begins
    round: int = 0  # of all its sites' frames
    ready: deque[Round] = field(default_factory=deque)  # the one that is being sent, and those after it
    room: asyncio.Event

    @property
    def subject(self) -> str:
        return subjects.telemetry(f"{self.partition}.{self.name}")


def share_out(sites: int, connections: int) -> list[tuple[int, Array]]:
    """Partition and slots of each connection's sites; connections that have none are left out."""
    of_site = np.concatenate(
        [partitions([site_name(slot) for slot in range(a, min(a + 65_536, sites))]) for a in range(0, sites, 65_536)]
    )
    each = max(1, connections // subjects.PARTITIONS)
    return [
        (partition, part)
        for partition in range(subjects.PARTITIONS)
        for part in np.array_split(np.flatnonzero(of_site == partition), each)
        if len(part)
    ]


class LoadDriver:
    """Sends for a simulated fleet. What was sent is kept by site, to be compared with what arrived."""

    def __init__(
        self,
        fleet: SimulatedFleet,
        sites: int,
        connections: int,
        host: str,
        port: int,
        mode: Mode,
        login: Callable[[str, int], Login] | None = None,
    ) -> None:
        """login: of a concentrator by its name and one of its sites; None for a broker in plain text."""
        self._fleet = fleet
        self._mode = mode
        self._concentrators: list[Concentrator] = []
        self._dice = random.Random(5)
        for number, (partition, share) in enumerate(share_out(sites, connections)):
            room = asyncio.Event()
            name = f"con-{number:04}"
            link = Link(name, host, port, room.set, login and login(name, int(share[0])))
            self._concentrators.append(Concentrator(name=name, partition=partition, sites=share, link=link, room=room))
        self.frames = np.zeros(sites, dtype=np.int64)  # sent, by site
        self.grid_counts = np.zeros(sites, dtype=np.int64)  # sum of grid_power_w's counts, by site
        self.probes: dict[tuple[int, int], int] = {}  # by slot and seq: when it was given to the socket [ns]
        self._first_t0_ms = (time.time_ns() // 1_000_000 - 3_000_000) // FRAME_MS * FRAME_MS
        self.reconnected = 0

    @property
    def concentrators(self) -> Sequence[Concentrator]:
        return self._concentrators

    @property
    def acknowledged_frames(self) -> int:
        return sum(one.link.acknowledged_frames for one in self._concentrators)

    @property
    def sent_bytes(self) -> int:
        return sum(one.link.sent_bytes for one in self._concentrators)

    async def connect(self, *, at_once: int = 64) -> None:
        """Opens every connection. Raises OSError, LoadError."""
        gate = asyncio.Semaphore(at_once)

        async def one(concentrator: Concentrator) -> None:
            async with gate:
                await concentrator.link.open()

        async with asyncio.TaskGroup() as opening:
            for concentrator in self._concentrators:
                opening.create_task(one(concentrator))

    def prepare(self, phases: Sequence[Phase]) -> None:
        """Makes the frames of the phases whose rate tells how many they are."""
        frames = sum(phase.seconds * phase.frames_per_s for phase in phases if math.isfinite(phase.frames_per_s))
        for number in range(math.ceil(frames / len(self.frames)) + len(phases)):
            for one in self._concentrators:
                one.ready.append(self._made(one, number))

    async def run_rounds(self, rounds: int) -> None:
        """A frame of every site, as soon as it will go, and so on. Raises LoadError."""
        async with asyncio.TaskGroup() as sending:
            for concentrator in self._concentrators:
                sending.create_task(self._send_rounds(concentrator, rounds))

    async def _send_rounds(self, concentrator: Concentrator, rounds: int) -> None:
        for _ in range(rounds):
            for chunk in self._chunks(concentrator):
                await self._room(concentrator)
                self._publish(concentrator, chunk)
            self._finish_round(concentrator)

    def _chunks(self, concentrator: Concentrator) -> list[slice]:
        size = self._mode.batch if self._mode.batch > 1 else _SINGLE_CHUNK
        number = len(concentrator.sites)
        return [slice(first, min(first + size, number)) for first in range(0, number, size)]

    async def run(self, phases: Sequence[Phase], *, outages_per_s: float = 0.0, outage_s: float = 2.0) -> None:
        """Sends through the phases. Raises LoadError when the broker refuses."""
        for phase in phases:
            end_s = time.monotonic() + phase.seconds
            async with asyncio.TaskGroup() as sending:
                for number, concentrator in enumerate(self._concentrators):
                    sending.create_task(self._send(concentrator, number, phase, end_s))
                if outages_per_s:
                    sending.create_task(self._cut(outages_per_s, outage_s, end_s))

    async def settled(self) -> None:
        """Returns when everything that was sent is acknowledged. Raises LoadError."""
        deadline_s = time.monotonic() + _GIVE_UP_S
        for one in self._concentrators:
            while one.link.under_way or not one.link.connected:
                self._check(one)
                if time.monotonic() > deadline_s:
                    raise LoadError(f"{one.name}: {one.link.under_way} messages are not acknowledged")
                if not one.link.connected:
                    await self._reopen(one)
                one.room.clear()
                if one.link.under_way:
                    await asyncio.wait({asyncio.ensure_future(one.room.wait())}, timeout=_RETRY_S)

    async def storm(self) -> None:
        """Every connection is cut at once, and comes back as soon as it can."""
        for one in self._concentrators:
            one.link.close()
        async with asyncio.TaskGroup() as back:
            for one in self._concentrators:
                back.create_task(self._reopen(one))

    def close(self) -> None:
        for one in self._concentrators:
            one.link.close()

    async def _send(self, concentrator: Concentrator, number: int, phase: Phase, end_s: float) -> None:
        """Round after round of all its sites' frames; each chunk has its instant, and is sent late rather than not."""
        begin_s = time.monotonic()
        chunks = self._chunks(concentrator)
        period_s = len(self.frames) / phase.frames_per_s
        sent = 0
        while True:
            for chunk in chunks:
                due_s = begin_s + period_s * (number / len(self._concentrators) + sent) / len(chunks)
                if due_s >= end_s:
                    if sent % len(chunks):
                        due_s = end_s  # a round is finished
                    else:
                        return
                now_s = time.monotonic()
                if now_s >= end_s and not sent % len(chunks):
                    return
                if due_s > now_s:
                    await asyncio.sleep(due_s - now_s)
                await self._room(concentrator)
                self._publish(concentrator, chunk)
                sent += 1
                if not sent % 8:
                    await asyncio.sleep(0)
            self._finish_round(concentrator)

    async def _room(self, one: Concentrator) -> None:
        single = max(1, _SINGLE_UNDER_WAY // len(self._concentrators) - _SINGLE_CHUNK + 1)
        window = self._mode.window if self._mode.batch > 1 else single
        while one.link.under_way >= window or not one.link.connected:
            self._check(one)
            one.room.clear()
            if one.link.under_way >= window or not one.link.connected:
                await one.room.wait()

    def _made(self, one: Concentrator, number: int) -> Round:
        rows = self._fleet.records(one.sites, number + 1, self._first_t0_ms + number * FRAME_MS)
        counts = grid_counts(rows)
        if self._mode.batch == 1:
            if one.heads is None:
                one.heads = _heads(one)
            rows = _operations(one.heads, rows)
        return Round(number, memoryview(rows.tobytes()), rows.itemsize, counts)

    def _publish(self, one: Concentrator, chunk: slice) -> None:
        if not one.ready:
            one.ready.append(self._made(one, one.round))
        data, sites = one.ready[0].of(chunk), one.sites[chunk]
        if len(probes := sites[sites % PROBE_EVERY == 0]):
            now_ns = time.time_ns()
            self.probes.update(((slot, one.round + 1), now_ns) for slot in probes.tolist())
        if self._mode.batch == 1:
            one.link.publish_many(data, len(sites))
            return
        payload = zstandard.ZstdCompressor(level=1).compress(data) if self._mode.compressed else data
        one.link.publish(one.subject, f"{one.name}-{one.round}-{int(sites[0])}", payload, len(sites))

    def _finish_round(self, one: Concentrator) -> None:
        """Every site's frame was given to the socket: notes what has to arrive."""
        sent = one.ready.popleft()
        self.frames[one.sites] += 1
        self.grid_counts[one.sites] += sent.grid_counts
        one.round += 1

    async def _cut(self, per_s: float, outage_s: float, end_s: float) -> None:
        """Connections break at random, for a while; what their sites measured meanwhile is sent when they are back."""
        async with asyncio.TaskGroup() as back:
            while (now_s := time.monotonic()) < end_s:
                await asyncio.sleep(min(self._dice.expovariate(per_s), end_s - now_s))
                victim = self._dice.choice(self._concentrators)
                if victim.link.connected:
                    victim.link.close()
                    back.create_task(self._reopen(victim, self._dice.uniform(0.1, outage_s)))

    async def _reopen(self, one: Concentrator, after_s: float = 0.0) -> None:
        await asyncio.sleep(after_s)
        deadline_s = time.monotonic() + _GIVE_UP_S
        while not one.link.connected:
            try:
                await one.link.open()
            except OSError as error:
                if time.monotonic() > deadline_s:
                    raise LoadError(f"{one.name}: no connection ({error})") from error
                await asyncio.sleep(self._dice.uniform(0.5, 1.5) * _RETRY_S)
        self.reconnected += 1
        one.room.set()

    @staticmethod
    def _check(one: Concentrator) -> None:
        if one.link.failure:
            raise LoadError(one.link.failure)


def _heads(one: Concentrator) -> Array:
    """How the PUB operation of each site's frame begins. Names are of one length, so they are too."""
    size, reply = RECORD.itemsize, one.link.reply
    names = [site_name(slot) for slot in one.sites.tolist()]
    return np.array([f"PUB vpp.tel.{one.partition}.{name} {reply} {size}\r\n" for name in names], dtype="S")


def _operations(heads: Array, rows: Array) -> Array:
    """PUB operations of one frame each, on their sites' own subjects."""
    operations = np.empty(len(rows), dtype=[("head", heads.dtype), ("entry", RECORD), ("end", "S2")])
    operations["head"], operations["entry"], operations["end"] = heads, rows, b"\r\n"
    return operations
