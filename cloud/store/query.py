"""Questions to the history, answered by DuckDB over the files that can matter and no others, and streamed."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from cloud.model.telemetry import Array
from cloud.store.errors import HistoryError
from cloud.store.raw import FLEXIBLE, HOUR_MS, RAW
from cloud.store.segments import Segment, Segments

_MEMORY: Final = "1GB"  # beyond it DuckDB sorts on disk
_BATCH_ROWS: Final = 122_880
_LISTED: Final = 1000  # more slots than this are joined instead of compared
_SCALES: Final = {**RAW.scales, **FLEXIBLE.scales}
_POWERS: Final = tuple(point for point in _SCALES if point.endswith("power_w"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Which files an answer is made of: what is summed up already, and samples that are not."""

    sums: Sequence[tuple[Segments, Segment]]
    samples: Sequence[tuple[Segments, Segment]]


class Database:
    """DuckDB without tables of its own, made when it is first asked and kept: to make it takes longer than a question.

    Any number of threads may ask; together they take at most _MEMORY.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: duckdb.DuckDBPyConnection | None = None

    @contextmanager
    def connected(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A session. What DuckDB finds wrong with a file is a HistoryError, or FileNotFoundError."""
        with self._lock:
            if self._opened is None:
                self._opened = duckdb.connect(config={"memory_limit": _MEMORY})
                self._opened.execute("SET GLOBAL parquet_metadata_cache = true")  # of that memory
            session = self._opened.cursor()
        with session:
            try:
                yield session
            except duckdb.Error as error:
                if isinstance(error, duckdb.IOException) and (
                    "No files found" in str(error) or "No such file" in str(error)
                ):
                    raise FileNotFoundError(str(error)) from error
                raise HistoryError(f"history cannot be read ({error}): restore the file from a backup") from error


def view(
    connection: duckdb.DuckDBPyConnection, name: str, files: Sequence[tuple[Segments, Segment]], schema: pa.Schema
) -> None:
    """Makes the files, which may be none, a table for queries of this session."""
    if not files:
        connection.register(name, schema.empty_table())
        return
    paths = [segments.place.full(segment.path) for segments, segment in files]
    place = files[0][0].place
    if place.local:  # DuckDB's own reader is three times as fast
        listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
        connection.execute(
            f"CREATE TEMP VIEW {name} AS SELECT * FROM read_parquet([{listed}], hive_partitioning=false)"
        )
    else:
        connection.register(name, ds.dataset(paths, schema=schema, format="parquet", filesystem=place.filesystem))


def chosen(connection: duckdb.DuckDBPyConnection, slots: Array | None) -> str:
    """The condition on a row's slot."""
    if slots is None:
        return "true"
    if not len(slots):
        return "false"
    low, high = int(slots.min()), int(slots.max())
    between = f"slot BETWEEN {low} AND {high}"  # what files and row groups are pruned by
    if high - low + 1 == len(slots):
        return between
    if len(slots) <= _LISTED:
        return f"{between} AND slot IN ({', '.join(map(str, slots.tolist()))})"
    connection.register("members", pa.table({"slot": slots.astype(np.int32)}))
    return f"{between} AND slot IN (SELECT slot FROM members)"


def samples(
    connection: duckdb.DuckDBPyConnection, slots: Array | None, t0_ms: int, t1_ms: int, points: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Rows of `samples`: slot, t_ms, interval_ms and each point in its unit, by slot and time."""
    columns = ", ".join(f"{point} * {_scale(point)} AS {point}" for point in points)
    yield from _streamed(
        connection,
        f"SELECT slot, t_ms, interval_ms, {columns} FROM samples WHERE {chosen(connection, slots)} "
        f"AND t_ms >= {t0_ms} AND t_ms < {t1_ms} ORDER BY slot, t_ms",
    )


def buckets(
    connection: duckdb.DuckDBPyConnection,
    tables: Sequence[str],
    slots: Array | None,
    t0_ms: int,
    t1_ms: int,
    points: Sequence[str],
    bucket_ms: int,
    *,
    summed: bool,
) -> Iterator[pa.RecordBatch]:
    """Rows of the tables, of `sums` and `samples`, in buckets that begin from t0_ms up to but not including t1_ms.

    Of each site: slot, start_ms and for each point its mean, `_min`, `_max`, `_coverage` (share of the bucket it was
    known) and of powers `_energy_wh`. summed: of all together instead, without slot and extremes; powers are then the
    energy over the bucket's length, what is not known counting as nothing, the others means; `_coverage` is in sites.
    """
    keys = "bucket" if summed else "slot, bucket"
    extremes = () if summed else ("min", "max")

    def part(table: str, time: str, forms: Mapping[str, str]) -> str:
        """Sums in units of each interval_ms: to multiply them row by row would take as long again."""
        columns = [
            f"{form.format(p=point)} AS {point}_{name}"
            for point in points
            for name, form in forms.items()
            if name in ("known", "total", *extremes)
        ]
        by = f"{'' if summed else 'slot, '}{time}{'' if summed else f' // {bucket_ms}'}"
        head = f"{by} AS {'t_ms' if summed else 'bucket'}, interval_ms"
        return (
            f"SELECT {head}, {', '.join(columns)} FROM {table} WHERE {chosen(connection, slots)} "
            f"AND {time} >= {t0_ms} AND {time} < {t1_ms} GROUP BY {by}, interval_ms"
        )

    sources = {
        "sums": (
            "start_ms",
            {"known": "sum({p}_n)", "total": "sum({p}_sum)", "min": "min({p}_min)", "max": "max({p}_max)"},
        ),
        "samples": (
            "t_ms",
            {"known": "count({p})", "total": "sum({p}::BIGINT)", "min": "min({p})", "max": "max({p})"},
        ),
    }
    parts = " UNION ALL ".join(part(table, *sources[table]) for table in tables)
    totals = [
        form.format(p=point)
        for point in points
        for form in (
            "sum({p}_known * interval_ms) AS {p}_known",
            "sum({p}_total * interval_ms) AS {p}_total",
            *(f"{name}({{p}}_{name}) AS {{p}}_{name}" for name in extremes),
        )
    ]
    shown = ["slot"] if not summed else []
    shown.append(f"bucket * {bucket_ms} AS start_ms")
    for point in points:
        scale, known = _scale(point), f"{point}_known"
        total = f"CASE WHEN {known} > 0 THEN {point}_total::DOUBLE END"
        if summed and point in _POWERS:
            shown.append(f"({total}) * {scale} / {bucket_ms} AS {point}")
        else:
            shown.append(f"({total}) * {scale} / {known} AS {point}")
        shown += [f"{point}_{name} * {scale} AS {point}_{name}" for name in extremes]
        if point in _POWERS:
            shown.append(f"({total}) * {scale} / {HOUR_MS} AS {energy(point)}")
        shown.append(f"coalesce({known}, 0)::DOUBLE / {bucket_ms} AS {point}_coverage")
    bucket = f"t_ms // {bucket_ms} AS bucket" if summed else keys
    yield from _streamed(
        connection,
        f"SELECT {', '.join(shown)} FROM (SELECT {bucket}, {', '.join(totals)} FROM ({parts}) GROUP BY {keys}) "
        f"ORDER BY {keys}",
    )


def energy(point: str) -> str:
    """The column of a power's energy."""
    return f"{point.removesuffix('_power_w')}_energy_wh"


def _scale(point: str) -> str:
    """A literal: without the cast SQL would reckon in decimals."""
    return f"{_SCALES[point]!r}::DOUBLE"


def _streamed(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[pa.RecordBatch]:
    yield from connection.sql(sql).to_arrow_reader(_BATCH_ROWS)
