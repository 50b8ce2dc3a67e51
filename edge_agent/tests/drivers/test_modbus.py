"""The connection: silence, late answers, loss and return."""

import asyncio
import logging
from typing import Any

import pytest

from edge_agent.drivers.modbus import ModbusConnection
from edge_agent.drivers.transaction import READ_ONLY, UNLIMITED, ModbusRejected, Pacing, Write
from edge_agent.model.devices import DeviceRejected, DeviceTimeout


def connection_to(server: Any, *, timeout_s: float) -> ModbusConnection:
    return ModbusConnection(
        name="hybrid", host="127.0.0.1", port=server.port, unit_id=1, timeout_s=timeout_s, writable=READ_ONLY
    )


async def test_after_a_write_a_device_gets_its_longer_pause(serve: Any) -> None:
    server = await serve()
    connection = ModbusConnection(
        name="hybrid",
        host="127.0.0.1",
        port=server.port,
        unit_id=1,
        timeout_s=5.0,
        writable=UNLIMITED,
        pacing=Pacing(pause_s=0.01, pause_after_write_s=0.2),
    )
    await connection.connect()
    try:
        loop = asyncio.get_running_loop()
        with pytest.raises(DeviceRejected):  # a refusal is an answer as well
            await connection.write(1, [1], "a command")
        answered_s = loop.time()
        await connection.read(40000, 2, "what came of it")
        assert loop.time() - answered_s >= 0.19  # less what it took to raise
    finally:
        await connection.close()


async def until_answered(read: Any) -> Any:
    """Reads until the device answers; the deadline is far beyond what it needs."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await read()
            except DeviceTimeout:
                await asyncio.sleep(0.01)


async def test_silence_is_a_timeout_told_once_and_an_answer_ends_it(serve: Any, opened: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    server = await serve()
    device = await opened(server, timeout_s=0.05)
    server.silent = True
    for _ in range(9):  # three times what it takes to try a fresh connection
        with pytest.raises(DeviceTimeout, match="hybrid"):
            await device.inverter.read_inverter()
    server.silent = False
    reading = await until_answered(device.inverter.read_inverter)
    assert reading.power_w.good == 1200.0
    told = [record.getMessage().split(":")[0] for record in caplog.records]
    assert [told.count("device lost"), told.count("device answers again")] == [1, 1]


async def test_a_device_that_went_away_is_found_again(serve: Any, opened: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    server = await serve()
    device = await opened(server, timeout_s=0.2)
    port = server.port
    await server.stop()
    for _ in range(4):
        with pytest.raises(DeviceTimeout):
            await device.inverter.read_inverter()
    server.put(701, W=3000, W_SF=-1)  # it comes back with another scale factor: nothing old may be used
    await server.start(port)
    reading = await until_answered(device.inverter.read_inverter)
    assert reading.power_w.good == 300.0
    told = [record.getMessage() for record in caplog.records if "device lost" in record.getMessage()]
    assert len(told) == 1
    assert "device answers again: device=hybrid" in caplog.text


async def test_a_lost_connection_fails_at_once(serve: Any, opened: Any) -> None:
    server = await serve()
    device = await opened(server, timeout_s=5.0)
    await server.stop()
    async with asyncio.timeout(4):  # less than one time-out
        for _ in range(20):
            with pytest.raises(DeviceTimeout):
                await device.inverter.read_inverter()
    await server.start()


async def test_a_late_answer_is_not_taken_for_the_next_one(serve: Any) -> None:
    server = await serve()
    held: list[asyncio.Event] = []
    answer = server._action

    async def late(*arguments: Any) -> Any:
        if held:
            await held[0].wait()
        return await answer(*arguments)

    server._action = late
    await server.stop()
    await server.start()
    connection = connection_to(server, timeout_s=0.1)
    await connection.connect()
    try:
        gate = asyncio.Event()
        held.append(gate)
        with pytest.raises(DeviceTimeout, match="reading the marker at 40000: no answer"):
            await connection.read(40000, 2, "the marker")
        held.clear()
        gate.set()
        assert await until_answered(lambda: connection.read(40002, 2, "model 1's header")) == [1, 66]
    finally:
        await connection.close()


async def test_an_exception_reply_carries_its_code_and_names_the_point(serve: Any) -> None:
    server = await serve()
    connection = connection_to(server, timeout_s=0.5)
    await connection.connect()
    with pytest.raises(ModbusRejected, match="device hybrid: reading SoC at 10: exception 2, illegal data") as told:
        await connection.read(10, 1, "SoC")
    assert told.value.code == 2
    await connection.close()
    with pytest.raises(DeviceTimeout, match="closed"):
        await connection.read(40000, 1, "SoC")


async def test_what_may_not_be_written_never_reaches_the_wire(serve: Any, opened: Any) -> None:
    server = await serve()
    connection = connection_to(server, timeout_s=0.5)
    await connection.connect()
    for function in Write:
        with pytest.raises(DeviceRejected, match="register 40200 is not on the list"):
            await connection.write(40200, [1], "WSet", function)
    assert server.writes == []
    await connection.close()


async def test_pymodbus_stays_off_the_log(serve: Any, opened: Any, caplog: Any, capfd: Any) -> None:
    server = await serve()
    device = await opened(server, timeout_s=0.05)
    server.silent = True
    with pytest.raises(DeviceTimeout):
        await device.inverter.read_inverter()
    assert not [record for record in caplog.records if record.name.startswith("pymodbus")]
    assert capfd.readouterr().err == ""
