"""Telemetry from one stream into fleet state and history, each frame once."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from nats.aio.client import Client

from cloud.fleet.state import FleetState
from cloud.ingest.decode import Bad, Cause, decode
from cloud.ingest.reader import Arrival, Message, StreamReader
from cloud.ingest.sequences import Sequences
from cloud.model.records import EventRecord, Severity
from cloud.model.telemetry import Array, Frames
from cloud.store.errors import HistoryError
from cloud.store.history import History
from cloud.store.ledger import Ledger
from cloud.store.segments import Position
from protos import subjects

log = logging.getLogger(__name__)

FLUSH_S: Final = 2.0
FLUSH_FRAMES: Final = 20_000
MOST_FRAMES: Final = 200_000  # not yet on disk; more is left in the stream
FLUSHES_PER_COMPACTION: Final = 32
KEPT_ASIDE: Final = 100


@dataclass(frozen=True, slots=True)
class Refused:
    """A message of which something was not taken, kept for a person to look at."""

    cause: Cause
    subject: str
    sequence: int
    data: bytes


@dataclass(slots=True)
class _Pending:
    """What was read of one life of the stream and is not on disk."""

    epoch: int
    created_ns: int
    first: int
    last: int
    frames: list[Frames] = field(default_factory=list)


class IngestWorker:
    """Reads one telemetry stream for ever. What was read is in the history with the position it was read up to.

    part: the stream's name in the history. utc_ms: the wall clock. flush_s: how long a frame may wait for the disk.
    """

    def __init__(
        self,
        connection: Client,
        stream: str,
        part: int,
        *,
        history: History,
        fleet: FleetState,
        ledger: Ledger,
        utc_ms: Callable[[], int],
        flush_s: float = FLUSH_S,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._part = part
        self._history = history
        self._fleet = fleet
        self._ledger = ledger
        self._utc_ms = utc_ms
        self._flush_s = flush_s
        self._slots: dict[str, int] = {}
        self._sequences = Sequences()
        self._pending: deque[_Pending] = deque()
        self._due = asyncio.Event()
        self._stopping = False
        self._flushed = asyncio.Condition()
        self._flushes = 0
        self._compaction_fails = False
        self.flush_fails = False  # the disk refuses: telemetry waits
        self.refused_by_cause: Counter[Cause] = Counter()
        self.refused: deque[Refused] = deque(maxlen=KEPT_ASIDE)

    async def run(self) -> None:
        """Reads until cancelled, then puts on disk what it has. Raises StreamClosed, HistoryError at the start."""
        position = await asyncio.to_thread(self._restore)
        reading = asyncio.create_task(self._read(position), name=f"read {self._stream}")
        flushing = asyncio.create_task(self._flush_regularly(), name=f"flush {self._stream}")
        try:
            await asyncio.wait({reading, flushing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            self._stopping = True
            self._due.set()
            await asyncio.wait({reading, flushing})  # neither is cancelled in the middle of a write
        await flushing
        await reading

    def _restore(self) -> Position | None:
        self._history.tidy(self._part)
        self._sequences.restore(map(tuple, self._history.runs().tolist()))
        self._slots = {site.site: site.slot for site in self._ledger.sites()}
        return self._history.position(self._part)

    async def _read(self, position: Position | None) -> None:
        last = position or Position(0, 0, 0)
        reader = StreamReader(
            self._connection, self._stream, created_ns=last.stream_created_ns, last_sequence=last.last_sequence
        )
        self._pending.append(_Pending(last.epoch, last.stream_created_ns, last.last_sequence + 1, last.last_sequence))
        async with aclosing(reader.arrivals()) as arrivals:
            async for arrival in arrivals:
                self._begin(arrival)
                if arrival.messages:
                    self._take(arrival.messages)
                    await self._room()

    def _begin(self, arrival: Arrival) -> None:
        """Notes what became of the stream."""
        current = self._pending[-1]
        if arrival.anew:
            self._pending.append(_Pending(current.epoch + 1, arrival.created_ns, 1, 0))
            self._tell(
                Severity.ALARM,
                "stream.anew",
                f"stream {self._stream} was made anew or set back: what it still held of the telemetry after message "
                f"{current.last} is lost, the history keeps what it has",
                f"{arrival.created_ns}-{current.epoch + 1}",
            )
        elif current.created_ns == 0:
            current.created_ns = arrival.created_ns
        if arrival.expired:
            self._tell(
                Severity.ALARM,
                "stream.expired",
                f"stream {self._stream} let go {arrival.expired} messages after {current.last} before they were read",
                f"{arrival.created_ns}-{current.last}",
            )

    def _take(self, messages: list[Message]) -> None:
        """Decodes, checks and shows new frames, and keeps them for the next flush."""
        frames, bad = decode([message.data for message in messages])
        owner = self._owners(messages)
        if len(frames):
            owned = frames.slot == owner[frames.message]
            for index in np.unique(frames.message[~owned]):
                bad.append(Bad(Cause.SITE if owner[index] < 0 else Cause.OWNER, int(index)))
            frames = frames.take(owned)
        if bad:
            self._refuse(messages, bad, owner)
        new = self._sequences.admit(frames.slot, frames.seq)
        self._fleet.count("duplicates", frames.slot[~new])
        self._fleet.update(frames.take(new), self._utc_ms())
        seen = np.unique(frames.slot)
        self._fleet.set_gaps(seen, self._sequences.missing(seen))
        current = self._pending[-1]
        if new.any():
            current.frames.append(frames.take(new))
        current.last = messages[-1].sequence
        if self._waiting() >= FLUSH_FRAMES:
            self._due.set()

    def _owners(self, messages: list[Message]) -> Array:
        """int64, by message: the slot of the site whose subject it came on, -1 for a stranger."""
        sites = [subjects.site_of(message.subject) for message in messages]
        if any(site not in self._slots for site in sites):
            self._slots = {site.site: site.slot for site in self._ledger.sites()}
        return np.array([self._slots.get(site, -1) for site in sites], dtype=np.int64)

    def _refuse(self, messages: list[Message], bad: list[Bad], owner: Array) -> None:
        self._fleet.count(
            "refused", np.array([slot for one in bad if (slot := owner[one.message]) >= 0], dtype=np.int64)
        )
        for one in sorted(bad, key=lambda one: one.message):
            message = messages[one.message]
            self.refused.append(Refused(one.cause, message.subject, message.sequence, message.data))
            if self.refused_by_cause[one.cause] == 0:
                self._tell(
                    Severity.WARNING,
                    "telemetry.refused",
                    f"telemetry on {message.subject} refused: {one.cause} (message {message.sequence} of "
                    f"{self._stream}; further ones of this kind are only counted)",
                    f"{self._pending[-1].created_ns}-{message.sequence}-{one.cause.name}",
                )
            self.refused_by_cause[one.cause] += 1

    def _tell(self, severity: Severity, code: str, text: str, key: str) -> None:
        """An event of the coordinator's own; read a second time, it is not recorded a second time."""
        log.log(logging.ERROR if severity is Severity.ALARM else logging.WARNING, "%s", text)
        self._ledger.add_event(
            EventRecord(
                site=None,
                event_id=f"{code}-{self._stream}-{key}",
                at_ms=self._utc_ms(),
                severity=severity,
                code=code,
                text=text,
            )
        )

    def _waiting(self) -> int:
        return sum(len(frames) for pending in self._pending for frames in pending.frames)

    async def _room(self) -> None:
        """Waits while more would wait for the disk than may: what is not read stays in the stream."""
        async with self._flushed:
            await self._flushed.wait_for(lambda: self._waiting() < MOST_FRAMES)

    async def _flush_regularly(self) -> None:
        while not self._stopping:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._flush_s):
                    await self._due.wait()
            self._due.clear()
            await self._flush()
        await self._flush()  # what came in while the last one was being written

    async def _flush(self) -> None:
        """Puts on disk what waits; what cannot be written goes on waiting."""
        try:
            for pending in list(self._pending):
                frames = Frames.joined(pending.frames[:])
                if len(frames):
                    parts, position = len(pending.frames), Position(pending.epoch, pending.created_ns, pending.last)
                    await asyncio.to_thread(self._history.append, self._part, position, pending.first, frames)
                    del pending.frames[:parts]
                    pending.first = position.last_sequence + 1
                if pending is not self._pending[-1] and not pending.frames:
                    self._pending.remove(pending)  # that life of the stream is over
        except (OSError, HistoryError) as error:
            if not self.flush_fails:
                log.error("history cannot be written, telemetry waits: %s", error)
            self.flush_fails = True
        else:
            if self.flush_fails:
                log.info("history is written again")
            self.flush_fails = False
        async with self._flushed:
            self._flushed.notify_all()
        self._flushes += 1
        if self._flushes % FLUSHES_PER_COMPACTION == 0 and not self._stopping:
            await self._compact()

    async def _compact(self) -> None:
        """Keeps the number of files small. Telemetry does not depend on it."""
        try:
            await asyncio.to_thread(self._history.compact, self._part)
        except (OSError, HistoryError) as error:
            if not self._compaction_fails:
                log.error("segments cannot be joined, they stay as they are: %s", error)
            self._compaction_fails = True
        else:
            self._compaction_fails = False
