"""The telemetry frame as a fixed record: packed with one struct.pack, on CPython and MicroPython alike.

The bytes are the canonical protobuf encoding of vpp.v1.Frame (protos/vpp/v1/telemetry.proto), so any protobuf
library reads them. A layout says what the block holds; an id is never reused for something else. Plain Python on
purpose: the same file runs on a microcontroller (firmware_tests proves it).
"""

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # MicroPython has neither typing nor collections.abc, and does not evaluate annotations
    from collections.abc import Iterable, Sequence

POINTS = (
    # name, units per count: value = count * scale
    ("grid_power_w", 1.0),  # at the grid meter [W], positive towards the grid
    ("inverter_power_w", 1.0),  # at the inverter's AC terminals [W], positive towards the grid
    ("soc", 1e-4),  # state of charge, 0..1
    ("frequency_hz", 1e-3),  # [Hz]
    ("voltage_v", 0.1),  # [V]
    ("pv_power_w", 1.0),  # DC [W], positive when generating
)
# Of a site with chargers or loads that can wait, behind the others in layouts of their own. What it has not is 0.
FLEXIBLE_POINTS = (
    ("ev_power_w", 1.0),  # of all chargers [W], positive towards the grid: charging is negative
    ("flexible_load_power_w", 1.0),  # of all loads that can wait [W], likewise
    ("ev_session_wh", 1.0),  # into the vehicles that stand there, since they came [Wh]
    ("ev_connected", 1.0),  # vehicles that stand there
)
SAMPLES = 10
NARROW = {1000: 1, 100: 2}  # sample interval [ms] -> layout: int32 base and nine int16 offsets a column
WIDE = {1000: 3, 100: 4}  # sample interval [ms] -> layout: ten int32 a column, for swings or holes that need it
NARROW_FLEXIBLE = {1000: 5, 100: 6}  # as NARROW and WIDE, with FLEXIBLE_POINTS
WIDE_FLEXIBLE = {1000: 7, 100: 8}
HOLE_16 = -0x8000
HOLE_32 = -0x80000000
OFFSET_LIMIT = 0x7FFF
COUNT_LIMIT = 0x7FFFFFFF

_HEADER = "<BIBIBQBIBBB"
_ALL_POINTS = POINTS + FLEXIBLE_POINTS
_TAG_SITE, _TAG_SEQ, _TAG_T0, _TAG_LAYOUT, _TAG_BLOCK = 0x0D, 0x15, 0x19, 0x25, 0x7A
_NARROW_COLUMN_BYTES = 4 + 2 * (SAMPLES - 1)
_WIDE_COLUMN_BYTES = 4 * SAMPLES
NARROW_BLOCK_BYTES = len(POINTS) * _NARROW_COLUMN_BYTES
WIDE_BLOCK_BYTES = len(POINTS) * _WIDE_COLUMN_BYTES
HEADER_BYTES = 27


def pack(site: int, seq: int, t0_ms: int, interval_ms: int, columns: "Sequence[Sequence[float | None]]") -> bytes:
    """Bytes of one frame.

    columns: one sequence of SAMPLES values per point, in POINTS' order and units, and then those of FLEXIBLE_POINTS
    where the site has such devices; None is a hole.
    interval_ms: between samples, 100 or 1000; t0_ms, the first sample's UTC, must be a multiple of it.
    Switches to the wide layout where an offset would not fit or the first sample is a hole; never clips. A value
    beyond 32 bits of counts is no measurement and becomes a hole. Raises ValueError for a wrong shape or instant.
    """
    if interval_ms not in NARROW:
        raise ValueError("interval_ms must be one of 100, 1000")
    if t0_ms % interval_ms:
        raise ValueError("t0_ms must be a multiple of interval_ms")
    if len(columns) not in (len(POINTS), len(_ALL_POINTS)):
        raise ValueError("one column per point")
    flexible = len(columns) > len(POINTS)
    narrow = []
    wide = []
    fits = True
    for (_, scale), column in zip(_ALL_POINTS, columns):  # noqa: B905 (MicroPython's zip has no strict)
        if len(column) != SAMPLES:
            raise ValueError("a column has %d samples" % SAMPLES)  # noqa: UP031
        counts = [_count(value, scale) for value in column]
        wide.extend(counts)
        base = counts[0]
        fits = fits and base != HOLE_32
        narrow.append(base)
        for count in counts[1:]:
            if count == HOLE_32:
                narrow.append(HOLE_16)
                continue
            offset = count - base
            fits = fits and -OFFSET_LIMIT <= offset <= OFFSET_LIMIT
            narrow.append(offset)
    if fits:
        layouts, size = NARROW_FLEXIBLE if flexible else NARROW, _NARROW_COLUMN_BYTES * len(columns)
    else:
        layouts, size = WIDE_FLEXIBLE if flexible else WIDE, _WIDE_COLUMN_BYTES * len(columns)
    return struct.pack(
        _format(not fits, len(columns)),
        _TAG_SITE,
        site,
        _TAG_SEQ,
        seq,
        _TAG_T0,
        t0_ms,
        _TAG_LAYOUT,
        layouts[interval_ms],
        _TAG_BLOCK,
        size & 0x7F | 0x80,
        size >> 7,
        *(narrow if fits else wide),
    )


def unpack(frame: bytes) -> "tuple[int, int, int, int, list[list[float | None]]]":
    """(site, seq, t0_ms, interval_ms, columns) of a frame that `pack` made. Raises ValueError for anything else."""
    found = [
        (layouts, wide, points)
        for layouts, wide, points in (
            (NARROW, False, POINTS),
            (WIDE, True, POINTS),
            (NARROW_FLEXIBLE, False, _ALL_POINTS),
            (WIDE_FLEXIBLE, True, _ALL_POINTS),
        )
        if len(frame) == HEADER_BYTES + len(points) * (_WIDE_COLUMN_BYTES if wide else _NARROW_COLUMN_BYTES)
    ]
    if not found:
        raise ValueError("a frame of another length")
    layouts, wide, points = found[0]
    fields = struct.unpack(_format(wide, len(points)), frame)
    intervals = [interval for interval, layout in layouts.items() if layout == fields[7]]
    if fields[0:10:2] != (_TAG_SITE, _TAG_SEQ, _TAG_T0, _TAG_LAYOUT, _TAG_BLOCK) or not intervals:
        raise ValueError("a frame of another layout")
    counts = fields[11:]
    columns: list[list[float | None]] = []
    for index, (_, scale) in enumerate(points):
        column = counts[SAMPLES * index : SAMPLES * (index + 1)]
        base, hole = (0, HOLE_32) if wide else (column[0], HOLE_16)
        values: list[float | None] = [None if column[0] == HOLE_32 else column[0] * scale]
        values.extend(None if count == hole else (base + count) * scale for count in column[1:])
        columns.append(values)
    return fields[1], fields[3], fields[5], intervals[0], columns


def batch(frames: "Iterable[bytes]") -> bytes:
    """Bytes of a vpp.v1.Batch of packed frames, oldest first."""
    parts = []
    for frame in frames:
        size = len(frame)
        parts.append(bytes((0x0A, size & 0x7F | 0x80, size >> 7)) if size > 0x7F else bytes((0x0A, size)))
        parts.append(frame)
    return b"".join(parts)


def _format(wide: bool, columns: int) -> str:
    return _HEADER + ("10i" if wide else "i9h") * columns


def _count(value: float | None, scale: float) -> int:
    if value is None or value != value:
        return HOLE_32
    scaled = value / scale
    if not -COUNT_LIMIT <= scaled <= COUNT_LIMIT:
        return HOLE_32
    return int(scaled + 0.5) if scaled >= 0 else -int(0.5 - scaled)
