"""Who may speak for which slot: what a subject says against what stands in the registry."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from cloud.ingest.reader import name_of
from cloud.model.telemetry import Array
from cloud.store.ledger import Ledger
from protos import subjects

NOBODY: Final = -1
_PARTITION_BITS: Final = 8
_NO_PARTITION: Final = (1 << _PARTITION_BITS) - 1
_STRANGERS_MS: Final = 1000  # how long an unknown name stays unknown without another look
_REFRESH_MS: Final = 5000  # likewise the registry as a whole
_CHUNK: Final = 65_536
_MOST_KNOWN: Final = 200_000  # subjects kept at hand


class Owners:
    """The registry's sites by slot, as columns that are filled as sites appear."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._partition = np.empty(0, dtype=np.uint8)  # by slot; _NO_PARTITION: no such site
        self._behind = np.empty(0, dtype=np.int32)  # by slot: of the concentrator that may speak for it, or NOBODY
        self._slots: dict[str, int] = {}  # by name, of those that speak for themselves
        self._known: dict[bytes, int] = {}  # by subject: the speaker's slot and the partition it named, see _coded
        self._refreshed_ms = 0
        self._strangers: dict[bytes, int] = {}  # by subject: when it was found to be one

    def refresh(self) -> None:
        """Takes in what was added to the registry. Raises LedgerError."""
        for rows in self._ledger.slots_from(len(self._partition), _CHUNK):
            slots = np.array([slot for _, slot, _ in rows], dtype=np.int64)
            self._slots.update((site, slot) for site, slot, concentrator in rows if concentrator is None)
            more = int(slots.max()) + 1 - len(self._partition)
            self._partition = np.append(self._partition, np.full(more, _NO_PARTITION, dtype=np.uint8))
            self._behind = np.append(self._behind, np.full(more, NOBODY, dtype=np.int32))
            self._partition[slots] = partitions([site for site, *_ in rows])
        behind = np.array(self._ledger.concentrated(), dtype=np.int64).reshape(-1, 2)
        self._behind[:] = NOBODY
        self._behind[behind[:, 0]] = behind[:, 1]

    def is_among(self, slot: int, partitions: range) -> bool:
        """Whether the slot's site is in one of the partitions. Raises LedgerError."""
        if slot >= len(self._partition):
            self.refresh()
        return slot < len(self._partition) and int(self._partition[slot]) in partitions

    def speakers(self, of: Sequence[bytes], now_ms: int) -> tuple[Array, Array]:
        """int64 by subject: the slot of the one whose subject it is, NOBODY for a stranger; and the partition it names.

        Raises LedgerError.
        """
        found = list(map(self._known.get, of))
        if None in found:
            found = [
                self._look_up(subject, now_ms) if code is None else code
                for subject, code in zip(of, found, strict=True)
            ]
        codes = np.array(found, dtype=np.int64)
        return codes >> _PARTITION_BITS, codes & _NO_PARTITION

    def may_speak(self, slot: Array, speaker: Array, now_ms: int) -> Array:
        """Which frames' slots belong to their speakers, or to a site that is behind it. Raises LedgerError."""
        allowed = self._may_speak(slot, speaker)
        if not allowed.all() and now_ms - self._refreshed_ms >= _REFRESH_MS:  # the registry may know by now
            self._refreshed_ms = now_ms
            self.refresh()
            allowed = self._may_speak(slot, speaker)
        return allowed

    def _may_speak(self, slot: Array, speaker: Array) -> Array:
        inside = slot < len(self._partition)
        behind = self._behind[np.where(inside, slot, 0)] if len(self._behind) else np.full(len(slot), NOBODY)
        allowed: Array = inside & (speaker != NOBODY) & ((slot == speaker) | (behind == speaker))
        return allowed

    def in_partition(self, slot: Array, partition: Array) -> Array:
        """Which frames came in the partition of their site. For slots that may be spoken for."""
        same: Array = self._partition[slot] == partition
        return same

    def _look_up(self, subject: bytes, now_ms: int) -> int:
        """The speaker of a subject that was not met before, and the partition, as one number."""
        *_, partition, name = name_of(subject).rsplit(".", 2)
        number = int(partition) if partition.isdecimal() and len(partition) <= 2 else _NO_PARTITION
        if now_ms - self._strangers.get(subject, -_STRANGERS_MS) < _STRANGERS_MS:
            return _coded(NOBODY, number)
        slot = self._slots.get(name)
        if slot is None:  # added since, or speaks although it is behind a concentrator
            site = self._ledger.site(name)
            if site is None:
                if len(self._strangers) >= _CHUNK:
                    self._strangers.clear()
                self._strangers[subject] = now_ms
                return _coded(NOBODY, number)
            slot = site.slot
            if slot >= len(self._partition):
                self.refresh()
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[subject] = code = _coded(slot, number)
        return code


def _coded(slot: int, partition: int) -> int:
    return slot << _PARTITION_BITS | partition


def partitions(sites: list[str]) -> Array:
    """uint8: protos.subjects.partition of each name, many at once."""
    names = np.array([site.encode() for site in sites])
    letters = names.view(np.uint8).reshape(len(names), -1)
    value = np.full(len(names), 2166136261, dtype=np.uint32)
    for column in letters.T:
        more = column != 0
        value = np.where(more, (value ^ column) * np.uint32(16777619), value)
    return (value % subjects.PARTITIONS).astype(np.uint8)
