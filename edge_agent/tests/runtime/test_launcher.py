"""The launcher with real processes that stand in for agents: one that runs well, one that ends, one that hangs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.model.status import STATISTICS

PROGRAM = """
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
folder, statistics = sys.argv[1:]
try:
    from version import VERSION
except ImportError:
    VERSION = "installed"
open(os.path.join(folder, "started"), "a").write(VERSION + "\\n")
if VERSION == "ends":
    sys.exit(3)
while True:
    if VERSION != "hangs":
        told = {"pid": os.getpid(), "cycles": 1000, "linked": VERSION != "alone"}
        open(os.path.join(folder, "new"), "w").write(json.dumps(told))
        os.replace(os.path.join(folder, "new"), os.path.join(folder, statistics))
    time.sleep(0.05)
"""


class Gateway:
    """A data folder and the launcher on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "agent.py"
        self.program.write_text(PROGRAM)
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, trial_s: float = 2.0) -> None:
        command = [sys.executable, "-m", "edge_agent.runtime.launcher", str(self.folder), str(trial_s)]
        self.process = subprocess.Popen([*command, str(self.program), str(self.folder), STATISTICS])

    def stage(self, digest: str, version: str) -> None:
        slot = self.folder / "updates" / "slots" / digest
        slot.mkdir(parents=True)
        (slot / "version.py").write_text(f"VERSION = {version!r}\n")
        path = self.folder / "updates" / "staged.json"
        path.with_suffix(".new").write_text(json.dumps({"version": version, "digest": digest}))
        path.with_suffix(".new").replace(path)

    @property
    def started(self) -> list[str]:
        path = self.folder / "started"
        return path.read_text().split() if path.exists() else []

    @property
    def outcomes(self) -> dict[str, str]:
        path = self.folder / "updates" / "slots.json"
        if not path.exists():
            return {}
        return {digest: outcome["state"] for digest, outcome in json.loads(path.read_text())["outcomes"].items()}

    def until(self, condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end_s, (self.started, self.outcomes)
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM) -> int | None:
        if self.process is None:
            return None
        self.process.send_signal(number)
        code, self.process = self.process.wait(20), None
        return code


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path)
    yield gateway
    gateway.end()


def test_a_version_that_runs_well_stays_over_restarts(gateway: Gateway) -> None:
    gateway.launch(trial_s=30.0)
    gateway.until(lambda: gateway.started == ["installed"])
    gateway.stage("d1", "better")
    gateway.until(lambda: gateway.outcomes == {"d1": "healthy"})
    assert gateway.end() == 0
    gateway.launch()
    gateway.until(lambda: gateway.started == ["installed", "better", "better"])


@pytest.mark.parametrize("version", ["ends", "hangs", "alone"])
def test_a_version_that_does_not_is_given_up_once_and_for_all(gateway: Gateway, version: str) -> None:
    gateway.stage("d1", "better")
    gateway.launch(trial_s=1.5 if version != "ends" else 30.0)
    gateway.until(lambda: gateway.outcomes == {"d1": "healthy"})
    gateway.stage("d2", version)
    gateway.until(lambda: gateway.outcomes == {"d1": "healthy", "d2": "rolled-back"})
    gateway.until(lambda: gateway.started[-1] == "better")
    assert gateway.end() == 0
    gateway.launch()
    gateway.until(lambda: gateway.started[-2:] == ["better", "better"])
    assert gateway.started.count(version) == 1


def test_a_gateway_that_loses_power_in_a_trial_comes_back_with_what_ran_well(gateway: Gateway) -> None:
    gateway.launch(trial_s=60.0)
    gateway.stage("d1", "hangs")
    gateway.until(lambda: "hangs" in gateway.started)
    assert gateway.process is not None
    [child] = map(int, Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text().split())
    gateway.end(signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    gateway.launch()
    gateway.until(lambda: gateway.started[-1] == "installed")
    assert gateway.outcomes == {"d1": "rolled-back"}


@pytest.mark.parametrize("content", ["", "{", '{"good": 1}', '{"good": "gone"}'])
def test_slots_that_cannot_be_used_start_what_was_installed(gateway: Gateway, content: str) -> None:
    (gateway.folder / "updates").mkdir()
    (gateway.folder / "updates" / "slots.json").write_text(content)
    gateway.launch()
    gateway.until(lambda: bool(gateway.started))
    assert gateway.started == ["installed"]
    assert gateway.end() == 0
