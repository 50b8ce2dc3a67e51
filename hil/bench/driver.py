"""Full-map reads a second: the agent's SunSpec client against pysunspec2's, on the same server, turn about.

A full-map read ends with the scaled value of every point of every model in hand. The server is a process of its own
that answers from a frozen copy of a simulated home's registers and does nothing else, so that the clients are compared
and not the rig. Both clients have scanned the map before; turns are short and alternate, so that whatever else the
machine does falls on both. Client and server share one core: what it takes the machine to wake another one, which is
as much again as a transaction itself on an idle machine and nothing on a busy one, is no property of a client.
"""

import asyncio
import math
import multiprocessing
import os
import struct
import time
from multiprocessing.connection import Connection as Pipe
from typing import Any, Final

import msgspec
import numpy as np
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from edge_agent.drivers.modbus import ModbusConnection
from edge_agent.drivers.sunspec.discovery import DeviceMap, discover
from edge_agent.drivers.sunspec.layout import Field
from edge_agent.drivers.sunspec.plan import Image, plan_reads, to_bytes
from edge_agent.drivers.transaction import READ_ONLY
from hil.plant.frequency import Timeline
from hil.plant.household import SteadyHousehold
from hil.rigs.clock import ManualClock
from hil.rigs.home import HomeRig
from hil.rigs.scenario import load
from hil.rigs.sunspec_map import BASE_ADDRESS
from hil.run.collect import machine

TURNS: Final = 10
_TIMEOUT_S: Final = 2.0
_UNIT: Final = 1
_REQUEST: Final = struct.Struct(">HHHBBHH")


def bench_driver(*, seconds: float, legacy: bool) -> dict[str, Any]:
    """The figures, by name. `seconds` for each client; `legacy`: the map of an older inverter."""
    context = multiprocessing.get_context("spawn")
    ours_end, theirs_end = context.Pipe()
    server = context.Process(target=_serve, args=(theirs_end, _registers(legacy)), daemon=True)
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # the server inherits it
    server.start()
    try:
        if not ours_end.poll(30):
            raise TimeoutError("the bench's own server does not start")
        port = ours_end.recv()
        return asyncio.run(_compare(port, seconds))
    finally:
        os.sched_setaffinity(0, allowed)
        server.terminate()
        server.join(10)


async def _compare(port: int, seconds: float) -> dict[str, Any]:
    connection = ModbusConnection(
        name="bench", host="127.0.0.1", port=port, unit_id=_UNIT, timeout_s=_TIMEOUT_S, writable=READ_ONLY
    )
    await connection.connect()
    theirs = _Pysunspec2(port)
    try:
        ours = _Ours(connection, await discover(connection))
        rates = []
        for _ in range(TURNS):  # the other one has nothing to do meanwhile, so that it may block
            rates.append((await ours.reads_per_s(seconds / TURNS), theirs.reads_per_s(seconds / TURNS)))
        ours_values, theirs_values = await ours.values(), theirs.values()
    finally:
        theirs.close()
        await connection.close()
    ours_s, theirs_s = np.array(rates).T
    return {
        "sunspec_read_ratio": round(float(np.median(ours_s / theirs_s)), 2),
        "sunspec_reads_per_s": round(float(np.median(ours_s)), 1),
        "pysunspec2_reads_per_s": round(float(np.median(theirs_s)), 1),
        "transactions_a_read": ours.transactions,
        "registers": ours.registers,
        "points": len(ours_values),
        "points_that_differ": sum(not _same(value, theirs_values[at]) for at, value in ours_values.items()),
        "machine": machine(),
    }


class _Ours:
    """The agent's discovery, read plan and codec over its Modbus connection."""

    def __init__(self, connection: ModbusConnection, found: DeviceMap) -> None:
        self._connection = connection
        self._blocks = plan_reads(field for model in found.models for field in model.fields.values())
        self.transactions = len(self._blocks)
        self.registers = sum(block.count for block in self._blocks)

    async def reads_per_s(self, seconds: float) -> float:
        count, begin = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - begin) < seconds:
            await self._read()
            count += 1
        return count / elapsed

    async def values(self) -> dict[tuple[int, str], Any]:
        """By model and path, without padding."""
        found = await self._read()
        return {(f.model_id, f.path): value for f, value in found.items() if f.point.type != "pad"}

    async def _read(self) -> dict[Field, Any]:
        image = Image()
        for block in self._blocks:
            image.store(block, to_bytes(await self._connection.read(block.address, block.count, block)))
        return image.values()


class _Pysunspec2:
    """pysunspec2's own client: it reads model by model, and computes a value when it is asked for."""

    def __init__(self, port: int) -> None:
        self._device = SunSpecModbusClientDeviceTCP(slave_id=_UNIT, ipaddr="127.0.0.1", ipport=port, timeout=_TIMEOUT_S)
        self._device.scan()

    def reads_per_s(self, seconds: float) -> float:
        count, begin = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - begin) < seconds:
            self._read()
            count += 1
        return count / elapsed

    def values(self) -> dict[tuple[int, str], Any]:
        """By model and path."""
        values: dict[tuple[int, str], Any] = {}
        for model_id, read in self._read():
            _flatten(values, model_id, "", read)
        return values

    def _read(self) -> list[tuple[int, dict[str, Any]]]:
        found = []
        for model in self._device.model_list:
            model.read()
            found.append((model.model_id, model.get_dict(computed=True)))
        return found

    def close(self) -> None:
        self._device.close()


def _flatten(values: dict[tuple[int, str], Any], model_id: int, prefix: str, group: dict[str, Any]) -> None:
    for name, value in group.items():
        if isinstance(value, dict):
            _flatten(values, model_id, f"{prefix}{name}.", value)
        elif isinstance(value, list):
            for index, each in enumerate(value):
                _flatten(values, model_id, f"{prefix}{name}[{index}].", each)
        else:
            values[model_id, prefix + name] = value


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, int | float):
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-12)
    return bool(ours == theirs) or (ours is None and theirs in (None, ""))


def _registers(legacy: bool) -> list[int]:
    """The map of a simulated home."""
    home = msgspec.structs.replace(load("underfrequency").home(0), legacy=legacy)
    household = SteadyHousehold(load=750.0, pv=2000.0)
    rig = HomeRig(home, household=household, frequency=Timeline(), clock=ManualClock(), unit_id=_UNIT)
    return rig.registers.map.registers


def _serve(told: Pipe, registers: list[int]) -> None:
    """A process: answers reads of `registers` until it is ended."""

    async def serve() -> None:
        data = struct.pack(f">{len(registers)}H", *registers)
        server = await asyncio.get_running_loop().create_server(lambda: _Answering(data), "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


class _Answering(asyncio.Protocol):
    """Function 3 of Modbus TCP, from a map that never changes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._heard += data
        while len(self._heard) >= _REQUEST.size:
            transaction, protocol, _, unit, function, address, count = _REQUEST.unpack_from(self._heard)
            self._heard = self._heard[_REQUEST.size :]
            start = 2 * (address - BASE_ADDRESS)
            if function == 3 and start >= 0 and start + 2 * count <= len(self._data):
                body = struct.pack(">BBB", unit, function, 2 * count) + self._data[start : start + 2 * count]
            else:
                body = struct.pack(">BBB", unit, function | 0x80, 2)
            assert isinstance(self._transport, asyncio.WriteTransport)  # noqa: S101  (a stream's own)
            self._transport.write(struct.pack(">HHH", transaction, protocol, len(body)) + body)
