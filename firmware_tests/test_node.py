"""Meter and relay as processes: mains over a socket, Modbus RTU on a pty, pymodbus and the agent's own driver."""

import asyncio
import json
import math
import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serial
from msgspec import structs
from pymodbus.client import AsyncModbusSerialClient
from pymodbus.exceptions import ModbusIOException

from edge_agent.drivers import open_device
from edge_agent.drivers.rtu import SerialLines
from edge_agent.model.clock import SystemClock
from edge_agent.model.config import AgentConfig, CoordinatorConfig, DeviceConfig, SerialSettings
from edge_agent.model.devices import Device
from edge_agent.runtime.messages import Reporter
from edge_agent.runtime.site import Site
from edge_agent.runtime.testing import Bench
from hil.bench.firmware_chain import setpoint_times
from hil.rigs.firmware_node import FIRMWARE, FirmwareNode
from hil.rigs.metered_home import metered_home
from hil.rigs.rtu_proxy import RtuProxy

UNIT = 7
FAST, RELAY = 40196, 40222
SETTINGS = {"unit": UNIT, "serial": "node-1"}
"""Amplitude 17000 counts is 228.4 V at 19 mV a count."""


def steady(hz: float, amplitude: float = 17_000.0) -> Any:
    return lambda t: 32768 + amplitude * np.cos(2 * np.pi * hz * t)


def crc(frame: bytes) -> bytes:
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


@asynccontextmanager
async def node_and_client(
    folder: Path, settings: dict[str, Any], waveform: Any
) -> AsyncIterator[tuple[FirmwareNode, AsyncModbusSerialClient]]:
    async with FirmwareNode(folder, settings, waveform) as node:
        client = AsyncModbusSerialClient(node.path, baudrate=115200, timeout=0.5, retries=1)
        await client.connect()
        try:
            yield node, client
        finally:
            client.close()


async def fast(client: AsyncModbusSerialClient) -> dict[str, int]:
    """Model 64910 by its own definition."""
    answer = await client.read_holding_registers(FAST, count=26, device_id=UNIT)
    assert not answer.isError(), answer
    return by_definition(64910, answer.registers)


def by_definition(model: int, registers: list[int]) -> dict[str, int]:
    points = json.loads((FIRMWARE / "models" / f"model_{model}.json").read_text())["group"]["points"]
    found, at = {}, 0
    for point in points:
        raw = int.from_bytes(b"".join(word.to_bytes(2, "big") for word in registers[at : at + point["size"]]), "big")
        if point["type"].startswith("int") and raw >> (16 * point["size"] - 1):
            raw -= 1 << 16 * point["size"]
        found[point["name"]] = raw
        at += point["size"]
    assert at == len(registers)
    assert registers[1] == at - 2
    return found


async def until(condition: Any, seconds: float = 10.0) -> Any:
    """What `condition` gives as soon as it is true."""
    async with asyncio.timeout(seconds):
        while True:
            if found := await condition():
                return found
            await asyncio.sleep(0.005)


async def good(client: AsyncModbusSerialClient) -> dict[str, int] | None:
    values = await fast(client)
    return values if values["Flg"] == 0 else None


async def test_pymodbus_reads_the_fast_values(tmp_path: Path) -> None:
    async with node_and_client(tmp_path, SETTINGS, steady(49.871)) as (_, client):
        values = await until(lambda: good(client))
        assert values["Hz"] == pytest.approx(49_871_000, abs=200)
        assert values["V"] == pytest.approx(17_000 / 2**0.5 * 19, rel=0.002)
        assert 50 <= values["Age"] < 200
        later = await until(lambda: _after(client, values["Seq"], 45))
        assert later["HzSec"] == pytest.approx(49_871_000, abs=50)
        assert later["RoCoF"] == pytest.approx(0, abs=2000)
        assert (later["HzNom"], later["Safe"], later["Boots"], later["Lost"]) == (50, 0, 1, 0)
        head = await client.read_input_registers(40000, count=4, device_id=UNIT)
        assert head.registers == [0x5375, 0x6E53, 1, 66]


async def _after(client: AsyncModbusSerialClient, sequence: int, count: int) -> dict[str, int] | None:
    values = await fast(client)
    return values if values["Seq"] - sequence >= count else None


async def test_the_agents_own_driver_reads_it_through_a_paced_line(tmp_path: Path) -> None:
    settings = SerialSettings(baudrate=115200)

    def waveform(t: Any) -> Any:
        return 32768 + np.where(t < 3.0, 17_000.0, 20.0) * np.cos(2 * np.pi * 50.123 * t)

    async with (
        RtuProxy(settings=settings, turn_round_s=0.0) as line,
        FirmwareNode(tmp_path, SETTINGS, waveform, uart_path=line.server_path),
    ):
        lines = SerialLines()
        config = DeviceConfig(name="clamp", driver="sunspec", serial=line.path, baudrate=115200, unit_id=UNIT)
        device = await open_device(config, lines=lines)
        try:
            assert device.nameplate.manufacturer == "Murmuration"
            assert device.meter is not None
            assert device.control is None

            async def frequency() -> float | None:
                return (await device.meter.read_meter()).frequency_hz.good

            assert await until(frequency) == pytest.approx(50.123, abs=2e-4)
            reading = await device.meter.read_meter()
            assert reading.voltage_v.value == pytest.approx(228.4, rel=0.002)
            assert reading.frequency_interval_s == 0.02
            age_s = time.monotonic() - reading.frequency_hz.at_s
            assert 0.05 <= age_s < 1.0  # from the middle of its window

            async def dead() -> str:
                sample = (await device.meter.read_meter()).frequency_hz
                return sample.reason if "dead line" in sample.reason else ""

            assert (await until(dead)).startswith("the meter says: settling, dead line")
        finally:
            await device.close()
        assert line.violations == []


async def test_the_meter_drives_a_service_from_waveform_to_inverter(tmp_path: Path) -> None:
    """Agent, paced line, meter, and a home whose own frequency stands still: every step is answered."""
    assert len(await setpoint_times(tmp_path, 2, gap_s=1.5)) == 2


@pytest.mark.parametrize(
    ("priority", "refusal"),
    [
        pytest.param(1, "", id="on the meter"),
        pytest.param(3, "gb-dc must begin within 0.5 s, and frequency from hybrid comes up to ", id="on the register"),
    ],
)
async def test_a_half_second_service_is_armed_on_the_meter_and_not_on_the_inverters_register(
    tmp_path: Path, priority: int, refusal: str
) -> None:
    """The inverter renews its register once a second; the meter tells how old its value is."""

    def wander(t: Any) -> Any:
        return 50.0 + 0.02 * np.sin(2.1 * t)

    def waveform(t: Any) -> Any:
        return 32768 + 17_000 * np.cos(2 * np.pi * (50.0 * t - 0.02 / 2.1 * (np.cos(2.1 * t) - 1)))

    def register(utc_ms: float) -> float:
        return float(wander(math.floor(utc_ms / 1e3) % 1000))

    async with metered_home(tmp_path, waveform, nominal_hz=50, frequency=register, meter_priority=priority) as home:
        best = "clamp" if priority == 1 else "hybrid"

        def known() -> bool:
            timing = home.agent.summary()["frequency_sources"]
            return all(name in timing and timing[name]["measured"] for name in ("clamp", "hybrid"))

        await home.run_until(known, 30.0)
        summary = home.agent.summary()
        assert summary["frequency_source"] == best
        meter, inverter = (summary["frequency_sources"][name] for name in ("clamp", "hybrid"))
        assert (
            0.5 < inverter["interval_s"] < 1.3
        )  # a machine that is busy reads one late, and then the next one on time
        assert 0.05 < meter["age_s"] < 0.5  # half a window, and the way here; not the microseconds since it was read
        assert meter["age_s"] > inverter["age_s"] + 0.03
        for attempt in range(1, 11):  # a busy machine is late itself, and then may well refuse
            home.arm("gb-dc", 2000)
            await home.run_until(lambda count=attempt: len(home.acknowledgements) == count, 20.0)
            said = home.acknowledgements[-1]
            if said.state == said.STATE_ACTIVE or refusal:
                break
        assert said.state == (said.STATE_REFUSED if refusal else said.STATE_ACTIVE), said.reason
        assert refusal in said.reason
        if refusal:
            assert re.search(r"renewed every [01]\.\d\d s, 0\.\d\d s old, cycle 0\.02 s", said.reason)
        assert home.line.violations == []


async def test_the_gateways_clock_reaches_the_meter_and_no_read_only_one(tmp_path: Path) -> None:
    settings = SerialSettings(baudrate=115200)
    async with (
        RtuProxy(settings=settings, turn_round_s=0.0) as line,
        FirmwareNode(tmp_path, SETTINGS, steady(50.0), uart_path=line.server_path),
    ):
        lines = SerialLines()
        config = DeviceConfig(name="clamp", driver="sunspec", serial=line.path, baudrate=115200, unit_id=UNIT)
        watching = await open_device(structs.replace(config, read_only=True), lines=lines)
        assert watching.microcontroller is None
        agent_config = AgentConfig(
            site="home-01",
            data_dir=tmp_path / "site",
            coordinator=CoordinatorConfig(claim_file=tmp_path / "claim.toml"),
            devices=(structs.replace(config, frequency_only=True, frequency_priority=1),),
        )
        pauses: list[float] = []
        opened: list[Device] = []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                raise asyncio.CancelledError

        async def open_it(device_config: DeviceConfig) -> Device:
            opened.append(await open_device(device_config, lines=lines))
            return opened[-1]

        clock = SystemClock()
        reporter = Reporter(site="home-01", boot_id="1", clock=clock, send=lambda _: None)
        flexible = Bench(tmp_path).agent.flexible  # there is no such device here
        site = Site(agent_config, open_it, flexible, clock=clock, reporter=reporter, sleep=sleep)
        await site.open_all()
        try:
            with pytest.raises(asyncio.CancelledError):
                await site.keep_clocks()
        finally:
            await site.close()
            await watching.close()
        assert pauses == [60.0, 60.0, 60.0]
        written = [frame.data for frame in line.heard if frame.of_client and frame.data[1] == 16]
        shown_ms = [int.from_bytes(frame[7:11], "big") for frame in written]
        assert len(written) == 3
        assert all(int.from_bytes(frame[2:4], "big") == FAST + 22 for frame in written)
        assert shown_ms == sorted(shown_ms)
        assert 0 <= clock.monotonic_s() * 1e3 % (1 << 32) - shown_ms[-1] < 10_000
        assert line.violations == []


async def test_a_dead_line_and_a_silent_converter_have_no_frequency(tmp_path: Path) -> None:
    def waveform(t: Any) -> Any:
        return 32768 + np.where(t < 0.6, 17_000.0, 20.0) * np.cos(2 * np.pi * 50 * t)

    async with node_and_client(tmp_path, SETTINGS, waveform) as (node, client):
        await until(lambda: good(client))

        async def dead() -> dict[str, int] | None:
            values = await fast(client)
            return values if values["Flg"] & 2 else None

        assert (await until(dead))["Hz"] == 0xFFFFFFFF
        node.unplug_mains()

        async def lost() -> dict[str, int] | None:
            values = await fast(client)
            return values if values["Lost"] else None

        assert (await until(lost))["Hz"] == 0xFFFFFFFF
        meter = await client.read_holding_registers(40070 + 26, count=2, device_id=UNIT)
        assert meter.registers == [0x7FC0, 0]


async def test_exceptions_and_broadcast(tmp_path: Path) -> None:
    async with node_and_client(tmp_path, {**SETTINGS, "program": "relay"}, steady(50.0)) as (node, client):
        assert (await client.read_coils(0, count=1, device_id=UNIT)).exception_code == 1
        assert (await client.read_holding_registers(39999, count=1, device_id=UNIT)).exception_code == 2
        assert (await client.read_holding_registers(RELAY, count=120, device_id=UNIT)).exception_code == 2
        assert (await client.write_register(FAST + 6, 1, device_id=UNIT)).exception_code == 2
        assert (await client.write_register(RELAY + 3, 3, device_id=UNIT)).exception_code == 3
        assert (await client.write_registers(RELAY + 3, [2, 0], device_id=UNIT)).exception_code == 3
        assert node.relay is True
        with pytest.raises(ModbusIOException):
            await client.read_holding_registers(FAST, count=1, device_id=UNIT + 1)
        # Broadcast: done, and not answered.
        await client.write_registers(RELAY + 3, [2, 600], device_id=0, no_response_expected=True)

        async def off() -> bool:
            return node.relay is False

        assert await until(off)
        answer = await client.read_holding_registers(RELAY, count=14, device_id=UNIT)
        values = by_definition(64911, answer.registers)
        assert (values["Mode"], values["St"], values["Why"], values["ManS"]) == (2, 0, 5, 600)
        assert values["Tmp"] == -0x8000


async def test_the_relay_sheds_and_returns_with_no_gateway(tmp_path: Path) -> None:
    relay = {"delay_ms": 100, "spread_ms": 100, "return_ms": 100, "return_spread_ms": 100}
    relay |= {"least_on_ms": 0, "least_off_ms": 0}

    def waveform(t: Any) -> Any:
        hz = np.where((t > 0.5) & (t < 1.2), 48.8, 50.0)
        turns = np.where(t <= 0.5, 50 * t, np.where(t < 1.2, 25 + 48.8 * (t - 0.5), 59.16 + 50 * (t - 1.2)))
        assert hz.shape == turns.shape
        return 32768 + 17_000 * np.cos(2 * np.pi * turns)

    settings = {**SETTINGS, "program": "relay", "relay": relay}
    async with FirmwareNode(tmp_path, settings, waveform) as node:
        for state in (True, False, True):

            async def is_so(state: bool = state) -> bool:
                return node.relay is state

            assert await until(is_so)


@pytest.mark.parametrize("seed", range(2))
async def test_noise_on_the_line_never_writes_and_is_forgotten_within_100_ms(tmp_path: Path, seed: int) -> None:
    """Wrong CRC, frames cut off, two masters at once, another baud rate, a plug pulled in mid-frame."""
    rng = random.Random(seed)
    async with FirmwareNode(tmp_path, {**SETTINGS, "program": "relay"}, steady(50.0)) as node:
        write = bytes((UNIT, 6)) + (RELAY + 3).to_bytes(2, "big") + b"\x00\x02"
        read = bytes((UNIT, 3)) + FAST.to_bytes(2, "big") + b"\x00\x02"
        whole = write + crc(write)
        loop = asyncio.get_running_loop()
        with serial.Serial(node.path, 115200, timeout=0) as line:
            for _ in range(20):
                damaged = rng.choice(
                    [
                        lambda: write + bytes((crc(write)[0] ^ rng.randrange(1, 256), crc(write)[1])),
                        lambda: whole[: rng.randrange(1, len(whole))],
                        lambda: whole[:5] + read + crc(read) + whole[5:],
                        lambda: bytes(b ^ (1 << rng.randrange(8)) if rng.random() < 0.4 else b for b in whole[:-1]),
                        lambda: rng.randbytes(rng.randrange(1, 300)),
                        lambda: bytes((UNIT, 16)) + (RELAY + 3).to_bytes(2, "big") + b"\x00\x02\x04\x00",
                    ]
                )()
                if damaged.startswith(whole):
                    continue
                line.write(damaged)
                reply = b""
                for _ in range(40):  # a busy machine may join two frames; then one asks again, as a gateway does
                    await asyncio.sleep(0.03)  # the line is silent again, well inside 100 ms
                    line.read(1000)
                    line.write(read + crc(read))
                    reply, until_s = b"", loop.time() + 0.3
                    while len(reply) < 9 and loop.time() < until_s:
                        await asyncio.sleep(0.001)
                        reply += line.read(100)
                    if len(reply) == 9:
                        break
                assert reply[:3] == bytes((UNIT, 3, 4)), damaged.hex(" ")
                assert reply[-2:] == crc(reply[:-2])
        assert node.relay is True


async def test_starts_that_do_not_last_lead_to_safe_mode_and_one_that_can_be_reached(tmp_path: Path) -> None:
    settings = {**SETTINGS, "program": "relay"}
    for start in range(1, 5):
        async with node_and_client(tmp_path, settings, steady(50.0)) as (node, client):

            async def told() -> dict[str, int] | None:
                values = await fast(client)
                return values if values["Boots"] else None

            values = await until(told)
            assert (values["Boots"], values["Safe"]) == (start, 1 if start > 3 else 0)
            assert node.relay is True
    # In safe mode there is no law, and no model of one; an update is taken.
    async with node_and_client(tmp_path, settings, steady(50.0)) as (_, client):
        assert (await client.read_holding_registers(RELAY, count=2, device_id=UNIT)).registers == [64912, 87]


async def test_a_starved_watchdog_restarts_the_node(tmp_path: Path) -> None:
    async with FirmwareNode(tmp_path, SETTINGS, steady(50.0)) as node:
        assert node.process is not None

        async def fed() -> bool:
            return (tmp_path / "watchdog").read_bytes() == b"fed"

        await until(fed)
        node.process.send_signal(19)  # SIGSTOP: nothing in it runs any more
        await asyncio.sleep(2.1)
        node.process.send_signal(18)
        async with asyncio.timeout(10):
            assert await node.process.wait() == 75


async def test_the_crystal_is_calibrated_against_the_gateways_clock(on_vm: Any, tmp_path: Path) -> None:
    program = tmp_path / "calibrate.py"
    program.write_text(
        "import json, time\n"
        "from calibration import Calibration\n"
        "calibration = Calibration(0)\n"
        "print(json.dumps([calibration.rate_ppb, calibration.span_ms]))\n"
        "ms = 4_294_900_000\n"  # wraps on the way
        "calibration.clock(ms >> 16, ms & 0xFFFF)\n"
        "hops = 0\n"
        "for minute in range(1, 121):\n"
        "    ms = (4_294_900_000 + minute * 60_000) & 0xFFFFFFFF\n"
        "    while hops < minute * 3000 * 1.00002:\n"
        "        calibration.hop()\n"
        "        hops += 1\n"
        "    calibration.clock(ms >> 16, ms & 0xFFFF)\n"
        "    if minute in (5, 120):\n"
        "        print(json.dumps([calibration.rate_ppb, calibration.span_ms]))\n"
        "calibration.clock(0, 1)\n"
        "print(json.dumps([calibration.rate_ppb, calibration.span_ms]))\n"
    )
    start, early, late, wild = on_vm(program)
    assert start == [0, 0]
    assert early == [0, 300_000]
    assert late[0] == pytest.approx(20_000, abs=4000)
    assert late[1] == 7_200_000
    assert wild[0] == late[0]
