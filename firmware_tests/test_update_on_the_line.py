"""Updates from end to end: the gateway's command, a paced serial line, and a relay on the VM that goes on meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge_agent import cli
from edge_agent.drivers import open_device
from edge_agent.drivers.rtu import SerialLines
from edge_agent.model.clock import SystemClock
from edge_agent.model.config import DeviceConfig, SerialSettings
from edge_agent.model.devices import DeviceTimeout, Microcontroller, UpdateState, UpdateStatus
from edge_agent.runtime.firmware_update import UpdateFailed, update_firmware
from hil.plant.mains import FrequencySteps
from hil.rigs.firmware_node import FIRMWARE, PROTOS, FirmwareNode, write_record
from hil.rigs.metered_home import metered_home
from hil.rigs.rtu_proxy import Rates, RtuProxy
from protos import firmware_image

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BAUDRATE = 460_800  # fast, so that the test is
RELAY = {
    "delay_ms": 100,
    "spread_ms": 0,
    "return_ms": 100,
    "return_spread_ms": 0,
    "least_on_ms": 0,
    "least_off_ms": 0,
}
SETTINGS: dict[str, Any] = {
    "program": "relay",
    "unit": 7,
    "baud": BAUDRATE,
    "update_key": KEY.public_key().public_bytes_raw().hex(),
    "relay": RELAY,
}


def wandering(t: Any) -> Any:
    """50 Hz, and every four seconds one at 48.8 Hz: the relay sheds and returns all the time."""
    cycle, inside = np.divmod(t, 4.0)
    turns = cycle * (3 * 50.0 + 48.8) + np.where(inside < 3.0, 50.0 * inside, 150.0 + 48.8 * (inside - 3.0))
    return 32768 + 17_000 * np.cos(2 * np.pi * turns)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "update.pem"
    file.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file


def small(folder: Path, beside: str = "", ballast: int = 0) -> Path:
    """Modules that take all else from the factory's firmware, so that they are through the line in a moment.

    beside: what else they do as they start. ballast: bytes that only take their time.
    """
    folder.mkdir()
    (folder / "settings.py").write_text(
        f"import sys\nsys.path.extend([{str(FIRMWARE)!r}, {str(PROTOS)!r}])\n"
        f"with open({str(FIRMWARE / 'settings.py')!r}) as file:\n    exec(file.read())\n{beside}\n"
    )
    (folder / "ballast.py").write_text("#" * ballast)
    return folder


def packed(key_file: Path, modules: Path, version: str, capsys: Any, program: str = "relay") -> Path:
    image = modules.with_name(f"{version}.image")
    arguments = ["firmware", "pack", str(modules), "--key", str(key_file), "--name", program, "--board", "unix"]
    assert cli.main([*arguments, "--version", version, "--minimum-version", "0.1.0", "--output", str(image)]) == 0
    assert f"update_key {SETTINGS['update_key']}" in capsys.readouterr().out
    return image


@asynccontextmanager
async def relay_on_a_line(tmp_path: Path) -> AsyncIterator[tuple[FirmwareNode, RtuProxy, Microcontroller]]:
    settings = SerialSettings(baudrate=BAUDRATE)
    async with (
        RtuProxy(settings=settings, turn_round_s=0.0) as line,
        FirmwareNode(tmp_path / "node", SETTINGS, wandering, uart_path=line.server_path, restarts=True) as node,
    ):
        config = DeviceConfig(name="heater", driver="sunspec", serial=line.path, baudrate=BAUDRATE, unit_id=7)
        device = await open_device(config, lines=SerialLines())
        assert device.microcontroller is not None
        try:
            yield node, line, device.microcontroller
        finally:
            await device.close()


async def until(microcontroller: Microcontroller, condition: Callable[[UpdateStatus], bool]) -> UpdateStatus:
    """What it says once that fulfils a condition; one that starts does not answer."""
    while True:
        with contextlib.suppress(DeviceTimeout):
            status = await microcontroller.read_update()
            if condition(status):
                return status
        await asyncio.sleep(0.05)


async def watched(node: FirmwareNode, seen: list[bool]) -> None:
    while True:
        state = node.relay
        if state is not None and (not seen or seen[-1] is not state):
            seen.append(state)
        await asyncio.sleep(0.02)


async def test_a_relay_is_updated_while_it_goes_on_and_over_a_line_that_loses_replies(
    tmp_path: Path, key_file: Path, capsys: Any
) -> None:
    image = packed(key_file, small(tmp_path / "modules", ballast=9000), "0.2.0", capsys).read_bytes()
    async with relay_on_a_line(tmp_path) as (node, line, microcontroller):
        before = await microcontroller.read_update()
        assert (before.state, before.version) == (UpdateState.IDLE, (0, 1, 0))
        seen: list[bool] = []
        watching = asyncio.create_task(watched(node, seen))
        # The power fails in the middle of the transfer, which goes on where it ended.
        begun = asyncio.create_task(update_firmware(microcontroller, image, clock=SystemClock()))
        async with asyncio.timeout(60):
            await until(microcontroller, lambda status: status.have >= len(image) // 3)
            begun.cancel()
            await asyncio.gather(begun, return_exceptions=True)
            await node.power_cut()
            there = await until(microcontroller, lambda _: True)
        assert there.state is UpdateState.RECEIVING
        assert len(image) // 3 <= there.have < len(image)
        line.rates = Rates(lost_reply=0.02)
        chunks_before = sum(1 for frame in line.heard if frame.of_client and frame.data[1] == 16)
        async with asyncio.timeout(120):
            assert await update_firmware(microcontroller, image, clock=SystemClock()) == (0, 2, 0)
        chunks = sum(1 for frame in line.heard if frame.of_client and frame.data[1] == 16) - chunks_before
        assert chunks < len(image) / 128  # a third was there already
        watching.cancel()
        assert len(seen) >= 4  # it shed and returned the while
        after = await microcontroller.read_update()
        assert (after.state, after.version, after.why) == (UpdateState.IDLE, (0, 2, 0), "")
        assert node.starts == 2
        assert {p.name for p in (tmp_path / "node" / "a").iterdir()} == {"settings.py", "ballast.py"}


@pytest.mark.parametrize(
    "beside",
    [
        pytest.param("raise ValueError", id="it cannot start"),
        pytest.param("import update; update.TRIAL_MS, update.GOOD_CYCLES = 3000, 1 << 29", id="it does not do well"),
    ],
)
async def test_a_bad_firmware_is_rolled_back_by_the_node_itself(
    tmp_path: Path, key_file: Path, capsys: Any, beside: str
) -> None:
    image = packed(key_file, small(tmp_path / "modules", beside), "0.2.0", capsys).read_bytes()
    async with relay_on_a_line(tmp_path) as (node, _, microcontroller):
        async with asyncio.timeout(90):
            with pytest.raises(UpdateFailed, match=r"firmware 0\.2\.0 did not do well and was rolled back"):
                await update_firmware(microcontroller, image, clock=SystemClock())
        after = await microcontroller.read_update()
        assert after.rolled_back
        assert after.version == (0, 1, 0)
        assert node.starts == 3


async def test_the_meter_is_updated_while_the_agent_acts_upon_it(tmp_path: Path, key_file: Path, capsys: Any) -> None:
    """One owner speaks on the line, for the control loop and for the update; the loop's readings go on meanwhile."""
    image = packed(key_file, small(tmp_path / "modules", ballast=5000), "0.2.0", capsys, "meter").read_bytes()
    waveform, key = FrequencySteps(400, 50.02, 49.98, 0.3), SETTINGS["update_key"]
    async with metered_home(tmp_path, waveform, nominal_hz=50, frequency=lambda _: 50.0, update_key=key) as home:
        site = home.agent.site
        measured_s: list[float] = []  # when the loop's frequency was measured, while the image is on its way
        updating: asyncio.Task[tuple[int, int, int]] | None = None

        def done() -> bool:
            nonlocal updating
            snapshot = home.agent.loop.snapshot
            if updating is None and snapshot is not None and home.agent.summary()["frequency_source"] == "clamp":
                updating = asyncio.create_task(site.update_firmware("clamp", image))
            if updating is not None and home.node.starts == 1 and snapshot is not None:
                good = snapshot.frequency_hz.good is not None
                if good and home.agent.summary()["frequency_source"] == "clamp":
                    measured_s.append(snapshot.frequency_hz.at_s)
            return updating is not None and updating.done()

        await home.run_until(done, 120.0)
        assert updating is not None
        assert await updating == (0, 2, 0)
        assert len(set(measured_s)) > 10  # a transfer of 5 kB, seen by another reading every cycle or two
        assert home.line.violations == []
        with pytest.raises(UpdateFailed, match="device hybrid does not run our firmware"):
            await site.update_firmware("hybrid", image)
        with pytest.raises(UpdateFailed, match="device boiler has not been found"):
            await site.update_firmware("boiler", image)


async def test_the_command_installs_and_says_what_is_wrong(tmp_path: Path, key_file: Path, capsys: Any) -> None:
    modules = small(tmp_path / "modules")
    image = packed(key_file, modules, "0.2.0", capsys)
    foreign = packed(key_file, modules, "0.3.0", capsys).read_bytes().replace(b'"board":"unix"', b'"board":"uniX"')
    settings = SerialSettings(baudrate=BAUDRATE)
    async with (
        RtuProxy(settings=settings, turn_round_s=0.0) as line,
        FirmwareNode(tmp_path / "node", SETTINGS, wandering, uart_path=line.server_path, restarts=True),
    ):
        config = tmp_path / "home.toml"
        config.write_text(
            'site = "home-01"\ndata_dir = "data"\n[coordinator]\nclaim_file = "claim.toml"\n'
            f'[[devices]]\nname = "heater"\ndriver = "sunspec"\nserial = "{line.path}"\n'
            f"baudrate = {BAUDRATE}\nunit_id = 7\n"
        )

        async def command(*arguments: object) -> tuple[int, str]:
            code = await asyncio.to_thread(
                cli.main, ["firmware", "update", "--config", str(config), *map(str, arguments)]
            )
            said = capsys.readouterr()
            return code, said.out + said.err

        assert await command("boiler", image) == (
            2,
            "vpp-agent: no device boiler in the configuration, which has heater\n",
        )
        (tmp_path / "foreign").write_bytes(foreign)
        code, said = await command("heater", tmp_path / "foreign")
        assert (code, "firmware image: is none" in said) == (2, True)
        code, said = await command("heater", image)
        assert code == 0, said
        assert "firmware 0.2.0 runs and is confirmed" in said


def test_packing_says_what_is_wrong(tmp_path: Path, key_file: Path, capsys: Any) -> None:
    wanted = ["--name", "relay", "--board", "unix", "--output", str(tmp_path / "image")]
    for key, version, says in (
        (tmp_path / "none.pem", "1.0.0", "no private key in PEM"),
        (key_file, "1.0", "a version is MAJOR.MINOR.PATCH"),
    ):
        assert cli.main(["firmware", "pack", "--key", str(key), "--version", version, *wanted]) == 2
        assert says in capsys.readouterr().err
    assert cli.main(["firmware", "pack", "--key", str(key_file), "--version", "1.0.0", *wanted]) == 0


async def test_this_versions_own_image_is_whole(tmp_path: Path, key_file: Path) -> None:
    """All that a node needs but the loader is in it: it runs from a slot with nothing else to take modules from."""
    wanted = ["--key", str(key_file), "--name", "relay", "--board", "unix", "--version", "0.2.0"]
    assert cli.main(["firmware", "pack", *wanted, "--output", str(tmp_path / "image")]) == 0
    files = firmware_image.unpack((tmp_path / "image").read_bytes())[3]
    assert not {"main.py", "slots.py", "store.py"} & set(files)
    slot = tmp_path / "node" / "a"
    slot.mkdir(parents=True)
    for path, data in files.items():
        (slot / path).write_bytes(data)
    write_record(tmp_path / "node" / "slots.0", {"active": "a", "version": [0, 2, 0]})
    async with relay_on_a_line(tmp_path) as (_, _, microcontroller):
        assert (await microcontroller.read_update()).version == (0, 2, 0)
