"""Who is in which group, as columns over the registry, for a worker that must find its own sites of a group."""

import json
from collections.abc import Collection, Iterable
from typing import Final

import numpy as np

from cloud.fleet.groups import Groups
from cloud.ingest.owners import partitions
from cloud.model.telemetry import Array
from cloud.store.ledger import Ledger
from protos import subjects

_CHUNK: Final = 2_048  # rows at once: the database makes them all before another thread may go on


class Members:
    """The registry's sites that take part (enrolled, not revoked), at one instant."""

    def __init__(self, ledger: Ledger) -> None:
        """Reads the whole registry. Raises LedgerError."""
        self._mark = ledger.members_mark()
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
        self._parents = ledger.parents()
        self._groups = [frozenset(json.loads(text)) for text in numbers]

    def renewed(self, ledger: Ledger) -> "Members":
        """As they are now: the same object where nothing has changed. Raises LedgerError."""
        same = ledger.members_mark() == self._mark and ledger.parents() == self._parents
        return self if same else Members(ledger)

    def of(self, group: str, within: Collection[int] = range(subjects.PARTITIONS)) -> Array:
        """int64: places in `slots` of the group's sites in these partitions, rising."""
        having = np.array([group in groups for groups in self._groups], dtype=bool)
        if not having.any():
            return np.empty(0, np.int64)
        chosen = having[self._texts]
        if len(within) < subjects.PARTITIONS:
            mine = np.zeros(subjects.PARTITIONS, dtype=bool)
            mine[list(within)] = True
            chosen &= mine[self._partition]
        result: Array = np.flatnonzero(chosen)
        return result

    def groups(self, names: Iterable[str]) -> Groups:
        return Groups({name: self.slots[self.of(name)] for name in names}, self._parents)
