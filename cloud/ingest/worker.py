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
from cloud.ingest.owners import NOBODY, Owners
from cloud.ingest.reader import Arrival, StreamReader, name_of
from cloud.ingest.sequences import Sequences
from cloud.model.records import EventRecord, Severity
from cloud.model.telemetry import Array, Frames
from cloud.store.errors import HistoryError, LedgerError
from cloud.store.history import History
from cloud.store.ledger import Ledger
from cloud.store.rejected import MOST_BYTES, Rejected, RejectedBook
from cloud.store.segments import Position
from cloud.store.tenure import ALONE, Writer
from cloud.store.upkeep import FOR_EVER, Retention
from protos import subjects

log = logging.getLogger(__name__)

FLUSH_S: Final = 2.0
MOST_FRAMES: Final = 200_000  # not yet on disk, at 170 bytes and as much again while written; more stays in the stream
UPKEEP_S: Final = 60.0
KEEP_RUNS_S: Final = 20.0  # what came since is read again from the segments by whoever takes over
EXCUSE_S: Final = 5.0


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
    most_frames: that may wait for it, which bounds the worker's memory; half of them are written at once. partitions:
    those of the stream. writer: under which lease it writes the history.
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
        upkeep_s: float = UPKEEP_S,
        keep_runs_s: float = KEEP_RUNS_S,
        most_frames: int = MOST_FRAMES,
        partitions: range = range(subjects.PARTITIONS),
        retention: Retention = FOR_EVER,
        writer: Writer = ALONE,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._part = part
        self._history = history
        self._fleet = fleet
        self._ledger = ledger
        self._utc_ms = utc_ms
        self._flush_s = flush_s
        self._upkeep_s = upkeep_s
        self._keep_runs_s = keep_runs_s
        self._most_frames = most_frames
        self._retention = retention
        self._writer = writer
        self._partitions = partitions
        self._owners = Owners(ledger)
        self._sequences = Sequences()
        self._pending: deque[_Pending] = deque()
        self._waiting = 0  # frames
        self._due = asyncio.Event()
        self._stopping = asyncio.Event()
        self._flushed = asyncio.Condition()
        self._upkeep_fails = False
        self.flush_fails = False  # the disk refuses: telemetry waits
        self.refused_by_cause: Counter[Cause] = Counter()  # since the start

    @property
    def waiting(self) -> int:
        """Frames that were read and are not on disk."""
        return self._waiting

    async def run(self) -> None:
        """Reads until cancelled, then puts on disk what it has.

        Raises StreamClosed; Superseded when another process writes the part; HistoryError, LedgerError at the start.
        """
        position = await asyncio.to_thread(self._restore)
        reading = asyncio.create_task(self._read(position), name=f"read {self._stream}")
        flushing = asyncio.create_task(self._flush_regularly(), name=f"flush {self._stream}")
        keeping = asyncio.create_task(self._upkeep_regularly(), name=f"upkeep {self._stream}")
        noting = asyncio.create_task(self._keep_runs_regularly(), name=f"known frames of {self._stream}")
        excusing = asyncio.create_task(self._excuse_regularly(), name=f"thinned frames of {self._stream}")
        try:
            await asyncio.wait({reading, flushing, keeping, noting, excusing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            excusing.cancel()
            reading.cancel()
            self._stopping.set()
            self._due.set()
            # None is cancelled in the middle of a write.
            await asyncio.wait({reading, flushing, keeping, noting, excusing})
        await flushing
        await keeping
        await noting
        await reading

    def _restore(self) -> Position | None:
        self._owners.refresh()
        self._history.begin(self._part, self._writer)
        self._sequences.restore(self._history.runs())
        self._rejected = RejectedBook(self._history.place, self._part)
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
                if len(arrival):
                    self._take(arrival)
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

    def _take(self, arrival: Arrival) -> None:
        """Decodes, checks and shows new frames, and keeps them for the next flush."""
        now_ms = self._utc_ms()
        frames, bad = decode(arrival.data, now_ms)
        speaker, partition = self._owners.speakers(arrival.subjects, now_ms)
        if len(frames):
            of_frame = speaker[frames.message]
            owned = self._owners.may_speak(frames.slot, of_frame, now_ms)
            if not owned.all():
                for index in frames.message[~owned].tolist():
                    bad.append(Bad(Cause.SITE if speaker[index] == NOBODY else Cause.OWNER, index))
                frames = frames.take(owned)
            at_home = self._owners.in_partition(frames.slot, partition[frames.message])
            if not at_home.all():
                bad.extend(Bad(Cause.PARTITION, index) for index in frames.message[~at_home].tolist())
                frames = frames.take(at_home)
        if bad:
            self._refuse(arrival, bad, speaker, now_ms)
        new = self._sequences.admit(frames.slot, frames.seq)
        if not new.all():
            self._fleet.count("duplicates", frames.slot[~new])
        self._fleet.set_gaps(frames.slot, self._sequences.missing(frames.slot))
        frames = frames if new.all() else frames.take(new)
        self._fleet.update(frames, now_ms)
        current = self._pending[-1]
        if len(frames):
            current.frames.append(frames)
            self._waiting += len(frames)
        current.last = arrival.sequences[-1]
        if self._waiting >= self._most_frames // 2:
            self._due.set()

    def _refuse(self, arrival: Arrival, bad: list[Bad], speaker: Array, now_ms: int) -> None:
        times = Counter((one.message, one.cause) for one in bad)
        by_message = [(int(speaker[index]), number) for (index, _), number in times.items() if speaker[index] != NOBODY]
        if by_message:
            slots, numbers = np.array(by_message, dtype=np.int64).T
            self._fleet.count("refused", slots, numbers)
        current = self._pending[-1]
        refused: list[Rejected] = []
        for (index, cause), number in sorted(times.items()):
            subject, sequence, data = name_of(arrival.subjects[index]), arrival.sequences[index], arrival.data[index]
            refused.append(
                Rejected(
                    at_ms=now_ms,
                    epoch=current.epoch,
                    sequence=sequence,
                    subject=subject,
                    cause=cause,
                    times=number,
                    size=len(data),
                    data=data[:MOST_BYTES],
                )
            )
            if self.refused_by_cause[cause] == 0:
                self._tell(
                    Severity.WARNING,
                    "telemetry.refused",
                    f"telemetry on {subject} refused: {cause} (message {sequence} of {self._stream}; further ones of "
                    "this kind are only counted: see vpp-cloud history rejected)",
                    f"{current.created_ns}-{sequence}-{cause.name}",
                )
            self.refused_by_cause[cause] += number
        self._rejected.add(refused)

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

    async def _room(self) -> None:
        """Waits while more would wait for the disk than may: what is not read stays in the stream."""
        async with self._flushed:
            await self._flushed.wait_for(lambda: self._waiting < self._most_frames)

    async def _flush_regularly(self) -> None:
        while not self._stopping.is_set():
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
                if frames := pending.frames[:]:
                    position = Position(pending.epoch, pending.created_ns, pending.last)
                    await asyncio.to_thread(self._history.append, self._part, position, pending.first, frames)
                    del pending.frames[: len(frames)]
                    self._waiting -= sum(map(len, frames))
                    pending.first = position.last_sequence + 1
                    del frames
                if pending is not self._pending[-1] and not pending.frames:
                    self._pending.remove(pending)  # that life of the stream is over
            await asyncio.to_thread(self._rejected.save)
        except (OSError, HistoryError) as error:
            if not self.flush_fails:
                log.error("history cannot be written, telemetry waits: %s", error)
            self.flush_fails = True
        else:
            if self.flush_fails:
                log.info("history is written again")
            self.flush_fails = False
        finally:
            async with self._flushed:
                self._flushed.notify_all()

    async def _upkeep_regularly(self) -> None:
        """Keeps the history small and quick. Telemetry does not depend on it."""
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._upkeep_s):
                    await self._stopping.wait()
                return
            try:
                await asyncio.to_thread(
                    self._history.upkeep,
                    self._part,
                    self._utc_ms(),
                    self._retention,
                    stopping=self._stopping.is_set,
                )
            except (OSError, HistoryError) as error:
                if not self._upkeep_fails:
                    log.error("history is not summed up, what is stored stays as it is: %s", error)
                self._upkeep_fails = True
            else:
                self._upkeep_fails = False

    async def _excuse_regularly(self) -> None:
        """Stops missing what sites say they merged into other frames."""
        number = 0
        while True:
            try:
                told = await asyncio.to_thread(self._ledger.thinned_after, number)
            except LedgerError:  # away: later, then
                told = []
            for _, slot, runs in told:
                if not self._owners.is_among(slot, self._partitions):
                    continue  # another worker's
                for first, last in runs:
                    self._sequences.excuse(slot, first, last)
                self._fleet.set_gaps(np.array([slot]), self._sequences.missing(np.array([slot])))
            if told:
                number = told[-1][0]
            else:
                await asyncio.sleep(EXCUSE_S)

    async def _keep_runs_regularly(self) -> None:
        """Notes which frames are known, so that the next start need not read them all again."""
        kept: Position | None = None
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._keep_runs_s):
                    await self._stopping.wait()
                return
            pending = self._pending[-1] if len(self._pending) == 1 else None
            if pending is None:
                continue
            position = Position(pending.epoch, pending.created_ns, pending.last)
            if position == kept:
                continue
            runs = self._sequences.runs()
            async with self._flushed:  # only what is committed may be noted
                await self._flushed.wait_for(lambda: pending.first > position.last_sequence or self._stopping.is_set())  # noqa: B023
            if pending.first <= position.last_sequence:
                continue
            try:
                await asyncio.to_thread(self._history.keep_runs, self._part, position, runs)
                kept = position
            except OSError as error:
                log.error("which frames are known is not noted, the next start takes longer: %s", error)
