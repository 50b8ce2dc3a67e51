"""Which frames of each site are known: drops what comes twice, counts what is missing, takes what comes late."""

import bisect
from collections.abc import Iterable

import numpy as np

from cloud.model.telemetry import FIRST_SEQ, Array


class Sequences:
    """Frame numbers seen, by slot. A site counts its frames from FIRST_SEQ: what was not seen below is missing.

    A site's frames nearly always come in order; what is missing is held as a sorted list of ranges.
    """

    def __init__(self) -> None:
        self._last = np.empty(0, dtype=np.int64)  # by slot: the highest seen, -1: none
        self._missing: dict[int, list[tuple[int, int]]] = {}  # by slot: first and last of each range, ascending

    def restore(self, runs: Iterable[tuple[int, int, int]]) -> None:
        """Takes frames first..last of a slot as seen."""
        for slot, first, last in runs:
            self._grow(slot)
            self._see(slot, first, last)

    def admit(self, slot: Array, seq: Array) -> Array:
        """Which of these frames, in the order received, are new. They are known from now on."""
        if not len(slot):
            return np.empty(0, dtype=np.bool_)
        self._grow(int(slot.max()))
        order = np.argsort(slot, kind="stable")
        slots, seqs = slot[order], seq[order]
        starts = np.ones(len(slots), dtype=np.bool_)
        starts[1:] = slots[1:] != slots[:-1]
        before = np.empty_like(seqs)
        before[1:] = seqs[:-1]
        before[starts] = self._last[slots[starts]]
        irregular = np.unique(slots[seqs != before + 1])
        new = np.ones(len(slots), dtype=np.bool_)
        one_by_one = np.isin(slots, irregular)
        regular = np.append(starts[1:], True) & ~one_by_one  # the last frame of each slot
        self._last[slots[regular]] = seqs[regular]
        for index in np.flatnonzero(one_by_one):
            number = int(seqs[index])
            new[index] = self._see(int(slots[index]), number, number)
        admitted = np.empty_like(new)
        admitted[order] = new
        return admitted

    def last(self, slot: int) -> int:
        """The highest number seen of the slot, -1 for none."""
        return int(self._last[slot]) if slot < len(self._last) else -1

    def missing(self, slot: int) -> int:
        """How many frames below the highest were not seen."""
        return sum(max(0, last - max(first, FIRST_SEQ) + 1) for first, last in self._missing.get(slot, ()))

    def _grow(self, slot: int) -> None:
        if slot >= len(self._last):
            grown = np.full(max(slot + 1, 2 * len(self._last)), -1, dtype=np.int64)
            grown[: len(self._last)] = self._last
            self._last = grown

    def _see(self, slot: int, first: int, last: int) -> bool:
        """Notes first..last as seen; whether any of them was new."""
        missing = self._missing.setdefault(slot, [])
        new = False
        highest = int(self._last[slot])
        if last > highest:
            if first > highest + 1:
                missing.append((highest + 1, first - 1))
            self._last[slot] = last
            new = True
        index = bisect.bisect_left(missing, first, key=lambda gap: gap[1])
        while index < len(missing) and missing[index][0] <= last:
            gap_first, gap_last = missing.pop(index)
            if last < gap_last:
                missing.insert(index, (last + 1, gap_last))
            if gap_first < first:
                missing.insert(index, (gap_first, first - 1))
                index += 1
            if last < gap_last:
                index += 1
            new = new or max(gap_first, first) <= min(gap_last, last)
        if not missing:
            del self._missing[slot]
        return new
