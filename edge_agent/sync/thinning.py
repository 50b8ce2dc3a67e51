"""Ten frames of 100 ms samples become one of 1 s samples: a tenth of the room, and still every second. No I/O.

As in `frames.py`, a sample stands for the last measurement of the interval that ends with it, so a thinned second shows
what a frame of 1 s samples would have shown at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edge_agent.sync.frames import Row, columns_of
from protos.frame import POINTS, SAMPLES, pack, unpack

FINE_MS = 100
COARSE_MS = 1000
_SPAN_MS = COARSE_MS * SAMPLES

_HOLES: Row = (None,) * len(POINTS)


@dataclass(frozen=True, slots=True)
class Thinned:
    """One frame in place of several. It bears the number of the last of them: their order stays as it was."""

    seq: int
    body: bytes
    replaced: tuple[int, ...]  # sequence numbers, ascending; the last is `seq`
    t0_ms: int  # UTC of its first sample

    @property
    def gone(self) -> tuple[int, ...]:
        """The numbers that no frame bears any more."""
        return self.replaced[:-1]


def thin(frames: Iterable[tuple[int, bytes]]) -> Iterator[Thinned]:
    """What takes the place of frames (seq, body), in order of seq: one for each run of them inside the same 10 s.

    Frames of another interval than FINE_MS are passed over. Raises ValueError for what is no frame.
    """
    run: list[tuple[int, int, list[Row]]] = []  # seq, t0_ms, rows
    slot = 0
    for seq, body in frames:
        slot, _, t0_ms, interval_ms, columns = unpack(body)
        if interval_ms != FINE_MS:
            continue
        if run and (t0_ms // _SPAN_MS != run[0][1] // _SPAN_MS or t0_ms <= run[-1][1]):
            yield _joined(slot, run)
            run = []
        run.append((seq, t0_ms, list(zip(*columns, strict=True))))
    if run:
        yield _joined(slot, run)


def _joined(slot: int, run: Sequence[tuple[int, int, list[Row]]]) -> Thinned:
    t0_ms = run[0][1] // _SPAN_MS * _SPAN_MS
    rows = [_HOLES] * SAMPLES
    for _, first_ms, fine in run:
        for index, row in enumerate(fine):
            second = -(-(first_ms + index * FINE_MS - t0_ms) // COARSE_MS)  # the sample whose interval it falls in
            if second < SAMPLES and any(value is not None for value in row):
                rows[second] = row
    seq = run[-1][0]
    return Thinned(
        seq, pack(slot, seq, t0_ms, COARSE_MS, columns_of(rows)), tuple(number for number, _, _ in run), t0_ms
    )


def runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of each unbroken run of ascending numbers."""
    first = last = -1
    for number in numbers:
        if first >= 0 and number == last + 1:
            last = number
            continue
        if first >= 0:
            yield first, last
        first = last = number
    if first >= 0:
        yield first, last


def packed(spans: Iterable[tuple[int, int]]) -> list[int]:
    """Runs (first and last), ascending, as vpp.v1.Event tells them."""
    numbers, end = [], -1
    for first, last in spans:
        numbers += [first - end - 1, last - first + 1]
        end = last
    return numbers
