"""Parquet segments of telemetry: each carries how far its stream was read, so that one rename commits both.

`day=<UTC day of the oldest sample>/part=<part>/<epoch>-<first>-<last>-<oldest>-<newest>-<level>.parquet`, where first
and last are the stream sequences that went into it (also such as gave no rows), oldest and newest the UTC
milliseconds of its samples, and level tells how often it was compacted. An epoch is one life of the stream: a stream
made anew counts from 1 again and begins the next epoch.
A segment whose range of sequences lies in that of a higher level is a leftover of an interrupted compaction: the rows
are in the other, nobody reads it, the writer removes it.
"""

import base64
import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cloud.model.telemetry import HOLE, POINTS, SAMPLES, SCALES, Array, Frames
from cloud.store.errors import HistoryError
from cloud.store.files import commit

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
# Keys run on in even steps, measurements do not: 5 % smaller than BYTE_STREAM_SPLIT throughout.
_ENCODING: Final = {**dict.fromkeys(KEYS, "DELTA_BINARY_PACKED"), **dict.fromkeys(POINTS, "BYTE_STREAM_SPLIT")}
_ROW_GROUP_ROWS: Final = 122_880
_FOOTER_KEY: Final = b"murmuration.segment"
_NAME: Final = re.compile(r"(\d{4})-(\d{15})-(\d{15})-(\d{13})-(\d{13})-(\d)\.parquet")


@dataclass(frozen=True, slots=True)
class Position:
    """How far the stream of a part is in the history."""

    epoch: int
    stream_created_ns: int
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment by its name."""

    path: Path
    part: int
    epoch: int
    first: int
    last: int
    oldest_ms: int
    newest_ms: int
    level: int

    @property
    def day(self) -> str:
        return self.path.parent.parent.name


class Footer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a segment says of itself."""

    part: int
    epoch: int
    stream_created_ns: int
    first_sequence: int
    last_sequence: int
    scales: dict[str, float]
    frames: str  # base64 of uint32 triples: slot, first and last frame of each unbroken run


def rows_of(frames: Frames) -> pa.Table:
    """A row a sample, by site and frame."""
    frames = frames.take(np.lexsort((frames.seq, frames.slot)))
    columns = {
        "slot": pa.array(np.repeat(frames.slot.astype(np.int32), SAMPLES)),
        "seq": pa.array(np.repeat(frames.seq, SAMPLES)),
        "t_ms": pa.array(frames.sample_ms().ravel()),
        "interval_ms": pa.array(np.repeat(frames.interval_ms.astype(np.int32), SAMPLES)),
    }
    for index, point in enumerate(POINTS):
        counts = np.ascontiguousarray(frames.counts[:, index, :]).ravel()
        columns[point] = pa.array(counts, mask=counts == HOLE)
    return pa.table(columns, schema=SCHEMA)


def runs(slot: Array, seq: Array) -> Array:
    """uint32 [n, 3] of slot, first and last: the unbroken runs of frames."""
    order = np.lexsort((seq, slot))
    slot, seq = slot[order], seq[order]
    starts = np.ones(len(slot), dtype=np.bool_)
    starts[1:] = (slot[1:] != slot[:-1]) | (seq[1:] > seq[:-1] + 1)
    ends = np.append(starts[1:], True)[: len(slot)]
    return np.column_stack((slot[starts], seq[starts], seq[ends])).astype("<u4")


def write(folder: Path, part: int, position: Position, first: int, rows: pa.Table, *, level: int = 0) -> Segment:
    """Commits rows, and the stream's sequences `first` to `position.last_sequence` as read. Raises OSError."""
    slot, seq, t_ms = (rows.column(name).to_numpy() for name in ("slot", "seq", "t_ms"))
    oldest, newest = int(t_ms.min()), int(t_ms.max())
    footer = Footer(
        part=part,
        epoch=position.epoch,
        stream_created_ns=position.stream_created_ns,
        first_sequence=first,
        last_sequence=position.last_sequence,
        scales=dict(zip(POINTS, SCALES.tolist(), strict=True)),
        frames=base64.b64encode(runs(slot, seq).tobytes()).decode(),
    )
    day = dt.datetime.fromtimestamp(oldest // 1000, dt.UTC).date()
    name = f"{position.epoch:04}-{first:015}-{position.last_sequence:015}-{oldest:013}-{newest:013}-{level}.parquet"
    path = folder / f"day={day}" / f"part={part}" / name

    def write_rows(unfinished: Path) -> None:
        with pq.ParquetWriter(
            unfinished,
            SCHEMA,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            column_encoding=_ENCODING,
            write_statistics=["slot", "t_ms"],
            store_schema=False,
        ) as writer:
            writer.write_table(rows, row_group_size=_ROW_GROUP_ROWS)
            writer.add_key_value_metadata({_FOOTER_KEY: msgspec.json.encode(footer)})

    commit(path, write_rows)
    return Segment(path, part, position.epoch, first, position.last_sequence, oldest, newest, level)


def read_footer(segment: Segment) -> tuple[Footer, int]:
    """What the segment says of itself, and its number of rows. Raises HistoryError."""
    try:
        metadata = pq.read_metadata(segment.path)
        footer = msgspec.json.decode(metadata.metadata[_FOOTER_KEY], type=Footer)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, TypeError, msgspec.DecodeError) as error:
        raise HistoryError(f"history {segment.path}: not a segment ({error}): restore it from a backup") from error
    named = (segment.part, segment.epoch, segment.first, segment.last)
    if named != (footer.part, footer.epoch, footer.first_sequence, footer.last_sequence):
        raise HistoryError(f"history {segment.path}: name and footer differ: give it back the name it had")
    return footer, metadata.num_rows


def runs_in(footer: Footer) -> Array:
    """uint32 [n, 3] of slot, first and last frame."""
    return np.frombuffer(base64.b64decode(footer.frames), dtype="<u4").reshape(-1, 3)


def find(folder: Path, part: int | None = None) -> tuple[list[Segment], list[Segment]]:
    """Segments of a part, or of all, in stream order; and the leftovers. Raises HistoryError for a strange file."""
    found: list[Segment] = []
    for path in folder.glob(f"day=*/part={'*' if part is None else part}/*.parquet"):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise HistoryError(f"history {path}: not named like a segment: move it elsewhere")
        epoch, first, last, oldest, newest, level = (int(group) for group in match.groups())
        found.append(
            Segment(path, int(path.parent.name.removeprefix("part=")), epoch, first, last, oldest, newest, level)
        )
    found.sort(key=lambda segment: (segment.part, segment.epoch, segment.first, -segment.level))
    current: list[Segment] = []
    leftovers: list[Segment] = []
    for segment in found:
        holder = current[-1] if current else None
        if (
            holder is not None
            and (holder.part, holder.epoch) == (segment.part, segment.epoch)
            and holder.level > segment.level
            and segment.last <= holder.last
        ):
            leftovers.append(segment)
        else:
            current.append(segment)
    return current, leftovers


def to_compact(segments: Iterable[Segment], fanout: int) -> Sequence[Segment]:
    """The first `fanout` neighbours of one part, epoch, day and level, or none."""
    group: list[Segment] = []
    for segment in segments:
        if group and _kin(group[-1]) != _kin(segment):
            group.clear()
        group.append(segment)
        if len(group) == fanout:
            return group
    return []


def _kin(segment: Segment) -> tuple[int, int, str, int]:
    return segment.part, segment.epoch, segment.day, segment.level


def _read_rows(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, partitioning=None).cast(SCHEMA)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise HistoryError(f"history {path}: cannot be read ({error}): restore it from a backup") from error


def merge(folder: Path, group: Sequence[Segment]) -> Segment:
    """One segment in place of several neighbours. Raises OSError or HistoryError."""
    created_ns = read_footer(group[-1])[0].stream_created_ns
    rows = pa.concat_tables([_read_rows(segment.path) for segment in group])
    rows = rows.take(np.lexsort((rows.column("t_ms").to_numpy(), rows.column("slot").to_numpy())))
    last = group[-1]
    position = Position(last.epoch, created_ns, last.last)
    merged = write(folder, last.part, position, group[0].first, rows, level=last.level + 1)
    for segment in group:
        segment.path.unlink(missing_ok=True)
    return merged
