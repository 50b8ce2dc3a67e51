"""The history: every sample of every site in Parquet segments, their sums by minute and quarter hour, and questions."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from cloud.model.telemetry import FIRST_SEQ, FLEXIBLE_POINTS, POINTS, SAMPLES, Array, Frames
from cloud.store import query, upkeep
from cloud.store.errors import HistoryError
from cloud.store.place import Place
from cloud.store.quarters import QuarterHours, Quarters
from cloud.store.query import Sources
from cloud.store.raw import FLEXIBLE, RAW, flexible_part, tables_of
from cloud.store.rollups import FLEXIBLE_MINUTES, FLEXIBLE_QUARTERS, MINUTE_MS, MINUTES, QUARTER_MS, QUARTERS
from cloud.store.seen import Seen
from cloud.store.segments import Position, Segment, Segments, Tier
from cloud.store.tenure import ALONE, Holder, Writer
from cloud.store.upkeep import Retention

_READ_ATTEMPTS: Final = 5  # a join may take files away between the listing and the reading

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
    thinned: int = 0  # never sent: the site merged them into others, by its own word

    @property
    def missing(self) -> int:
        return max(0, self.last_seq - min(self.first_seq, FIRST_SEQ) + 1 - self.distinct - self.thinned)

    @property
    def duplicate(self) -> int:
        return self.stored - self.distinct


@dataclass(frozen=True, slots=True)
class HistorySize:
    """What one tier takes on disk."""

    files: int
    bytes: int
    rows: int
    columns: int = field(default=len(POINTS))  # of values

    @property
    def values(self) -> int:
        return self.rows * self.columns

    @property
    def bytes_per_value(self) -> float:
        return self.bytes / self.values if self.rows else float("nan")

    @property
    def bytes_per_row(self) -> float:
        return self.bytes / self.rows if self.rows else float("nan")


class _Kept:
    """Samples of some points, and their sums."""

    def __init__(self, place: Place, samples: Tier, minutes: Tier, quarters: Tier) -> None:
        self.samples: Final = Segments(place, samples)
        self.minutes: Final = Segments(place, minutes)
        self.quarters: Final = Segments(place, quarters)
        self.tiers: Final = (self.samples, self.minutes, self.quarters)

    def upkeep(
        self,
        part: int,
        now_ms: int,
        retention: Retention,
        stopping: upkeep.Stopping,
        committed: tuple[int, int] | None = None,
    ) -> upkeep.Done:
        return upkeep.run(*self.tiers, part, now_ms, retention, stopping, committed)

    def sources(self, t0_ms: int, t1_ms: int, *, coarse: bool) -> Sources:
        """Each stream sequence from the coarsest tier that has it. Finer tiers are listed first: what is summed up
        meanwhile is then found in the coarser one, and not taken twice.
        """
        raw, _ = self.samples.find(t0_ms=t0_ms, t1_ms=t1_ms)
        minutes, _ = self.minutes.find()
        quarters, _ = self.quarters.find() if coarse else ([], [])
        in_minutes, in_quarters = upkeep.covered(minutes), upkeep.covered(quarters)
        nothing = (-1, -1)
        sums = [(self.quarters, segment) for segment in quarters if segment.order <= in_quarters[segment.part]]
        sums += [
            (self.minutes, segment)
            for segment in minutes
            if in_quarters.get(segment.part, nothing) < segment.order <= in_minutes.get(segment.part, nothing)
        ]
        return Sources(
            sums=[(tier, one) for tier, one in sums if one.newest_ms >= t0_ms and one.oldest_ms < t1_ms],
            samples=[
                (self.samples, segment) for segment in raw if segment.order > in_minutes.get(segment.part, nothing)
            ],
        )


class History:
    """Telemetry on disk or in an object store. One process writes a part at a time; any number may read.

    Raises HistoryError, OSError.
    """

    def __init__(self, where: Path | str | Place) -> None:
        """where: a folder, or an address such as "s3://bucket/folder"."""
        self.place: Final = (place := Place.at(where))
        self._common = _Kept(place, RAW, MINUTES, QUARTERS)
        self._flexible = _Kept(place, FLEXIBLE, FLEXIBLE_MINUTES, FLEXIBLE_QUARTERS)
        self._raw = self._common.samples
        self._seen = Seen(place, self._raw)
        self._imports = Quarters(place.folder("quarters"))
        self.database: Final = query.Database()

    def begin(self, part: int, writer: Writer = ALONE) -> None:
        """From now on `writer` writes the part; what an interrupted one left behind is removed. Raises Superseded."""
        for tier in (*self._common.tiers, *self._flexible.tiers):
            tier.begin(part, writer)
        self._flexible.samples.cut(part, self._raw.position(part))

    def writer(self, part: int) -> Holder | None:
        """Who began to write the part last."""
        return self._raw.writer(part)

    def tidy(self, part: int) -> None:
        """Removes what an interrupted writer of the part left behind. For the one who writes the part."""
        for tier in (*self._common.tiers, *self._flexible.tiers):
            tier.tidy(part)
        self._flexible.samples.cut(part, self._raw.position(part))

    def position(self, part: int) -> Position | None:
        """How far the part's stream is in the history; None before its first segment."""
        return _patiently(lambda: self._raw.position(part))

    def runs(self) -> Array:
        """int64 [n, 3] of slot, first and last: which frames are stored, of all parts."""
        return _patiently(self._seen.runs)

    def keep_runs(self, part: int, position: Position, runs: Array) -> None:
        """Notes which frames are known at a position that is committed: the next start then reads less."""
        self._seen.keep(part, position, runs)

    def next_seq(self, slot: int) -> int:
        """The number after the site's last stored frame; FIRST_SEQ when none is stored."""
        runs = _patiently(lambda: self._seen.runs(slot))
        return int(runs[:, 2].max()) + 1 if len(runs) else FIRST_SEQ

    def append(self, part: int, position: Position, first: int, frames: Frames | Sequence[Frames]) -> list[Segment]:
        """Commits frames, and with them that the part's stream was read from `first` to `position.last_sequence`.

        When it returns, both are on disk; when it raises, neither is. Late frames go where they belong.
        """
        parts = [frames] if isinstance(frames, Frames) else frames
        beside: list[Segment] = []  # of chargers and loads: before the others, whose commit counts for both
        if telling := flexible_part(parts):
            beside = self._flexible.samples.write(part, position, first, tables_of(telling, FLEXIBLE))
        try:
            return self._raw.write(part, position, first, tables_of(parts))
        except BaseException:
            for segment in beside:
                self._flexible.samples.place.remove(segment.path)
            raise

    def upkeep(
        self,
        part: int,
        now_ms: int,
        retention: Retention = upkeep.FOR_EVER,
        *,
        stopping: upkeep.Stopping = lambda: False,
    ) -> upkeep.Done:
        """Sums up what is new, joins small neighbours, lets go what is too old. For the one who writes the part.

        stopping: asked now and then; when it says so, what is under way is left for another time.
        """
        position = self._raw.position(part)
        done = self._common.upkeep(part, now_ms, retention, stopping)
        return done + self._flexible.upkeep(part, now_ms, retention, stopping, position.order if position else (-1, -1))

    def _kept(self, points: Sequence[str]) -> _Kept:
        """Where the points lie. Raises ValueError for such as lie apart."""
        apart = [[point for point in points if point in known] for known in (POINTS, FLEXIBLE_POINTS)]
        if len(points) != max(map(len, apart)):
            raise ValueError(f"{', '.join(points)}: ask for points of {', '.join(FLEXIBLE_POINTS)} without others")
        return self._flexible if apart[1] else self._common

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
        batches = [batch for batch in self.samples(wanted, t0_ms, t1_ms, points) if len(batch)]
        rows = pa.Table.from_batches(batches) if batches else None
        if interval_ms is None:
            interval_ms = int(rows.column("interval_ms").to_numpy().min()) if rows is not None else 1000
        start_ms = -(-t0_ms // interval_ms) * interval_ms
        t_ms = np.arange(start_ms, t1_ms, interval_ms, dtype=np.int64)
        grids = {point: np.full((len(wanted), len(t_ms)), np.nan) for point in points}
        if rows is not None:
            offset = rows.column("t_ms").to_numpy() - start_ms
            on_grid = (offset % interval_ms == 0) & (offset >= 0)
            order = np.argsort(wanted)
            site = order[np.searchsorted(wanted[order], rows.column("slot").to_numpy()[on_grid])]
            sample = offset[on_grid] // interval_ms
            for point, grid in grids.items():
                values = rows.column(point).to_numpy(zero_copy_only=False).astype(np.float64)[on_grid]
                known = ~np.isnan(values)  # an instant may be told twice, thinned the second time: a hole hides nothing
                grid[site[known], sample[known]] = values[known]
        return HistorySlice(tuple(int(slot) for slot in wanted), interval_ms, t_ms, grids)

    def samples(
        self, slots: Array | Sequence[int] | None, t0_ms: int, t1_ms: int, points: Sequence[str] = POINTS
    ) -> Generator[pa.RecordBatch, None, None]:
        """Rows of slot, t_ms, interval_ms and the points in their units, by slot and time. slots: None for all."""
        kept = self._kept(points).samples
        wanted = None if slots is None else np.unique(np.asarray(slots, dtype=np.int64))

        def answer() -> Generator[pa.RecordBatch, None, None]:
            found, _ = kept.find(t0_ms=t0_ms, t1_ms=t1_ms)
            with self.database.connected() as connection:
                query.view(connection, "samples", [(kept, segment) for segment in found], kept.tier.schema)
                yield from query.samples(connection, wanted, t0_ms, t1_ms, points)

        return _patient_stream(answer)

    def series(
        self,
        slots: Array | Sequence[int] | None,
        t0_ms: int,
        t1_ms: int,
        points: Sequence[str] = POINTS,
        *,
        resolution_ms: int = QUARTER_MS,
        summed: bool = False,
    ) -> Generator[pa.RecordBatch, None, None]:
        """Buckets of whole minutes that begin from t0_ms up to but not including t1_ms: see cloud.store.query.buckets.

        slots: None for all. summed: one row a bucket, of all sites together.
        What is not summed up yet is counted from the samples: the answer is as new as the history.
        """
        if resolution_ms < MINUTE_MS or resolution_ms % MINUTE_MS:
            raise ValueError(f"resolution_ms {resolution_ms}: a multiple of {MINUTE_MS}, or ask for samples")
        kept = self._kept(points)
        wanted = None if slots is None else np.unique(np.asarray(slots, dtype=np.int64))
        t0_ms, t1_ms = (-(-t_ms // resolution_ms) * resolution_ms for t_ms in (t0_ms, t1_ms))

        def answer() -> Generator[pa.RecordBatch, None, None]:
            sources = kept.sources(t0_ms, t1_ms, coarse=resolution_ms % QUARTER_MS == 0)
            with self.database.connected() as connection:
                tables = []
                if sources.sums or not sources.samples:
                    query.view(connection, "sums", sources.sums, kept.minutes.tier.schema)
                    tables.append("sums")
                if sources.samples:
                    query.view(connection, "samples", sources.samples, kept.samples.tier.schema)
                    tables.append("samples")
                yield from query.buckets(connection, tables, wanted, t0_ms, t1_ms, points, resolution_ms, summed=summed)

        return _patient_stream(answer)

    def quarter_hours(self, slot: int, t0_ms: int, t1_ms: int) -> QuarterHours:
        """The site's energy by the quarter hour, for those that begin from t0_ms up to but not including t1_ms.

        Imported and measured: whichever covers more of a quarter hour, measured where both cover it alike.
        Load is what the inverter gives that the grid does not get: inverter_power - grid_power.
        """
        t0_ms = -(-t0_ms // QUARTER_MS) * QUARTER_MS
        t1_ms = -(-t1_ms // QUARTER_MS) * QUARTER_MS
        measured = QuarterHours.unknown(t0_ms, t1_ms)
        points = ("grid_power_w", "inverter_power_w", "pv_power_w")
        for batch in self.series([slot], t0_ms, t1_ms, points):
            column = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}
            quarter = (column["start_ms"] - t0_ms) // QUARTER_MS
            hours = QUARTER_MS / 3_600_000
            measured.load_wh[quarter] = (column["inverter_power_w"] - column["grid_power_w"]) * hours
            measured.coverage[quarter] = np.minimum(
                column["inverter_power_w_coverage"], column["grid_power_w_coverage"]
            )
            measured.pv_wh[quarter] = np.maximum(column["pv_power_w"], 0.0) * hours
        return self._imports.read(slot, t0_ms, t1_ms).better(measured)

    def import_quarters(self, slot: int, quarters: QuarterHours) -> None:
        """Keeps a site's past that was measured by others. Raises HistoryError where it overlaps an earlier import."""
        self._imports.add(slot, quarters)

    def counts(self, thinned: Mapping[int, int] | None = None) -> dict[int, SlotCount]:
        """By slot: how many frames stand in the files. Counted row by row, nothing is taken from a counter.

        thinned: by slot, how many frames the ledger knows were merged into others.
        """

        def count() -> dict[int, SlotCount]:
            with self.database.connected() as connection:
                self.view_samples(connection, "samples")
                rows = connection.execute(
                    "SELECT slot, sum(samples), count(*), min(seq), max(seq) FROM ("
                    "SELECT slot, seq, count(*) AS samples FROM samples GROUP BY slot, seq) GROUP BY slot ORDER BY slot"
                ).fetchall()
            counts: dict[int, SlotCount] = {}
            for slot, number, distinct, first, last in rows:
                stored, rest = divmod(int(number), SAMPLES)
                if rest:
                    raise HistoryError(
                        f"history {self._raw.place}: slot {slot} has {rest} samples that make no whole frame"
                    )
                counts[int(slot)] = SlotCount(
                    stored, int(distinct), int(first), int(last), (thinned or {}).get(int(slot), 0)
                )
            return counts

        return _patiently(count)

    def view_samples(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        """Makes every sample, as it is stored, a table of the connection."""
        query.view(connection, name, [(self._raw, segment) for segment in self._raw.find()[0]], RAW.schema)

    def size(self) -> HistorySize:
        """What samples take on disk."""
        return _patiently(lambda: _size(self._raw))

    def rollup_size(self, *, resolution_ms: int = QUARTER_MS) -> HistorySize:
        """What sums take on disk: by the quarter hour or by the minute."""
        return _patiently(lambda: _size(self._common.quarters if resolution_ms == QUARTER_MS else self._common.minutes))


def _size(tier: Segments) -> HistorySize:
    found, _ = tier.find()
    return HistorySize(
        len(found), sum(segment.bytes for segment in found), sum(tier.footer(segment)[1] for segment in found)
    )


def _patiently(read: Callable[[], Result]) -> Result:
    """What `read` returns, tried again where a join took its files away."""
    for _ in range(_READ_ATTEMPTS - 1):
        try:
            return read()
        except FileNotFoundError:
            continue
    return read()


def _patient_stream(
    answer: Callable[[], Generator[pa.RecordBatch, None, None]],
) -> Generator[pa.RecordBatch, None, None]:
    """A stream, begun again where a join took its files away before the first rows came.

    Rows are sorted, so the files were read by then.
    """
    for attempt in range(_READ_ATTEMPTS):
        with closing(answer()) as stream:
            try:
                first = next(stream, None)
            except FileNotFoundError:
                if attempt == _READ_ATTEMPTS - 1:
                    raise
                continue
            if first is not None:
                yield first
                yield from stream
            return
