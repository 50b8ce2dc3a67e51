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
        self._gaps: dict[int, list[tuple[int, int]]] = {}  # by slot: first and last of each missing range, ascending
        self._missing = np.empty(0, dtype=np.int64)  # by slot: how many frames the gaps hold

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

    def missing(self, slots: Array) -> Array:
        """How many frames below the highest were not seen, of slots that were named before."""
        counts: Array = self._missing[slots]
        return counts

    def _grow(self, slot: int) -> None:
        more = slot + 1 - len(self._last)
        if more > 0:
            more = max(more, len(self._last))
            self._last = np.append(self._last, np.full(more, -1, dtype=np.int64))
            self._missing = np.append(self._missing, np.zeros(more, dtype=np.int64))

    def _see(self, slot: int, first: int, last: int) -> bool:
        """Notes first..last as seen; whether any of them was new."""
        gaps = self._gaps.setdefault(slot, [])
        new = False
        highest = int(self._last[slot])
        if last > highest:
            if first > highest + 1:
                gaps.append((highest + 1, first - 1))
            self._last[slot] = last
            new = True
        index = bisect.bisect_left(gaps, first, key=lambda gap: gap[1])
        while index < len(gaps) and gaps[index][0] <= last:
            gap_first, gap_last = gaps.pop(index)
            if last < gap_last:
                gaps.insert(index, (last + 1, gap_last))
            if gap_first < first:
                gaps.insert(index, (gap_first, first - 1))
                index += 1
            if last < gap_last:
                index += 1
            new = new or max(gap_first, first) <= min(gap_last, last)
        self._missing[slot] = sum(gap_last - max(gap_first, FIRST_SEQ) + 1 for gap_first, gap_last in gaps)
        if not gaps:
            del self._gaps[slot]
        return new
