"""Which frames of each site are known: drops what comes twice, counts what is missing, takes what comes late."""

import bisect
from typing import Final

import numpy as np

from cloud.model.telemetry import FIRST_SEQ, Array

_NONE: Final = FIRST_SEQ - 1
_SEQ_BITS: Final = 33  # a frame's number has 32


class Sequences:
    """Frame numbers seen, by slot. A site counts its frames from FIRST_SEQ: what was not seen below is missing.

    A site's frames nearly always come in order; what is missing is held as a sorted list of ranges.
    """

    def __init__(self) -> None:
        self._last = np.empty(0, dtype=np.int64)  # by slot: the highest seen, _NONE: none
        self._gaps: dict[int, list[tuple[int, int]]] = {}  # by slot: first and last of each missing range, ascending
        self._missing = np.empty(0, dtype=np.int64)  # by slot: how many frames the gaps hold

    def restore(self, runs: Array) -> None:
        """Takes frames first..last of a slot as seen, each row of int64 [n, 3]: slot, first, last."""
        if not len(runs):
            return
        runs = _merged(runs)
        self._grow(int(runs[:, 0].max()))
        slot, first, last = runs.T
        alone = np.bincount(slot)[slot] == 1
        plain = alone & (self._last[slot] == _NONE) & (first == FIRST_SEQ)
        self._last[slot[plain]] = last[plain]
        for one in runs[~plain].tolist():
            self._see(*one)

    def runs(self) -> Array:
        """int64 [n, 3] of slot, first and last: everything seen, as `restore` takes it."""
        whole = self._last > _NONE
        whole[np.fromiter(self._gaps, dtype=np.int64, count=len(self._gaps))] = False
        slots = np.flatnonzero(whole)
        pieces = []
        for slot, gaps in self._gaps.items():
            first = FIRST_SEQ
            for gap_first, gap_last in gaps:
                if gap_first > first:
                    pieces.append((slot, first, gap_first - 1))
                first = gap_last + 1
            pieces.append((slot, first, int(self._last[slot])))
        runs = np.empty((len(slots) + len(pieces), 3), dtype=np.int64)  # of a million sites: filled, not put together
        regular = runs[: len(slots)]
        regular[:, 0], regular[:, 1], regular[:, 2] = slots, FIRST_SEQ, self._last[slots]
        runs[len(slots) :] = np.array(pieces, dtype=np.int64).reshape(-1, 3)
        return runs

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
        odd = seqs != before + 1
        new = np.ones(len(slots), dtype=np.bool_)
        regular = np.append(starts[1:], True)  # the last frame of each slot
        if odd.any():
            one_by_one = np.isin(slots, slots[odd])
            regular &= ~one_by_one
            for index in np.flatnonzero(one_by_one).tolist():
                number = int(seqs[index])
                new[index] = self._see(int(slots[index]), number, number)
        self._last[slots[regular]] = seqs[regular]
        admitted = np.empty_like(new)
        admitted[order] = new
        return admitted

    def excuse(self, slot: int, first: int, last: int) -> None:
        """Misses frames first..last of the slot no more: they will never come."""
        self._grow(slot)
        self._see(slot, first, last)

    def last(self, slot: int) -> int:
        """The highest number seen of the slot, FIRST_SEQ - 1 for none."""
        return int(self._last[slot]) if slot < len(self._last) else _NONE

    def missing(self, slots: Array) -> Array:
        """How many frames below the highest were not seen, of slots that were named before."""
        counts: Array = self._missing[slots]
        return counts

    def _grow(self, slot: int) -> None:
        more = slot + 1 - len(self._last)
        if more > 0:
            more = max(more, len(self._last) // 8)
            self._last = np.append(self._last, np.full(more, _NONE, dtype=np.int64))
            self._missing = np.append(self._missing, np.zeros(more, dtype=np.int64))

    def _see(self, slot: int, first: int, last: int) -> bool:
        """Notes first..last as seen; whether any of them was new."""
        highest = int(self._last[slot])
        gaps = self._gaps.get(slot)
        if gaps is None:
            if first == highest + 1:
                self._last[slot] = last
                return True
            if last <= highest:
                return False
            gaps = self._gaps[slot] = []
        new = False
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
        self._missing[slot] = sum(gap_last - gap_first + 1 for gap_first, gap_last in gaps)
        if not gaps:
            del self._gaps[slot]
        return new


def _merged(runs: Array) -> Array:
    """Runs that touch or overlap as one, by slot and first."""
    slot, first, last = runs[np.lexsort((runs[:, 1], runs[:, 0]))].T
    reach = np.maximum.accumulate(slot << _SEQ_BITS | last)  # of the slot's runs up to here
    begins = np.ones(len(slot), dtype=np.bool_)
    begins[1:] = (slot[1:] << _SEQ_BITS | first[1:]) > reach[:-1] + 1
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(slot)) - 1
    return np.column_stack((slot[starts], first[starts], reach[ends] & ((1 << _SEQ_BITS) - 1)))
