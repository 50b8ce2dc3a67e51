"""Devices of profiles on a serial line, from the command line to the register."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.drivers import SerialLines, open_device
from edge_agent.drivers.profile_loading import load
from edge_agent.model.config import DeviceConfig, NameplateConfig, SerialSettings
from edge_agent.model.devices import Device, DeviceTimeout
from hil.contract import power
from hil.rigs.profile_device import ProfileDevice
from hil.rigs.rtu_proxy import Fault, RtuProxy
from hil.rigs.served import on_line

DEADLINE_S = 20.0
SETTINGS = SerialSettings(baudrate=115_200, parity="even")
RATINGS = NameplateConfig(max_charge_w=4000, max_discharge_w=4500, storage_capacity_wh=10_000)


async def opened(proxy: RtuProxy, lines: SerialLines, profile: str, unit_id: int) -> Device:
    return await open_device(
        DeviceConfig(
            name=profile,
            driver="profile",
            profile=profile,
            serial=proxy.path,
            baudrate=SETTINGS.baudrate,
            parity=SETTINGS.parity,
            unit_id=unit_id,
            timeout_s=0.1,
            nameplate=RATINGS if profile == "goodwe-et" else None,
        ),
        lines=lines,
    )


async def test_a_hybrid_a_meter_and_a_relay_share_a_line() -> None:
    loop = asyncio.get_running_loop()
    names = {1: "goodwe-et", 2: "eastron-sdm630", 3: "relay-coil"}
    devices = {unit: ProfileDevice(load(name), now_s=loop.time) for unit, name in names.items()}
    async with RtuProxy(SETTINGS, on_line(devices)) as proxy:
        lines = SerialLines()
        hybrid, meter, relay = [await opened(proxy, lines, name, unit) for unit, name in names.items()]
        assert hybrid.inverter is not None
        assert hybrid.control is not None
        assert meter.meter is not None
        assert relay.switch is not None
        assert relay.switch_control is not None
        before = len(proxy.heard)
        reading, metered, on = await asyncio.gather(
            hybrid.inverter.read_inverter(), meter.meter.read_meter(), relay.switch.read_switch()
        )
        assert (reading.frequency_hz.good, metered.voltage_v.good, on) == (49.9, 231.0, False)
        # Hybrid: inverter, state of charge. Meter: power with frequency, voltage. Relay: its coil.
        assert len(proxy.heard) - before == 2 * (2 + 2 + 1)
        await hybrid.control.write_power(power(-1500.0), 10.0)
        await relay.switch_control.write_switch(True)
        assert devices[1].commanded_w == -1500.0
        assert devices[3].on
        proxy.plan.append(Fault(lost_reply=True))
        with pytest.raises(DeviceTimeout, match="goodwe-et"):
            await hybrid.inverter.read_inverter()
        assert (await meter.meter.read_meter()).power_w.good == -800.0
        assert proxy.violations == []
        for device in (hybrid, meter, relay):
            await device.close()


def test_the_agent_finds_what_vpp_hil_serves(tmp_path: Path) -> None:
    link = tmp_path / "ttyV0"
    command = [
        sys.executable,
        "-m",
        "hil.cli",
        "device",
        "sungrow-sh",
        "--rtu",
        "--baudrate",
        "57600",
        "--unit-id",
        "5",
    ]
    with subprocess.Popen([*command, "--link", str(link)], stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            told = "".join(serving.stdout.readline() for _ in range(4))
            (tmp_path / "agent.toml").write_text(
                'site = "home-01"\ndata_dir = "state"\n[coordinator]\nclaim_file = "claim.toml"\n[[devices]]\n'
                f'name = "hybrid"\ndriver = "profile"\nprofile = "sungrow-sh"\nunit_id = 5\n{told}'
                "[devices.nameplate]\nmax_charge_w = 4000\nmax_discharge_w = 4000\nstorage_capacity_wh = 9600\n"
            )
            probed = subprocess.run(
                [sys.executable, "-m", "edge_agent.cli", "probe", "--config", str(tmp_path / "agent.toml")],
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
            )
        finally:
            os.kill(serving.pid, signal.SIGTERM)
    assert probed.returncode == 0, probed.stderr
    assert "Sungrow SH, serial 42: an inverter of 5000 W, storage of 9600 Wh, a meter" in probed.stdout
    assert "its power can be set" in probed.stdout
    assert "frequency_hz 49.9 Hz" in probed.stdout
    assert "no reversion timer" in probed.stdout
    assert serving.returncode == 0
    assert not link.exists()


def test_what_a_probe_proposes_for_a_profile_can_be_used(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hil.cli", "device", "goodwe-et"]
    agent = [sys.executable, "-m", "edge_agent.cli"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            _, port, _ = (serving.stdout.readline().partition(" = ")[2].strip() for _ in range(3))
            ask = [*agent, "probe", f"127.0.0.1:{port}", "--unit-ids", "1"]
            asked = subprocess.run(ask, capture_output=True, text=True, timeout=DEADLINE_S)
            named = [*ask, "--profile", "goodwe-et"]
            probed = subprocess.run(named, capture_output=True, text=True, timeout=DEADLINE_S)
        finally:
            os.kill(serving.pid, signal.SIGTERM)
    for one in (asked, probed):
        assert one.returncode == 0, one.stderr
        assert "# its power can be set" in one.stdout
        assert f'driver = "profile"\nprofile = "goodwe-et"\nhost = "127.0.0.1"\nport = {port}\n' in one.stdout
    assert "# no SunSpec; taken for GoodWe ET" in asked.stdout
    assert "(profile goodwe-et), for certain" in asked.stdout
    assert "taken for" not in probed.stdout
    (tmp_path / "home.toml").write_text(asked.stdout)
    check = [*agent, "check-config", "--config", str(tmp_path / "home.toml")]
    checked = subprocess.run(check, capture_output=True, text=True, timeout=DEADLINE_S)
    assert checked.returncode == 0, checked.stderr


def test_check_config_reads_the_profile_too(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    head = 'site = "home-01"\ndata_dir = "state"\n[coordinator]\nclaim_file = "claim.toml"\n[[devices]]\n'
    file.write_text(f'{head}name = "hybrid"\ndriver = "profile"\nprofile = "own.toml"\nhost = "127.0.0.1"\n')
    (tmp_path / "own.toml").write_text('title = "Mine"\n')
    command = [sys.executable, "-m", "edge_agent.cli", "check-config", "--config", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert told.returncode == 2
    own = tmp_path / "own.toml"
    assert told.stderr.startswith(f"vpp-agent: {file}: device hybrid: {own}: $.sources: is missing; give where")


def test_an_unknown_profile_is_one_line() -> None:
    command = [sys.executable, "-m", "hil.cli", "device", "sungrow"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert told.returncode == 2
    assert told.stderr.startswith("vpp-hil: there is no profile sungrow; give one of ")
    assert told.stderr.count("\n") == 1
