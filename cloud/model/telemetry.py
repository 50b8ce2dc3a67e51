"""Telemetry as numpy columns: what ingest decodes, history stores and the fleet shows."""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from protos import frame

Array = np.ndarray[Any, np.dtype[Any]]

POINTS: Final = tuple(name for name, _ in frame.POINTS)
FLEXIBLE_POINTS: Final = tuple(name for name, _ in frame.FLEXIBLE_POINTS)
FLEXIBLE_SCALES: Final = np.array([scale for _, scale in frame.FLEXIBLE_POINTS])
SCALES: Final = np.array([scale for _, scale in frame.POINTS])  # value = count * scale, in the point's unit
SAMPLES: Final = frame.SAMPLES  # in a frame
FIRST_SEQ: Final = 1  # of a site's first frame; what is missing is counted from here
HOLE: Final = frame.HOLE_32
# A column of a narrow block as it stands on the wire: kept so until it is written, at half of what counts take.
NARROW: Final = np.dtype([("base", "<i4"), ("offsets", "<i2", (frame.SAMPLES - 1,))])


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames as columns, in the order in which they were received."""

    message: Array  # int64 [n]: index of the message it came in
    slot: Array  # int64 [n]: the site
    seq: Array  # int64 [n]: the site's own count of frames
    t0_ms: Array  # int64 [n]: UTC of the first sample
    interval_ms: Array  # int64 [n]: between samples
    blocks: Array  # NARROW [n, points], or int32 [n, points, samples] with HOLE where nothing was measured
    # int32 [n, FLEXIBLE_POINTS, samples], HOLE where nothing was measured; None where no frame has any.
    flexible: Array | None = None

    def __len__(self) -> int:
        return len(self.slot)

    @property
    def _columns(self) -> tuple[Array, ...]:
        return self.message, self.slot, self.seq, self.t0_ms, self.interval_ms, self.blocks

    def take(self, which: Array | slice) -> "Frames":
        """Those that a mask, an index array or a slice picks."""
        flexible = self.flexible[which] if self.flexible is not None else None
        return replace(Frames(*(column[which] for column in self._columns)), flexible=flexible)

    @property
    def counts(self) -> Array:
        """int32 [n, points, samples], HOLE where nothing was measured."""
        return counts_of(self.blocks)

    def sample_ms(self) -> Array:
        """int64 [n, samples]: UTC of every sample."""
        instants: Array = self.t0_ms[:, None] + self.interval_ms[:, None] * np.arange(SAMPLES)
        return instants

    def last_ms(self) -> Array:
        """int64 [n]: UTC of each frame's last sample."""
        instants: Array = self.t0_ms + (SAMPLES - 1) * self.interval_ms
        return instants

    @staticmethod
    def joined(parts: "list[Frames]") -> "Frames":
        """One table of several, in their order."""
        if not parts:
            none = np.empty(0, dtype=np.int64)
            return Frames(none, none, none, none, none, np.empty((0, len(POINTS)), dtype=NARROW))
        if len(parts) == 1:
            return parts[0]
        columns = [list(columns) for columns in zip(*(part._columns for part in parts), strict=True)]
        if len({block.dtype for block in columns[-1]}) > 1:
            columns[-1] = [part.counts for part in parts]
        flexible = None
        if any(part.flexible is not None for part in parts):
            flexible = np.concatenate(
                [part.flexible if part.flexible is not None else _none(len(part)) for part in parts]
            )
        return replace(Frames(*(np.concatenate(column) for column in columns)), flexible=flexible)


def counts_of(blocks: Array) -> Array:
    """int32 [n, points, samples] of blocks as they stand on the wire, HOLE where nothing was measured."""
    if blocks.dtype.names is None:
        return blocks
    base, offsets = blocks["base"], blocks["offsets"]
    counts = np.empty((*base.shape, SAMPLES), dtype=np.int32)
    counts[..., 0] = base
    np.add(base[..., None], offsets, out=counts[..., 1:])
    holes = offsets == frame.HOLE_16
    if holes.any():
        counts[..., 1:][holes] = HOLE
    return counts


def _none(frames: int) -> Array:
    return np.full((frames, len(FLEXIBLE_POINTS), SAMPLES), HOLE, dtype=np.int32)
