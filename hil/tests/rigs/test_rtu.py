"""The agent's RTU transport on a paced line: an independent server, and everything a bus does to a frame."""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from pymodbus import FramerType
from pymodbus.framer.rtu import FramerRTU
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_agent.drivers import open_device
from edge_agent.drivers.rtu import SerialConnection, SerialLines
from edge_agent.drivers.rtu_frames import with_crc
from edge_agent.drivers.transaction import READ_ONLY, UNLIMITED, ModbusRejected, Pacing, Table, Write
from edge_agent.model.config import SerialSettings
from edge_agent.model.devices import DeviceFault, DeviceRejected, DeviceTimeout
from hil.contract import power
from hil.plant.household import SteadyHousehold
from hil.rigs.clock import ManualClock
from hil.rigs.home import serve_home
from hil.rigs.rtu_home import on_home
from hil.rigs.rtu_proxy import Fault, Rates, RtuProxy
from hil.rigs.testing import HomeBench

FAST = SerialSettings(baudrate=115_200)
DEADLINE_S = 10.0
HEARD_LATE_S = 0.02  # on a busy machine the proxy notices a frame a little after it was sent


class Units:
    """Units 1 to 3 in software: register n of unit u holds 1000 u + n, until it is written."""

    def __init__(self) -> None:
        self.written: dict[tuple[int, int], int] = {}
        self.coils: dict[tuple[int, int], bool] = {}
        self.asked: list[tuple[int, int, int]] = []  # unit, function, address

    def __call__(self, request: bytes) -> bytes | None:
        unit, function, address, count = struct.unpack(">BBHH", request[:6])
        self.asked.append((unit, function, address))
        if unit > 3:
            return None
        if address >= 900:
            return bytes((unit, function | 0x80, 2))
        match function:
            case 1:
                bits = [self.coils.get((unit, address + n), False) for n in range(count)]
                data = bytes(sum(bit << n for n, bit in enumerate(bits[at : at + 8])) for at in range(0, count, 8))
                return bytes((unit, function, len(data))) + data
            case 3 | 4:
                words = [self.written.get((unit, n), 1000 * unit + n) for n in range(address, address + count)]
                return bytes((unit, function, 2 * count)) + struct.pack(f">{count}H", *words)
            case 5:
                self.coils[unit, address] = count == 0xFF00
            case 6:
                self.written[unit, address] = count
            case 16:
                for index, word in enumerate(struct.unpack(f">{count}H", request[7:])):
                    self.written[unit, address + index] = word
        return request[:6]


@pytest.fixture
def units() -> Units:
    return Units()


@pytest.fixture
async def line(units: Units) -> AsyncIterator[Callable[..., Any]]:
    """`proxy, connect = await line(...)`: a paced line, and what opens a unit on it."""
    async with AsyncExitStack() as stack:

        async def make(settings: SerialSettings = FAST, **changes: Any) -> tuple[RtuProxy, Callable[..., Any]]:
            changes.setdefault("serve", units)
            proxy = await stack.enter_async_context(RtuProxy(settings, **changes))
            lines = SerialLines()

            async def connect(unit_id: int = 1, **given: Any) -> SerialConnection:
                connection = SerialConnection(
                    name=f"unit {unit_id}",
                    lines=lines,
                    path=proxy.path,
                    settings=given.pop("settings", settings),
                    unit_id=unit_id,
                    timeout_s=given.pop("timeout_s", 0.25),
                    writable=given.pop("writable", UNLIMITED),
                    pacing=Pacing(**given),
                )
                stack.push_async_callback(connection.close)
                await connection.connect()
                return connection

            return proxy, connect

        yield make


# ---- the wire


@given(st.binary(min_size=1, max_size=256))
def test_crc_is_that_of_another_implementation(data: bytes) -> None:
    assert with_crc(data) == data + FramerRTU.compute_CRC(data).to_bytes(2, "big")


def test_crc_of_the_specifications_frame() -> None:
    # MODBUS over Serial Line V1.02, appendix B: device 2, function 7.
    assert with_crc(bytes.fromhex("0207")) == bytes.fromhex("02074112")


@pytest.mark.parametrize(
    ("settings", "bits"),
    [
        (SerialSettings(baudrate=9600), 10),
        (SerialSettings(baudrate=19_200, parity="even"), 11),
        (SerialSettings(baudrate=115_200, stop_bits=2), 11),
    ],
    ids=str,
)
async def test_every_character_takes_its_time(line: Any, settings: SerialSettings, bits: int) -> None:
    proxy, connect = await line(settings)
    unit = await connect()
    begin_s = asyncio.get_running_loop().time()
    assert await unit.read(10, 20, "twenty") == list(range(1010, 1030))
    end_s = asyncio.get_running_loop().time()
    request, reply = proxy.heard
    assert request.end_s - request.begin_s == pytest.approx(8 * bits / settings.baudrate)
    assert reply.end_s - reply.begin_s == pytest.approx(45 * bits / settings.baudrate)
    assert reply.begin_s - request.end_s >= proxy.gap_s + proxy.turn_round_s
    assert begin_s <= request.begin_s
    assert end_s >= reply.end_s  # not a character before it has come through the wire


async def test_frames_are_three_and_a_half_characters_apart(line: Any) -> None:
    proxy, connect = await line(SerialSettings(baudrate=38_400))
    one, two = await connect(1), await connect(2)
    await asyncio.gather(*(unit.read(at, 4, "block") for at in range(5) for unit in (one, two)))
    assert proxy.violations == []
    assert len(proxy.heard) == 20
    for before, after in zip(proxy.heard, proxy.heard[1:], strict=False):
        assert after.begin_s - before.end_s > proxy.gap_s - 0.0003


async def test_a_client_that_speaks_into_a_reply_is_not_heard(line: Any, units: Units) -> None:
    proxy, _ = await line(SerialSettings(baudrate=4800))
    rude = os.open(proxy.path, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(rude, with_crc(bytes.fromhex("010300000001")))
        await asyncio.to_thread(os.read, rude, 1)  # the first character of the reply; six are still to come
        os.write(rude, with_crc(bytes.fromhex("010300050001")))
        async with asyncio.timeout(DEADLINE_S):
            while not proxy.violations:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    finally:
        os.close(rude)
    assert "01 03 00 05 00 01" in proxy.violations[0]
    assert units.asked == [(1, 3, 0)]


# ---- transactions


async def test_every_function_against_an_independent_server(line: Any) -> None:
    """pymodbus' serial server on the other pty."""
    proxy, connect = await line(serve=None)
    blocks = (
        [SimData(0, values=[True, False, True, *[False] * 13], datatype=DataType.BITS)],
        [SimData(0, values=[False, True, True, *[False] * 13], datatype=DataType.BITS)],
        [SimData(0, values=list(range(100, 200)), datatype=DataType.REGISTERS)],
        [SimData(0, values=list(range(500, 600)), datatype=DataType.REGISTERS)],
    )
    server = ModbusSerialServer(SimDevice(id=7, simdata=blocks), framer=FramerType.RTU, port=proxy.server_path)
    await server.serve_forever(background=True)
    try:
        unit = await connect(7, timeout_s=1.0)
        assert await unit.read(3, 5, "holding") == [103, 104, 105, 106, 107]
        assert await unit.read(3, 2, "input", Table.INPUT) == [503, 504]
        assert await unit.read(0, 3, "coils", Table.COIL) == [1, 0, 1]
        assert await unit.read(0, 3, "inputs", Table.DISCRETE) == [0, 1, 1]
        await unit.write(10, [7, 8, 9], "three")
        await unit.write(13, [11], "one", Write.SINGLE)
        await unit.write(1, [1], "coil", Write.COIL)
        assert await unit.read(9, 6, "written") == [109, 7, 8, 9, 11, 114]
        assert await unit.read(0, 3, "coils", Table.COIL) == [1, 1, 1]
        with pytest.raises(ModbusRejected, match="device unit 7: reading beyond at 95: exception 2") as told:
            await unit.read(95, 20, "beyond")
        assert told.value.code == 2
        assert proxy.violations == []
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


async def test_units_of_one_line_share_it(line: Any, units: Units) -> None:
    proxy, connect = await line()
    connections = [await connect(unit_id) for unit_id in (1, 2, 3)]
    assert len({id(connection._line) for connection in connections}) == 1
    answers = await asyncio.gather(*(c.read(at, 2, "both") for at in range(0, 20, 2) for c in connections))
    assert answers == [[1000 * u + at, 1000 * u + at + 1] for at in range(0, 20, 2) for u in (1, 2, 3)]
    assert len(proxy.heard) == 2 * 30
    await connections[0].close()
    assert await connections[1].read(0, 1, "still") == [2000]
    with pytest.raises(DeviceTimeout, match="closed"):
        await connections[0].read(0, 1, "no more")


async def test_one_line_is_spoken_one_way(line: Any) -> None:
    _, connect = await line()
    await connect(1)
    with pytest.raises(DeviceFault, match=r"unit 2: .* is in use with 115200 baud.* 9600 baud.*need the same baudrate"):
        await connect(2, settings=SerialSettings(baudrate=9600))


async def test_a_units_pause_is_kept_and_holds_up_nobody_else(line: Any) -> None:
    proxy, connect = await line()
    slow, quick = await connect(1, pause_s=0.2), await connect(2)
    await slow.read(0, 1, "first")
    await asyncio.gather(slow.read(1, 1, "second"), *(quick.read(n, 1, "quick") for n in range(5)))
    asked = [frame for frame in proxy.heard if frame.of_client]
    assert [frame.data[0] for frame in asked] == [1, 2, 2, 2, 2, 2, 1]
    first_reply = proxy.heard[1]
    assert asked[-1].begin_s - first_reply.end_s >= 0.2


async def test_after_a_write_a_unit_gets_its_longer_pause(line: Any) -> None:
    proxy, connect = await line()
    unit = await connect(1, pause_after_write_s=0.2)
    await unit.write(0, [7], "a command")
    await unit.read(0, 1, "the command")
    _, reply, second, _ = proxy.heard
    assert second.begin_s - reply.end_s >= 0.2


# ---- late, lost and spoilt replies


async def test_a_late_reply_is_not_taken_for_the_next_ones(line: Any) -> None:
    """Same unit, same function, same length: only the wait tells them apart."""
    proxy, connect = await line()
    unit = await connect(timeout_s=0.05, latest_reply_s=0.5)
    proxy.plan.append(Fault(late_s=0.15))
    with pytest.raises(DeviceTimeout, match="reading first at 10"):
        await unit.read(10, 2, "first")
    assert await unit.read(20, 2, "second") == [1020, 1021]
    first, late, second, _ = proxy.heard
    assert (first.of_client, late.of_client, second.of_client) == (True, False, True)
    assert late.end_s <= second.begin_s


async def test_a_lost_reply_costs_the_longest_reply_time(line: Any) -> None:
    proxy, connect = await line()
    unit, other = await connect(timeout_s=0.05, latest_reply_s=0.3), await connect(2)
    proxy.plan.append(Fault(lost_reply=True))
    with pytest.raises(DeviceTimeout):
        await unit.read(10, 2, "first")
    assert await other.read(20, 2, "another's") == [2020, 2021]
    first, another = (frame for frame in proxy.heard if frame.of_client)
    assert another.begin_s - first.end_s >= 0.3 - HEARD_LATE_S


@pytest.mark.parametrize(
    ("later", "answer"),
    [
        (lambda one, two: two.read(20, 2, "of another unit"), [2020, 2021]),
        (lambda one, two: one.read(20, 3, "of another length"), [1020, 1021, 1022]),
        (lambda one, two: one.read(20, 2, "of another function", Table.INPUT), [1020, 1021]),
        (lambda one, two: one.write(20, [5], "a writing"), None),
    ],
    ids=["unit", "length", "function", "writing"],
)
async def test_a_reply_later_than_ever_is_told_by_its_form(line: Any, later: Any, answer: Any) -> None:
    """It comes in the middle of the next exchange, beyond what the device was said to need."""
    proxy, connect = await line(turn_round_s=0.1)
    one = await connect(1, timeout_s=0.05, latest_reply_s=0.06)
    two = await connect(2, timeout_s=0.5)
    one_patient = await connect(1, timeout_s=0.5)
    proxy.plan.append(Fault(late_s=0.03))
    with pytest.raises(DeviceTimeout):
        await one.read(10, 2, "first")
    assert await later(one_patient, two) == answer
    assert [frame.of_client for frame in proxy.heard[:3]] == [True, True, False]


async def test_a_write_is_confirmed_by_its_own_address_and_value(line: Any, units: Units) -> None:
    proxy, connect = await line()
    proxy.serve = lambda request: units(request) and request[:4] + b"\x00\x63"  # confirms another value
    unit = await connect(timeout_s=0.05, latest_reply_s=0.1)
    with pytest.raises(DeviceTimeout, match=r"only 8 bytes that are none"):
        await unit.write(10, [7], "seven", Write.SINGLE)


async def test_bit_errors_noise_and_silence_are_timeouts_and_pass(line: Any) -> None:
    proxy, connect = await line()
    unit = await connect(timeout_s=0.05, latest_reply_s=0.08)
    for bit in (0, 12, 30, 70):
        proxy.plan.append(Fault(flipped_bits=(bit,)))
        with pytest.raises(DeviceTimeout, match="bytes that are none"):
            await unit.read(bit, 4, "spoilt")
        assert await unit.read(bit, 4, "whole") == [1000 + bit + n for n in range(4)]
    proxy.plan.append(Fault(noise=b"\xff\x01\x03"))
    assert await unit.read(3, 1, "behind noise") == [1003]
    proxy.plan.append(Fault(lost_request=True))
    with pytest.raises(DeviceTimeout, match="no answer"):
        await unit.read(4, 1, "unheard")


async def test_no_reading_is_ever_anothers_on_a_bad_line(line: Any) -> None:
    """Bit errors, lost and late replies at random: every answer is the one to its own request."""
    rates = Rates(bit_error=0.001, lost_reply=0.1, late_reply=0.15, late_s=0.06)
    proxy, connect = await line(rates=rates, seed=7, turn_round_s=0.001)
    connections = [await connect(unit, timeout_s=0.03, latest_reply_s=0.1) for unit in (1, 2)]
    answered = missed = 0
    for at in range(30):
        for unit in connections:
            unit._rests_until_s = 0.0  # asked again at once, however silent
            try:
                assert await unit.read(at, 2, "pair") == [1000 * unit.unit_id + at, 1000 * unit.unit_id + at + 1]
                answered += 1
            except DeviceTimeout:
                missed += 1
    assert answered > 30
    assert missed > 5
    assert proxy.violations == []


async def test_an_adapters_echo_is_not_an_answer(line: Any, units: Units) -> None:
    proxy, connect = await line(echo=True)
    unit = await connect(timeout_s=0.3, latest_reply_s=0.4)
    assert await unit.read(10, 2, "first") == [1010, 1011]
    await unit.write(10, [7], "seven", Write.SINGLE)  # its answer has the very bytes of its echo
    assert await unit.read(10, 1, "seven") == [7]
    proxy.plan.append(Fault(lost_request=True))
    with pytest.raises(DeviceTimeout):
        await unit.write(10, [8], "eight", Write.SINGLE)
    assert units.written[1, 10] == 7


async def test_a_silent_unit_is_left_alone_for_a_while(line: Any, units: Units) -> None:
    _, connect = await line()
    dead, alive = await connect(9, timeout_s=0.02, latest_reply_s=0.02), await connect(1)
    for _ in range(6):
        with pytest.raises(DeviceTimeout):
            await dead.read(0, 1, "nothing")
    assert await alive.read(0, 1, "something") == [1000]
    assert len([unit for unit, _, _ in units.asked if unit == 9]) == 3


async def test_a_caller_that_gives_up_leaves_the_line_in_order(line: Any) -> None:
    proxy, connect = await line()
    unit = await connect()
    proxy.plan.append(Fault(late_s=0.1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.03):
            await unit.read(10, 2, "given up")
    assert await unit.read(20, 2, "next") == [1020, 1021]


async def test_a_request_under_way_ends_with_its_line(line: Any) -> None:
    _, connect = await line()
    unit = await connect(9, timeout_s=5.0)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_told(unit.read(0, 1, "nothing")))
        while unit._line._waiting or not unit._line._asked.is_set():  # noqa: ASYNC110  (until it is on the wire)
            await asyncio.sleep(0)
        await unit.close()
    assert "closed" in waiting.result()


async def _told(asking: Any) -> str:
    try:
        await asking
    except DeviceTimeout as error:
        return str(error)
    return "answered"


# ---- what may be written, and the port itself


async def test_what_may_not_be_written_never_reaches_the_wire(line: Any, units: Units) -> None:
    proxy, connect = await line()
    unit = await connect(writable=READ_ONLY)
    for function in Write:
        with pytest.raises(DeviceRejected, match=r"register 10 is not on the list.*nothing was sent"):
            await unit.write(10, [1], "forbidden", function)
    assert proxy.heard == []


async def test_a_port_that_goes_is_a_timeout_and_comes_back(line: Any, tmp_path: Any, units: Units) -> None:
    link, lines = tmp_path / "ttyV0", SerialLines()

    def unit_on(path: Any) -> SerialConnection:
        return SerialConnection(
            name="meter", lines=lines, path=str(path), settings=FAST, unit_id=1, timeout_s=0.1, writable=READ_ONLY,
            pacing=Pacing(latest_reply_s=0.1),
        )  # fmt: skip

    with pytest.raises(DeviceTimeout, match=r"cannot open .*ttyV0.*group dialout"):
        await unit_on(link).connect()
    async with RtuProxy(FAST, serve=units) as first:
        link.symlink_to(first.path)
        unit = unit_on(link)
        await unit.connect()
        assert await unit.read(1, 1, "one") == [1001]
    with pytest.raises(DeviceTimeout):
        await unit.read(1, 1, "gone")
    link.unlink()
    async with RtuProxy(FAST, serve=units) as second:
        link.symlink_to(second.path)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    assert await unit.read(2, 1, "back") == [1002]
                    break
                except DeviceTimeout:
                    await asyncio.sleep(0.02)
        await unit.close()


# ---- a whole device


async def test_a_sunspec_home_is_found_read_and_driven_over_a_serial_line() -> None:
    clock = ManualClock()
    settings = SerialSettings(baudrate=57_600, parity="even")
    async with AsyncExitStack() as stack:
        rig = await stack.enter_async_context(serve_home(household=SteadyHousehold(load=750.0, pv=2000.0), clock=clock))
        async with RtuProxy(settings, on_home(rig)) as proxy:
            bench = HomeBench(rig, clock)
            config = structs.replace(
                bench.config(timeout_s=0.2, read_only=False),
                host=None, port=502, serial=proxy.path, baudrate=settings.baudrate, parity=settings.parity,
            )  # fmt: skip
            device = await open_device(config, bench.clock)
            assert device.inverter is not None
            assert device.control is not None
            before = len(proxy.heard)
            assert (await device.inverter.read_inverter()).pv_power_w.good == pytest.approx(2000.0, abs=10.0)
            assert len(proxy.heard) - before <= 2 * 3
            await device.control.write_power(power(1500.0), 4.0)
            assert bench.commanded_w == 1500.0
            clock.leap(4.1)
            assert bench.commanded_w is None
            assert proxy.violations == []
            await device.close()
