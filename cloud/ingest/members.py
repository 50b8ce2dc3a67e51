"""Who is in which group, as columns over the registry, for a worker that must find its own sites of a group."""

import json
from collections.abc import Collection

import numpy as np

from cloud.ingest.owners import partitions
from cloud.model.telemetry import Array
from cloud.store.ledger import Ledger

_CHUNK = 65_536


class Members:
    """The registry's sites that take part (enrolled, not revoked), at one instant."""

    def __init__(self, ledger: Ledger) -> None:
        """Reads the whole registry. Raises LedgerError."""
        slots, names, partition, texts = [], [], [], []
        numbers: dict[str, int] = {}  # of each set of groups: a fleet has few
        for rows in ledger.members_from(0, _CHUNK):
            taking_part = [row for row in rows if row[3]]
            if not taking_part:
                continue
            names += [row[0] for row in taking_part]
            slots.append(np.array([row[1] for row in taking_part], dtype=np.int64))
            texts.append(np.array([numbers.setdefault(row[2], len(numbers)) for row in taking_part], dtype=np.int64))
            partition.append(partitions([row[0] for row in taking_part]))
        self.names = names  # by the order of `slots`
        self.slots = np.concatenate(slots) if slots else np.empty(0, np.int64)  # rising
        self._partition = np.concatenate(partition) if partition else np.empty(0, np.uint8)
        self._texts = np.concatenate(texts) if texts else np.empty(0, np.int64)
        self._groups = [frozenset(json.loads(text)) for text in numbers]

    def of(self, group: str, within: Collection[int]) -> Array:
        """int64: places in `slots` of the group's sites in these partitions, rising."""
        having = np.array([group in groups for groups in self._groups], dtype=bool)
        mine = np.isin(self._partition, np.array(list(within), dtype=np.uint8))
        result: Array = np.flatnonzero(having[self._texts] & mine) if len(having) else np.empty(0, np.int64)
        return result
