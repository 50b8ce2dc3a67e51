"""Fleet state in a process that does not ingest: it looks on from the end of a telemetry stream, and keeps nothing."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.js.errors import Error as JetStreamError

from cloud.fleet.state import FleetState
from cloud.ingest.decode import decode
from cloud.ingest.owners import Owners
from cloud.ingest.reader import Arrival, StreamReader
from cloud.ingest.sequences import Sequences
from cloud.store.ledger import Ledger

_ANSWER_S: Final = 5.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class FleetFollower:
    """Shows what comes from now on. What cannot be taken is left out: its worker counts it and tells of it."""

    def __init__(
        self, connection: Client, stream: str, *, fleet: FleetState, ledger: Ledger, utc_ms: Callable[[], int]
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._fleet = fleet
        self._owners = Owners(ledger)
        self._sequences = Sequences()
        self._utc_ms = utc_ms

    async def run(self) -> None:
        """Until cancelled. Raises StreamClosed, LedgerError."""
        await asyncio.to_thread(self._owners.refresh)
        created_ns, last = await self._end()
        reader = StreamReader(self._connection, self._stream, created_ns=created_ns, last_sequence=last)
        async with aclosing(reader.arrivals()) as arrivals:
            async for arrival in arrivals:
                if len(arrival):
                    self._show(arrival)

    async def _end(self) -> tuple[int, int]:
        """Where the stream ends now; its beginning where there is none yet."""
        with suppress(TimeoutError, nats.errors.Error, JetStreamError):
            info = await self._connection.jsm(timeout=_ANSWER_S).stream_info(self._stream)
            if info.created is not None:
                return (info.created - _EPOCH) // timedelta(microseconds=1) * 1000, info.state.last_seq
        return 0, 0

    def _show(self, arrival: Arrival) -> None:
        now_ms = self._utc_ms()
        frames, _ = decode(arrival.data, now_ms)
        if not len(frames):
            return
        speaker, _ = self._owners.speakers(arrival.subjects, now_ms)
        frames = frames.take(self._owners.may_speak(frames.slot, speaker[frames.message], now_ms))
        self._fleet.update(frames.take(self._sequences.admit(frames.slot, frames.seq)), now_ms)
