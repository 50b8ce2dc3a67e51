"""A simulated home probed, dumped and served again from the dump, with the agent's own commands."""

import asyncio
import json
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.commands.addresses import parse_addresses
from edge_agent.commands.dump import dump
from edge_agent.commands.probe import Found, Nothing, as_configuration, probe
from edge_agent.drivers import open_device
from edge_agent.model import config as agent_config
from hil.rigs import dumped
from hil.rigs.clock import SteadyClock
from hil.rigs.recorded import RecordedTime
from hil.rigs.rig import Rig
from hil.rigs.scenario import load
from hil.rigs.served import TcpDevice
from protos.settings import SettingsError

DEADLINE_S = 30


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
    async with TcpDevice(dumped.DumpedDevice(copy), unit_id=copy.unit_id) as served:
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
