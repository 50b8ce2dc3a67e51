"""The tiers of sums: a row a site and bucket of time, by one minute and by a quarter hour.

A row holds, for each point, how long it was known (n), its integral (sum), and its extremes. n and sum count in units
of the row's interval_ms: mean = sum / n, energy = sum * interval_ms, both exact, as integers. Rows are *partial*:
several rows of one site and bucket add up. So nothing is ever written twice or recomputed: what is read from the raw
tier is added once, by its stream sequences, and data that comes late adds its own rows to buckets that were closed long
ago. Joins add partial rows up. Whoever reads the files sums n and sum over slot and bucket (cloud/store/query.py).
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
import pyarrow as pa

from cloud.model.telemetry import Array
from cloud.store.raw import FLEXIBLE, HOUR_MS, KEYS, RAW
from cloud.store.segments import DAY_MS, Tier

MINUTE_MS: Final = 60_000
QUARTER_MS: Final = 900_000
_KEYS: Final = ("slot", "start_ms", "interval_ms")
_ROW_GROUP_ROWS: Final = 24_576  # 256 whole days: of fewer, footers take longer to look through
_LARGEST: Final = np.iinfo(np.int32).max


def partial(rows: pa.Table, bucket_ms: int) -> pa.Table:
    """Samples of whole slots, by slot and time -> partial rows of buckets."""
    slot = rows.column("slot").to_numpy()
    start_ms = rows.column("t_ms").to_numpy() // bucket_ms * bucket_ms
    interval_ms = rows.column("interval_ms").to_numpy()
    starts = _starts(slot, start_ms)
    unit = np.minimum.reduceat(interval_ms, starts)
    weight = None if (interval_ms == interval_ms[0]).all() else interval_ms // _spread(unit, starts, len(slot))
    columns: dict[str, Array | pa.Array] = {"slot": slot[starts], "start_ms": start_ms[starts], "interval_ms": unit}
    points = [name for name in rows.schema.names if name not in KEYS]
    for point in points:
        column = rows.column(point)
        known = None if column.null_count == 0 else column.is_valid().to_numpy()
        count = column.fill_null(0).to_numpy()
        n = np.ones(len(slot), dtype=np.int64) if weight is None else weight.astype(np.int64)
        low = high = count
        if known is not None:
            n = n * known
            low, high = np.where(known, count, _LARGEST), np.where(known, count, -_LARGEST)
        total = count.astype(np.int64) if weight is None else count.astype(np.int64) * weight
        _add_point(columns, point, n, total, low, high, starts)
    return _table(columns, points)


def added(rows: pa.Table, bucket_ms: int | None = None) -> pa.Table:
    """Partial rows of whole slots in any order -> one row a slot and bucket, in wider buckets if asked."""
    slot = rows.column("slot").to_numpy()
    start_ms = rows.column("start_ms").to_numpy()
    if bucket_ms is not None:
        start_ms = start_ms // bucket_ms * bucket_ms
    order = np.lexsort((start_ms, slot))
    in_order = bool((order[1:] > order[:-1]).all())
    if not in_order:
        slot, start_ms, rows = slot[order], start_ms[order], rows.take(pa.array(order))
    starts = _starts(slot, start_ms)
    if len(starts) == len(slot) and bucket_ms is None:
        return rows
    interval_ms = rows.column("interval_ms").to_numpy()
    unit = np.minimum.reduceat(interval_ms, starts)
    weight = interval_ms // _spread(unit, starts, len(slot))
    columns: dict[str, Array | pa.Array] = {"slot": slot[starts], "start_ms": start_ms[starts], "interval_ms": unit}
    points = [name.removesuffix("_n") for name in rows.schema.names if name.endswith("_n")]
    for point in points:
        n = rows.column(f"{point}_n").to_numpy().astype(np.int64) * weight
        total = rows.column(f"{point}_sum").to_numpy() * weight
        low = rows.column(f"{point}_min").fill_null(_LARGEST).to_numpy()
        high = rows.column(f"{point}_max").fill_null(-_LARGEST).to_numpy()
        _add_point(columns, point, n, total, low, high, starts)
    return _table(columns, points)


def _starts(slot: Array, start_ms: Array) -> Array:
    """Where the next slot or bucket begins."""
    begins = np.ones(len(slot), dtype=np.bool_)
    begins[1:] = (slot[1:] != slot[:-1]) | (start_ms[1:] != start_ms[:-1])
    return np.flatnonzero(begins)


def _spread(of_group: Array, starts: Array, rows: int) -> Array:
    return np.repeat(of_group, np.diff(np.append(starts, rows)))


def _add_point(
    columns: dict[str, Array | pa.Array], point: str, n: Array, total: Array, low: Array, high: Array, starts: Array
) -> None:
    known = np.add.reduceat(n, starts)
    unknown = known == 0
    columns[f"{point}_n"] = known.astype(np.int32)
    columns[f"{point}_sum"] = np.add.reduceat(total, starts)
    for name, extreme in (("min", np.minimum.reduceat(low, starts)), ("max", np.maximum.reduceat(high, starts))):
        columns[f"{point}_{name}"] = pa.array(extreme, mask=unknown) if unknown.any() else extreme


def _schema(points: Iterable[str]) -> pa.Schema:
    return pa.schema(
        [
            pa.field("slot", pa.int32(), nullable=False),
            pa.field("start_ms", pa.int64(), nullable=False),  # UTC of the bucket's beginning
            pa.field("interval_ms", pa.int32(), nullable=False),  # unit of n and sum
            *(
                field
                for point in points
                for field in (
                    pa.field(f"{point}_n", pa.int32(), nullable=False),
                    pa.field(f"{point}_sum", pa.int64(), nullable=False),
                    pa.field(f"{point}_min", pa.int32()),  # null where nothing is known
                    pa.field(f"{point}_max", pa.int32()),
                )
            ),
        ]
    )


def _table(columns: dict[str, Array | pa.Array], points: Iterable[str]) -> pa.Table:
    schema = _schema(points)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _tier(name: str, span_ms: int, samples: Tier) -> Tier:
    schema = _schema(samples.scales)
    return Tier(
        name=name,
        schema=schema,
        encoding={
            column: "DELTA_BINARY_PACKED" if column.endswith("_sum") else "BYTE_STREAM_SPLIT"
            for column in schema.names
            if column not in _KEYS and not column.endswith("_n")
        },
        compression_level=3,
        time="start_ms",
        span_ms=span_ms,
        group=1,
        combined=added,
        scales=samples.scales,
        row_group_rows=_ROW_GROUP_ROWS,
    )


MINUTES: Final = _tier("rollup-1m", HOUR_MS, RAW)
QUARTERS: Final = _tier("rollup-15m", DAY_MS, RAW)
FLEXIBLE_MINUTES: Final = _tier("flexible-1m", HOUR_MS, FLEXIBLE)
FLEXIBLE_QUARTERS: Final = _tier("flexible-15m", DAY_MS, FLEXIBLE)
