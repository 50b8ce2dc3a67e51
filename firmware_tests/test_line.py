"""The RTU server on a line that is not what it should be, in time that is counted: 100 ms are 100 ms, however busy the
machine."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from pymodbus.framer.rtu import FramerRTU

UNIT = 7
REGISTER = 40012


def framed(body: bytes) -> bytes:
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


WRITE = framed(bytes((UNIT, 6)) + REGISTER.to_bytes(2, "big") + b"\x00\x05")
WRITES = framed(bytes((UNIT, 16)) + REGISTER.to_bytes(2, "big") + b"\x00\x02\x04\x00\x05\x00\x06")
READ = framed(bytes((UNIT, 3)) + REGISTER.to_bytes(2, "big") + b"\x00\x02")
OTHERS = framed(bytes((UNIT + 1, 6)) + REGISTER.to_bytes(2, "big") + b"\x00\x05")


def mistimed(frame: bytes, theirs: int, ours: int) -> bytes:
    """What a receiver at one rate makes of a frame sent at another: start bit, eight bits lowest first, stop bit."""
    bits = "".join("0" + "".join(str(byte >> i & 1) for i in range(8)) + "1" for byte in frame)
    line = lambda t: int(bits[int(t)]) if t < len(bits) else 1  # noqa: E731  in characters' bits
    heard, t, step = bytearray(), 0.0, theirs / ours
    while t < len(bits):
        if line(t):
            t += step / 8
            continue
        heard.append(sum(line(t + step * (i + 1.5)) << i for i in range(8)))
        t += step * 10
    return bytes(heard)


def faulty(rng: random.Random, baud: int) -> list[list[Any]]:
    """One thing that goes wrong on a line, as [silence before it in us, bytes in hex]."""
    character_us = 11_000_000 // baud
    frame = rng.choice((WRITE, WRITES))
    cut = rng.randrange(1, len(frame))
    kind = rng.randrange(8)
    if kind == 0:  # a wrong CRC
        parts = [[0, frame[:-2] + bytes((frame[-2] ^ rng.randrange(1, 256), frame[-1]))]]
    elif kind == 1:  # unplugged in mid-frame
        parts = [[0, frame[:cut]]]
    elif kind == 2:  # unplugged, and plugged in again while the frame is still going on
        parts = [[0, frame[:cut]], [0, frame[cut + 1 :]]]
    elif kind == 3:  # two masters, one into the other's frame
        parts = [[0, frame[:cut] + READ + frame[cut:]]]
    elif kind == 4:  # two masters, bits of both at once
        parts = [[0, bytes(a & b for a, b in zip(frame, OTHERS + READ, strict=False))]]
    elif kind == 5:  # a pause inside a frame: two frames, of which none is one
        parts = [[0, frame[:cut]], [max(4000, 4 * character_us) + rng.randrange(20_000), frame[cut:]]]
    elif kind == 6:  # another baud rate
        parts = [[0, mistimed(frame, baud, rng.choice((2400, 4800, 14400, 28800, 57600, 250_000)))]]
    else:
        parts = [[0, rng.randbytes(rng.randrange(1, 300))]]
    return [[gap_us, part.hex()] for gap_us, part in parts if part]


@pytest.mark.parametrize("baud", [9600, 19200, 115200])
def test_never_a_wrong_write_and_in_step_again_after_100_ms(on_both: Any, tmp_path: Path, baud: int) -> None:
    rng = random.Random(baud)
    cases = [{"baud": baud, "bytes": faulty(rng, baud)} for _ in range(250)]
    (tmp_path / "cases").write_text(json.dumps(cases))
    told = on_both("line.py", tmp_path / "cases")
    assert len(told) == len(cases)
    for case, (writes, answered) in zip(cases, told, strict=True):
        assert writes == [], case
        assert answered, case


def test_a_good_frame_is_taken_however_its_bytes_come(on_both: Any, tmp_path: Path) -> None:
    """Whole, in pieces with less than 1.5 characters between them, and after another one by 3.5."""
    rng, cases = random.Random(1), []
    for frame in (WRITE, WRITES):
        for _ in range(20):
            cut = rng.randrange(1, len(frame))
            cases.append({"baud": 19200, "bytes": [[0, frame[:cut].hex()], [800, frame[cut:].hex()]]})
        cases.append({"baud": 19200, "bytes": [[0, OTHERS.hex()], [2500, frame.hex()]]})
    (tmp_path / "cases").write_text(json.dumps(cases))
    for case, (writes, answered) in zip(cases, on_both("line.py", tmp_path / "cases"), strict=True):
        assert answered
        assert writes in ([[REGISTER, 5]], [[REGISTER, 5], [REGISTER + 1, 6]]), case
