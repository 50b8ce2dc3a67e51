"""A simulated home probed, dumped and served again from the dump, with the agent's own commands."""

import asyncio
import json
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from edge_agent.commands.addresses import as_profile, parse_addresses
from edge_agent.commands.dump import dump, dump_profile, dump_ranges, parse_range
from edge_agent.commands.probe import Found, Nothing, as_configuration, probe
from edge_agent.drivers import open_device
from edge_agent.drivers.profile_loading import load as load_profile
from edge_agent.drivers.profile_loading import shipped
from edge_agent.drivers.transaction import Table
from edge_agent.model import config as agent_config
from edge_agent.model.config import DeviceConfig, NameplateConfig
from edge_agent.model.devices import Device, DeviceRejected
from edge_agent.model.values import Sample
from hil.contract import power
from hil.rigs import dumped
from hil.rigs.clock import SteadyClock
from hil.rigs.dumped import Block, Dump, DumpedDevice
from hil.rigs.profile_device import Values
from hil.rigs.profile_flexible import simulated
from hil.rigs.recorded import RecordedTime
from hil.rigs.rig import Rig
from hil.rigs.scenario import load
from hil.rigs.served import TcpDevice
from protos.settings import SettingsError

DEADLINE_S = 30
RATINGS = ("rated_power_w", "max_charge_w", "max_discharge_w", "storage_capacity_wh")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    scenario = load("underfrequency")
    recorded = RecordedTime(datetime.now(UTC), scenario.recorded.start)
    rig = Rig(scenario, 1, recorded, SteadyClock(), host="127.0.0.1", first_port=0)
    async with AsyncExitStack() as stack:
        await rig.listen(stack)
        yield rig


def address(port: int) -> str:
    return f"127.0.0.1:{port}"


async def test_probe_says_what_stands_there_and_proposes_a_configuration_that_loads(rig: Rig, tmp_path: Path) -> None:
    home = rig.homes[0]
    results = await probe(parse_addresses([address(home.port)]), [7, home.unit_id])
    assert [type(result) for result in results] == [Found]
    file = tmp_path / "agent.toml"
    file.write_text(as_configuration(results, "home-01"))
    config = agent_config.load(file)
    assert (config.site, config.devices[0].port, config.devices[0].unit_id) == ("home-01", home.port, home.unit_id)
    assert config.devices[0].read_only
    rating = home.home.rating
    said = file.read_text()
    assert f"an inverter of {rating.inverter.power_w:.0f} W, storage of {rating.battery.capacity_wh:.0f} Wh" in said
    assert "its power can be set" in said
    assert "frequency_hz 60 Hz" in said


async def test_probe_of_a_port_where_nobody_listens_says_so_once(rig: Rig) -> None:
    with_nobody = address(1)
    results = await probe(parse_addresses([f"{with_nobody},{address(rig.homes[0].port)}"]), [1, 2, 3])
    assert [type(result) for result in results] == [Nothing, Found]
    assert isinstance(results[0], Nothing)
    assert "cannot connect to 127.0.0.1:1" in results[0].why


async def test_dump_is_the_device_without_its_serial_number(rig: Rig, tmp_path: Path) -> None:
    home = rig.homes[0]
    [device] = parse_addresses([address(home.port)])
    text = await dump(device)
    file = tmp_path / "dump.toml"
    file.write_text(text)
    registers = [r for block in tomllib.loads(text)["blocks"] for r in block["registers"]]
    serial = home.site.encode()
    assert serial not in b"".join(r.to_bytes(2) for r in registers)

    copy = dumped.load(file)
    async with TcpDevice(DumpedDevice(copy), unit_id=copy.unit_id) as served:
        [replayed] = parse_addresses([address(served.port)])
        of_home, of_copy = await open_device(device), await open_device(replayed)
        try:
            plate, copied = of_home.nameplate, of_copy.nameplate
            assert plate.serial == home.site
            assert copied.serial == ""
            assert (copied.manufacturer, copied.model, copied.sunspec_models) == (
                plate.manufacturer,
                plate.model,
                plate.sunspec_models,
            )
            assert (copied.rated_power_w, copied.storage_capacity_wh) == (
                plate.rated_power_w,
                plate.storage_capacity_wh,
            )
            assert of_copy.findings == of_home.findings
            assert of_copy.inverter is not None
            assert (await of_copy.inverter.read_inverter()).frequency_hz.good == 60.0
        finally:
            await of_home.close()
            await of_copy.close()
        assert await dump(replayed) == text


async def test_rig_serves_a_dump_until_its_orders_end(rig: Rig, tmp_path: Path) -> None:
    [device] = parse_addresses([address(rig.homes[0].port)])
    (tmp_path / "acme.toml").write_text(await dump(device))
    command = [sys.executable, "-m", "hil.cli", "rig", "--dump", str(tmp_path / "acme.toml"), "--data", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        async with asyncio.timeout(DEADLINE_S):
            assert process.stderr is not None
            while b"listens on" not in (line := await process.stderr.readline()):
                assert line
            [home] = json.loads((tmp_path / "rig.json").read_text())["homes"]
            [found] = await probe(parse_addresses([address(home["port"])]), [home["unit_id"]])
            assert isinstance(found, Found)
            assert process.stdin is not None
            process.stdin.close()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_dump_with_a_gap_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "dump.toml"
    file.write_text(
        "unit_id = 1\n[[blocks]]\naddress = 40000\nregisters = [21365, 28243]\n"
        "[[blocks]]\naddress = 40003\nregisters = []\n"
    )
    with pytest.raises(SettingsError, match=r"blocks\[1\].address: 40003, but the block before it ends at 40002"):
        dumped.load(file)


def test_blocks_that_overlap_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "dump.toml"
    file.write_text(
        "unit_id = 1\n[[blocks]]\naddress = 10\nregisters = [1, 2]\n"
        '[[blocks]]\ntable = "input"\naddress = 11\nregisters = [3]\n[[blocks]]\naddress = 11\nregisters = [4]\n'
    )
    with pytest.raises(SettingsError, match=r"blocks\[2\].address: 11: overlaps another block"):
        dumped.load(file)


SERIAL = "4711081"


async def _opened(stack: AsyncExitStack, profile: str, port: int) -> Device:
    """The agent's own driver on a device of a profile; its ratings given where it does not tell them."""
    plate, ratings = load_profile(profile).nameplate, Values()
    untold = {role: getattr(ratings, role) for role in RATINGS if getattr(plate, role) is None}
    place = DeviceConfig(
        name="copy", driver="sunspec", host="127.0.0.1", port=port, nameplate=NameplateConfig(**untold)
    )
    device = await open_device(as_profile(place, profile))
    stack.push_async_callback(device.close)
    return device


@pytest.mark.parametrize("profile", shipped())
async def test_a_device_of_a_profile_is_dumped_and_served_again(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probed, read and driven, the copy is the device; only whose it is, it does not say."""
    described = load_profile(profile)
    unpaced = msgspec.structs.replace(
        described, link=msgspec.structs.replace(described.link, pause_s=0.0, pause_after_write_s=0.0)
    )
    monkeypatch.setattr("edge_agent.drivers.opening.load", lambda _: unpaced)
    original = simulated(described, Values(serial=SERIAL), now_s=asyncio.get_running_loop().time)
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(TcpDevice(original))
        [device] = parse_addresses([address(served.port)], profile)
        text = await dump_profile(device, unpaced)
        file = tmp_path / "dump.toml"
        file.write_text(text)
        copy = dumped.load(file)
        held = [register for block in copy.blocks for register in block.registers]
        assert SERIAL.encode() not in b"".join(register.to_bytes(2) for register in held)
        replayed = DumpedDevice(copy)
        again = await stack.enter_async_context(TcpDevice(replayed))

        [found] = await probe(parse_addresses([address(again.port)], profile), [1])
        assert isinstance(found, Found)
        one, two = [await _opened(stack, profile, port) for port in (served.port, again.port)]
        assert two.nameplate == replace(one.nameplate, serial=two.nameplate.serial, model=two.nameplate.model)
        assert SERIAL not in two.nameplate.serial
        assert await _readings(two) == await _readings(one)
        if one.control is not None:
            assert two.control is not None
            for power_w in (1500.0, -700.0) if one.inverter is not None else (0.0,):
                for each in (one, two):
                    if each.inverter is not None:
                        await each.inverter.read_inverter()
                    assert each.control is not None
                    await each.control.write_power(power(power_w), 60.0)
            for _, step in described.writes:
                cells = (Table.HOLDING, step.address, step.size)
                assert replayed.read(*cells) == original.read(*cells)
        if one.switch_control is not None:
            for each in (one, two):
                assert each.switch_control is not None
                assert each.switch is not None
                await each.switch_control.write_switch(True)
                assert await each.switch.read_switch() is True
        assert original.writes == replayed.writes


async def _readings(device: Device) -> list[float | bool | None]:
    """All that can be read of it now."""
    values: list[float | bool | None] = []
    for reading in (
        await device.inverter.read_inverter() if device.inverter is not None else None,
        await device.meter.read_meter() if device.meter is not None else None,
    ):
        samples = [getattr(reading, name) for name in reading.__slots__] if reading is not None else []
        values += [sample.good for sample in samples if isinstance(sample, Sample)]
    return [*values, await device.switch.read_switch() if device.switch is not None else None]


async def test_registers_of_an_unknown_device_are_dumped_as_far_as_they_answer(tmp_path: Path) -> None:
    """Blocks with holes are asked for by halves; texts are left out, also with one character a register."""
    text = [int.from_bytes(b"SN", "big"), int.from_bytes(b"47", "big"), int.from_bytes(b"11", "big"), 0x3800]
    known = Dump(
        unit_id=1,
        blocks=(
            Block(address=100, registers=(230, 4997, *text, 62, 100)),
            Block(address=110, registers=tuple(b"AB123456")),
            Block(address=20, table="input", registers=(7, 8, 9)),
            Block(address=3, table="coil", registers=(1, 0)),
        ),
    )
    async with TcpDevice(DumpedDevice(known)) as served:
        [device] = parse_addresses([address(served.port)])
        asked = [parse_range(text) for text in ("holding:90-130", "input:18-22", "coil:3-4")]
        file = tmp_path / "dump.toml"
        file.write_text(await dump_ranges(device, asked))
        assert served.device.writes == 0
        with pytest.raises(DeviceRejected, match=r"none of these registers answers: .* exception 2"):
            await dump_ranges(device, [parse_range("holding:0-9")])
    copy = dumped.load(file)
    assert {(block.table, block.address): block.registers for block in copy.blocks} == {
        ("coil", 3): (1, 0),
        ("holding", 100): (230, 4997, 0, 0, 0, 0, 62, 100),
        ("holding", 110): (0,) * 8,
        ("input", 20): (7, 8, 9),
    }


@pytest.mark.parametrize("text", ["holding", "registers:1-2", "holding:2-1", "holding:0-65536", "input:a"])
def test_a_range_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match=f"--registers '{text}'"):
        parse_range(text)
