"""Which bytes are the answer to a request: the right ones wherever they stand, and never another's."""

import asyncio

from hypothesis import assume, given
from hypothesis import strategies as st

from edge_agent.drivers.rtu_frames import Request, reading, with_crc, writing
from edge_agent.drivers.transaction import Pacing, Table, Write

UNITS = st.integers(1, 247)
ADDRESSES = st.integers(0, 65_000)
COUNTS = st.integers(1, 125)
REGISTER_TABLES = st.sampled_from([Table.HOLDING, Table.INPUT])
NOISE = st.binary(max_size=20)


def asked(how: tuple[bytes, int, bytes]) -> Request:
    frame, size, head = how
    loop = asyncio.new_event_loop()
    nobody: asyncio.Future[bytes] = loop.create_future()
    loop.close()
    return Request(frame=frame, answer_size=size, answer_head=head, timeout_s=1.0, pacing=Pacing(), answer=nobody)


def reply(unit: int, table: Table, words: list[int]) -> bytes:
    return with_crc(bytes((unit, table, 2 * len(words))) + b"".join(word.to_bytes(2, "big") for word in words))


@given(UNITS, REGISTER_TABLES, ADDRESSES, st.lists(st.integers(0, 65535), min_size=1, max_size=125), NOISE, NOISE)
def test_the_answer_is_found_in_noise(
    unit: int, table: Table, address: int, words: list[int], before: bytes, after: bytes
) -> None:
    answer = reply(unit, table, words)
    request = asked(reading(unit, table, address, len(words)))
    assert len(answer) == request.answer_size
    assert request.find(before + answer + after, echoed=False) == answer[:-2]
    assert request.find(request.frame + answer, echoed=True) == answer[:-2]


@given(UNITS, REGISTER_TABLES, ADDRESSES, COUNTS, UNITS, REGISTER_TABLES, COUNTS)
def test_anothers_answer_is_none(
    unit: int, table: Table, address: int, count: int, other_unit: int, other_table: Table, other_count: int
) -> None:
    assume((unit, table, count) != (other_unit, other_table, other_count))
    request = asked(reading(unit, table, address, count))
    assert request.find(reply(other_unit, other_table, [0x1234] * other_count), echoed=False) is None


@given(UNITS, REGISTER_TABLES, ADDRESSES, st.lists(st.integers(0, 65535), min_size=1, max_size=60), st.data())
def test_an_answer_with_a_wrong_bit_is_none(
    unit: int, table: Table, address: int, words: list[int], data: st.DataObject
) -> None:
    answer = bytearray(reply(unit, table, words))
    bit = data.draw(st.integers(0, 8 * len(answer) - 1))
    answer[bit // 8] ^= 1 << bit % 8
    assert asked(reading(unit, table, address, len(words))).find(bytes(answer), echoed=False) is None


@given(UNITS, ADDRESSES, st.lists(st.integers(0, 65535), min_size=1, max_size=100), ADDRESSES, st.integers(1, 100))
def test_a_writing_is_confirmed_by_its_own_address_and_count(
    unit: int, address: int, words: list[int], other_address: int, other_count: int
) -> None:
    request = asked(writing(unit, Write.MULTIPLE, address, words))
    head = bytes((unit, 16))
    own = head + address.to_bytes(2, "big") + len(words).to_bytes(2, "big")
    other = head + other_address.to_bytes(2, "big") + other_count.to_bytes(2, "big")
    assert request.find(with_crc(own), echoed=False) == own
    assume(own != other)
    assert request.find(with_crc(other), echoed=False) is None


def test_frames_of_the_application_protocol() -> None:
    """Modbus Application Protocol V1.1b3: sections 6.3 (read), 6.5 (coil), 6.6 (single) and 6.12 (multiple)."""
    assert reading(1, Table.HOLDING, 0x6B, 3)[0][1:-2] == bytes.fromhex("03006b0003")
    assert writing(1, Write.COIL, 0xAC, [1])[0][1:-2] == bytes.fromhex("0500acff00")
    assert writing(1, Write.SINGLE, 1, [3])[0][1:-2] == bytes.fromhex("0600010003")
    assert writing(1, Write.MULTIPLE, 1, [0x0A, 0x0102])[0][1:-2] == bytes.fromhex("1000010002 04000a0102")
