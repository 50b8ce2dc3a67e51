"""The tiers of samples: a row each, wide, as the registered layouts have it; a hole is a null.

All layouts that are registered (protos/frame.py) carry POINTS, so there is one table of them. What the layouts of sites
with chargers and loads carry beside them is a tier of its own, not columns of nulls for all the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from cloud.model.telemetry import FLEXIBLE_POINTS, FLEXIBLE_SCALES, HOLE, POINTS, SAMPLES, SCALES, Array, Frames
from cloud.store.segments import Tier

HOUR_MS: Final = 3_600_000
KEYS: Final = ("slot", "seq", "t_ms", "interval_ms")
_ROW_GROUP_ROWS: Final = 122_880
_CHUNK_FRAMES: Final = _ROW_GROUP_ROWS // SAMPLES


def by_site_and_frame(rows: pa.Table) -> pa.Table:
    """Rows of whole frames, by slot and seq."""
    slot, seq = (rows.column(name).to_numpy()[::SAMPLES] for name in ("slot", "seq"))
    order = np.lexsort((seq, slot))
    if (order[1:] > order[:-1]).all():
        return rows
    return rows.take(pa.array((order[:, None] * SAMPLES + np.arange(SAMPLES)).ravel()))


def _tier(name: str, scales: Mapping[str, float]) -> Tier:
    return Tier(
        name=name,
        schema=pa.schema(
            [
                pa.field("slot", pa.int32(), nullable=False),  # the site
                pa.field("seq", pa.int64(), nullable=False),  # the site's frame
                pa.field("t_ms", pa.int64(), nullable=False),  # UTC of the sample
                pa.field("interval_ms", pa.int32(), nullable=False),  # the time the sample stands for
                *(pa.field(point, pa.int32()) for point in scales),  # counts; times the footer's scale: the value
            ]
        ),
        # Keys run on in even steps, measurements do not: 5 % smaller than BYTE_STREAM_SPLIT throughout.
        encoding={**dict.fromkeys(KEYS, "DELTA_BINARY_PACKED"), **dict.fromkeys(scales, "BYTE_STREAM_SPLIT")},
        compression_level=1,
        time="t_ms",
        span_ms=HOUR_MS,
        group=SAMPLES,
        combined=by_site_and_frame,
        scales=scales,
        row_group_rows=_ROW_GROUP_ROWS,
    )


RAW: Final = _tier("raw", dict(zip(POINTS, SCALES.tolist(), strict=True)))
FLEXIBLE: Final = _tier("flexible", dict(zip(FLEXIBLE_POINTS, FLEXIBLE_SCALES.tolist(), strict=True)))


def flexible_part(parts: Sequence[Frames]) -> list[Frames]:
    """The frames that tell of chargers and loads."""
    telling = [(part, (part.flexible != HOLE).any(axis=(1, 2))) for part in parts if part.flexible is not None]
    return [part.take(tells) for part, tells in telling if tells.any()]


def tables_of(parts: Sequence[Frames], tier: Tier = RAW) -> Iterator[pa.Table]:
    """A row a sample, by site and frame. Blocks stay as they came until their chunk is due.

    tier: RAW, or FLEXIBLE for frames that all tell of chargers and loads.
    """
    frames = Frames.joined(list(parts))
    order = np.lexsort((frames.seq, frames.slot))
    for start in range(0, len(order), _CHUNK_FRAMES):
        yield _rows(frames.take(order[start : start + _CHUNK_FRAMES]), tier)


def _rows(frames: Frames, tier: Tier) -> pa.Table:
    told = frames.counts if tier is RAW else frames.flexible
    if told is None:
        raise ValueError("a frame without chargers and loads has no row of them")
    columns = [
        pa.array(np.repeat(frames.slot.astype(np.int32), SAMPLES)),
        pa.array(np.repeat(frames.seq, SAMPLES)),
        pa.array(frames.sample_ms().ravel()),
        pa.array(np.repeat(frames.interval_ms.astype(np.int32), SAMPLES)),
    ]
    # Point by point: each column is then written once, where it stays.
    counts: Array = np.ascontiguousarray(told.transpose(1, 0, 2)).reshape(told.shape[1], -1)
    for column in counts:
        holes = column == HOLE
        columns.append(pa.array(column, mask=holes) if holes.any() else pa.array(column))
    return pa.table(columns, schema=tier.schema)
