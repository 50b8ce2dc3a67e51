"""Which frames of each site are stored: a table now and then, and since then the segments themselves.

`seen/part=<part>/<epoch>-<last>.parquet`: unbroken runs of frames (slot, first, last), as of a position of the part's
stream that the raw tier has. The table outlives the raw rows, so a frame that was stored long ago is still known.
"""

import re
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cloud.model.telemetry import Array
from cloud.store.errors import HistoryError
from cloud.store.place import Place
from cloud.store.segments import Position, Segments

_NAME: Final = re.compile(r"part=(\d+)/(\d{4})-(\d{15})\.parquet")
_SCHEMA: Final = pa.schema([pa.field(name, pa.uint32(), nullable=False) for name in ("slot", "first", "last")])
_KEPT: Final = 2  # tables of a part


class Seen:
    """For the one who writes a part, and for who asks what comes next of a site."""

    def __init__(self, place: Place, raw: Segments) -> None:
        self._place = place.folder("seen")
        self._raw = raw

    def keep(self, part: int, position: Position, runs: Array) -> None:
        """Keeps what is known at a position that is committed. runs: int64 [n, 3] of slot, first and last."""
        name = f"{position.epoch:04}-{position.last_sequence:015}"
        draft = self._place.draft(f"part={part}", f".{name}")
        try:
            if (runs[1:, 0] < runs[:-1, 0]).any():
                runs = runs[np.argsort(runs[:, 0], kind="stable")]
            columns = [pa.array(column.astype(np.uint32)) for column in runs.T]
            pq.write_table(
                pa.table(columns, schema=_SCHEMA),
                draft,
                compression="zstd",
                use_dictionary=False,
                column_encoding=dict.fromkeys(_SCHEMA.names, "DELTA_BINARY_PACKED"),
            )
            self._place.finish(draft, f"part={part}/{name}.parquet")
        except BaseException:
            Place.discard(draft)
            raise
        for _, path in sorted(self._tables(part), reverse=True)[_KEPT:]:
            self._place.remove(path)

    def runs(self, slot: int | None = None) -> Array:
        """int64 [n, 3] of slot, first and last frame that are stored, of all parts or of one slot. May overlap."""
        found, _ = self._raw.find()
        pieces = [np.empty((0, 3), dtype=np.int64)]
        for part in sorted({segment.part for segment in found}):
            of_part = [segment for segment in found if segment.part == part]
            committed = max((segment.order for segment in of_part if not segment.late), default=(-1, -1))
            known = [(order, path) for order, path in self._tables(part) if order <= committed]
            order, table = max(known, default=((-1, -1), None))
            if table is not None:
                pieces.append(self._read(table, slot))
            for segment in of_part:
                if order < segment.order <= committed:
                    pieces.append(self._frames(self._raw.place, segment.path, slot))
        return np.concatenate(pieces)

    def _tables(self, part: int) -> list[tuple[tuple[int, int], str]]:
        return [
            ((int(match[2]), int(match[3])), file.path)
            for file in self._place.files(f"part={part}")
            if (match := _NAME.fullmatch(file.path))
        ]

    def _read(self, path: str, slot: int | None) -> Array:
        rows = _columns(self._place, path, _SCHEMA.names, slot)
        return np.column_stack([rows.column(name).to_numpy().astype(np.int64) for name in _SCHEMA.names])

    def _frames(self, place: Place, path: str, slot: int | None) -> Array:
        rows = _columns(place, path, ["slot", "seq"], slot)
        one_a_frame = slice(None, None, self._raw.tier.group)  # whose rows stand together
        slots, seqs = rows.column("slot").to_numpy()[one_a_frame], rows.column("seq").to_numpy()[one_a_frame]
        return runs_of(slots.astype(np.int64), seqs)


def runs_of(slot: Array, seq: Array) -> Array:
    """int64 [n, 3] of slot, first and last: the unbroken runs of frames."""
    order = np.lexsort((seq, slot))
    slot, seq = slot[order], seq[order]
    starts = np.ones(len(slot), dtype=np.bool_)
    starts[1:] = (slot[1:] != slot[:-1]) | (seq[1:] > seq[:-1] + 1)
    ends = np.append(starts[1:], True)[: len(slot)]
    return np.column_stack((slot[starts], seq[starts], seq[ends])).astype(np.int64)


def _columns(place: Place, path: str, columns: list[str], slot: int | None) -> pa.Table:
    filters = None if slot is None else [("slot", "=", slot)]
    try:
        return pq.read_table(
            place.full(path), columns=columns, filters=filters, filesystem=place.filesystem, partitioning=None
        )
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        raise HistoryError(f"history {place.full(path)}: cannot be read ({error}): restore it from a backup") from error
