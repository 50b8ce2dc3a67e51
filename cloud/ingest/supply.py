"""Supply functions from the broker into the fleet's columns: at first all that are current, then each as it comes."""

import logging
from collections.abc import Callable
from contextlib import aclosing

import numpy as np
from nats.aio.client import Client

from cloud.fleet.supply import SupplyColumns
from cloud.ingest.reader import StreamReader
from cloud.store.ledger import Ledger
from protos import subjects

log = logging.getLogger(__name__)


class SupplyWorker:
    """Reads the stream SUPPLY for ever. The broker keeps each site's last one, so there is no position to keep."""

    def __init__(
        self, connection: Client, *, columns: SupplyColumns, ledger: Ledger, utc_ms: Callable[[], int]
    ) -> None:
        self._connection = connection
        self._columns = columns
        self._ledger = ledger
        self._utc_ms = utc_ms
        self._slots: dict[str, int] = {}  # by subject
        self._strangers: set[str] = set()
        self.refused = 0

    async def run(self) -> None:
        """Reads until cancelled. Raises StreamClosed."""
        reader = StreamReader(self._connection, subjects.SUPPLY_STREAM)
        async with aclosing(reader.arrivals()) as arrivals:
            async for arrival in arrivals:
                if not len(arrival):
                    continue
                names = arrival.names()
                self._learn(set(names))
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

    def _learn(self, seen: set[str]) -> None:
        """Looks for subjects in the registry that were not there before; a stranger's only once."""
        new = seen - self._slots.keys() - self._strangers
        if not new:
            return
        self._slots = {subjects.supply_function(site.partition_token): site.slot for site in self._ledger.sites()}
        strangers = new - self._slots.keys()
        if strangers:
            log.warning("supply functions of unknown sites: %s", ", ".join(sorted(strangers)[:5]))
        self._strangers |= strangers
