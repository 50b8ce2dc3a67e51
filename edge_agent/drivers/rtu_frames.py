"""Frames of Modbus RTU: how they are made, how long they take, and which bytes are the answer to a request.

Timing and CRC are those of "Modbus over Serial Line" V1.02, sections 2.5.1.1 and 6.2.2.
"""

import asyncio
from dataclasses import dataclass, field

from edge_agent.drivers.transaction import Pacing, Table, Write
from edge_agent.model.config import Parity

_FASTEST_RULED_BAUD = 19_200  # above it the silence between frames has a fixed length
_FASTEST_GAP_S = 0.00175
_CRC_BYTES = 2


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()


def with_crc(frame: bytes) -> bytes:
    """The frame with its CRC-16 behind it, low byte first."""
    return frame + _crc16(frame).to_bytes(_CRC_BYTES, "little")


def _crc16(data: bytes) -> int:
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


def character_s(baudrate: int, parity: Parity, stop_bits: int) -> float:
    """How long one character is on the wire: start bit, eight data bits, parity, stop bits."""
    return (9 + (parity != "none") + stop_bits) / baudrate


def gap_s(baudrate: int, one_character_s: float) -> float:
    """The silence between two frames."""
    return 3.5 * one_character_s if baudrate <= _FASTEST_RULED_BAUD else _FASTEST_GAP_S


@dataclass(slots=True, eq=False, kw_only=True)
class Request:
    """One request, and how its answer has to look."""

    frame: bytes  # with CRC
    answer_size: int  # bytes, with CRC
    answer_head: bytes  # what the answer begins with: unit, function, and all that is known beforehand
    timeout_s: float
    pacing: Pacing
    answer: asyncio.Future[bytes] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def unit_id(self) -> int:
        return self.frame[0]

    @property
    def writes(self) -> bool:
        return self.frame[1] not in frozenset(Table)

    def find(self, heard: bytes, *, echoed: bool) -> bytes | None:
        """The answer in what was heard, without CRC: wherever it begins, and whatever stands around it.

        echoed: the line gives back what is sent. A write of one register is answered by its own words, so that its
        echo has to be told from its answer.
        """
        start = len(self.frame) if echoed and heard.startswith(self.frame) else 0
        refusal = bytes((self.frame[0], self.frame[1] | 0x80))
        for at in range(start, len(heard) - 4):
            for head, size in ((self.answer_head, self.answer_size), (refusal, 5)):
                frame = heard[at : at + size]
                if len(frame) == size and frame.startswith(head) and _crc16(frame) == 0:
                    return frame[:-_CRC_BYTES]
        return None


def reading(unit_id: int, table: Table, address: int, count: int) -> tuple[bytes, int, bytes]:
    """The frame of a reading, and the answer's size and head."""
    size = -(-count // 8) if table.bits else 2 * count
    body = bytes((unit_id, table)) + address.to_bytes(2, "big") + count.to_bytes(2, "big")
    return with_crc(body), 3 + size + _CRC_BYTES, bytes((unit_id, table, size))


def writing(unit_id: int, function: Write, address: int, registers: list[int]) -> tuple[bytes, int, bytes]:
    """The frame of a writing, and the answer's size and head."""
    head = bytes((unit_id, function)) + address.to_bytes(2, "big")
    if function is Write.MULTIPLE:
        count = len(registers).to_bytes(2, "big")
        data = b"".join(word.to_bytes(2, "big") for word in registers)
        return with_crc(head + count + bytes((len(data),)) + data), 6 + _CRC_BYTES, head + count
    value = (0xFF00 if registers[0] else 0) if function is Write.COIL else registers[0]
    body = head + value.to_bytes(2, "big")
    return with_crc(body), 6 + _CRC_BYTES, body
