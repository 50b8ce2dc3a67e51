"""One telemetry stream's ingest, done by one process at a time: whoever has its lease works, the others stand by.

The lease says who begins, the history who may write (cloud/store/tenure.py): a lease that merely ran out, as while the
broker is away, ends nothing until somebody else has it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from cloud.gateway.lease import Lease, LeaseLost, is_somebody
from cloud.parts import Parts, is_only
from cloud.store.errors import LedgerUnavailable, Superseded
from cloud.store.tenure import Writer

log = logging.getLogger(__name__)

_AGAIN_S: Final = 1.0
_FLUSH_S: Final = 20.0  # for the last write of a worker that stops
# What ends a turn and not the process: the next one begins when it is over.
_ENDS_A_TURN: Final = (LeaseLost, Superseded, LedgerUnavailable)

Work = Callable[[Writer], Awaitable[None]]
Look = Callable[[], Awaitable[None]]


def lease_key(stream: str) -> str:
    return f"ingest-{stream}"


class IngestDuty:
    """work: reads the stream and writes the history, until cancelled. look: shows the stream while another has it.

    has_it: whether this process works.
    """

    def __init__(self, stream: str, lease: Lease, holder: str, work: Work, look: Look | None = None) -> None:
        self._stream = stream
        self._lease = lease
        self._holder = holder
        self._work = work
        self._look = look
        self._told = ""
        self.has_it = False

    async def run(self) -> None:
        """For ever. Raises what the work raises that is not about lease, history's writer or ledger."""
        while True:
            token = await self._turn()
            parts = Parts()
            try:
                parts.run("lease", self._keep())
                parts.run(self._stream, self._working(Writer(token, self._holder)), within_s=_FLUSH_S)
                self._tell(logging.INFO, f"ingest of {self._stream} is done here")
                await parts.until(asyncio.Event())
            except Exception as error:
                if not is_only(error, _ENDS_A_TURN):
                    raise
                self._tell(logging.WARNING, f"ingest of {self._stream} ends here: {' '.join(str(error).split())}")
            finally:
                self.has_it = False
                await parts.stop()
                await self._lease.release()
            await asyncio.sleep(_AGAIN_S)

    async def _turn(self) -> tuple[int, int]:
        """Stands by until the lease is ours; its fence."""
        looking: list[asyncio.Task[None]] = []

        def stand_by(other: str) -> None:
            if is_somebody(other) and other != self._holder:
                self._tell(logging.INFO, f"stands by for {self._stream}: {other} has it")
                if self._look is not None and not looking:
                    looking.append(asyncio.ensure_future(self._look()))

        try:
            fence = await self._lease.acquire(stand_by)
        finally:
            for task in looking:
                task.cancel()
                with suppress(asyncio.CancelledError, LedgerUnavailable):
                    await task
        return fence.bucket_created_ms, fence.revision

    async def _working(self, writer: Writer) -> None:
        self.has_it = True
        await self._work(writer)

    async def _keep(self) -> None:
        """Keeps the lease, and takes it again where it ran out. Raises LeaseLost once somebody else has it."""

        def taken(other: str) -> None:
            if is_somebody(other) and other != self._holder:
                raise LeaseLost(f"{other} has it")

        while True:
            try:
                await self._lease.keep()
            except LeaseLost as lost:
                log.warning("lease of %s: %s; its ingest goes on while nobody else has it", self._stream, lost)
            await self._lease.acquire(taken)

    def _tell(self, level: int, text: str) -> None:
        """A change of state once, however often it is tried again."""
        if text != self._told:
            log.log(level, "%s", text)
        self._told = text
