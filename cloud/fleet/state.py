"""The fleet as it is now: columns with one row a site, and the last minute of the whole on one grid of instants."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.model.telemetry import POINTS, SAMPLES, Array, Frames

TICK_MS: Final = 100
RING_TICKS: Final = 600  # one minute
AHEAD_MS: Final = 10_000  # a site's clock may be off by so much
BRIDGED_MS: Final = 1000  # holes up to so long do not dent the sums
_COUNTERS: Final = ("frames", "gaps", "duplicates", "refused")


@dataclass(frozen=True, slots=True)
class FleetSlots:
    """The fleet's last minute: a row every 100 ms, oldest first, none left out."""

    utc_ms: Array  # int64, multiples of TICK_MS
    sites: Array  # int64: how many have reported for the instant
    grid_power_w: Array  # float64: sum over those, positive towards the grid; NaN where nobody measured; see _bridged
    inverter_power_w: Array  # likewise
    frequency_hz: Array  # float64: mean over those; NaN where nobody measured


class FleetState:
    """Fed by ingest, read by desk and console, all in one event loop.

    Columns are by slot, with a NaN where nothing is known; they change with every update: copy what is to stay.
    """

    def __init__(self) -> None:
        self._values = np.empty((len(POINTS), 0))
        self._last_seen_ms = np.empty(0, dtype=np.int64)
        self._counters = {name: np.empty(0, dtype=np.int64) for name in _COUNTERS}
        self._ring = _Ring()

    @property
    def capacity(self) -> int:
        """Rows of the columns; the slots known are below it."""
        return len(self._last_seen_ms)

    @property
    def grid_power_w(self) -> Array:
        """float64: at the grid meter, positive towards the grid."""
        return self._column("grid_power_w")

    @property
    def inverter_power_w(self) -> Array:
        """float64: at the inverter's AC terminals, positive towards the grid."""
        return self._column("inverter_power_w")

    @property
    def soc(self) -> Array:
        """float64: state of charge, 0..1."""
        return self._column("soc")

    @property
    def frequency_hz(self) -> Array:
        return self._column("frequency_hz")

    @property
    def voltage_v(self) -> Array:
        return self._column("voltage_v")

    @property
    def pv_power_w(self) -> Array:
        """float64: DC, positive when generating."""
        return self._column("pv_power_w")

    @property
    def last_seen_ms(self) -> Array:
        """int64: UTC of the newest sample, 0 for none."""
        return self._last_seen_ms

    @property
    def frames(self) -> Array:
        """int64: taken since the start of the coordinator."""
        return self._counters["frames"]

    @property
    def gaps(self) -> Array:
        """int64: frames missing now, below the newest."""
        return self._counters["gaps"]

    @property
    def duplicates(self) -> Array:
        """int64: dropped since the start, because they were known."""
        return self._counters["duplicates"]

    @property
    def refused(self) -> Array:
        """int64: what could not be taken since the start, by the site that sent it."""
        return self._counters["refused"]

    def reserve(self, slots: int) -> None:
        """Makes rows for slots 0 to `slots` - 1."""
        more = slots - self.capacity
        if more > 0:
            self._values = np.hstack((self._values, np.full((len(POINTS), more), np.nan)))
            self._last_seen_ms = np.append(self._last_seen_ms, np.zeros(more, dtype=np.int64))
            self._counters = {
                name: np.append(column, np.zeros(more, dtype=np.int64)) for name, column in self._counters.items()
            }

    def update(self, frames: Frames, now_ms: int) -> None:
        """Takes new frames in. What is older than what is known of a site leaves its row as it is.

        Frames from the future are only counted: one site with a wrong clock must not hide the others, nor what it
        sends when its clock is right again.
        """
        if not len(frames):
            return
        self.reserve(int(frames.slot.max()) + 1)
        np.add.at(self._counters["frames"], frames.slot, 1)
        credible = frames.sample_ms()[:, -1] <= now_ms + AHEAD_MS
        if not credible.all():
            frames = frames.take(credible)
            if not len(frames):
                return
        values = frames.values()
        self._ring.add(frames, values)
        newest_ms = frames.sample_ms()[:, -1]
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

    def set_gaps(self, slot: Array, missing: Array) -> None:
        self.reserve(int(slot.max(initial=-1)) + 1)
        self._counters["gaps"][slot] = missing

    def recent(self, after_ms: int) -> FleetSlots:
        """Instants after `after_ms`, as far back as they are kept. Sites may still report for the newest ones."""
        return self._ring.after(after_ms)

    def _column(self, point: str) -> Array:
        column: Array = self._values[POINTS.index(point)]
        column.flags.writeable = False
        return column


class _Ring:
    """Sums and counts a tick; what falls out of the last minute is forgotten."""

    _POINTS = ("grid_power_w", "inverter_power_w", "frequency_hz")

    def __init__(self) -> None:
        self._newest = -1  # tick: UTC in TICK_MS
        self._sums = np.zeros((len(self._POINTS), RING_TICKS))
        self._known = np.zeros((len(self._POINTS), RING_TICKS), dtype=np.int64)  # sites with a value
        self._sites = np.zeros(RING_TICKS, dtype=np.int64)  # sites with a frame

    def add(self, frames: Frames, values: Array) -> None:
        rows = [POINTS.index(name) for name in self._POINTS]
        for interval_ms in np.unique(frames.interval_ms):
            chosen = frames.interval_ms == interval_ms
            held = max(1, int(interval_ms) // TICK_MS)  # a sample stands for its whole interval
            first = frames.take(chosen).sample_ms() // TICK_MS
            ticks = (first[:, :, None] + np.arange(held)).reshape(-1)
            bridged = _bridged(values[chosen][:, rows], max(1, BRIDGED_MS // int(interval_ms)))
            samples = np.repeat(bridged, held, axis=2).transpose(1, 0, 2).reshape(len(rows), -1)
            self._advance(int(ticks.max()))
            recent = ticks > self._newest - RING_TICKS
            self._sites += np.bincount(ticks[recent] % RING_TICKS, minlength=RING_TICKS)
            for index, sample in enumerate(samples):
                known = recent & ~np.isnan(sample)
                cells = ticks[known] % RING_TICKS
                self._sums[index] += np.bincount(cells, sample[known], RING_TICKS)
                self._known[index] += np.bincount(cells, minlength=RING_TICKS)

    def _advance(self, newest: int) -> None:
        """Clears the cells of the ticks that become part of the last minute."""
        fresh = min(newest - self._newest, RING_TICKS)
        if fresh > 0:
            cells = np.arange(newest - fresh + 1, newest + 1) % RING_TICKS
            self._sums[:, cells] = 0.0
            self._known[:, cells] = 0
            self._sites[cells] = 0
            self._newest = newest

    def after(self, after_ms: int) -> FleetSlots:
        oldest = max(0, self._newest - RING_TICKS + 1, after_ms // TICK_MS + 1)
        ticks = np.arange(oldest, self._newest + 1, dtype=np.int64)
        cells = ticks % RING_TICKS
        known = self._known[:, cells]
        sums = np.where(known > 0, self._sums[:, cells], np.nan)
        return FleetSlots(ticks * TICK_MS, self._sites[cells], sums[0], sums[1], sums[2] / np.maximum(known[2], 1))


def _bridged(values: Array, most: int) -> Array:
    """[n, points, samples]: a hole takes the frame's nearest known value, if that is at most `most` samples away.

    A site that misses one cycle still delivers: in a sum over sites its hole would look like a loss of power.
    """
    known = ~np.isnan(values)
    if known.all():
        return values
    samples = np.arange(values.shape[2])
    before = np.maximum.accumulate(np.where(known, samples, -SAMPLES), axis=2)
    after = np.minimum.accumulate(np.where(known, samples, 2 * SAMPLES)[:, :, ::-1], axis=2)[:, :, ::-1]
    nearest = np.where(samples - before <= after - samples, before, after)
    near = np.abs(nearest - samples) <= most
    bridged: Array = np.where(
        near, np.take_along_axis(values, np.clip(nearest, 0, values.shape[2] - 1), axis=2), np.nan
    )
    return bridged


def _last_known(values: Array) -> Array:
    """[n, points]: the last sample of each point that is not a hole; NaN where all are."""
    known = ~np.isnan(values)
    last = SAMPLES - 1 - np.argmax(known[:, :, ::-1], axis=2)
    found: Array = np.take_along_axis(values, last[:, :, None], axis=2)[:, :, 0]
    return found
