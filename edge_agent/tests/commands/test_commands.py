"""Addresses as typed, the systemd unit, and status in words."""

import configparser
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_agent.commands import install
from edge_agent.commands.addresses import parse_addresses, parse_units
from edge_agent.model.status import journal_sentence, sentences
from protos.settings import SettingsError

NOW_MS = 1_800_000_000_000
CONTROL: dict[str, Any] = {
    "written_utc_ms": NOW_MS - 1000,
    "setpoint_w": 3200.0,
    "setpoint_source": "ercot-ffr+schedule",
    "services": [
        {
            "service": "ercot-ffr",
            "award_id": "a1",
            "contracted_w": 3000.0,
            "phase": "delivering",
            "share": 1.0,
            "note": "below 59.85 Hz",
        }
    ],
    "frequency_hz": 59.82,
    "soc": 0.61,
    "silent_devices": ["meter"],
    "linked": False,
    "cycles": 100,
    "late_ms_p99": 0.4,
}


@pytest.mark.parametrize(
    ("typed", "where"),
    [
        ("192.168.1.20", "192.168.1.20:502"),
        ("inverter.local:1502", "inverter.local:1502"),
        ("[fe80::1]:1502", "fe80::1:1502"),
        ("[fe80::1]", "fe80::1:502"),
        ("/dev/ttyUSB0", "/dev/ttyUSB0"),
    ],
)
def test_an_address_as_typed(typed: str, where: str) -> None:
    [device] = parse_addresses([typed])
    assert (device.where, device.read_only) == (where, True)


@pytest.mark.parametrize("typed", ["", "host:", "host:0", "host:99999", "host:abc", ":502", "a,,b"])
def test_an_address_that_is_none_is_refused(typed: str) -> None:
    with pytest.raises(SettingsError, match="give HOST, HOST:PORT"):
        parse_addresses([typed])


def test_several_addresses_and_units() -> None:
    assert [d.where for d in parse_addresses(["a,b:5020", "c"])] == ["a:502", "b:5020", "c:502"]
    assert parse_units("1-3,126") == [1, 2, 3, 126]
    for wrong in ("", "1-", "x", "256", "3-1"):
        with pytest.raises(SettingsError, match="--unit-ids"):
            parse_units(wrong)


def test_install_prints_what_it_would_do_and_does_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge_agent.cli", "install", "--dry-run", "--units", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.iterdir()) == []
    assert "useradd --system" in result.stdout
    assert f"{tmp_path}/vpp-agent@.service" in result.stdout
    assert "systemctl daemon-reload" in result.stdout


def test_the_unit_starts_the_agent_again_unless_a_person_has_to_act() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(install.unit_text(Path("/opt/vpp/bin/vpp-agent")))
    service = unit["Service"]
    assert service["ExecStart"] == "/opt/vpp/bin/vpp-agent supervise --config /etc/vpp-agent/%i.toml"
    assert (service["Type"], service["Restart"], service["RestartPreventExitStatus"]) == ("notify", "always", "2")
    assert (service["User"], service["CPUSchedulingPolicy"]) == ("vpp-agent", "rr")
    assert service["CPUSchedulingResetOnFork"] == "true"  # sync does not inherit it


def test_status_in_words_says_what_the_site_does_and_why() -> None:
    words = dict(sentences(CONTROL, NOW_MS))
    assert words["Power"] == (
        "The inverter is asked for 3200 W (feeds 3200 W), by ercot-ffr and the coordinator's schedule."
    )
    assert words["Service"] == "ercot-ffr is armed for 3000 W (award a1): delivering 100 %. Below 59.85 Hz."
    assert words["Devices"] == "Silent: meter."
    assert words["Link"].startswith("The coordinator cannot be reached")
    assert "Control" not in words


def test_status_says_what_is_asked_beside_the_schedule() -> None:
    assert not {"Stop", "Envelope"} & dict(sentences(CONTROL, NOW_MS)).keys()
    asked = {
        "stopped": "smoke in the hall",
        "envelope_id": "dso-7",
        "setpoint_source": "setpoint",
        "setpoint_reason": "a test run",
    }
    words = dict(sentences(CONTROL | asked, NOW_MS))
    assert words["Stop"] == "Emergency stop, until it is lifted: Smoke in the hall."
    assert words["Envelope"] == "The grid operator limits the connection, by dso-7."
    assert words["Power"].endswith("by an operator's setpoint. A test run.")
    note = "group north has heard no price yet: fallback price 50.00"
    words = dict(sentences(CONTROL | {"setpoint_source": "price", "price_note": note, "envelope_id": ""}, NOW_MS))
    assert words["Power"].endswith(
        "by the price that was broadcast. Group north has heard no price yet: fallback price 50.00."
    )
    assert words["Envelope"] == "The grid operator limits the connection."


def test_status_says_what_is_expected_and_kept() -> None:
    expected = {
        "source": "seasonal persistence",
        "note": "is no ONNX model",
        "load_wh": {"6": 4210, "24": None},
        "sun_wh": {"6": 0, "24": 12_000},
    }
    words = dict(sentences(CONTROL | {"expected": expected, "backup_soc": 0.454}, NOW_MS))
    assert words["Expected"] == (
        "4.2 kWh used and 0.0 kWh of sun in the next 6 h; 12.0 kWh of sun in the next 24 h. "
        "Source: seasonal persistence (is no ONNX model)."
    )
    assert words["Backup"] == "Without the coordinator 45 % are kept for an outage of the grid."
    assert not {"Expected", "Backup"} & dict(sentences(CONTROL | {"expected": None}, NOW_MS)).keys()


def test_status_of_an_agent_that_stands_still_says_so_first() -> None:
    about, words = next(iter(sentences(CONTROL, NOW_MS + 3_600_000)))
    assert (about, words) == (
        "Control",
        "It does not run: its last word is 60 minutes old. What follows is how it was then.",
    )
    assert list(sentences(None, NOW_MS)) == [("Control", "It has not run yet.")]


def test_the_journals_losses_are_told() -> None:
    counters = dict.fromkeys(
        ("frames_created", "frames_waiting", "events_waiting", "frames_thinned", "frames_dropped", "used_bytes"), 0
    )
    assert "dropped" not in journal_sentence(counters)
    assert "7 were dropped for want of room" in journal_sentence(counters | {"frames_dropped": 7})


@pytest.mark.parametrize("of_control", [None, json.dumps(CONTROL)])
def test_status_command_says_it_in_words(tmp_path: Path, of_control: str | None) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        'site = "home-01"\ndata_dir = "data"\n[coordinator]\nclaim_file = "claim.toml"\n'
        '[[devices]]\nname = "hybrid"\ndriver = "sunspec"\nhost = "127.0.0.1"\n'
    )
    if of_control is not None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "control.json").write_text(of_control)
    command = [sys.executable, "-m", "edge_agent.cli", "status", "--config", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("site home-01\n")
    assert ("It has not run yet." in result.stdout) == (of_control is None)
