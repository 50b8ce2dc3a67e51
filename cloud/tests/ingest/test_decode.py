"""Decoding: any legal encoding of the same frames gives the same arrays, and nothing that is received raises."""

import math
import random
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.ingest.decode import Cause, decode
from cloud.model.telemetry import HOLE, Frames
from protos import frame
from protos.vpp.v1 import telemetry_pb2

T0_MS = 1_790_000_000_000
NOW_MS = T0_MS + 86_400_000
SCALES = [scale for _, scale in frame.POINTS]
LIMITS = [40_000, 40_000, 10_000, 70_000, 4_000, 40_000]  # counts


@dataclass(frozen=True)
class Sent:
    """A frame as its site knows it: counts by point and sample, None for a hole."""

    site: int
    seq: int
    t0_ms: int
    interval_ms: int
    counts: tuple[tuple[int | None, ...], ...]

    def packed(self) -> bytes:
        columns = [
            [None if count is None else count * scale for count in column]
            for column, scale in zip(self.counts, SCALES, strict=True)
        ]
        return frame.pack(self.site, self.seq, self.t0_ms, self.interval_ms, columns)


def column(limit: int, dice: random.Random) -> tuple[int | None, ...]:
    """Calm or wild, with or without holes, at its limits now and then."""
    spread = dice.choice((0, 3, limit, 1_000_000))
    middle = dice.choice((0, -limit, limit, dice.randint(-limit, limit)))
    holes = dice.choice((0.0, 0.0, 0.2, 1.0))
    return tuple(
        None if dice.random() < holes else middle + dice.randint(-spread, spread) for _ in range(frame.SAMPLES)
    )


@st.composite
def sent(draw: st.DrawFn) -> Sent:
    dice = random.Random(draw(st.integers(0, 1 << 32)))
    interval_ms = draw(st.sampled_from(sorted(frame.NARROW)))
    return Sent(
        site=draw(st.integers(0, 0xFFFFFFFF)),
        seq=draw(st.integers(1, 0xFFFFFFFF)),
        t0_ms=T0_MS + interval_ms * draw(st.integers(0, 10_000)),
        interval_ms=interval_ms,
        counts=tuple(column(limit, dice) for limit in LIMITS),
    )


MESSAGES = st.lists(st.lists(sent(), max_size=3), max_size=4)


def varint(number: int, longer: int = 0) -> bytes:
    """A varint, `longer` bytes longer than it must be: legal, never canonical."""
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F)
    groups += [0] * longer
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def otherwise(packed: bytes, dice: random.Random) -> bytes:
    """Another legal encoding of the frame: fields in any order, some twice, unknown ones and extras between them."""
    parsed = telemetry_pb2.Frame.FromString(packed)
    fields = [
        b"\x0d" + parsed.site.to_bytes(4, "little"),
        b"\x15" + parsed.seq.to_bytes(4, "little"),
        b"\x19" + parsed.t0_ms.to_bytes(8, "little"),
        b"\x25" + parsed.layout.to_bytes(4, "little"),
        varint(0x7A, dice.randrange(3)) + varint(len(parsed.block), dice.randrange(3)) + parsed.block,
    ]
    if dice.random() < 0.3:
        fields.append(varint(16 << 3 | 2) + varint(4) + b"\x0a\x00\x12\x00")  # ext {"": ""}
    if dice.random() < 0.3:
        fields.append(varint(200 << 3) + varint(dice.randrange(1 << 40)))  # a field of a later version
    dice.shuffle(fields)
    if dice.random() < 0.3:
        fields.insert(0, b"\x15" + dice.randbytes(4))  # seq twice: the last one counts
    return b"".join(fields)


def batch_otherwise(frames: list[bytes], dice: random.Random) -> bytes:
    parts = []
    for one in frames:
        encoded = otherwise(one, dice) if dice.random() < 0.7 else one
        parts.append(varint(0x0A, dice.randrange(2)) + varint(len(encoded), dice.randrange(3)) + encoded)
    return b"".join(parts)


def assert_holds(frames: Frames, messages: list[list[Sent]]) -> None:
    """The arrays hold exactly these frames, in their order."""
    expected = [(index, one) for index, message in enumerate(messages) for one in message]
    assert frames.message.tolist() == [index for index, _ in expected]
    assert frames.slot.tolist() == [one.site for _, one in expected]
    assert frames.seq.tolist() == [one.seq for _, one in expected]
    assert frames.t0_ms.tolist() == [one.t0_ms for _, one in expected]
    assert frames.interval_ms.tolist() == [one.interval_ms for _, one in expected]
    values = np.where(frames.counts == HOLE, np.nan, frames.counts * np.array(SCALES)[:, None])
    for row, (_, one) in zip(values, expected, strict=True):
        for measured, counts, scale in zip(row, one.counts, SCALES, strict=True):
            wanted = [math.nan if count is None else count * scale for count in counts]
            np.testing.assert_allclose(measured, wanted, rtol=1e-12, atol=0)


@given(MESSAGES)
@settings(deadline=None)
def test_canonical_messages(messages: list[list[Sent]]) -> None:
    frames, bad = decode([frame.batch([one.packed() for one in message]) for message in messages], NOW_MS)
    assert bad == []
    assert_holds(frames, messages)


@given(MESSAGES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_any_other_legal_encoding(messages: list[list[Sent]], dice: random.Random) -> None:
    encoded = [batch_otherwise([one.packed() for one in message], dice) for message in messages]
    frames, bad = decode(encoded, NOW_MS)
    assert bad == []
    assert_holds(frames, messages)


@given(st.lists(st.binary(max_size=700), max_size=5), sent())
@settings(max_examples=300, deadline=None)
def test_garbage_never_raises_nor_touches_its_neighbours(garbage: list[bytes], good: Sent) -> None:
    frames, _ = decode([*garbage, frame.batch([good.packed()])], NOW_MS)
    last = frames.take(frames.message == len(garbage))
    assert (last.slot.tolist(), last.seq.tolist()) == ([good.site], [good.seq])


@given(MESSAGES, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_flipped_bits_never_raise(messages: list[list[Sent]], dice: random.Random) -> None:
    encoded = []
    for message in messages:
        data = bytearray(frame.batch([one.packed() for one in message]))
        for _ in range(dice.randrange(4) if data else 0):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        encoded.append(bytes(data[: dice.randrange(len(data) + 1)]) if dice.random() < 0.2 else bytes(data))
    frames, bad = decode(encoded, NOW_MS)
    assert len(frames) + len(bad) <= sum(map(len, messages)) + len(messages)
    assert (np.diff(frames.message) >= 0).all()


def changed(**fields: object) -> bytes:
    """A batch of one good frame with some fields changed; None takes a field away."""
    good = Sent(7, 1, T0_MS, 100, tuple((0,) * frame.SAMPLES for _ in frame.POINTS))
    parsed = telemetry_pb2.Frame.FromString(good.packed())
    for name, value in fields.items():
        if value is None:
            parsed.ClearField(name)
        else:
            setattr(parsed, name, value)
    return telemetry_pb2.Batch(frames=[parsed]).SerializeToString()


def narrow_block(base: int, offset: int) -> bytes:
    return b"".join(
        base.to_bytes(4, "little", signed=True) + offset.to_bytes(2, "little", signed=True) * (frame.SAMPLES - 1)
        for _ in frame.POINTS
    )


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        pytest.param(b"\x0a\x05abc", Cause.NOT_A_BATCH, id="cut short"),
        pytest.param(changed(seq=None), Cause.INCOMPLETE, id="no seq"),
        pytest.param(changed(block=None), Cause.INCOMPLETE, id="no block"),
        pytest.param(changed(layout=99), Cause.LAYOUT, id="layout of another time"),
        pytest.param(changed(layout=4), Cause.BLOCK_LENGTH, id="wide layout, narrow block"),
        pytest.param(changed(block=b""), Cause.BLOCK_LENGTH, id="empty block"),
        pytest.param(changed(block=narrow_block(frame.HOLE_32, 0)), Cause.BASE, id="base is a hole"),
        pytest.param(changed(block=narrow_block(0x7FFFFFFF, 1)), Cause.RANGE, id="count above 32 bits"),
        pytest.param(changed(block=narrow_block(-0x7FFFFFFF, -1)), Cause.RANGE, id="count that reads as a hole"),
        pytest.param(changed(t0_ms=T0_MS + 50), Cause.INSTANT, id="off the grid"),
        pytest.param(changed(t0_ms=0), Cause.INSTANT, id="1970"),
        pytest.param(changed(t0_ms=0xFFFFFFFFFFFFFFFF), Cause.INSTANT, id="beyond all time"),
    ],
)
def test_what_cannot_be_is_refused_by_cause(message: bytes, cause: Cause) -> None:
    good = changed()
    frames, bad = decode([good, message, good], NOW_MS)
    assert frames.message.tolist() == [0, 2]
    assert [(one.cause, one.message) for one in bad] == [(cause, 1)]


def test_the_largest_counts_are_taken() -> None:
    frames, bad = decode(
        [changed(block=narrow_block(0x7FFFFFFF, -0x7FFF)), changed(block=narrow_block(-0x7FFFFFFF, 0))],
        NOW_MS,
    )
    assert bad == []
    assert frames.counts[0, 0].tolist() == [0x7FFFFFFF, *[0x7FFFFFFF - 0x7FFF] * 9]
    assert frames.counts[1, 0].tolist() == [-0x7FFFFFFF] * 10


def test_nothing_and_an_empty_batch_give_no_frames() -> None:
    assert len(decode([], NOW_MS)[0]) == 0
    frames, bad = decode([b""], NOW_MS)
    assert (len(frames), bad) == (0, [])
