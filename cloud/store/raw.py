"""The tier of samples: a row each, wide, as the registered layouts have it; a hole is a null.

All layouts that are registered (protos/frame.py) carry these points, so there is one table. What those of sites with
chargers and loads carry beside them is not stored; it would be a tier of its own, not columns of nulls in this one.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from cloud.model.telemetry import HOLE, POINTS, SAMPLES, SCALES, Array, Frames
from cloud.store.segments import Tier

HOUR_MS: Final = 3_600_000
KEYS: Final = ("slot", "seq", "t_ms", "interval_ms")
SCHEMA: Final = pa.schema(
    [
        pa.field("slot", pa.int32(), nullable=False),  # the site
        pa.field("seq", pa.int64(), nullable=False),  # the site's frame
        pa.field("t_ms", pa.int64(), nullable=False),  # UTC of the sample
        pa.field("interval_ms", pa.int32(), nullable=False),  # the time the sample stands for
        *(pa.field(point, pa.int32()) for point in POINTS),  # counts; times the footer's scale they are the value
    ]
)
_ROW_GROUP_ROWS: Final = 122_880
_CHUNK_FRAMES: Final = _ROW_GROUP_ROWS // SAMPLES


def by_site_and_frame(rows: pa.Table) -> pa.Table:
    """Rows of whole frames, by slot and seq."""
    slot, seq = (rows.column(name).to_numpy()[::SAMPLES] for name in ("slot", "seq"))
    order = np.lexsort((seq, slot))
    if (order[1:] > order[:-1]).all():
        return rows
    return rows.take(pa.array((order[:, None] * SAMPLES + np.arange(SAMPLES)).ravel()))


RAW: Final = Tier(
    name="raw",
    schema=SCHEMA,
    # Keys run on in even steps, measurements do not: 5 % smaller than BYTE_STREAM_SPLIT throughout.
    encoding={**dict.fromkeys(KEYS, "DELTA_BINARY_PACKED"), **dict.fromkeys(POINTS, "BYTE_STREAM_SPLIT")},
    compression_level=1,
    time="t_ms",
    span_ms=HOUR_MS,
    group=SAMPLES,
    combined=by_site_and_frame,
    scales=dict(zip(POINTS, SCALES.tolist(), strict=True)),
    row_group_rows=_ROW_GROUP_ROWS,
)


def tables_of(parts: Sequence[Frames]) -> Iterator[pa.Table]:
    """A row a sample, by site and frame. Blocks stay as they came until their chunk is due."""
    frames = Frames.joined(list(parts))
    order = np.lexsort((frames.seq, frames.slot))
    for start in range(0, len(order), _CHUNK_FRAMES):
        yield _rows(frames.take(order[start : start + _CHUNK_FRAMES]))


def _rows(frames: Frames) -> pa.Table:
    columns = [
        pa.array(np.repeat(frames.slot.astype(np.int32), SAMPLES)),
        pa.array(np.repeat(frames.seq, SAMPLES)),
        pa.array(frames.sample_ms().ravel()),
        pa.array(np.repeat(frames.interval_ms.astype(np.int32), SAMPLES)),
    ]
    # Point by point: each column is then written once, where it stays.
    counts: Array = np.ascontiguousarray(frames.counts.transpose(1, 0, 2)).reshape(len(POINTS), -1)
    for column in counts:
        holes = column == HOLE
        columns.append(pa.array(column, mask=holes) if holes.any() else pa.array(column))
    return pa.table(columns, schema=SCHEMA)
