"""Energy by the quarter hour: the table of imported pasts, one Parquet file an import."""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cloud.model.telemetry import Array
from cloud.store.errors import HistoryError
from cloud.store.place import Place

QUARTER_MS: Final = 900_000
_NAME: Final = re.compile(r"(\d{13})-(\d{13})\.parquet")
# Whole thousandths of a Wh: sums of integers are exact in whatever order they are taken.
_SCHEMA: Final = pa.schema(
    [
        pa.field("start_ms", pa.int64(), nullable=False),  # UTC
        pa.field("load_wh_1000", pa.int64(), nullable=False),
        pa.field("pv_wh_1000", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class QuarterHours:
    """A site's energy in consecutive quarter hours."""

    start_ms: Array  # int64 [n], UTC, multiples of QUARTER_MS
    load_wh: Array  # float64 [n], consumption, NaN where unknown; a quarter known in part counts at its mean power
    pv_wh: Array  # float64 [n], generation, likewise
    coverage: Array  # float64 [n], 0..1: how much of the quarter the load is known for

    @classmethod
    def unknown(cls, t0_ms: int, t1_ms: int) -> "QuarterHours":
        start_ms = np.arange(t0_ms, t1_ms, QUARTER_MS, dtype=np.int64)
        unknown = np.full(len(start_ms), np.nan)
        return cls(start_ms, unknown, unknown.copy(), np.zeros(len(start_ms)))

    def better(self, other: "QuarterHours") -> "QuarterHours":
        """Quarter by quarter the one that covers more of it; `other` where they are alike."""
        chosen = other.coverage >= self.coverage
        return QuarterHours(
            self.start_ms,
            np.where(chosen, other.load_wh, self.load_wh),
            np.where(chosen, other.pv_wh, self.pv_wh),
            np.where(chosen, other.coverage, self.coverage),
        )


class Quarters:
    """Imported quarter hours, by site."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def add(self, slot: int, quarters: QuarterHours) -> None:
        """Keeps consecutive quarter hours; the same span again replaces it. Raises HistoryError where spans overlap."""
        first, last = int(quarters.start_ms[0]), int(quarters.start_ms[-1])
        for known_first, known_last, path in self._spans(slot):
            if (known_first, known_last) != (first, last) and known_first <= last and known_last >= first:
                raise HistoryError(
                    f"history of slot {slot}: overlaps what was imported before (from {_iso(known_first)} to "
                    f"{_iso(known_last + QUARTER_MS)}): cut the file, or remove {path}"
                )
        rows = pa.table(
            {
                "start_ms": pa.array(quarters.start_ms),
                "load_wh_1000": pa.array(np.rint(quarters.load_wh * 1000).astype(np.int64)),
                "pv_wh_1000": pa.array(np.rint(quarters.pv_wh * 1000).astype(np.int64)),
            },
            schema=_SCHEMA,
        )
        folder, name = f"slot={slot}", f"{first:013}-{last:013}.parquet"
        draft = self._place.draft(folder, f".{name}")
        try:
            pq.write_table(rows, draft, compression="zstd")
            self._place.finish(draft, f"{folder}/{name}")
        except BaseException:
            Place.discard(draft)
            raise

    def read(self, slot: int, t0_ms: int, t1_ms: int) -> QuarterHours:
        """Quarter hours from t0_ms up to t1_ms, both multiples of QUARTER_MS."""
        quarters = QuarterHours.unknown(t0_ms, t1_ms)
        for first, last, path in self._spans(slot):
            if first >= t1_ms or last < t0_ms:
                continue
            rows = pq.read_table(path, partitioning=None, filesystem=self._place.filesystem)
            start_ms = rows.column("start_ms").to_numpy()
            inside = (start_ms >= t0_ms) & (start_ms < t1_ms)
            index = (start_ms[inside] - t0_ms) // QUARTER_MS
            quarters.load_wh[index] = rows.column("load_wh_1000").to_numpy()[inside] / 1000
            quarters.pv_wh[index] = rows.column("pv_wh_1000").to_numpy()[inside] / 1000
            quarters.coverage[index] = 1.0
        return quarters

    def _spans(self, slot: int) -> list[tuple[int, int, str]]:
        spans = []
        for file in self._place.files(f"slot={slot}"):
            name, path = file.path.rsplit("/", 1)[1], self._place.full(file.path)
            if name.startswith("."):
                continue
            match = _NAME.fullmatch(name)
            if match is None:
                raise HistoryError(f"history {path}: not named like an import: move it elsewhere")
            spans.append((int(match[1]), int(match[2]), path))
        return sorted(spans)


def _iso(utc_ms: int) -> str:
    return f"{np.datetime64(utc_ms, 'ms').astype('datetime64[s]')}Z"
