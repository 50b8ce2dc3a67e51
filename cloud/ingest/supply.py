"""Supply functions from the broker into the fleet's columns: at first all that are current, then each as it comes."""

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import aclosing
from typing import Final

import numpy as np
from nats.aio.client import Client

from cloud.fleet.supply import SupplyColumns
from cloud.ingest.owners import partitions
from cloud.ingest.reader import StreamReader
from cloud.store.ledger import Ledger
from protos import subjects

log = logging.getLogger(__name__)

_CHUNK: Final = 65_536


class SupplyWorker:
    """Reads the stream SUPPLY for ever. The broker keeps each site's last one, so there is no position to keep."""

    def __init__(
        self,
        connection: Client,
        *,
        columns: SupplyColumns,
        ledger: Ledger,
        utc_ms: Callable[[], int],
        only: Collection[int] = range(subjects.PARTITIONS),
    ) -> None:
        """only: partitions whose sites' functions are wanted."""
        self._connection = connection
        self._only = [] if len(only) == subjects.PARTITIONS else [subjects.supply_functions(p) for p in only]
        self._columns = columns
        self._ledger = ledger
        self._utc_ms = utc_ms
        self._slots: dict[str, int] = {}  # by subject
        self._strangers: set[str] = set()
        self.refused = 0

    async def run(self) -> None:
        """Reads until cancelled. Raises StreamClosed."""
        reader = StreamReader(self._connection, subjects.SUPPLY_STREAM, only=self._only)
        async with aclosing(reader.arrivals()) as arrivals:
            async for arrival in arrivals:
                if not len(arrival):
                    continue
                names = arrival.names()
                await self._learn(set(names))
                known = [
                    (self._slots[subject], data)
                    for subject, data in zip(names, arrival.data, strict=True)
                    if subject in self._slots
                ]
                self.refused += len(arrival) - len(known)
                owner = np.array([slot for slot, _ in known], dtype=np.int64)
                taken = self._columns.update(owner, [data for _, data in known], self._utc_ms())
                if taken < len(known):
                    log.warning("supply functions refused: %d of %d", len(known) - taken, len(known))

    async def _learn(self, seen: set[str]) -> None:
        """Looks for subjects in the registry that were not there before; a stranger's only once."""
        new = seen - self._slots.keys() - self._strangers
        if not new:
            return
        self._slots = await asyncio.to_thread(self._look_up)
        strangers = new - self._slots.keys()
        if strangers:
            log.warning("supply functions of unknown sites: %s", ", ".join(sorted(strangers)[:5]))
        self._strangers |= strangers

    def _look_up(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for rows in self._ledger.slots_from(0, _CHUNK):
            of = partitions([site for site, *_ in rows]).tolist()
            found |= {
                subjects.supply_function(f"{partition}.{site}"): slot
                for partition, (site, slot, _) in zip(of, rows, strict=True)
            }
        return found
