"""The frame's fixed record is canonical protobuf: checked against the protobuf library, not against itself."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import frame
from protos.vpp.v1.telemetry_pb2 import Batch, Frame

FLAT: list[list[float | None]] = [[0.0] * frame.SAMPLES for _ in frame.POINTS]


def columns_of(message: Frame) -> list[list[float | None]]:
    """Decodes a block by reading the layout's definition literally, one number at a time."""
    columns: list[list[float | None]] = []
    wide = message.layout in frame.WIDE.values()
    stride = 4 * frame.SAMPLES if wide else 4 + 2 * (frame.SAMPLES - 1)
    for index, (_, scale) in enumerate(frame.POINTS):
        block = message.block[index * stride : (index + 1) * stride]
        if wide:
            counts = list(struct.unpack("<10i", block))
        else:
            base, *offsets = struct.unpack("<i9h", block)
            counts = [base, *(frame.HOLE_32 if o == frame.HOLE_16 else base + o for o in offsets)]
        columns.append([None if c == frame.HOLE_32 else c * scale for c in counts])
    return columns


@pytest.mark.parametrize("interval_ms", [100, 1000])
def test_bytes_are_those_the_protobuf_library_writes(interval_ms: int) -> None:
    packed = frame.pack(0, 0, 0, interval_ms, FLAT)
    block = bytes(frame.NARROW_BLOCK_BYTES)
    expected = Frame(site=0, seq=0, t0_ms=0, layout=frame.NARROW[interval_ms], block=block)
    assert packed == expected.SerializeToString()
    assert len(packed) == 159
    assert len(packed) / (len(frame.POINTS) * frame.SAMPLES) <= 2.8


def test_concatenated_records_are_a_batch() -> None:
    frames = [frame.pack(7, seq, 1000 * seq, 100, FLAT) for seq in range(3)]
    parsed = Batch.FromString(frame.batch(frames))
    assert [f.seq for f in parsed.frames] == [0, 1, 2]
    assert parsed.SerializeToString() == frame.batch(frames)


def column(scale: float) -> st.SearchStrategy[list[float | None]]:
    counts = st.one_of(st.none(), st.integers(-100, 100), st.integers(-frame.COUNT_LIMIT, frame.COUNT_LIMIT))
    values = counts.map(lambda c: None if c is None else c * scale)
    return st.lists(values, min_size=frame.SAMPLES, max_size=frame.SAMPLES)


@given(
    site=st.integers(0, 2**32 - 1),
    seq=st.integers(0, 2**32 - 1),
    slot=st.integers(0, 2**40),
    columns=st.tuples(*(column(scale) for _, scale in frame.POINTS)),
)
def test_whatever_goes_in_comes_out(site: int, seq: int, slot: int, columns: tuple[list[float | None], ...]) -> None:
    message = Frame.FromString(frame.pack(site, seq, slot * 100, 100, columns))
    assert (message.site, message.seq, message.t0_ms) == (site, seq, slot * 100)
    for got, sent, (_, scale) in zip(columns_of(message), columns, frame.POINTS, strict=True):
        for a, b in zip(got, sent, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                assert a == pytest.approx(b, abs=scale / 2 + abs(b) * 1e-12)


@pytest.mark.parametrize(
    ("first", "second", "layout"),
    [
        pytest.param(0.0, 32767.0, frame.NARROW[100], id="largest offset stays narrow"),
        pytest.param(0.0, 32768.0, frame.WIDE[100], id="one more switches"),
        pytest.param(0.0, -32768.0, frame.WIDE[100], id="the hole's number is not an offset"),
        pytest.param(None, 1.0, frame.WIDE[100], id="no base, no offsets"),
        pytest.param(1.0, None, frame.NARROW[100], id="a later hole stays narrow"),
        pytest.param(1.0, float("nan"), frame.NARROW[100], id="not a number is a hole"),
        pytest.param(1.0, float("inf"), frame.NARROW[100], id="infinity is a hole"),
    ],
)
def test_layout_switches_instead_of_clipping(first: float | None, second: float | None, layout: int) -> None:
    columns: list[list[float | None]] = [[first, second, *[0.0] * 8], *FLAT[1:]]
    assert Frame.FromString(frame.pack(1, 1, 0, 100, columns)).layout == layout


@pytest.mark.parametrize(
    ("t0_ms", "interval_ms", "columns", "says"),
    [
        pytest.param(50, 100, FLAT, "multiple", id="instant off the grid"),
        pytest.param(0, 250, FLAT, "interval_ms", id="unregistered interval"),
        pytest.param(0, 100, FLAT[1:], "column per point", id="a column missing"),
        pytest.param(0, 100, [[0.0] * 9, *FLAT[1:]], "10 samples", id="a sample missing"),
    ],
)
def test_wrong_shapes_are_refused(t0_ms: int, interval_ms: int, columns: list[list[float | None]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        frame.pack(1, 1, t0_ms, interval_ms, columns)


@given(
    interval_ms=st.sampled_from(sorted(frame.NARROW)),
    seq=st.integers(0, 2**32 - 1),
    counts=st.lists(
        st.lists(st.none() | st.integers(-(2**31) + 2, 2**31 - 2), min_size=10, max_size=10), min_size=6, max_size=6
    )
    | st.lists(st.lists(st.none() | st.integers(-900, 900), min_size=10, max_size=10), min_size=6, max_size=6),
)
def test_unpack_gives_back_what_was_packed(interval_ms: int, seq: int, counts: list[list[int | None]]) -> None:
    columns = [
        [None if count is None else count * scale for count in column]
        for (_, scale), column in zip(frame.POINTS, counts, strict=True)
    ]
    packed = frame.pack(7, seq, 5000 * interval_ms, interval_ms, columns)
    assert frame.unpack(packed) == (7, seq, 5000 * interval_ms, interval_ms, columns)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"\x00" + b[1:], lambda b: b[:20] + b"\x09" + b[21:]])
def test_unpack_refuses_what_is_no_frame(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match="another"):
        frame.unpack(damage(frame.pack(7, 1, 0, 1000, [[1.0] * 10] * 6)))
