"""Telemetry messages to arrays: canonical frames thousands at once, any other legal encoding by the protobuf parser.

A message is a vpp.v1.Batch, or one compressed by zstd (its magic number is no Batch's first byte).

A canonical frame (protos/frame.py) is a fixed record, so a batch of them is read by one numpy.frombuffer whose tag and
length bytes are then compared. A message in which one byte of that frame differs goes to the parser as a whole:
what is read never depends on which way it took. Nothing here raises for what was received.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import zstandard
from google.protobuf.message import DecodeError

from cloud.model.telemetry import FIRST_SEQ, FLEXIBLE_POINTS, HOLE, NARROW, POINTS, Array, Frames, counts_of
from protos import frame
from protos.vpp.v1 import telemetry_pb2

EARLIEST_MS: Final = 1_577_836_800_000  # 2020-01-01 UTC
AHEAD_MS: Final = 3_600_000  # a frame from further in the future is of a broken clock
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
MOST_UNPACKED_BYTES: Final = 8 * 1024 * 1024  # of one message


class Cause(StrEnum):
    """Why a message or frame was not taken."""

    NOT_A_BATCH = "not a batch"
    COMPRESSION = "compressed without its size, beyond what a batch may hold, or damaged"
    INCOMPLETE = "frame without site, seq, t0_ms, layout or block"
    LAYOUT = "unknown layout"
    BLOCK_LENGTH = "block length differs from the layout"
    BASE = "a column's base is a hole"
    RANGE = "a count beyond 32 bits"
    SEQ = "seq 0: a site counts its frames from 1"
    INSTANT = "t0_ms before 2020, in the future or off the sample grid"
    OWNER = "the subject does not own the frame's slot"
    PARTITION = "the subject's partition is not the frame's site's"
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


_ALL: Final = len(POINTS) + len(FLEXIBLE_POINTS)
_WIDE_BLOCK: Final = np.dtype((np.dtype("<i4"), (len(POINTS), frame.SAMPLES)))
_NARROW_BLOCK: Final = np.dtype((NARROW, (len(POINTS),)))
_WIDE_FLEXIBLE_BLOCK: Final = np.dtype((np.dtype("<i4"), (_ALL, frame.SAMPLES)))
_NARROW_FLEXIBLE_BLOCK: Final = np.dtype((NARROW, (_ALL,)))
_BLOCK_OF: Final = (
    (frame.NARROW, _NARROW_BLOCK),
    (frame.WIDE, _WIDE_BLOCK),
    (frame.NARROW_FLEXIBLE, _NARROW_FLEXIBLE_BLOCK),
    (frame.WIDE_FLEXIBLE, _WIDE_FLEXIBLE_BLOCK),
)
_LAYOUTS: Final = {
    layout: _Layout(interval, block) for layouts, block in _BLOCK_OF for interval, layout in layouts.items()
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


_BLOCKS: Final = {_record(block).itemsize: block for _, block in _BLOCK_OF}
_RECORDS: Final = {size: _record(block) for size, block in _BLOCKS.items()}


_INTERVALS: Final = np.zeros(max(_LAYOUTS) + 1, dtype=np.int64)
for _layout, _known in _LAYOUTS.items():
    _INTERVALS[_layout] = _known.interval_ms


def _one_of(column: Array, values: Sequence[int]) -> Array:
    """Mask; for a few values quicker than numpy.isin."""
    found: Array = column == values[0]
    for value in values[1:]:
        found |= column == value
    return found


def _length_bytes(size: int) -> list[int]:
    """A protobuf varint of two bytes."""
    return [size & 0x7F | 0x80, size >> 7]


def decode(messages: Sequence[bytes], now_ms: int) -> tuple[Frames, list[Bad]]:
    """All frames of messages that are each a vpp.v1.Batch, compressed or not, and what could not be taken.

    now_ms: UTC; what claims to be from much later is refused.
    """
    if (size := _size_of_all(messages)) in _RECORDS:  # most often a frame each
        alike, wrong, others = _fast(messages, range(len(messages)), size, now_ms)
        if not others:
            return alike, wrong
    bad: list[Bad] = []
    messages = _unpacked(messages, bad)
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
    for size, indices in groups.items():
        if indices:
            alike, wrong, others = _fast(messages, indices, size, now_ms)
            parts.append(alike)
            bad.extend(wrong)
            odd.extend(others)
    for index in odd:
        parsed, wrong = _parse(messages[index], index, now_ms)
        parts.extend(parsed)
        bad.extend(wrong)
    frames = Frames.joined(parts)
    if len(parts) > 1:  # back to the order of messages; within a message it stands
        frames = frames.take(np.argsort(frames.message, kind="stable"))
    return frames, bad


def _size_of_all(messages: Sequence[bytes]) -> int:
    """Bytes of each message, 0 where they differ."""
    sizes = set(map(len, messages))
    return sizes.pop() if len(sizes) == 1 else 0


def _unpacked(messages: Sequence[bytes], bad: list[Bad]) -> Sequence[bytes]:
    """The messages as batches; one that cannot be unpacked becomes an empty batch, and an entry of `bad`."""
    packed = [index for index, message in enumerate(messages) if message[:4] == ZSTD_MAGIC]
    if not packed:
        return messages
    messages = list(messages)
    unpack = zstandard.ZstdDecompressor()
    for index in packed:
        message = messages[index]
        try:
            # Without the size in its header a message could grow without end.
            known = 0 <= zstandard.frame_content_size(message) <= MOST_UNPACKED_BYTES
            messages[index] = unpack.decompress(message, allow_extra_data=False) if known else b""
        except zstandard.ZstdError:
            known = False
        if not known:
            messages[index] = b""
            bad.append(Bad(Cause.COMPRESSION, index))
    return messages


def _fast(
    messages: Sequence[bytes], indices: Sequence[int], size: int, now_ms: int
) -> tuple[Frames, list[Bad], list[int]]:
    """Frames of messages made of entries of one size; and the messages in which an entry is not canonical."""
    dtype, block = _RECORDS[size], _BLOCKS[size]
    chosen = messages if len(indices) == len(messages) else [messages[index] for index in indices]
    rows = np.frombuffer(b"".join(chosen), dtype)
    message = np.arange(len(rows)) if len(rows) == len(indices) == len(messages) else _spread(indices, chosen, size)
    canonical = (
        (rows["entry_tag"] == 0x0A)
        & (rows["entry_length"] == _length_bytes(size - 3)).all(axis=1)
        & (rows["site_tag"] == 0x0D)
        & (rows["seq_tag"] == 0x15)
        & (rows["t0_tag"] == 0x19)
        & (rows["layout_tag"] == 0x25)
        & (rows["block_tag"] == 0x7A)
        & (rows["block_length"] == _length_bytes(block.itemsize)).all(axis=1)
        & _one_of(rows["layout"], [layout for layout, known in _LAYOUTS.items() if known.block == block])
    )
    others: list[int] = []
    if not canonical.all():
        others = np.unique(message[~canonical]).tolist()
        keep = ~np.isin(message, others)
        rows, message = rows[keep], message[keep]
    blocks = np.ascontiguousarray(rows["block"]).view(block.base).reshape(len(rows), *block.shape)
    interval_ms = _INTERVALS[rows["layout"]]
    frames, bad = _checked(message, rows["site"], rows["seq"], rows["t0_ms"], interval_ms, blocks, now_ms)
    return frames, bad, others


def _spread(indices: Sequence[int], messages: Sequence[bytes], size: int) -> Array:
    """int64 by entry of the messages: the index of the one it is in."""
    return np.repeat(np.array(indices, dtype=np.int64), np.array(list(map(len, messages))) // size)


def _parse(message: bytes, index: int, now_ms: int) -> tuple[list[Frames], list[Bad]]:
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
                now_ms,
            )
            frames.append(one)
            bad.extend(wrong)
    return frames, bad


def _checked(
    message: Array, site: Array, seq: Array, t0_ms: Array, interval_ms: Array, blocks: Array, now_ms: int
) -> tuple[Frames, list[Bad]]:
    """Frames whose content is possible."""
    cause_of = _impossible(blocks)
    cause_of[Cause.SEQ] = seq < FIRST_SEQ
    possible = (t0_ms >= EARLIEST_MS) & (t0_ms < now_ms + AHEAD_MS)
    instants = np.where(possible, t0_ms, 0).astype(np.int64)
    cause_of[Cause.INSTANT] = ~possible | (instants % interval_ms != 0)
    good = np.ones(len(message), dtype=np.bool_)
    bad: list[Bad] = []
    for cause, mask in cause_of.items():
        if mask.any():
            bad.extend(Bad(cause, int(index)) for index in message[mask & good])
            good &= ~mask
    flexible = counts_of(blocks[:, len(POINTS) :]) if blocks.shape[1] > len(POINTS) else None
    common = blocks[:, : len(POINTS)]
    frames = Frames(message, site.astype(np.int64), seq.astype(np.int64), instants, interval_ms, common, flexible)
    return (frames if good.all() else frames.take(good)), bad


def _impossible(blocks: Array) -> dict[Cause, Array]:
    """Which frames hold counts that are none."""
    if blocks.dtype.names is None:
        return {}
    base, offsets = blocks["base"], blocks["offsets"]
    beyond = np.zeros(len(blocks), dtype=np.bool_)
    extreme = ((base > frame.COUNT_LIMIT + frame.HOLE_16) | (base < -frame.COUNT_LIMIT - frame.HOLE_16)).any(axis=1)
    if extreme.any():
        exact = base[extreme, :, None].astype(np.int64) + offsets[extreme]
        beyond[extreme] = ((np.abs(exact) > frame.COUNT_LIMIT) & (offsets[extreme] != frame.HOLE_16)).any(axis=(1, 2))
    return {Cause.BASE: (base == HOLE).any(axis=1), Cause.RANGE: beyond}
