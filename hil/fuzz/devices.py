"""Parsers of the agent that a device, or whoever sits on its line, can reach; and the firmware's own server."""

import asyncio
import importlib
import sys
from array import array
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import edge_agent
from edge_agent.drivers.rtu_frames import Request, reading, with_crc, writing
from edge_agent.drivers.sunspec.definitions import load_model
from edge_agent.drivers.sunspec.discovery import DeviceMap, NoSunSpecMap, discover
from edge_agent.drivers.sunspec.layout import count_points, lay_out
from edge_agent.drivers.transaction import Pacing, Table, Write
from edge_agent.model.devices import DeviceRejected
from hil.fuzz.edge import run_now
from hil.fuzz.target import Target, must

BASE: Final = 40_000
MARKER: Final = b"SunS"
_LENGTHS: Final = {1: 66, 103: 50, 160: 28, 203: 105, 701: 153, 704: 65, 713: 7, 714: 43}  # one group of each
FIRMWARE: Final = Path(edge_agent.__file__).parent / "firmware"


class _Registers:
    """A device whose map at 40000 is the fuzzer's bytes, and that refuses what lies beyond them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.reads = 0

    async def read(self, address: int, count: int, what: object) -> list[int]:
        self.reads += 1
        must(self.reads < 5_000, "discovery does not end")
        must(1 <= count <= 125, f"{count} registers in one transaction")
        start = 2 * (address - BASE)
        part = self._data[start : start + 2 * count] if start >= 0 else b""
        if len(part) < 2 * count:
            raise DeviceRejected(f"device: {what}: illegal data address")
        return [part[place] << 8 | part[place + 1] for place in range(0, 2 * count, 2)]


def _sunspec(data: bytes) -> None:
    image = MARKER + data
    try:
        found: DeviceMap = run_now(discover(_Registers(image)))
    except (NoSunSpecMap, DeviceRejected):
        return
    for model in found.models:
        start = 2 * (model.address - BASE)
        model.decode(image[start : 2 * (model.end - BASE)])
    for finding in found.findings:
        must("\n" not in finding and len(finding) < 400, "a finding is more than a line")


_LOOP: Final = asyncio.new_event_loop()
_PACING: Final = Pacing()
_ASKED: Final = (
    reading(1, Table.HOLDING, 40_069, 4),
    reading(1, Table.COIL, 3, 9),
    writing(1, Write.SINGLE, 5, [7]),
    writing(1, Write.MULTIPLE, 5, [7, 8]),
)


def _rtu_answer(data: bytes) -> None:
    frame, size, head = _ASKED[data[0] % len(_ASKED)] if data else _ASKED[0]
    request = Request(
        frame=frame, answer_size=size, answer_head=head, timeout_s=1.0, pacing=_PACING, answer=_LOOP.create_future()
    )
    for echoed in (False, True):
        answer = request.find(data[1:], echoed=echoed)
        if answer is not None:
            must(with_crc(answer) in data[1:], "an answer that was not on the line")
            must(answer[0] == 1 and answer[1] & 0x7F == frame[1], "an answer of another unit or function")


def _firmware() -> ModuleType:
    """The firmware's Modbus server on CPython, with what it takes from MicroPython put in its place."""
    shim = ModuleType("micropython")
    shim.viper = lambda function: function  # type: ignore[attr-defined]
    sys.modules.setdefault("micropython", shim)
    import builtins
    import time

    for name in ("ptr8", "ptr16", "ptr32"):
        setattr(builtins, name, lambda buffer: buffer)
    time.ticks_diff = lambda later, earlier: later - earlier  # type: ignore[attr-defined]
    sys.path.insert(0, str(FIRMWARE))
    try:
        return importlib.import_module("modbus")
    finally:
        sys.path.remove(str(FIRMWARE))


class _Uart:
    """A line on which the fuzzer's bytes arrive in pieces."""

    latency_us = 0

    def __init__(self) -> None:
        self.waiting = b""
        self.sent = b""

    def receive(self, buffer: bytearray) -> int:
        part, self.waiting = self.waiting[: len(buffer)], self.waiting[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def send(self, data: memoryview, *_: Any) -> None:
        self.sent += bytes(data)


class _Bank:
    """Sixteen registers, of which two may be written, with values below 100."""

    base = 100

    def __init__(self) -> None:
        self.words = array("H", [0] * 16)

    def refresh(self) -> None: ...

    def writable(self, address: int) -> bool:
        return 104 <= address <= 105

    def check(self, address: int, value: int) -> bool:
        return value < 100

    def write(self, address: int, value: int) -> None:
        must(self.writable(address) and value < 100, f"register {address} was written with {value}")
        self.words[address - self.base] = value

    def written(self, address: int, count: int) -> None: ...


_SERVER: Final = _firmware()


def _rtu_server(data: bytes) -> None:
    """Frames with a right CRC on every other silence; whatever came, the next request is answered."""
    uart, bank = _Uart(), _Bank()
    server = _SERVER.Server(uart, bank, 7, 115_200)
    now_us = 0
    for number, piece in enumerate(data.split(b"\xff\x00")):
        uart.waiting = with_crc(piece) if number % 2 == 0 and 2 <= len(piece) <= 254 else piece
        for _ in range(len(uart.waiting) // 32 + 2):
            server.poll(now_us)
            now_us += 100
        now_us += 10_000
        server.poll(now_us)
    uart.sent = b""
    uart.waiting = reading(7, Table.HOLDING, 100, 2)[0]
    server.poll(now_us)
    server.poll(now_us + 10_000)
    must(len(uart.sent) == 9 and uart.sent[:3] == b"\x07\x03\x04", "out of step after what came")


def _sunspec_seeds() -> tuple[bytes, ...]:
    seeds = []
    for chain in ((1, 701, 704), (1, 103, 160), (713, 714, 203)):
        words, address = b"", BASE + 2
        for model_id in chain:
            definition = load_model(model_id)
            assert definition is not None  # noqa: S101
            counts = dict.fromkeys(count_points(definition), 1)
            length = _LENGTHS[model_id]
            model = lay_out(model_id, definition, length=length, counts=counts, address=address)
            words += model.encode(counts)
            address = model.end
        seeds.append(words + b"\xff\xff\x00\x00")
    return tuple(seeds)


TARGETS: Final = (
    Target(name="sunspec", faces="a device that lies", one=_sunspec, seeds=_sunspec_seeds()),
    Target(
        name="rtu-answer",
        faces="whoever sits on the serial line",
        one=_rtu_answer,
        seeds=(
            b"\x00" + with_crc(b"\x01\x03\x08" + bytes(8)),
            b"\x02" + _ASKED[2][0],
            b"\x00" + with_crc(b"\x01\x83\x02"),
        ),
        longest=512,
    ),
    Target(
        name="rtu-server",
        faces="whoever sits on the serial line",
        one=_rtu_server,
        seeds=(
            b"\x07\x03\x00\x64\x00\x02",
            b"\x07\x06\x00\x68\x00\x05",
            b"\x07\x10\x00\x68\x00\x02\x04\x00\x01\x00\x02",
        ),
        longest=1024,
    ),
)
