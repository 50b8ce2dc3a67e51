"""The fleet as it is now: columns with one row a site, and the last minute of the whole on one grid of instants."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from cloud.model.telemetry import POINTS, SAMPLES, Array, Frames

TICK_MS: Final = 100
RING_TICKS: Final = 600  # one minute
LATE_MS: Final = 5_000  # without news for longer than this a site is late
SILENT_MS: Final = 30_000
_COUNTERS: Final = ("frames", "gaps", "duplicates", "refused")


class Link(StrEnum):
    """What is heard from a site."""

    NEVER = "never"
    LIVE = "live"
    LATE = "late"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Armed:
    """The frequency service in force at a site, as its control loop acknowledged it."""

    award_id: str
    service_id: str
    contracted_w: int  # magnitude
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Latest:
    """What was last heard, one row a site, by slot. Copies: they do not change later."""

    values: Mapping[str, Array]  # by point: float64 in the point's unit, positive towards the grid; NaN: unknown
    last_seen_ms: Array  # int64: UTC of the newest sample, 0 for none
    frames: Array  # int64: taken since the start of the coordinator
    gaps: Array  # int64: frames missing now, below the newest
    duplicates: Array  # int64: dropped since the start
    refused: Array  # int64: frames and messages that could not be taken, since the start


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the sites that are live."""

    live: int  # sites
    sites: int
    grid_power_w: float  # positive towards the grid
    inverter_power_w: float
    pv_power_w: float
    soc: float  # mean, NaN where none is known
    frequency_hz: float  # mean, NaN where none is known


@dataclass(frozen=True, slots=True)
class LiveSeries:
    """The fleet's last minute, a value every 100 ms, up to the instant all live sites have reported."""

    t_ms: Array  # int64, UTC, multiples of TICK_MS
    grid_power_w: Array  # float64: sum of the sites that reported, NaN where none did
    inverter_power_w: Array  # likewise
    frequency_hz: Array  # float64: mean of the sites that reported, NaN where none did
    sites: Array  # int64: how many reported their inverter's power


class FleetState:
    """Fed by ingest, read by desk and console, all in one event loop. Knows sites by slot."""

    def __init__(self) -> None:
        self._values = np.empty((len(POINTS), 0))
        self._last_seen_ms = np.empty(0, dtype=np.int64)
        self._counters = {name: np.empty(0, dtype=np.int64) for name in _COUNTERS}
        self._armed: dict[int, Armed] = {}
        self._ring = _Ring()

    @property
    def capacity(self) -> int:
        """Rows of the columns; the slots known are below it."""
        return len(self._last_seen_ms)

    def reserve(self, slots: int) -> None:
        """Makes rows for slots 0 to `slots` - 1."""
        more = slots - self.capacity
        if more > 0:
            self._values = np.hstack((self._values, np.full((len(POINTS), more), np.nan)))
            self._last_seen_ms = np.append(self._last_seen_ms, np.zeros(more, dtype=np.int64))
            self._counters = {
                name: np.append(column, np.zeros(more, dtype=np.int64)) for name, column in self._counters.items()
            }

    def update(self, frames: Frames) -> None:
        """Takes new frames in. What is older than what is known of a site leaves its row as it is."""
        if not len(frames):
            return
        self.reserve(int(frames.slot.max()) + 1)
        np.add.at(self._counters["frames"], frames.slot, 1)
        values = frames.values()
        self._ring.add(frames, values)
        newest_ms = frames.t0_ms + frames.interval_ms * (SAMPLES - 1)
        order = np.lexsort((newest_ms, frames.slot))
        slots = frames.slot[order]
        last = order[np.append(slots[1:] != slots[:-1], True)]  # the newest frame of each slot
        last = last[newest_ms[last] > self._last_seen_ms[frames.slot[last]]]
        slots = frames.slot[last]
        self._values[:, slots] = _last_known(values[last]).T
        self._last_seen_ms[slots] = newest_ms[last]

    def count(self, counter: str, slot: Array, number: Array | int = 1) -> None:
        """Adds to "duplicates" or "refused" of the slots; a slot may be named several times."""
        if len(slot):
            self.reserve(int(slot.max()) + 1)
            np.add.at(self._counters[counter], slot, number)

    def set_gaps(self, slot: int, missing: int) -> None:
        self.reserve(slot + 1)
        self._counters["gaps"][slot] = missing

    def set_armed(self, slot: int, armed: Armed | None) -> None:
        if armed is None:
            self._armed.pop(slot, None)
        else:
            self._armed[slot] = armed

    def armed(self, slot: int, now_ms: int) -> Armed | None:
        """The service in force at the site."""
        armed = self._armed.get(slot)
        return armed if armed is not None and now_ms < armed.expires_ms else None

    def link(self, slot: int, now_ms: int) -> Link:
        seen_ms = int(self._last_seen_ms[slot]) if slot < self.capacity else 0
        if seen_ms == 0:
            return Link.NEVER
        age_ms = now_ms - seen_ms
        return Link.LIVE if age_ms <= LATE_MS else Link.LATE if age_ms <= SILENT_MS else Link.SILENT

    def latest(self) -> Latest:
        return Latest(
            {point: self._values[index].copy() for index, point in enumerate(POINTS)},
            self._last_seen_ms.copy(),
            **{name: column.copy() for name, column in self._counters.items()},
        )

    def totals(self, now_ms: int) -> Totals:
        live = self._last_seen_ms >= now_ms - LATE_MS
        values = dict(zip(POINTS, self._values[:, live], strict=True))
        return Totals(
            live=int(live.sum()),
            sites=int((self._last_seen_ms > 0).sum()),
            grid_power_w=float(np.nansum(values["grid_power_w"])),
            inverter_power_w=float(np.nansum(values["inverter_power_w"])),
            pv_power_w=float(np.nansum(values["pv_power_w"])),
            soc=_mean(values["soc"]),
            frequency_hz=_mean(values["frequency_hz"]),
        )

    def live_series(self) -> LiveSeries:
        """The last minute, without the ticks at its end that only some of the live sites have reported."""
        newest_ms = int(self._last_seen_ms.max(initial=0))
        live = self._last_seen_ms[self._last_seen_ms > newest_ms - LATE_MS]
        return self._ring.series(int(live.min()) if newest_ms else 0)


class _Ring:
    """Sums and counts a tick; what falls out of the last minute is forgotten."""

    def __init__(self) -> None:
        self._newest = -1  # tick: UTC in TICK_MS
        self._sums = np.zeros((3, RING_TICKS))
        self._numbers = np.zeros((3, RING_TICKS), dtype=np.int64)

    def add(self, frames: Frames, values: Array) -> None:
        points = [POINTS.index(name) for name in ("grid_power_w", "inverter_power_w", "frequency_hz")]
        for interval_ms in np.unique(frames.interval_ms):
            chosen = frames.interval_ms == interval_ms
            held = max(1, int(interval_ms) // TICK_MS)  # a sample stands for its whole interval
            first = frames.take(chosen).sample_ms() // TICK_MS
            ticks = (first[:, :, None] + np.arange(held)).reshape(-1)
            samples = np.repeat(values[chosen][:, points], held, axis=2).transpose(1, 0, 2).reshape(len(points), -1)
            self._advance(int(ticks.max()))
            recent = ticks > self._newest - RING_TICKS
            for index, sample in enumerate(samples):
                known = recent & ~np.isnan(sample)
                cells = ticks[known] % RING_TICKS
                self._sums[index] += np.bincount(cells, sample[known], RING_TICKS)
                self._numbers[index] += np.bincount(cells, minlength=RING_TICKS)

    def _advance(self, newest: int) -> None:
        """Clears the cells of the ticks that become part of the last minute."""
        fresh = min(newest - self._newest, RING_TICKS)
        if fresh > 0:
            cells = np.arange(newest - fresh + 1, newest + 1) % RING_TICKS
            self._sums[:, cells] = 0.0
            self._numbers[:, cells] = 0
            self._newest = newest

    def series(self, complete_ms: int) -> LiveSeries:
        last = min(self._newest, complete_ms // TICK_MS)
        ticks = np.arange(max(0, self._newest - RING_TICKS + 1), last + 1, dtype=np.int64)
        cells = ticks % RING_TICKS
        numbers = self._numbers[:, cells]
        sums = np.where(numbers > 0, self._sums[:, cells], np.nan)
        return LiveSeries(ticks * TICK_MS, sums[0], sums[1], sums[2] / np.maximum(numbers[2], 1), numbers[1])


def _last_known(values: Array) -> Array:
    """[n, points]: the last sample of each point that is not a hole; NaN where all are."""
    known = ~np.isnan(values)
    last = SAMPLES - 1 - np.argmax(known[:, :, ::-1], axis=2)
    found: Array = np.take_along_axis(values, last[:, :, None], axis=2)[:, :, 0]
    return found


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
