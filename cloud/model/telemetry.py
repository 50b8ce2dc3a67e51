"""Telemetry as numpy columns: what ingest decodes, history stores and the fleet shows."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from protos import frame

Array = np.ndarray[Any, np.dtype[Any]]

POINTS: Final = tuple(name for name, _ in frame.POINTS)
SCALES: Final = np.array([scale for _, scale in frame.POINTS])  # value = count * scale, in the point's unit
SAMPLES: Final = frame.SAMPLES  # in a frame
FIRST_SEQ: Final = 1  # of a site's first frame; what is missing is counted from here
HOLE: Final = frame.HOLE_32


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames as columns, in the order in which they were received."""

    message: Array  # int64 [n]: index of the message it came in
    slot: Array  # int64 [n]: the site
    seq: Array  # int64 [n]: the site's own count of frames
    t0_ms: Array  # int64 [n]: UTC of the first sample
    interval_ms: Array  # int64 [n]: between samples
    counts: Array  # int32 [n, points, samples], HOLE where nothing was measured

    def __len__(self) -> int:
        return len(self.slot)

    @property
    def _columns(self) -> tuple[Array, ...]:
        return self.message, self.slot, self.seq, self.t0_ms, self.interval_ms, self.counts

    def take(self, which: Array) -> "Frames":
        """Those that a mask or an index array picks."""
        return Frames(*(column[which] for column in self._columns))

    def sample_ms(self) -> Array:
        """int64 [n, samples]: UTC of every sample."""
        instants: Array = self.t0_ms[:, None] + self.interval_ms[:, None] * np.arange(SAMPLES)
        return instants

    def values(self) -> Array:
        """float64 [n, points, samples] in the points' units, NaN in holes."""
        values: Array = self.counts * SCALES[:, None]
        values[self.counts == HOLE] = np.nan
        return values

    @staticmethod
    def joined(parts: "list[Frames]") -> "Frames":
        """One table of several, in their order."""
        if not parts:
            none = np.empty(0, dtype=np.int64)
            return Frames(none, none, none, none, none, np.empty((0, len(POINTS), SAMPLES), dtype=np.int32))
        if len(parts) == 1:
            return parts[0]
        return Frames(*(np.concatenate(columns) for columns in zip(*(part._columns for part in parts), strict=True)))
