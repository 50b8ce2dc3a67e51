"""`vpp-hil rig` as a process: files, orders on stdin, and its ends."""

import json
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from hil.rigs.clock import SteadyClock
from hil.rigs.recording import load_recording

WITHIN_S = 30.0


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "hil.cli", "rig", "--data", str(folder), "--homes", "2", *more]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command(tmp_path, "--recorded-start-utc", "2027-01-15T08:37:21+00:00"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        yield running
        running.kill()


def order(process: subprocess.Popen[str], what: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(what) + "\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    told: dict[str, Any] = json.loads(process.stdout.readline())
    return told


def save(process: subprocess.Popen[str], path: Path) -> None:
    order(process, {"save": str(path)})
    assert answer(process) == {"saved": str(path)}


def test_takes_orders_and_ends_with_its_stdin(process: subprocess.Popen[str], tmp_path: Path) -> None:
    play_at_ms = SteadyClock().utc_ms() + 60_000
    order(process, {"play_at_utc_ms": play_at_ms})
    order(process, {"freeze": "home-99"})
    assert answer(process) == {"error": "no home is called 'home-99': home-01 .. home-02"}
    save(process, tmp_path / "recording.npz")

    rig = json.loads((tmp_path / "rig.json").read_text())
    assert rig["pid"] == process.pid
    assert (rig["recorded_start"], rig["recorded_start_utc"]) == ("2016-09-21T14:00:00", "2027-01-15T08:30:00+00:00")
    assert rig["event_duration_s"] == pytest.approx(149.97 + (60 - 59.893) / 0.005, abs=0.01)
    assert [home["site"] for home in rig["homes"]] == ["home-01", "home-02"]
    for home in rig["homes"]:
        socket.create_connection((home["host"], home["port"]), timeout=WITHIN_S).close()

    recording = load_recording(tmp_path / "recording.npz")
    assert recording.frequency_utc_ms[1] == play_at_ms
    assert sorted(recording.homes) == ["home-01", "home-02"]

    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(WITHIN_S) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_in_order_on_a_signal(process: subprocess.Popen[str], tmp_path: Path, number: signal.Signals) -> None:
    save(process, tmp_path / "recording.npz")  # so it runs by now
    process.send_signal(number)
    assert process.wait(WITHIN_S) == 0
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        pytest.param(["--scenario", "nowhere.toml"], "vpp-hil: scenario 'nowhere.toml': neither a file", id="scenario"),
        pytest.param(["--homes", "0"], "1 to 66 homes", id="homes"),
        pytest.param(["--first-port", "99999"], "'99999': 0 to 65535", id="first port"),
        pytest.param(["--recorded-start-utc", "2027-01-15T08:00"], "has no time zone", id="naive instant"),
    ],
)
def test_refuses_what_it_cannot_do(tmp_path: Path, more: list[str], says: str) -> None:
    done = subprocess.run(
        command(tmp_path, *more), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WITHIN_S
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_occupied_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        done = subprocess.run(
            command(tmp_path, "--first-port", str(port)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
        )
    assert done.returncode == 2
    assert f"vpp-hil: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "rig.json").exists()


def test_a_flexible_home_has_a_charger_and_a_rod_behind_its_meter(tmp_path: Path) -> None:
    shipped = (resources.files("hil.scenarios") / "underfrequency.toml").read_text(encoding="utf-8")
    scenario = tmp_path / "flexible.toml"
    scenario.write_text(shipped.replace("[homes]\n", '[homes]\nflexible = ["home-02"]\n'), encoding="utf-8")
    with subprocess.Popen(
        command(tmp_path, "--scenario", str(scenario)), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any("homes listen" in line for line in process.stderr)
        first, second = json.loads((tmp_path / "rig.json").read_text())["homes"]
        process.communicate(timeout=WITHIN_S)  # its stdin ends
    assert first["more_devices"] == ""
    agent = tomllib.loads(second["more_devices"])
    assert [device["profile"] for device in agent["devices"]] == ["keba-p30", "mypv-ac-elwa-2"]
    assert all(device["port"] > 0 for device in agent["devices"])
