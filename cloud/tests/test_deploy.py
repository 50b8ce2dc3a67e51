"""The examples below cloud/deploy are what the coordinator takes: its own loader and parser read them."""

import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud import cli, config
from cloud.coordinator import telemetry_parts
from cloud.data_folder import DataFolder
from cloud.gateway.testing import utc_now
from cloud.identity.keyring import open_keyring
from cloud.identity.passphrase import beside_of
from cloud.model.role import Role

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
    ours = {name: one for name, one in told["services"].items() if list(commands_of(one))}
    commands = [command for service in ours.values() for command in commands_of(service)]
    roles = [command[command.index("--role") + 1] for command in commands]
    assert sorted(set(roles)) == ["broker", "console", "coordinator", "gateway", "ingest"]
    for command in commands:
        check(command)
    mounted = {volume.split(":")[0] for one in told["services"].values() for volume in one.get("volumes", [])}
    assert {volume for volume in mounted if not volume.startswith("./")} == set(told["volumes"])
    for name, one in ours.items():  # what `keys export` makes, where the process looks for it
        (command,) = commands_of(one)
        data = Path(command[command.index("--data") + 1])
        assert f"./{name}:{data}" in one["volumes"]
        assert f"./{name}.passphrase:{beside_of(data)}:ro" in one["volumes"]
    assert _ingested(commands) == list(range(64))


def test_compose_is_of_its_specification() -> None:
    compose_spec = pytest.importorskip("compose_spec")
    told = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    compose = compose_spec.PyCompose.from_yaml(yaml.safe_dump(told))
    compose.validate()
    told["services"]["console"]["porst"] = []
    with pytest.raises(ValueError, match="porst"):
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(told))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_of_their_schema(path: Path) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for told in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(told, kubernetes_validate.latest_version(), strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(told | {"kidn": ""}, kubernetes_validate.latest_version(), strict=True)


def manifests(kind: str) -> list[dict[str, Any]]:
    return [told for path in MANIFESTS for told in yaml.safe_load_all(path.read_text()) if told["kind"] == kind]


def test_manifests_start_what_there_is_with_probes_that_are_answered() -> None:
    commands, named = [], set()
    for told in manifests("StatefulSet"):
        (container,) = told["spec"]["template"]["spec"]["containers"]
        commands.append(container["command"])
        check(container["command"])
        settings = config.load(DEPLOY / Path(container["command"][container["command"].index("--config") + 1]).name)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports.pop("observe") == settings.observe.port
        assert ports.pop("cluster", None) == (settings.broker.cluster_port if settings.broker else None)
        assert all(getattr(settings.listen, f"{name}_port") == port for name, port in ports.items())
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "observe"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "observe"}
        assert container["resources"]["limits"]["memory"]
        named.add(told["spec"]["serviceName"])
    assert {options.role[0] for options in map(_options, commands)} == set(Role)
    assert _ingested(commands) == list(range(64))
    services = manifests("Service")
    assert {service["metadata"]["name"] for service in services} == named
    parts = {told["spec"]["template"]["metadata"]["labels"]["part"] for told in manifests("StatefulSet")}
    assert {service["spec"]["selector"]["part"] for service in services} == parts
    urls = {url.split("/")[-1].split(":")[0] for url in config.load(DEPLOY / "part.toml").messaging.urls}
    assert urls <= named


def test_the_keys_of_a_secret_come_to_lie_as_the_coordinator_takes_them(tmp_path: Path) -> None:
    """The init container's own words, with folders of this machine; a secret is mounted as links that all may read."""
    whole, share = tmp_path / "cloud", DataFolder(tmp_path / "ingest")
    assert cli.main(["init", "--data", str(whole)]) == 0
    assert cli.main(["keys", "export", "--role", "ingest", str(share.path), "--data", str(whole)]) == 0
    (tmp_path / "pgpass").write_text("db:5432:ledger:vpp:word")
    given, data, private = tmp_path / "given", tmp_path / "data", tmp_path / "private"
    for folder in (given, data, private):
        folder.mkdir()
    secret = {path.name: path for path in [*share.keys.iterdir(), share.version, tmp_path / "pgpass"]}
    for name, path in {
        **secret,
        "passphrase": beside_of(share.path),
        "part.toml": DEPLOY / "part.toml",
    }.items():
        shutil.copy(path, tmp_path / f"of-{name}")
        (tmp_path / f"of-{name}").chmod(0o644)
        (given / name).symlink_to(tmp_path / f"of-{name}")
    told = next(one for one in manifests("StatefulSet") if one["metadata"]["name"] == "ingest-0")
    (container,) = told["spec"]["template"]["spec"]["initContainers"]
    places = {"/given": given, "/data": data, "/etc/murmuration": private}
    for mount in container["volumeMounts"]:
        assert mount["mountPath"] in places
    words = container["command"][-1]
    for place, folder in places.items():
        words = words.replace(f" {place}/", f" {folder}/")
    for _ in range(2):  # a pod that is started again does it again, on a volume that was opened to its group
        subprocess.run(["chmod", "-R", "g+rwX", str(data)], check=True, timeout=60)
        subprocess.run([*container["command"][:-1], words], check=True, timeout=60)
    options = _options(told["spec"]["template"]["spec"]["containers"][0]["command"])
    assert (options.data, options.passphrase_file) == (Path("/data/part"), Path("/etc/murmuration/passphrase"))
    part = DataFolder(data / "part", private / "passphrase")
    part.check()
    open_keyring(part.keys, None, now=utc_now(), passphrase=part.passphrase()).check_roles([Role.INGEST])
    config.load(private / options.config.name)
    assert stat.S_IMODE((private / "pgpass").stat().st_mode) == 0o600  # libpq takes no other


def _options(command: list[str]) -> Any:
    return cli._parser().parse_args(command[1:])


def _ingested(commands: list[list[str]]) -> list[int]:
    """Every partition that some process reads, as often as it is read."""
    options = [_options(command) for command in commands]
    return sorted(partition for one in options if one.role == ["ingest"] for partition in one.partitions)
