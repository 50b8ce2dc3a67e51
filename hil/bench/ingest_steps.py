"""Where the time of a frame goes in an ingest worker: CPU microseconds of each step, alone in this process."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from nats.aio.client import Client

from cloud.fleet.state import FleetState
from cloud.ingest.decode import decode
from cloud.ingest.lean import LeanParser, Sink
from cloud.ingest.owners import Owners
from cloud.ingest.sequences import Sequences
from cloud.model.telemetry import Frames
from cloud.store.ledger import LEDGER_FILE, Ledger
from cloud.store.place import Place
from cloud.store.raw import RAW, tables_of
from cloud.store.segments import Position, Segments
from hil.load.driver import site_name
from hil.load.fleet import FRAME_MS, SimulatedFleet
from hil.load.rig import insert_sites
from protos import subjects

FRAMES: Final = 100_000
_BATCH: Final = 500
_SINGLES: Final = 5000  # that a worker takes at once
_SOCKET_BYTES: Final = 32_768  # that nats-py reads at once
_SUBSCRIPTION: Final = 7

Steps = dict[str, float]


class _Clock:
    """Steps and their CPU time."""

    def __init__(self) -> None:
        self._s: dict[str, float] = {}

    def time(self, name: str, work: Callable[[], Any], times: int = 3) -> Any:
        """The best of some: the first one pays for memory that a worker has long had."""
        best = float("inf")
        for _ in range(times):
            begin = time.process_time()
            result = work()
            best = min(best, time.process_time() - begin)
        self._s[name] = best
        return result

    @property
    def us_per_frame(self) -> Steps:
        return {name: round(s / FRAMES * 1e6, 3) for name, s in self._s.items()}


def batched_steps() -> Steps:
    """Of messages of 500 frames."""
    now_ms, clock = time.time_ns() // 1_000_000, _Clock()
    messages = clock.time("generator: make frames", lambda: _frames_in(_BATCH, now_ms), times=1)
    frames, _ = clock.time("decode and check", lambda: decode(messages, now_ms))
    _rest(clock, frames, now_ms)
    return clock.us_per_frame


def single_steps() -> Steps:
    """Of messages of one frame, each on its site's own subject."""
    now_ms, clock = time.time_ns() // 1_000_000, _Clock()
    messages = _frames_in(1, now_ms)
    names = [site_name(slot) for slot in range(FRAMES)]
    own = [subjects.telemetry(subjects.partition_token(name)).encode() for name in names]
    wire = b"".join(
        b"MSG %b %d $JS.ACK.TEL_0.reader-0123456789abcdef.1.%d.%d.%d.%d %d\r\n%b\r\n"
        % (subject, _SUBSCRIPTION, 9_000_000 + n, n + 1, time.time_ns(), n % 9999, len(message), message)
        for n, (subject, message) in enumerate(zip(own, messages, strict=True))
    )
    sink = clock.time("messages out of the socket's bytes", lambda: _parsed(wire))
    if sink.data != messages or sink.subjects != own:
        raise AssertionError("the parser gives other messages than were sent")

    def decoded() -> list[Frames]:
        return [decode(part, now_ms)[0] for part in _parts(messages)]

    frames = Frames.joined(clock.time("decode and check", decoded))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / LEDGER_FILE
        insert_sites(path, ((name, slot, None) for slot, name in enumerate(names)))
        with Ledger(path) as ledger:
            owners = Owners(ledger)
            owners.refresh()
            clock.time("whose subject it is", lambda: [owners.speakers(part, now_ms) for part in _parts(own)])
    _rest(clock, frames, now_ms)
    return clock.us_per_frame


def _frames_in(batch: int, now_ms: int) -> list[bytes]:
    simulated = SimulatedFleet(FRAMES, noon_ms=now_ms)
    t0_ms = (now_ms - 60_000) // FRAME_MS * FRAME_MS
    slots = np.random.default_rng(3).permutation(FRAMES) if batch > 1 else np.arange(FRAMES)
    rows = [simulated.records(slots[a : a + _BATCH], 1, t0_ms) for a in range(0, FRAMES, _BATCH)]
    return [part[a : a + batch].tobytes() for part in rows for a in range(0, len(part), batch)]


def _parts(column: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [column[a : a + _SINGLES] for a in range(0, len(column), _SINGLES)]


def _parsed(wire: bytes) -> Sink:
    sink, parser = Sink(), LeanParser(Client())
    parser.give(_SUBSCRIPTION, sink)

    async def feed() -> None:
        for begin in range(0, len(wire), _SOCKET_BYTES):
            await parser.parse(wire[begin : begin + _SOCKET_BYTES])

    asyncio.run(feed())
    return sink


def _rest(clock: _Clock, frames: Frames, now_ms: int) -> None:
    """What is the same however the frames came."""
    clock.time("drop duplicates, count gaps", lambda: Sequences().admit(frames.slot, frames.seq))
    fleet = FleetState()
    fleet.reserve(FRAMES)
    clock.time("fleet columns and sums", lambda: fleet.update(frames, now_ms))
    clock.time("sort and build columns", lambda: [len(table) for table in tables_of([frames])])
    built = list(tables_of([frames]))
    with tempfile.TemporaryDirectory() as folder:
        segments = Segments(Place.at(folder), RAW)
        clock.time("encode, compress, write", lambda: segments.write(0, Position(0, 1, 1), 1, built))
