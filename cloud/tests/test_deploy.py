"""The examples below cloud/deploy are what the coordinator takes: its own loader and parser read them."""

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud import cli, config
from cloud.coordinator import telemetry_parts

DEPLOY = Path(cli.__file__).parent / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
CONFIGURATIONS = sorted(DEPLOY.glob("*.toml"))


def check(arguments: list[str]) -> None:
    """That the command is one of ours, with options it has and a configuration that is among the examples."""
    assert arguments[0] == "vpp-cloud"
    options = cli._parser().parse_args(arguments[1:])
    settings = config.load(DEPLOY / options.config.name)
    telemetry_parts(options.partitions, settings.messaging.telemetry_streams)


def commands_of(service: dict[str, Any]) -> Iterator[list[str]]:
    if str(service["image"]).startswith("murmuration"):
        yield service["command"]


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_configurations_are_read(path: Path) -> None:
    assert config.load(path).observe.port


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_run_what_there_is(path: Path) -> None:
    (line,) = (line for line in path.read_text().splitlines() if line.startswith("ExecStart="))
    words = shlex.split(line.removeprefix("ExecStart=").replace("%i", "ingest"))
    assert words[0] == "/usr/bin/env"
    check(words[1:])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_units(path: Path, tmp_path: Path) -> None:
    name = path.name.replace("@.", "@ingest.")
    shutil.copy(path, tmp_path / name)
    found = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert name not in found.stderr, found.stderr


def test_compose_starts_what_there_is() -> None:
    told = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    commands = [command for service in told["services"].values() for command in commands_of(service)]
    roles = [command[command.index("--role") + 1] for command in commands]
    assert sorted(set(roles)) == ["broker", "console", "coordinator", "gateway", "ingest"]
    for command in commands:
        check(command)
    mounted = {volume.split(":")[0] for one in told["services"].values() for volume in one.get("volumes", [])}
    assert {volume for volume in mounted if not volume.startswith("./")} == set(told["volumes"])
    assert _ingested(commands) == list(range(64))


def test_manifests_start_what_there_is_with_probes_that_are_answered() -> None:
    commands = []
    for path in MANIFESTS:
        for told in yaml.safe_load_all(path.read_text()):
            (container,) = told["spec"]["template"]["spec"]["containers"]
            commands.append(container["command"])
            check(container["command"])
            settings = config.load(DEPLOY / "part.toml")
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            assert ports.pop("observe") == settings.observe.port
            assert all(getattr(settings.listen, f"{name}_port") == port for name, port in ports.items())
            assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "observe"}
            assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "observe"}
            assert container["resources"]["limits"]["memory"]
    assert _ingested(commands) == list(range(64))


def _ingested(commands: list[list[str]]) -> list[int]:
    """Every partition that some process reads, as often as it is read."""
    options = [cli._parser().parse_args(command[1:]) for command in commands]
    return sorted(partition for one in options if one.role == ["ingest"] for partition in one.partitions)
