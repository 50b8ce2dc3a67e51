"""The fleet as it is now: columns with one row a site, and the last minute of the whole on one grid of instants."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.model.telemetry import FLEXIBLE_POINTS, FLEXIBLE_SCALES, HOLE, POINTS, SAMPLES, SCALES, Array, Frames

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
        self._flexible = np.empty((len(FLEXIBLE_POINTS), 0))
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
    def ev_power_w(self) -> Array:
        """float64: of a site's chargers, positive towards the grid; NaN where it has nothing flexible."""
        return self._flexible_column("ev_power_w")

    @property
    def flexible_load_power_w(self) -> Array:
        """float64: of a site's loads that can wait, positive towards the grid; NaN where it has nothing flexible."""
        return self._flexible_column("flexible_load_power_w")

    @property
    def ev_session_wh(self) -> Array:
        """float64: into the vehicles that stand at a site, since they came."""
        return self._flexible_column("ev_session_wh")

    @property
    def ev_connected(self) -> Array:
        """float64: how many vehicles stand at a site."""
        return self._flexible_column("ev_connected")

    @property
    def steered_power_w(self) -> Array:
        """float64: what a site's supply function is about: its inverter, chargers and loads that can wait, together.

        A site without an inverter has its chargers and loads; NaN where nothing of it is known.
        """
        flexible = self._flexible[FLEXIBLE_POINTS.index("ev_power_w")]
        flexible = flexible + self._flexible[FLEXIBLE_POINTS.index("flexible_load_power_w")]
        inverter = self._values[POINTS.index("inverter_power_w")]
        both: Array = np.where(np.isnan(flexible), inverter, np.nan_to_num(inverter) + flexible)
        both.flags.writeable = False
        return both

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
            self._flexible = np.hstack((self._flexible, np.full((len(FLEXIBLE_POINTS), more), np.nan)))
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
        newest_ms = frames.last_ms()
        credible = newest_ms <= now_ms + AHEAD_MS
        if not credible.all():
            frames, newest_ms = frames.take(credible), newest_ms[credible]
            if not len(frames):
                return
        counts = frames.counts
        self._ring.add(frames.t0_ms, frames.interval_ms, counts)
        order = np.lexsort((newest_ms, frames.slot))
        slots = frames.slot[order]
        last = order[np.append(slots[1:] != slots[:-1], True)]  # the newest frame of each slot
        last = last[newest_ms[last] > self._last_seen_ms[frames.slot[last]]]
        slots = frames.slot[last]
        self._values[:, slots] = _last_known(counts[last], SCALES).T
        if frames.flexible is not None:
            self._flexible[:, slots] = _last_known(frames.flexible[last], FLEXIBLE_SCALES).T
        self._last_seen_ms[slots] = newest_ms[last]

    def count(self, counter: str, slot: Array, number: Array | int = 1) -> None:
        """Adds to "duplicates" or "refused" of the slots; a slot may be named several times."""
        if len(slot):
            self.reserve(int(slot.max()) + 1)
            np.add.at(self._counters[counter], slot, number)

    def set_gaps(self, slot: Array, missing: Array) -> None:
        """How many frames are missing of the slots; a slot may be named several times."""
        self.reserve(int(slot.max(initial=-1)) + 1)
        self._counters["gaps"][slot] = missing

    def recent(self, after_ms: int) -> FleetSlots:
        """Instants after `after_ms`, as far back as they are kept. Sites may still report for the newest ones."""
        return self._ring.after(after_ms)

    def _flexible_column(self, point: str) -> Array:
        column: Array = self._flexible[FLEXIBLE_POINTS.index(point)]
        column.flags.writeable = False
        return column

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

    def add(self, t0_ms: Array, interval_ms: Array, counts: Array) -> None:
        """Samples of frames: counts int32 [n, points, samples]."""
        wanted = counts[:, [POINTS.index(name) for name in self._POINTS]]
        for interval in np.unique(interval_ms):
            chosen = interval_ms == interval
            if chosen.all():
                self._add_alike(t0_ms, int(interval), wanted)
            else:
                self._add_alike(t0_ms[chosen], int(interval), wanted[chosen])

    def _add_alike(self, t0_ms: Array, interval_ms: int, counts: Array) -> None:
        """Sums by sample instant first: a sample stands for its whole interval, which may be many ticks."""
        held = max(1, interval_ms // TICK_MS)
        first = t0_ms // (TICK_MS * held)  # in intervals
        newest = int(first.max()) + SAMPLES - 1
        self._advance((newest + 1) * held - 1)
        oldest = (self._newest - RING_TICKS) // held + 1
        recent = first + SAMPLES > oldest
        if not recent.all():
            first, counts = first[recent], counts[recent]
        if not len(first):
            return
        counts = _bridged(counts, max(1, BRIDGED_MS // interval_ms))
        number = newest - oldest + SAMPLES
        # Those before `oldest` go into cells in front, which are cut off.
        cells = ((first - oldest + SAMPLES - 1)[:, None] + np.arange(SAMPLES)).ravel()
        ticks = np.arange(oldest * held, (newest + 1) * held)
        inside = ticks > self._newest - RING_TICKS
        ring = ticks[inside] % RING_TICKS

        def spread(summed: Array) -> Array:
            return np.repeat(summed[SAMPLES - 1 :], held)[inside]

        self._sites[ring] += spread(np.bincount(cells, minlength=number))
        for index, (point, column) in enumerate(zip(self._POINTS, counts.transpose(1, 0, 2), strict=True)):
            column = column.ravel()
            known = column != HOLE
            if known.all():
                where, column_known = cells, column
            else:
                where, column_known = cells[known], column[known]
            scale = SCALES[POINTS.index(point)]
            self._sums[index, ring] += scale * spread(np.bincount(where, column_known, number))
            self._known[index, ring] += spread(np.bincount(where, minlength=number))

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


def _bridged(counts: Array, most: int) -> Array:
    """[n, points, samples]: a hole takes the frame's nearest known count, if that is at most `most` samples away.

    A site that misses one cycle still delivers: in a sum over sites its hole would look like a loss of power.
    """
    with_holes = (counts == HOLE).any(axis=(1, 2))
    if not with_holes.any():
        return counts
    some = counts[with_holes]
    known = some != HOLE
    samples = np.arange(SAMPLES)
    before = np.maximum.accumulate(np.where(known, samples, -SAMPLES), axis=2)
    after = np.minimum.accumulate(np.where(known, samples, 2 * SAMPLES)[:, :, ::-1], axis=2)[:, :, ::-1]
    nearest = np.where(samples - before <= after - samples, before, after)
    near = np.abs(nearest - samples) <= most
    bridged: Array = counts.copy()
    bridged[with_holes] = np.where(near, np.take_along_axis(some, np.clip(nearest, 0, SAMPLES - 1), axis=2), HOLE)
    return bridged


def _last_known(counts: Array, scales: Array) -> Array:
    """float64 [n, points]: the last sample of each point that is not a hole, in its unit; NaN where all are."""
    last = counts[:, :, -1]
    hidden = last == HOLE
    if hidden.any():
        index = SAMPLES - 1 - np.argmax((counts != HOLE)[:, :, ::-1], axis=2)
        last = np.take_along_axis(counts, index[:, :, None], axis=2)[:, :, 0]
    values: Array = last * scales
    if hidden.any():
        values[last == HOLE] = np.nan
    return values
