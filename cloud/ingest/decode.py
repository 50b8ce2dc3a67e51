"""Telemetry messages to arrays: canonical frames thousands at once, any other legal encoding by the protobuf parser.

A canonical frame (protos/frame.py) is a fixed record, so a batch of them is read by one numpy.frombuffer whose tag and
length bytes are then compared. A message in which one byte of that frame differs goes to the parser as a whole:
what is read never depends on which way it took. Nothing here raises for what was received.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError

from cloud.model.telemetry import HOLE, POINTS, Array, Frames
from protos import frame
from protos.vpp.v1 import telemetry_pb2

EARLIEST_MS: Final = 1_577_836_800_000  # 2020-01-01 UTC
LATEST_MS: Final = 4_102_444_800_000  # 2100-01-01 UTC


class Cause(StrEnum):
    """Why a message or frame was not taken."""

    NOT_A_BATCH = "not a batch"
    INCOMPLETE = "frame without site, seq, t0_ms, layout or block"
    LAYOUT = "unknown layout"
    BLOCK_LENGTH = "block length differs from the layout"
    BASE = "a column's base is a hole"
    RANGE = "a count beyond 32 bits"
    INSTANT = "t0_ms out of range or off the sample grid"
    OWNER = "the subject does not own the frame's slot"
    SITE = "the subject's site is unknown"


@dataclass(frozen=True, slots=True)
class Bad:
    """Input that was not taken."""

    cause: Cause
    message: int  # index of the message it came in


@dataclass(frozen=True, slots=True)
class _Layout:
    """A registered layout: what a block's bytes are."""

    interval_ms: int
    block: np.dtype[Any]


_WIDE_BLOCK: Final = np.dtype((np.dtype("<i4"), (len(POINTS), frame.SAMPLES)))
_NARROW_BLOCK: Final = np.dtype(
    (np.dtype([("base", "<i4"), ("offsets", "<i2", (frame.SAMPLES - 1,))]), (len(POINTS),)),
)
_LAYOUTS: Final = {
    **{layout: _Layout(interval, _NARROW_BLOCK) for interval, layout in frame.NARROW.items()},
    **{layout: _Layout(interval, _WIDE_BLOCK) for interval, layout in frame.WIDE.items()},
}


def _record(block: np.dtype[Any]) -> np.dtype[Any]:
    """A Batch's entry with one canonical frame."""
    fields: list[Any] = [
        ("entry_tag", "u1"),
        ("entry_length", "u1", (2,)),
        ("site_tag", "u1"),
        ("site", "<u4"),
        ("seq_tag", "u1"),
        ("seq", "<u4"),
        ("t0_tag", "u1"),
        ("t0_ms", "<u8"),
        ("layout_tag", "u1"),
        ("layout", "<u4"),
        ("block_tag", "u1"),
        ("block_length", "u1", (2,)),
        ("block", f"V{block.itemsize}"),
    ]
    return np.dtype(fields)


_RECORDS: Final = {dtype.itemsize: dtype for dtype in (_record(_NARROW_BLOCK), _record(_WIDE_BLOCK))}
_BLOCKS: Final = {_record(block).itemsize: block for block in (_NARROW_BLOCK, _WIDE_BLOCK)}


def _length_bytes(size: int) -> list[int]:
    """A protobuf varint of two bytes."""
    return [size & 0x7F | 0x80, size >> 7]


def decode(messages: Sequence[bytes]) -> tuple[Frames, list[Bad]]:
    """All frames of messages that are each a vpp.v1.Batch, and what could not be taken."""
    groups: dict[int, list[int]] = {size: [] for size in _RECORDS}
    odd: list[int] = []
    for index, message in enumerate(messages):
        # The first entry's length tells the size of all entries, if they are canonical and alike.
        size = 3 + (message[1] & 0x7F | message[2] << 7) if len(message) > 3 else 0
        if size in groups and len(message) % size == 0:
            groups[size].append(index)
        elif message:  # no bytes at all are an empty Batch
            odd.append(index)
    parts: list[Frames] = []
    bad: list[Bad] = []
    for size, indices in groups.items():
        if indices:
            alike, wrong, others = _fast(messages, indices, size)
            parts.append(alike)
            bad.extend(wrong)
            odd.extend(others)
    for index in odd:
        parsed, wrong = _parse(messages[index], index)
        parts.extend(parsed)
        bad.extend(wrong)
    frames = Frames.joined(parts)
    if len(parts) > 1:  # back to the order of messages; within a message it stands
        frames = frames.take(np.argsort(frames.message, kind="stable"))
    return frames, bad


def _fast(messages: Sequence[bytes], indices: list[int], size: int) -> tuple[Frames, list[Bad], list[int]]:
    """Frames of messages made of entries of one size; and the messages in which an entry is not canonical."""
    dtype, block = _RECORDS[size], _BLOCKS[size]
    rows = np.frombuffer(b"".join([messages[index] for index in indices]), dtype)
    message = np.repeat(np.array(indices), [len(messages[index]) // size for index in indices])
    canonical = (
        (rows["entry_tag"] == 0x0A)
        & (rows["entry_length"] == _length_bytes(size - 3)).all(axis=1)
        & (rows["site_tag"] == 0x0D)
        & (rows["seq_tag"] == 0x15)
        & (rows["t0_tag"] == 0x19)
        & (rows["layout_tag"] == 0x25)
        & (rows["block_tag"] == 0x7A)
        & (rows["block_length"] == _length_bytes(block.itemsize)).all(axis=1)
        & np.isin(rows["layout"], [layout for layout, known in _LAYOUTS.items() if known.block == block])
    )
    others: list[int] = []
    if not canonical.all():
        others = np.unique(message[~canonical]).tolist()
        keep = ~np.isin(message, others)
        rows, message = rows[keep], message[keep]
    intervals = np.zeros(max(_LAYOUTS) + 1, dtype=np.int64)
    for layout, known in _LAYOUTS.items():
        intervals[layout] = known.interval_ms
    interval_ms = intervals[rows["layout"]]
    blocks = np.ascontiguousarray(rows["block"]).view(block.base).reshape(len(rows), *block.shape)
    frames, bad = _checked(message, rows["site"], rows["seq"], rows["t0_ms"], interval_ms, blocks)
    return frames, bad, others


def _parse(message: bytes, index: int) -> tuple[list[Frames], list[Bad]]:
    """Frames of one message in whatever legal encoding."""
    try:
        parsed = telemetry_pb2.Batch.FromString(message)
    except DecodeError:
        return [], [Bad(Cause.NOT_A_BATCH, index)]
    frames: list[Frames] = []
    bad: list[Bad] = []
    for entry in parsed.frames:
        known = _LAYOUTS.get(entry.layout)
        if not all(entry.HasField(name) for name in ("site", "seq", "t0_ms", "layout", "block")):
            bad.append(Bad(Cause.INCOMPLETE, index))
        elif known is None:
            bad.append(Bad(Cause.LAYOUT, index))
        elif len(entry.block) != known.block.itemsize:
            bad.append(Bad(Cause.BLOCK_LENGTH, index))
        else:
            block = np.frombuffer(entry.block, known.block.base).reshape(1, *known.block.shape)
            one, wrong = _checked(
                np.array([index]),
                np.array([entry.site], dtype=np.uint32),
                np.array([entry.seq], dtype=np.uint32),
                np.array([entry.t0_ms], dtype=np.uint64),
                np.array([known.interval_ms]),
                block,
            )
            frames.append(one)
            bad.extend(wrong)
    return frames, bad


def _checked(
    message: Array, site: Array, seq: Array, t0_ms: Array, interval_ms: Array, blocks: Array
) -> tuple[Frames, list[Bad]]:
    """Frames whose content is possible."""
    counts, cause_of = _counts(blocks)
    possible = (t0_ms >= EARLIEST_MS) & (t0_ms < LATEST_MS)
    instants = np.where(possible, t0_ms, 0).astype(np.int64)
    cause_of[Cause.INSTANT] = ~possible | (instants % interval_ms != 0)
    good = np.ones(len(message), dtype=np.bool_)
    bad: list[Bad] = []
    for cause, mask in cause_of.items():
        bad.extend(Bad(cause, int(index)) for index in message[mask & good])
        good &= ~mask
    frames = Frames(message, site.astype(np.int64), seq.astype(np.int64), instants, interval_ms, counts)
    return (frames if good.all() else frames.take(good)), bad


def _counts(blocks: Array) -> tuple[Array, dict[Cause, Array]]:
    """int32 [n, points, samples] of blocks, and which frames hold something impossible."""
    if blocks.dtype.names is None:
        return blocks.astype(np.int32), {}
    base, offsets = blocks["base"], blocks["offsets"]
    counts = np.empty((*base.shape, frame.SAMPLES), dtype=np.int32)
    counts[..., 0] = base
    np.add(base[..., None], offsets, out=counts[..., 1:])  # may wrap where `extreme`; such frames are not taken
    holes = offsets == frame.HOLE_16
    counts[..., 1:][holes] = HOLE
    beyond = np.zeros(len(blocks), dtype=np.bool_)
    extreme = ((base > frame.COUNT_LIMIT + frame.HOLE_16) | (base < -frame.COUNT_LIMIT - frame.HOLE_16)).any(axis=1)
    if extreme.any():
        exact = base[extreme, :, None].astype(np.int64) + offsets[extreme]
        beyond[extreme] = ((np.abs(exact) > frame.COUNT_LIMIT) & ~holes[extreme]).any(axis=(1, 2))
    return counts, {Cause.BASE: (base == HOLE).any(axis=1), Cause.RANGE: beyond}
