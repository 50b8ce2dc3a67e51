"""Leads while the lease is ours, stands by while it is somebody else's."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from cloud.gateway.lease import Lease, LeaseLost
from cloud.gateway.nats_server import BrokerError
from cloud.parts import Parts, is_only
from cloud.store.errors import Deposed, LedgerUnavailable
from cloud.store.ledger import Ledger

log = logging.getLogger(__name__)

_AGAIN_S: Final = 0.5
# What ends a term and not the process: the next term begins when it is over.
_ENDS_A_TERM: Final = (LeaseLost, Deposed, LedgerUnavailable, BrokerError)


class Leadership:
    """One process's part in it. lead: starts what a leader does; it is stopped when the term is over.

    leads: set while this process leads. decided: set once it is known whether it does.
    """

    def __init__(
        self,
        lease: Lease,
        ledger: Ledger,
        holder: str,
        lead: Callable[[Parts], Awaitable[None]],
        utc_ms: Callable[[], int],
    ) -> None:
        self._lease = lease
        self._ledger = ledger
        self._holder = holder
        self._lead = lead
        self._utc_ms = utc_ms
        self._told = ""
        self.leads = False
        self.decided: Final = asyncio.Event()

    async def run(self) -> None:
        """For ever. Raises what a leader's part raised that is not about lease, ledger or broker being away."""
        while True:
            fence = await self._lease.acquire(self._stand_by)
            parts = Parts()
            try:
                parts.run("lease", self._lease.keep())
                begin = (self._holder, fence.bucket_created_ms, fence.revision, self._utc_ms())
                term = await asyncio.to_thread(self._ledger.begin_term, *begin)
                await self._lead(parts)
                self.leads = True
                self.decided.set()
                self._tell(f"leads: term={term}")
                await parts.until(asyncio.Event())
            except Exception as error:
                if not is_only(error, _ENDS_A_TERM):
                    raise
                self._tell(f"leads no more: {' '.join(str(error).split())}")
                self.decided.set()
            finally:
                self.leads = False
                await parts.stop()
                await self._lease.release()
            await asyncio.sleep(_AGAIN_S)

    def _stand_by(self, other: str) -> None:
        if other != self._holder:  # its own life before is waited for
            self._tell(f"stands by: the lease has {other}")
            self.decided.set()

    def _tell(self, text: str) -> None:
        """A change of state once, however often it is tried again."""
        if text != self._told:
            log.info("%s", text)
        self._told = text
