"""The history: every sample of every site in Parquet segments, and energy by the quarter hour."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from cloud.model.telemetry import FIRST_SEQ, POINTS, SAMPLES, SCALES, Array, Frames
from cloud.store import segments
from cloud.store.errors import HistoryError
from cloud.store.quarters import QUARTER_MS, QuarterHours, Quarters
from cloud.store.segments import Position, Segment

FANOUT: Final = 32  # so many neighbours become one
MAX_MERGED_BYTES: Final = 256 * 1024 * 1024  # compacted in memory
_READ_ATTEMPTS: Final = 5  # a compaction may take files away between the listing and the reading

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class HistorySlice:
    """Samples of several sites on one grid of instants."""

    slots: tuple[int, ...]
    interval_ms: int
    t_ms: Array  # int64 [samples], UTC
    columns: Mapping[str, Array]  # by point: float64 [sites, samples] in the point's unit, NaN where nothing is known


@dataclass(frozen=True, slots=True)
class SlotCount:
    """The book-keeping of one site, counted in the files."""

    stored: int  # frames
    distinct: int
    first_seq: int
    last_seq: int

    @property
    def missing(self) -> int:
        return self.last_seq - min(self.first_seq, FIRST_SEQ) + 1 - self.distinct

    @property
    def duplicate(self) -> int:
        return self.stored - self.distinct


@dataclass(frozen=True, slots=True)
class HistorySize:
    files: int
    bytes: int
    values: int

    @property
    def bytes_per_value(self) -> float:
        return self.bytes / self.values if self.values else float("nan")


class History:
    """Telemetry on disk. One process writes a part at a time; any number may read. Raises HistoryError, OSError."""

    def __init__(self, folder: Path) -> None:
        self._raw = folder / "raw"
        self._quarters = Quarters(folder / "quarters")
        self._writing = threading.Lock()

    def tidy(self, part: int) -> None:
        """Removes what an interrupted writer of the part left behind. For the one who writes the part."""
        with self._writing:
            _, leftovers = segments.find(self._raw, part)
            for leftover in leftovers:
                leftover.path.unlink(missing_ok=True)
            for unfinished in self._raw.glob(f"day=*/part={part}/.*.tmp"):
                unfinished.unlink(missing_ok=True)

    def position(self, part: int) -> Position | None:
        """How far the part's stream is in the history; None before its first segment."""

        def newest() -> Position | None:
            found, _ = segments.find(self._raw, part)
            if not found:
                return None
            footer, _ = segments.read_footer(max(found, key=lambda segment: (segment.epoch, segment.last)))
            return Position(footer.epoch, footer.stream_created_ns, footer.last_sequence)

        return _patiently(newest)

    def runs(self) -> Array:
        """int64 [n, 3] of slot, first and last: which frames the footers say are stored, of all parts."""

        def collect() -> Array:
            found, _ = segments.find(self._raw)
            tables = [segments.runs_in(segments.read_footer(segment)[0]) for segment in found]
            return np.concatenate([np.empty((0, 3), dtype=np.int64), *tables])

        return _patiently(collect)

    def next_seq(self, slot: int) -> int:
        """The number after the site's last stored frame; FIRST_SEQ when none is stored."""
        runs = self.runs()
        of_slot = runs[runs[:, 0] == slot, 2]
        return int(of_slot.max()) + 1 if len(of_slot) else FIRST_SEQ

    def append(self, part: int, position: Position, first: int, frames: Frames) -> Segment:
        """Commits frames, and with them that the part's stream was read from `first` to `position.last_sequence`.

        When it returns, both are on disk; when it raises, neither is.
        """
        if not len(frames):
            raise ValueError("a segment has at least one frame")
        with self._writing:
            return segments.write(self._raw, part, position, first, segments.rows_of(frames))

    def compact(self, part: int) -> int:
        """Joins small neighbouring segments of the part; how many joins were made."""
        joins = 0
        with self._writing:
            while group := segments.to_compact(self._mergeable(part), FANOUT):
                segments.merge(self._raw, group)
                joins += 1
        return joins

    def _mergeable(self, part: int) -> list[Segment]:
        found, _ = segments.find(self._raw, part)
        return [segment for segment in found if segment.path.stat().st_size * FANOUT <= MAX_MERGED_BYTES]

    def read(
        self,
        slots: Sequence[int],
        t0_ms: int,
        t1_ms: int,
        points: Sequence[str] = POINTS,
        *,
        interval_ms: int | None = None,
    ) -> HistorySlice:
        """Samples of the sites from t0_ms up to but not including t1_ms.

        interval_ms: of the grid; None: the finest that was measured, 1000 where nothing was.
        """
        wanted = np.array(slots, dtype=np.int64)
        if len(np.unique(wanted)) != len(wanted):
            raise ValueError("a slot is named twice")
        rows = _patiently(lambda: self._rows(wanted, t0_ms, t1_ms, points))
        if interval_ms is None:
            interval_ms = int(rows.column("interval_ms").to_numpy().min()) if len(rows) else 1000
        start_ms = -(-t0_ms // interval_ms) * interval_ms
        t_ms = np.arange(start_ms, t1_ms, interval_ms, dtype=np.int64)
        offset = rows.column("t_ms").to_numpy() - start_ms
        on_grid = (offset % interval_ms == 0) & (offset >= 0)
        order = np.argsort(wanted)
        site = order[np.searchsorted(wanted[order], rows.column("slot").to_numpy()[on_grid])]
        sample = offset[on_grid] // interval_ms
        columns = {}
        for point in points:
            grid = np.full((len(wanted), len(t_ms)), np.nan)
            counts = rows.column(point).to_numpy(zero_copy_only=False).astype(np.float64)[on_grid]
            known = ~np.isnan(counts)  # an instant may be told twice, thinned the second time: a hole hides nothing
            grid[site[known], sample[known]] = counts[known] * SCALES[POINTS.index(point)]
            columns[point] = grid
        return HistorySlice(tuple(int(slot) for slot in wanted), interval_ms, t_ms, columns)

    def _rows(self, slots: Array, t0_ms: int, t1_ms: int, points: Sequence[str]) -> pa.Table:
        found, _ = segments.find(self._raw)
        paths = [str(segment.path) for segment in found if segment.newest_ms >= t0_ms and segment.oldest_ms < t1_ms]
        rows = ds.dataset(paths, schema=segments.SCHEMA, format="parquet")
        chosen = ds.field("slot").isin(slots.tolist()) & (ds.field("t_ms") >= t0_ms) & (ds.field("t_ms") < t1_ms)
        try:
            return rows.to_table(columns=["slot", "t_ms", "interval_ms", *points], filter=chosen)
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise HistoryError(f"history cannot be read ({error}): restore the file from a backup") from error

    def quarter_hours(self, slot: int, t0_ms: int, t1_ms: int) -> QuarterHours:
        """The site's energy by the quarter hour, for those that begin from t0_ms up to but not including t1_ms.

        Imported and measured: whichever covers more of a quarter hour, measured where both cover it alike.
        """
        t0_ms = -(-t0_ms // QUARTER_MS) * QUARTER_MS
        t1_ms = -(-t1_ms // QUARTER_MS) * QUARTER_MS
        imported = self._quarters.read(slot, t0_ms, t1_ms)
        measured = _patiently(lambda: self._measured(slot, t0_ms, t1_ms))
        return imported.better(measured)

    def _measured(self, slot: int, t0_ms: int, t1_ms: int) -> QuarterHours:
        """Load is what the inverter gives that the grid does not get: inverter_power - grid_power."""
        found, _ = segments.find(self._raw)
        paths = [str(segment.path) for segment in found if segment.newest_ms >= t0_ms and segment.oldest_ms < t1_ms]
        quarters = QuarterHours.unknown(t0_ms, t1_ms)
        if not paths:
            return quarters
        load_scale, pv_scale = SCALES[POINTS.index("inverter_power_w")], SCALES[POINTS.index("pv_power_w")]
        rows = _query(
            "SELECT (t_ms - $t0) // $quarter AS quarter, "
            "sum((inverter_power_w::BIGINT - grid_power_w) * interval_ms), "
            "sum(interval_ms) FILTER (inverter_power_w IS NOT NULL AND grid_power_w IS NOT NULL), "
            "sum(pv_power_w::BIGINT * interval_ms), "
            "sum(interval_ms) FILTER (pv_power_w IS NOT NULL) "
            "FROM read_parquet($paths, hive_partitioning = false) "
            "WHERE slot = $slot AND t_ms >= $t0 AND t_ms < $t1 GROUP BY quarter",
            {"paths": paths, "slot": slot, "t0": t0_ms, "t1": t1_ms, "quarter": QUARTER_MS},
        )
        for quarter, load, load_ms, pv, pv_ms in rows:
            if load_ms:
                quarters.load_wh[quarter] = load * load_scale / load_ms / 4
                quarters.coverage[quarter] = load_ms / QUARTER_MS
            if pv_ms:
                quarters.pv_wh[quarter] = max(0.0, pv * pv_scale / pv_ms / 4)
        return quarters

    def import_quarters(self, slot: int, quarters: QuarterHours) -> None:
        """Keeps a site's past that was measured by others. Raises HistoryError where it overlaps an earlier import."""
        with self._writing:
            self._quarters.add(slot, quarters)

    def counts(self) -> dict[int, SlotCount]:
        """By slot: how many frames stand in the files. Counted row by row, nothing is taken from a counter."""

        def count() -> dict[int, SlotCount]:
            found, _ = segments.find(self._raw)
            if not found:
                return {}
            rows = _query(
                "SELECT slot, sum(samples), count(*), min(seq), max(seq) FROM ("
                "SELECT slot, seq, count(*) AS samples FROM read_parquet($paths, hive_partitioning = false) "
                "GROUP BY slot, seq) GROUP BY slot ORDER BY slot",
                {"paths": [str(segment.path) for segment in found]},
            )
            counts: dict[int, SlotCount] = {}
            for slot, samples, distinct, first, last in rows:
                stored, rest = divmod(int(samples), SAMPLES)
                if rest:
                    raise HistoryError(f"history {self._raw}: slot {slot} has {rest} samples that make no whole frame")
                counts[int(slot)] = SlotCount(stored, int(distinct), int(first), int(last))
            return counts

        return _patiently(count)

    def size(self) -> HistorySize:
        """What telemetry takes on disk."""

        def measure() -> HistorySize:
            found, _ = segments.find(self._raw)
            size = sum(segment.path.stat().st_size for segment in found)
            rows = sum(segments.read_footer(segment)[1] for segment in found)
            return HistorySize(len(found), size, rows * len(POINTS))

        return _patiently(measure)


def _query(sql: str, values: Mapping[str, object]) -> list[tuple[int, ...]]:
    with duckdb.connect() as connection:
        try:
            return connection.execute(sql, values).fetchall()
        except duckdb.IOException as error:
            if "No files found" in str(error) or "No such file" in str(error):
                raise FileNotFoundError(str(error)) from error
            raise HistoryError(f"history cannot be read ({error}): restore the file from a backup") from error
        except duckdb.Error as error:
            raise HistoryError(f"history cannot be read ({error}): restore the file from a backup") from error


def _patiently(read: Callable[[], Result]) -> Result:
    """What `read` returns, tried again where a compaction took its files away."""
    for _ in range(_READ_ATTEMPTS - 1):
        try:
            return read()
        except FileNotFoundError:
            continue
    return read()
