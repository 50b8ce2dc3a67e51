"""Parquet segments that carry how far their stream was read, so that one rename commits rows and position.

`<tier>/day=<UTC day>/part=<part>/<epoch>-<first>-<last>-<oldest>-<newest>-<level>[-w<token>][-late].parquet`: first and
last are the stream sequences that went into it (also such as gave no rows), oldest and newest the UTC milliseconds of
its rows, day that of the oldest, level how often it was joined with others, token whose it is (tenure.py). An epoch is
one life of the stream: a stream made anew counts from 1 again and begins the next epoch.

What is written at once may fall into several spans (hours or days): each gets a segment of its own, those of older
spans first and marked `late`. Only the last one, unmarked, says that the sequences were read; late ones without it are
what a killed writer left behind, and the next one removes them before it reads the same sequences again.
A segment whose range of sequences lies in that of one of a higher level in the same span is a leftover of an
interrupted join: the rows are in the other, nobody reads it, the writer removes it.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cloud.model.telemetry import Array
from cloud.store.errors import HistoryError
from cloud.store.place import Place
from cloud.store.tenure import ALONE, NO_TOKEN, Holder, Tenures, Token, Writer, is_void

DAY_MS: Final = 86_400_000
_PAGE_BYTES: Final = 64 * 1024  # what a join holds of each column of each file
_JOIN_BYTES: Final = 8 << 20  # of rows that a join or a sum holds of all files at a time
_LEAST_ROWS: Final = 2048  # of one file at a time
MOST_JOINED: Final = 128  # files in one join
_FOOTER_KEY: Final = b"murmuration.segment"
_NAME: Final = re.compile(
    r"day=([\d-]{10})/part=(\d+)/(\d{4})-(\d{15})-(\d{15})-(\d{13})-(\d{13})-(\d+)(?:-w(\d+)\.(\d+))?(-late)?\.parquet"
)


@dataclass(frozen=True, slots=True)
class Position:
    """How far the stream of a part is in the history."""

    epoch: int
    stream_created_ns: int
    last_sequence: int

    @property
    def order(self) -> tuple[int, int]:
        return self.epoch, self.last_sequence


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment by its name."""

    path: str  # in its tier
    bytes: int
    day: str
    part: int
    epoch: int
    first: int
    last: int
    oldest_ms: int
    newest_ms: int
    level: int
    token: Token  # of the writer
    late: bool

    @property
    def order(self) -> tuple[int, int]:
        return self.epoch, self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A kind of rows, by slot and time."""

    name: str  # its folder
    schema: pa.Schema
    encoding: Mapping[str, str]  # columns that are not named repeat themselves: by dictionary
    compression_level: int
    time: str  # column of UTC ms
    span_ms: int  # a segment covers one span at most
    group: int  # rows that stay together, in the span of the first
    combined: Callable[[pa.Table], pa.Table]  # rows of whole slots in any order -> by slot and time
    scales: Mapping[str, float]
    row_group_rows: int  # what a question about one site reads at least

    @property
    def row_bytes(self) -> int:
        """Of a row in memory."""
        return sum(int(field.type.bit_width) for field in self.schema) // 8


class Footer(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment says of itself."""

    part: int
    epoch: int
    stream_created_ns: int
    first_sequence: int
    last_sequence: int
    scales: dict[str, float]  # a point's count times this is its value


class Segments:
    """The segments of one tier. One process writes a part at a time; any may read.

    Raises HistoryError, OSError; where it writes, Superseded if another process took the part over.
    """

    def __init__(self, place: Place, tier: Tier) -> None:
        self.place = place.folder(tier.name)
        self.tier = tier
        self._tenures = Tenures(self.place)
        self._writers: dict[int, Writer] = {}  # by part that this process writes

    def find(
        self, part: int | None = None, *, t0_ms: int | None = None, t1_ms: int | None = None
    ) -> tuple[list[Segment], list[Segment]]:
        """Segments of a part, or of all, in stream order; and the leftovers. Those alone that have rows from t0_ms up
        to but not including t1_ms, where given. Raises HistoryError for a strange file.
        """
        found = [
            segment
            for day in self._days(t0_ms, t1_ms)
            for file in self.place.files(day if part is None else f"{day}/part={part}")
            if not file.path.rsplit("/", 1)[1].startswith(".")
            for segment in [self._named(file.path, file.bytes)]
            if (t0_ms is None or segment.newest_ms >= t0_ms) and (t1_ms is None or segment.oldest_ms < t1_ms)
        ]
        tenures = self._tenures.of(part)  # after the files: whoever commits again what is void was entered before
        void = [one for one in found if is_void(one.token, one.order, tenures.get(one.part, ()))]
        if void:
            found = [segment for segment in found if segment not in void]
        span_ms = self.tier.span_ms
        found.sort(
            key=lambda one: (one.part, one.epoch, one.oldest_ms // span_ms, one.first, -one.last, -one.level, one.path)
        )
        current: list[Segment] = []
        leftovers = void
        for segment in found:
            holder = current[-1] if current else None
            if (
                holder is not None
                and (holder.part, holder.epoch) == (segment.part, segment.epoch)
                and holder.oldest_ms // span_ms == segment.oldest_ms // span_ms
                and holder.level > segment.level
                and segment.last <= holder.last
            ):
                leftovers.append(segment)
            else:
                current.append(segment)
        current.sort(key=lambda one: (one.part, one.epoch, one.first, one.oldest_ms))
        return current, leftovers

    def _days(self, t0_ms: int | None, t1_ms: int | None) -> list[str]:
        """Folders that may hold rows of the time; a segment may reach into the day after its own."""
        names = [name for name in self.place.folders() if name.startswith("day=")]
        if t0_ms is not None:
            names = [name for name in names if name >= f"day={_day(t0_ms - DAY_MS)}"]
        if t1_ms is not None:
            names = [name for name in names if name <= f"day={_day(t1_ms)}"]
        return sorted(names)

    def _named(self, path: str, size: int) -> Segment:
        match = _NAME.fullmatch(path)
        if match is None:
            raise HistoryError(f"history {self.place.full(path)}: not named like a segment: move it elsewhere")
        day, *numbers, late = match.groups(default="0")
        part, epoch, first, last, oldest, newest, level, *token = map(int, numbers)
        return Segment(
            path, size, day, part, epoch, first, last, oldest, newest, level, (token[0], token[1]), late != "0"
        )

    def position(self, part: int) -> Position | None:
        """How far the part's stream is in this tier; None before its first segment."""
        found = [segment for segment in self.find(part)[0] if not segment.late]
        if not found:
            return None
        footer, _ = self.footer(max(found, key=lambda segment: segment.order))
        return Position(footer.epoch, footer.stream_created_ns, footer.last_sequence)

    def footer(self, segment: Segment) -> tuple[Footer, int]:
        """What the segment says of itself, and its number of rows. Raises HistoryError."""
        path = self.place.full(segment.path)
        try:
            with self.place.open(segment.path) as file:
                metadata = pq.read_metadata(file)
            footer = msgspec.json.decode(metadata.metadata[_FOOTER_KEY], type=Footer)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, KeyError, TypeError, msgspec.DecodeError) as error:
            raise HistoryError(f"history {path}: not a segment ({error}): restore it from a backup") from error
        named = (segment.part, segment.epoch, segment.first, segment.last)
        if named != (footer.part, footer.epoch, footer.first_sequence, footer.last_sequence):
            raise HistoryError(f"history {path}: name and footer differ: give it back the name it had")
        return footer, metadata.num_rows

    def begin(self, part: int, writer: Writer) -> None:
        """From now on `writer` is who writes the part here. Raises Superseded where somebody newer does."""
        self._tenures.check(part, writer)
        self._writers[part] = writer
        self.tidy(part)
        if writer.token != NO_TOKEN:
            committed = max((segment.order for segment in self.find(part)[0] if not segment.late), default=(0, 0))
            self._tenures.begin(part, writer, committed)

    def writer(self, part: int) -> Holder | None:
        """Who began to write the part last; None where nobody had to be told apart."""
        return self._tenures.last(part)

    def tidy(self, part: int) -> None:
        """Removes what an interrupted writer of the part left behind. For the one who writes the part."""
        found, leftovers = self.find(part)
        committed = max((segment.order for segment in found if not segment.late), default=(-1, -1))
        for segment in (*leftovers, *(one for one in found if one.late and one.order > committed)):
            self.place.remove(segment.path)
        for day in self._days(None, None):
            for file in self.place.files(f"{day}/part={part}"):
                if file.path.rsplit("/", 1)[1].startswith("."):
                    self.place.remove(file.path)

    def cut(self, part: int, position: Position | None) -> None:
        """Removes what lies beyond a position: for a tier that is written before the one whose commit counts."""
        for segment in self.find(part)[0]:
            if position is None or segment.order > position.order:
                self.place.remove(segment.path)

    def write(
        self, part: int, position: Position, first: int, tables: Iterable[pa.Table], *, level: int = 0
    ) -> list[Segment]:
        """Commits rows, ascending by slot, and the stream's sequences `first` to `position.last_sequence` as read."""
        footer = Footer(
            part=part,
            epoch=position.epoch,
            stream_created_ns=position.stream_created_ns,
            first_sequence=first,
            last_sequence=position.last_sequence,
            scales=dict(self.tier.scales),
        )
        drafts: dict[int, _Draft] = {}  # by span
        try:
            for table in tables:
                for span, rows in self._by_span(table):
                    if span not in drafts:
                        drafts[span] = _Draft(self.place, self.tier, part, span, position.last_sequence)
                    drafts[span].add(rows)
            if not drafts:
                raise ValueError("a segment has at least one frame or row")
            for draft in drafts.values():
                draft.close(footer)
            *late, newest = sorted(drafts)
            writer = self._writers.get(part, ALONE)
            self._tenures.check(part, writer)
            written = [drafts[span].put(footer, level, writer.token, late=True) for span in late]
            written.append(drafts[newest].put(footer, level, writer.token, late=False))
        except BaseException:
            for draft in drafts.values():
                draft.discard()
            raise
        return [self._named(*one) for one in written]

    def _by_span(self, table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """The rows by span, most often of one alone."""
        group = self.tier.group
        span = table.column(self.tier.time).to_numpy()[::group] // self.tier.span_ms
        if not len(span):
            return
        first, last = int(span.min()), int(span.max())
        if first == last:
            yield first, table
            return
        for one in np.unique(span).tolist():
            yield one, table.filter(pa.array(np.repeat(span == one, group)))

    def rows(self, segments: Sequence[Segment]) -> Iterator[pa.Table]:
        """All rows of the segments, in tables of whole slots, ascending. In bounded memory."""
        group = self.tier.group
        most = _JOIN_BYTES // self.tier.row_bytes
        batch = max(most // max(1, len(segments)), _LEAST_ROWS) // group * group
        cursors = [_Cursor(self, segment, batch) for segment in segments]
        try:
            while True:
                for cursor in cursors:
                    if cursor.empty and not cursor.exhausted:
                        cursor.fill()
                reading = [cursor for cursor in cursors if not cursor.exhausted]
                bound = min((cursor.last_slot for cursor in reading), default=None)
                pieces = [piece for cursor in cursors if not cursor.empty for piece in cursor.take(bound)]
                if pieces:
                    yield self.tier.combined(pa.Table.from_batches(pieces, self.tier.schema))
                elif reading:
                    for cursor in reading:
                        if cursor.last_slot == bound:
                            cursor.fill()
                else:
                    return
        finally:
            for cursor in cursors:
                cursor.close()

    def join(self, group: Sequence[Segment], tables: Iterable[pa.Table]) -> list[Segment]:
        """One segment in place of neighbours in one span. tables: their `rows`. Raises OSError, HistoryError."""
        last = max(group, key=lambda segment: segment.order)
        position = Position(last.epoch, self.footer(last)[0].stream_created_ns, last.last)
        level = max(segment.level for segment in group) + 1
        first = min(segment.first for segment in group)
        joined = self.write(last.part, position, first, tables, level=level)
        self._tenures.check(last.part, self._writers.get(last.part, ALONE))
        for segment in group:
            self.place.remove(segment.path)
        return joined


class _Draft:
    """A segment that is being written."""

    def __init__(self, place: Place, tier: Tier, part: int, span: int, last: int) -> None:
        self._place = place
        self._tier = tier
        self._folder = f"day={_day(span * tier.span_ms)}/part={part}"
        self._path: Path | None = place.draft(self._folder, f".{last}-{span}")
        self._writer = pq.ParquetWriter(
            self._path,
            tier.schema,
            compression="zstd",
            compression_level=tier.compression_level,
            use_dictionary=[name for name in tier.schema.names if name not in tier.encoding],
            column_encoding=dict(tier.encoding),
            write_statistics=["slot", tier.time],
            data_page_size=_PAGE_BYTES,
            store_schema=False,
        )
        self._rest: list[pa.Table] = []
        self._rest_rows = 0
        self._oldest = self._newest = -1

    def add(self, rows: pa.Table) -> None:
        time = rows.column(self._tier.time).to_numpy()
        oldest, newest = int(time.min()), int(time.max())
        self._oldest = oldest if self._oldest < 0 else min(oldest, self._oldest)
        self._newest = max(newest, self._newest)
        self._rest.append(rows)
        self._rest_rows += len(rows)
        size = self._tier.row_group_rows
        if self._rest_rows >= size:
            whole = pa.concat_tables(self._rest)
            cut = self._rest_rows // size * size
            self._writer.write_table(whole.slice(0, cut), row_group_size=size)
            self._rest = [whole.slice(cut)]
            self._rest_rows -= cut

    def close(self, footer: Footer) -> None:
        if self._rest_rows:
            self._writer.write_table(pa.concat_tables(self._rest), row_group_size=self._tier.row_group_rows)
        self._writer.add_key_value_metadata({_FOOTER_KEY: msgspec.json.encode(footer)})
        self._writer.close()

    def put(self, footer: Footer, level: int, token: Token, *, late: bool) -> tuple[str, int]:
        """Path and size of the segment, which is now there."""
        whose = "" if token == NO_TOKEN else f"-w{token[0]}.{token[1]}"
        name = (
            f"{footer.epoch:04}-{footer.first_sequence:015}-{footer.last_sequence:015}-"
            f"{self._oldest:013}-{self._newest:013}-{level}{whose}{'-late' if late else ''}.parquet"
        )
        path = f"{self._folder}/{name}"
        assert self._path is not None  # noqa: S101 (put once)
        size = self._path.stat().st_size
        self._place.finish(self._path, path)
        self._path = None
        return path, size

    def discard(self) -> None:
        if self._path is not None:
            self._writer.close()
            Place.discard(self._path)


class _Cursor:
    """A segment read forward."""

    def __init__(self, segments: Segments, segment: Segment, batch: int) -> None:
        self._name = segments.place.full(segment.path)
        self._schema = segments.tier.schema
        self._file = segments.place.open(segment.path)
        self._held: list[tuple[pa.RecordBatch, Array]] = []  # each with its slots
        self.exhausted = False
        try:
            self._batches = pq.ParquetFile(self._file, pre_buffer=False).iter_batches(batch)
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    @property
    def empty(self) -> bool:
        return not self._held

    @property
    def last_slot(self) -> int:
        return int(self._held[-1][1][-1]) if self._held else -1

    def fill(self) -> None:
        try:
            batch = next(self._batches, None)
            if batch is None:
                self.exhausted = True
                return
            if not batch.schema.equals(self._schema):
                batch = batch.cast(self._schema)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(error) from error
        if len(batch):
            self._held.append((batch, batch.column("slot").to_numpy()))

    def take(self, before: int | None) -> list[pa.RecordBatch]:
        """Rows of slots below `before`, or all; they are gone from here."""
        taken: list[pa.RecordBatch] = []
        while self._held:
            batch, slots = self._held[0]
            cut = len(slots) if before is None else int(slots.searchsorted(before))
            if cut:
                taken.append(batch.slice(0, cut))
            if cut < len(slots):
                self._held[0] = batch.slice(cut), slots[cut:]
                break
            del self._held[0]
        return taken

    def close(self) -> None:
        self._file.close()

    def _damaged(self, error: Exception) -> HistoryError:
        return HistoryError(f"history {self._name}: cannot be read ({error}): restore it from a backup")


def _day(utc_ms: int) -> str:
    return dt.datetime.fromtimestamp(utc_ms // 1000, dt.UTC).date().isoformat()
