"""Devices as registers of four tables, served over Modbus TCP or on a serial line."""

import asyncio
import contextlib
import struct
from collections.abc import Callable, Mapping
from typing import Final

from edge_agent.drivers.transaction import Table, Write
from hil.rigs.modbus_server import ListenError

ILLEGAL_ADDRESS: Final = 2  # Modbus exceptions
ILLEGAL_VALUE: Final = 3
_ILLEGAL_FUNCTION, _NO_TARGET = 1, 11


class Refused(Exception):
    """A Modbus exception."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ServedDevice:
    """What answers requests. A subclass has the registers."""

    def __init__(self) -> None:
        self.silent = False  # hears, and answers nothing
        self.writes = 0  # write transactions received

    def read(self, table: Table, address: int, count: int) -> list[int]:
        """Raises Refused."""
        raise NotImplementedError

    def write(self, function: Write, address: int, words: list[int]) -> None:
        """Raises Refused."""
        raise NotImplementedError

    def serve(self, pdu: bytes) -> bytes:
        """A request to a reply, both without unit and checksum."""
        function = pdu[0]
        try:
            address, number = struct.unpack(">HH", pdu[1:5])
            match function:
                case 1 | 2:
                    bits = self.read(Table(function), address, number)
                    data = bytes(sum(b << i for i, b in enumerate(bits[at : at + 8])) for at in range(0, number, 8))
                    return bytes((function, len(data))) + data
                case 3 | 4:
                    words = self.read(Table(function), address, number)
                    return bytes((function, 2 * number)) + struct.pack(f">{number}H", *words)
                case 5 | 6:
                    self.writes += 1
                    self.write(Write(function), address, [int(number == 0xFF00) if function == 5 else number])
                    return pdu[:5]
                case 16:
                    self.writes += 1
                    self.write(Write.MULTIPLE, address, list(struct.unpack(f">{number}H", pdu[6:])))
                    return pdu[:5]
            raise Refused(_ILLEGAL_FUNCTION)
        except Refused as refused:
            return bytes((function | 0x80, refused.code))


class TcpDevice:
    """A device behind Modbus TCP, on a port of the loopback."""

    def __init__(self, device: ServedDevice, *, unit_id: int = 1, host: str = "127.0.0.1", port: int = 0) -> None:
        self.device = device
        self.unit_id = unit_id
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1]) if self._server is not None else self._port

    async def __aenter__(self) -> "TcpDevice":
        """Raises ListenError."""
        try:
            self._server = await asyncio.start_server(self._converse, self._host, self._port)
        except OSError as error:
            raise ListenError(
                f"cannot listen on {self._host}:{self._port}: the port is in use, or not this machine's address"
            ) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._connections:
                writer.close()
            await self._server.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(7)
                number, _, length, unit_id = struct.unpack(">HHHB", head)
                pdu = await reader.readexactly(length - 1)
                if self.device.silent:
                    continue
                absent = bytes((pdu[0] | 0x80, _NO_TARGET))
                reply = self.device.serve(pdu) if unit_id == self.unit_id else absent
                writer.write(struct.pack(">HHHB", number, 0, len(reply) + 1, unit_id) + reply)
                await writer.drain()
        self._connections.discard(writer)
        writer.close()


def on_line(devices: Mapping[int, ServedDevice]) -> Callable[[bytes], bytes | None]:
    """What an RtuProxy serves: devices by unit id on one line. A unit that is not there says nothing."""

    def serve(request: bytes) -> bytes | None:
        device = devices.get(request[0])
        return request[:1] + device.serve(request[1:]) if device is not None and not device.silent else None

    return serve
