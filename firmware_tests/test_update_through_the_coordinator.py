"""A published firmware on its whole way: coordinator, broker, agent, paced serial line, relay on the VM; and back."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.model.config import SerialSettings
from firmware_tests.test_update_on_the_line import BAUDRATE, SETTINGS, key_file, packed, small, wandering
from hil.rigs.firmware_node import FirmwareNode
from hil.rigs.rtu_proxy import RtuProxy
from hil.run.chain import Chain, chain
from hil.run.processes import wait_until
from protos import firmware_image, manifest

__all__ = ["key_file"]


def _command(*words: object, code: int = 0) -> str:
    program = str(Path(sys.executable).parent / str(words[0]))
    done = subprocess.run([program, *map(str, words[1:])], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


def test_a_firmware_goes_from_the_coordinator_to_the_relay_and_its_outcome_back(
    tmp_path: Path, key_file: Path, capsys: object
) -> None:
    image = packed(key_file, small(tmp_path / "modules"), "0.2.0", capsys)
    # The relay's own key has not signed this one: the coordinator may publish what it likes.
    _, described, _, files = firmware_image.unpack(image.read_bytes())
    described = described.replace(b'"version":[0,2,0]', b'"version":[0,3,0]')
    foreign = tmp_path / "0.3.0.image"
    signature = Ed25519PrivateKey.generate().sign(manifest.CONTEXT + described)
    foreign.write_bytes(firmware_image.pack(described, signature, files))
    with _relay(tmp_path / "node") as serial:
        heater = (
            f'\n[[devices]]\nname = "heater"\ndriver = "sunspec"\nserial = "{serial}"\nbaudrate = {BAUDRATE}\n'
            "unit_id = 7\nfrequency_only = true\n"
        )
        _through_the_chain(tmp_path / "chain", heater, image, foreign)


@contextmanager
def _relay(folder: Path) -> Iterator[str]:
    """The serial port of a relay that runs beside this thread, which is the chain's."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    ready: Future[str] = Future()

    async def run() -> None:
        async with (
            RtuProxy(settings=SerialSettings(baudrate=BAUDRATE), turn_round_s=0.0) as line,
            FirmwareNode(folder, SETTINGS, wandering, uart_path=line.server_path, restarts=True),
        ):
            ready.set_result(line.path)
            await stop.wait()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(loop.run_until_complete, run())
        running.add_done_callback(lambda done: ready.done() or ready.set_exception(done.exception() or EOFError()))
        try:
            yield ready.result(timeout=30)
        finally:
            loop.call_soon_threadsafe(stop.set)
            running.result(timeout=30)
            loop.close()


def _through_the_chain(folder: Path, heater: str, image: Path, foreign: Path) -> None:
    with chain(folder, homes=1, scenario="underfrequency", say=print) as running:
        running.start_rig()
        running.start_coordinator()
        running.register_homes()
        [site] = running.sites
        with running.agent_config(site).open("a") as config:
            config.write(heater)
        running.start_agents()
        running.wait_online()
        _order(running, image, "0.2.0")
        _becomes(running, "relay 0.2.0  healthy")
        _order(running, foreign, "0.3.0")
        told = _becomes(running, "relay 0.3.0  refused")
        assert "heater: the device refused it: its signature is not that of the device's update_key" in told
        wait_until(lambda: len(_events(running)) >= 2, "both are told", within_s=30, processes=running.processes)
        assert [code for code, _ in _events(running)] == ["firmware.failed", "firmware.installed"], "each once"
        assert ("firmware.installed", "heater: firmware 0.2.0 runs") in _events(running)
        acts = [entry.action for entry in running.ledger.audit_entries() if entry.action.startswith("update.")]
        assert acts == [
            *("update.published", "update.ordered", "update.healthy"),
            *("update.published", "update.ordered", "update.refused"),
        ]


def _events(running: Chain) -> list[tuple[str, str]]:
    told = running.ledger.events(limit=1000)
    return sorted((event.code, event.text) for event in told if event.code.startswith("firmware."))


def _order(running: Chain, image: Path, version: str) -> None:
    what = ("--kind", "firmware", "--name", "relay", "--board", "unix", "--version", version)
    digest = _command("vpp-cloud", "update", "publish", image, *what, "--data", running.cloud).split()[-1]
    _command("vpp-cloud", "update", "roll-out", digest, "--all", "--data", running.cloud)


def _becomes(running: Chain, state: str) -> str:
    """What `update show` says once it says that."""

    def shown() -> str:
        code = 1 if "refused" in state else 0
        states = [each.state for each in running.ledger.site_updates()]
        if "refused" in state and "refused" not in states:
            return ""
        told = _command("vpp-cloud", "update", "show", "--data", running.cloud, code=code)
        return told if state in told else ""

    wait_until(lambda: bool(shown()), state, within_s=150, processes=running.processes)
    return shown()
