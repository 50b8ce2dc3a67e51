"""What each site would do at which price: the fleet's supply functions as columns, one a site.

160 bytes a site: 16 breakpoints of a tick and a power, bounds, energy, and when it was told and runs out.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from cloud.dispatch.prices import Array, PriceGrid
from cloud.dispatch.rows import Rows, usable
from protos.vpp.v1 import supply_pb2

BREAKPOINTS: Final = 16
AHEAD_MS: Final = 10_000  # a site's clock may be off by so much
_LONGEST_S: Final = 86_400
_LATEST_MS: Final = 2**62  # an instant beyond it is this one: 64 bits without a sign do not fit the columns
_TAGS: Final = (0x0D, 0x15, 0x19, 0x25, 0x2D, 0x35, 0x3D, 0x45)
_HEAD: Final = 44  # bytes before the breakpoints, where no field is zero and none is left out


class Cause(StrEnum):
    """Why a report was not taken."""

    NOT_ONE = "not a supply function"
    OWNER = "the subject does not own the slot"
    POINTS = "no breakpoints, more than 16, or not as many prices as powers"
    FALLS = "prices or powers fall, or a price is off the grid"
    BOUNDS = "the lower bound is above the upper one, or a power is outside of them"
    INSTANT = "told in the future, or valid for no time or more than a day"
    OLD = "not newer than the one before"


@dataclass(frozen=True, slots=True)
class _Reports:
    """Fields of n reports."""

    index: Array  # int64: of the message
    head: Array  # int64 [n, 8]: site, seq, at_ms, valid_s, lower_w, upper_w, energy_up_wh, energy_down_wh
    ticks: Array  # int64 [n, BREAKPOINTS], from the grid's first; short ones repeat their last
    power_w: Array  # int64 [n, BREAKPOINTS]


class SupplyColumns:
    """Fed by the worker that reads `vpp.sup.*`, read by who sums up, in one event loop.

    A site's function is another one when its `seq` is.
    """

    def __init__(self, grid: PriceGrid) -> None:
        self.grid = grid
        self.rows = Rows.empty(0, BREAKPOINTS)
        self.seq = np.empty(0, np.int64)
        self.until_ms = np.empty(0, np.int64)  # UTC; 0: none was ever told
        self.lower_w = np.empty(0, np.int32)
        self.upper_w = np.empty(0, np.int32)
        self.energy_up_wh = np.empty(0, np.uint32)
        self.energy_down_wh = np.empty(0, np.uint32)
        self.refused: Counter[Cause] = Counter()

    @property
    def capacity(self) -> int:
        return len(self.seq)

    @property
    def bytes_per_site(self) -> float:
        columns = (self.seq, self.until_ms, self.lower_w, self.upper_w, self.energy_up_wh, self.energy_down_wh)
        total = self.rows.ticks.nbytes + self.rows.power_w.nbytes + sum(column.nbytes for column in columns)
        return total / max(1, self.capacity)

    def reserve(self, slots: int) -> None:
        """Makes columns for slots 0 to `slots` - 1."""
        more = slots - self.capacity
        if more <= 0:
            return
        more = max(more, self.capacity // 8)  # each time a part of what there is, so that growing stays cheap
        empty = Rows.empty(more, BREAKPOINTS)
        self.rows = Rows(np.hstack((self.rows.ticks, empty.ticks)), np.hstack((self.rows.power_w, empty.power_w)))
        for name in ("seq", "until_ms", "lower_w", "upper_w", "energy_up_wh", "energy_down_wh"):
            column = getattr(self, name)
            setattr(self, name, np.append(column, np.zeros(more, column.dtype)))

    def in_force(self, now_ms: int) -> Array:
        """bool [capacity]: which sites have a function that may be used now."""
        result: Array = self.until_ms > now_ms
        return result

    def update(self, owner: Array, messages: Sequence[bytes], now_ms: int) -> int:
        """Takes reports in; how many. owner: int64, the slot that each message's subject belongs to.

        What is no supply function is counted by cause and changes nothing: one would spoil the sum of all.
        """
        taken = 0
        for reports in _decode(messages, self.grid, self.refused):
            taken += self._take(reports, owner[reports.index], now_ms)
        return taken

    def _take(self, reports: _Reports, owner: Array, now_ms: int) -> int:
        head = reports.head
        self.reserve(int(owner.max(initial=-1)) + 1)
        at_ms, valid_s, lower_w, upper_w = head[:, 2], head[:, 3], head[:, 4], head[:, 5]
        rows = Rows(reports.ticks.T, reports.power_w.T)
        outside = (reports.power_w[:, 0] < lower_w) | (reports.power_w[:, -1] > upper_w)
        good = np.ones(len(owner), dtype=bool)
        for cause, wrong in (
            (Cause.OWNER, head[:, 0] != owner),
            (Cause.FALLS, ~usable(rows, self.grid)),
            (Cause.BOUNDS, (lower_w > upper_w) | outside),
            (Cause.INSTANT, (at_ms > now_ms + AHEAD_MS) | (valid_s == 0) | (valid_s > _LONGEST_S)),
        ):
            self.refused[cause] += int((good & wrong).sum())
            good &= ~wrong
        good[good] = self._newest(owner[good], head[good, 1], np.flatnonzero(good))
        chosen = np.flatnonzero(good)
        slots = owner[chosen]
        self.rows.ticks[:, slots] = reports.ticks[chosen].T
        self.rows.power_w[:, slots] = reports.power_w[chosen].T
        self.seq[slots] = head[chosen, 1]
        self.until_ms[slots] = at_ms[chosen] + 1000 * valid_s[chosen]
        self.lower_w[slots], self.upper_w[slots] = lower_w[chosen], upper_w[chosen]
        self.energy_up_wh[slots], self.energy_down_wh[slots] = head[chosen, 6], head[chosen, 7]
        return len(chosen)

    def _newest(self, slots: Array, seq: Array, order: Array) -> Array:
        """bool: which of the reports are newer than what is kept, and the newest of theirs."""
        newer = seq > self.seq[slots]
        rank = np.lexsort((order, seq, slots))
        last = np.zeros(len(slots), dtype=bool)
        last[rank] = np.append(slots[rank][1:] != slots[rank][:-1], True) if len(slots) else []
        self.refused[Cause.OLD] += int((~newer).sum())
        result: Array = newer & last
        return result


def _decode(messages: Sequence[bytes], grid: PriceGrid, refused: Counter[Cause]) -> list[_Reports]:
    """Reports whose every field is there are records of one length for each number of breakpoints, and are read
    together; any other legal encoding by the protobuf parser."""
    by_length: dict[int, list[int]] = {}
    for index, data in enumerate(messages):
        by_length.setdefault(len(data), []).append(index)
    found, parsed = [], []
    for length, indices in by_length.items():
        count, rest = divmod(length - _HEAD - 4, 8)
        if rest or not 1 <= count <= BREAKPOINTS:
            parsed += indices
            continue
        table = np.frombuffer(b"".join(messages[i] for i in indices), dtype=_record(count))
        plain = np.ones(len(table), dtype=bool)
        for number, tag in enumerate(_TAGS):
            plain &= table[f"tag{number}"] == tag
        for name, tag in (("ticks_tag", 0x4A), ("power_tag", 0x52)):
            plain &= (table[name][:, 0] == tag) & (table[name][:, 1] == 4 * count)
        parsed += [indices[i] for i in np.flatnonzero(~plain).tolist()]
        chosen = np.flatnonzero(plain)
        head = np.stack([table[f"field{number}"][chosen].astype(np.int64) for number in range(8)], axis=1)
        head[:, 2] = np.minimum(table["field2"][chosen], np.uint64(_LATEST_MS))
        ticks, power_w = table["ticks"][chosen], table["power"][chosen]
        found.append(_Reports(np.array(indices)[chosen], head, *_filled(ticks, power_w, grid)))
    for index in parsed:
        if (one := _parse(messages[index], index, grid, refused)) is not None:
            found.append(one)
    return found


def _record(count: int) -> np.dtype[np.void]:
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for number, kind in enumerate(("<u4", "<u4", "<u8", "<u4", "<i4", "<i4", "<u4", "<u4")):
        fields += [(f"tag{number}", "u1"), (f"field{number}", kind)]
    fields += [("ticks_tag", "u1", (2,)), ("ticks", "<i4", (count,))]
    fields += [("power_tag", "u1", (2,)), ("power", "<i4", (count,))]
    return np.dtype(fields)


def _filled(ticks: Array, power_w: Array, grid: PriceGrid) -> tuple[Array, Array]:
    """[n, BREAKPOINTS], the last one repeated."""
    last = np.minimum(np.arange(BREAKPOINTS), ticks.shape[1] - 1)
    return ticks[:, last].astype(np.int64) - grid.first, power_w[:, last].astype(np.int64)


def _parse(data: bytes, index: int, grid: PriceGrid, refused: Counter[Cause]) -> _Reports | None:
    try:
        one = supply_pb2.SupplyFunction.FromString(data)
    except DecodeError:
        refused[Cause.NOT_ONE] += 1
        return None
    if not 1 <= len(one.ticks) == len(one.power_w) <= BREAKPOINTS:
        refused[Cause.POINTS] += 1
        return None
    head = [one.site, one.seq, min(one.at_ms, _LATEST_MS), one.valid_s, one.lower_w, one.upper_w]
    ticks, power_w = np.array([one.ticks]), np.array([one.power_w])
    return _Reports(
        np.array([index]),
        np.array([[*head, one.energy_up_wh, one.energy_down_wh]], dtype=np.int64),
        *_filled(ticks, power_w, grid),
    )
