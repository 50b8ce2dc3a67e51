"""From control's snapshots to telemetry frames on the UTC grid. Pure: no clock, no I/O.

A sample stands at a whole multiple of the interval, in UTC, and is the last snapshot of the slot that ends there:
of (t - interval, t]. So a sample is never newer than its stamp and at most one interval older. A slot without a
snapshot is a hole. A frame holds SAMPLES slots and begins at a multiple of its own length.

Time only goes forward in what is sent: an instant that was sent once is not sent again, so a small step back of the
wall clock (or a restart in the middle of a slot) costs the samples of the repeated time. A step back beyond
`BACK_STEP_MS` means that the clock had been wrong before: the frames go back with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from protos.frame import FLEXIBLE_POINTS, POINTS, SAMPLES, pack
from protos.vpp.v1.local_pb2 import SnapshotReport

BACK_STEP_MS = 60_000
_NAMES = tuple(name for name, _ in POINTS)
_FLEXIBLE_NAMES = tuple(name for name, _ in FLEXIBLE_POINTS)

Row = tuple[float | None, ...]  # one value per point, in POINTS' order and units, and of FLEXIBLE_POINTS where measured
_HOLES: Row = (None,) * len(POINTS)


@dataclass(frozen=True, slots=True)
class FrameDraft:
    """A frame that has no sequence number yet."""

    t0_ms: int  # UTC of the first sample
    interval_ms: int
    rows: tuple[Row, ...]  # one a sample
    settles: bool = False  # a service was armed during it

    @property
    def last_sample_ms(self) -> int:
        """UTC of the last sample that is not a hole."""
        filled = max(i for i, row in enumerate(self.rows) if row is not _HOLES)
        return self.t0_ms + filled * self.interval_ms

    def pack(self, slot: int, seq: int) -> bytes:
        """The frame's bytes, from the site in this slot."""
        return pack(slot, seq, self.t0_ms, self.interval_ms, columns_of(self.rows))


def columns_of(rows: Sequence[Row]) -> list[tuple[float | None, ...]]:
    """One column a point; a row without chargers and loads has holes there where another has them."""
    width = max(map(len, rows))
    return list(zip(*((*row, *[None] * (width - len(row))) for row in rows), strict=True))


@dataclass(slots=True)
class _Open:
    """The frame being filled."""

    t0_ms: int
    rows: list[Row] = field(default_factory=lambda: [_HOLES] * SAMPLES)
    at_ms: list[int] = field(default_factory=lambda: [-1] * SAMPLES)  # of the snapshot that each row is from
    settles: bool = False


class FrameBuilder:
    """Takes snapshots, gives frames."""

    def __init__(self, interval_ms: int, after_ms: int | None = None) -> None:
        """interval_ms: between samples. after_ms: UTC of the last sample sent before (by an earlier process)."""
        self.interval_ms = interval_ms
        self._span_ms = interval_ms * SAMPLES
        self._after_ms = after_ms
        self._open: _Open | None = None
        self.repeated = 0  # snapshots dropped because their instant had been sent before
        self.steps_back = 0  # times the frames went back with the clock

    def add(self, snapshot: SnapshotReport) -> list[FrameDraft]:
        """Takes a snapshot, in order of arrival; gives the frame it completes, if it does."""
        at_ms = snapshot.at_ms
        sample_ms = -(-at_ms // self.interval_ms) * self.interval_ms
        done: list[FrameDraft] = []
        newest_ms = self._newest_ms()
        if newest_ms is not None and sample_ms < newest_ms - BACK_STEP_MS:
            done += self.flush()
            self._after_ms = None
            self.steps_back += 1
        t0_ms = sample_ms // self._span_ms * self._span_ms
        if self._open is not None and t0_ms > self._open.t0_ms:
            done += self.flush()
        if self._after_ms is not None and sample_ms <= self._after_ms:
            self.repeated += 1
            return done
        if self._open is None:
            self._open = _Open(t0_ms)
        elif t0_ms < self._open.t0_ms:  # late: its frame was passed over
            self.repeated += 1
            return done
        index = (sample_ms - t0_ms) // self.interval_ms
        if at_ms >= self._open.at_ms[index]:
            self._open.at_ms[index] = at_ms
            self._open.rows[index] = _row(snapshot)
            self._open.settles |= snapshot.armed
        return done

    def close_due(self, now_ms: int) -> list[FrameDraft]:
        """Gives the open frame if its time is over for good: control has fallen silent."""
        if self._open is not None and now_ms > self._open.t0_ms + 2 * self._span_ms:
            return self.flush()
        return []

    def flush(self) -> list[FrameDraft]:
        """Gives the open frame as it is, with holes where nothing has come."""
        if self._open is None:
            return []
        draft = FrameDraft(self._open.t0_ms, self.interval_ms, tuple(self._open.rows), self._open.settles)
        self._open = None
        self._after_ms = draft.last_sample_ms
        return [draft]

    def _newest_ms(self) -> int | None:
        return self._after_ms if self._open is None else self._open.t0_ms


def _row(snapshot: SnapshotReport) -> Row:
    names = _NAMES
    if any(snapshot.HasField(name) for name in _FLEXIBLE_NAMES):
        names += _FLEXIBLE_NAMES
    return tuple(getattr(snapshot, name) if snapshot.HasField(name) else None for name in names)
