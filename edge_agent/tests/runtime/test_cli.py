"""`vpp-agent` as people type it: real processes, one clear line where it refuses."""

import asyncio
import datetime as dt
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from edge_agent.sync.credentials import CredentialStore, HeldCredentials
from edge_agent.sync.keys import Keys
from protos import subjects
from protos.vpp.v1.site_pb2 import Credentials

DEADLINE_S = 30.0
HEAVY = ("numpy", "grpc", "nats", "nkeys", "cryptography", "sqlite3", "importlib.metadata", "edge_agent.sync")

CONFIG = """\
site = "home-01"
data_dir = "data"
[coordinator]
claim_file = "home-01.claim.toml"
[[devices]]
name = "hybrid"
driver = "sunspec"
host = "127.0.0.1"
port = {port}
timeout_s = 0.05
"""


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "edge_agent.cli", *map(str, arguments)]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=DEADLINE_S)


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that a refusal prints."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("vpp-agent: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """A site whose device does not answer (its port is taken and nobody listens), with a claim for a coordinator
    that does not answer either."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        file = tmp_path / "agent.toml"
        file.write_text(CONFIG.format(port=port))
        claim = tmp_path / "home-01.claim.toml"
        claim.write_text(
            f'site = "home-01"\nenrolment = "127.0.0.1:{port}"\ntoken = "0123456789abcdef"\n'
            f'ca_certificates = """{_certificate()}"""\n'
        )
        yield file


def _certificate() -> str:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return built.sign(key, None).public_bytes(serialization.Encoding.PEM).decode()


def test_version() -> None:
    result = run("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("vpp-agent 0.")


def test_check_config(config: Path) -> None:
    result = run("check-config", "--config", config)
    assert (result.returncode, result.stderr) == (0, "")
    assert "site home-01, 1 device(s)" in result.stdout


@pytest.mark.parametrize("what", ["run", "check-config", "probe", "status"])
def test_a_wrong_configuration_is_one_line(config: Path, what: str) -> None:
    config.write_text(config.read_text().replace("timeout_s", "time_out_s"))
    line = refusal(run(what, "--config", config))
    assert str(config) in line
    assert "$.devices[0].time_out_s: unknown key; did you mean timeout_s?" in line


def test_a_data_folder_that_cannot_be_written(config: Path) -> None:
    config.with_name("data").write_text("a file where the folder should be")
    line = refusal(run("run", "--config", config))
    assert "$.data_dir" in line
    assert "cannot be written" in line


def test_a_claim_file_that_is_not_there(config: Path) -> None:
    """Sync refuses and says why; control ends with it."""
    config.with_name("home-01.claim.toml").unlink()
    line = refusal(run("run", "--config", config))
    assert "home-01.claim.toml" in line


def test_probe_of_a_device_that_does_not_answer(config: Path) -> None:
    result = run("probe", "--config", config)
    assert result.returncode == 1
    assert result.stderr.startswith("vpp-agent: ")
    assert "hybrid" in result.stderr
    assert "Traceback" not in result.stderr


def test_status_before_the_first_run(config: Path) -> None:
    result = run("status", "--config", config, "--json")
    assert result.returncode == 0
    status = json.loads(result.stdout)
    assert status["control"] is None
    assert status["journal"]["frames_created"] == 0


class Running:
    """`vpp-agent run`, with what it says."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.process = subprocess.Popen(command("run", "--config", config), stderr=subprocess.PIPE, text=True)

    def wait_for(self, text: str, *, refuse: str | None = None) -> str:
        """The first line with this text, before any with the text that is refused."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            assert refuse is None or refuse not in line
            if text in line:
                return line
        raise AssertionError(f"ended without saying {text!r}")

    def statistics(self) -> dict[str, object]:
        """Asks for fresh ones and waits for the file."""
        file = self.config.with_name("data") / "control.json"
        file.unlink(missing_ok=True)
        watch = Path(f"/proc/{self.process.pid}")
        self.process.send_signal(signal.SIGUSR1)
        while not file.exists():
            assert watch.exists(), "the agent has ended"
            select.select([], [], [], 0.02)
        content: dict[str, object] = json.loads(file.read_text())
        return content

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


def enrol(config: Path) -> None:
    """An identity that a coordinator gave, which is not there now."""
    data = config.with_name("data")
    data.mkdir(mode=0o700)
    claim = tomllib.loads(config.with_name("home-01.claim.toml").read_text())
    now_ms = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
    credentials = Credentials(
        site="home-01",
        partition_token=subjects.partition_token("home-01"),
        certificate=claim["ca_certificates"].encode(),
        ca_certificates=claim["ca_certificates"].encode(),
        nats_jwt="jwt",
        nats_urls=[f"tls://{claim['enrolment']}"],
        site_service=claim["enrolment"],
        issued_ms=now_ms,
        expires_ms=now_ms + 86_400_000,
        certificate_expires_ms=now_ms + 45 * 86_400_000,
    )
    keys = Keys(data)
    asyncio.run(keys.certificate_request("home-01"))  # makes the key
    CredentialStore(data).save(HeldCredentials.received(now_ms, credentials), keys)


@pytest.fixture
def running(config: Path) -> Iterator[Running]:
    enrol(config)
    yield from started(config)


@pytest.fixture
def running_unenrolled(config: Path) -> Iterator[Running]:
    yield from started(config)


def started(config: Path) -> Iterator[Running]:
    agent = Running(config)
    watchdog = signal.signal(signal.SIGALRM, lambda *_: agent.process.kill())
    signal.alarm(int(DEADLINE_S))
    yield agent
    signal.alarm(0)
    signal.signal(signal.SIGALRM, watchdog)
    agent.end()


def test_run_degraded_then_stop_in_order(running: Running) -> None:
    """A device that cannot be reached does not keep the agent from running, and it says so."""
    assert "device=hybrid" in running.wait_for("site runs without device")
    running.wait_for("agent started")
    statistics = running.statistics()
    assert statistics["silent_devices"] == ["hybrid"]
    rss_mb = statistics["rss_mb"]
    assert isinstance(rss_mb, float)
    assert 10.0 < rss_mb <= 40.0
    sync_pid = statistics["sync_pid"]
    assert isinstance(sync_pid, int)
    shown = json.loads(run("status", "--config", running.config, "--json").stdout)
    assert shown["control"]["pid"] == running.process.pid

    sync = os.pidfd_open(sync_pid)
    try:
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(DEADLINE_S) == 0
        poll = select.poll()
        poll.register(sync, select.POLLIN)
        assert poll.poll(0), "sync outlived control"
    finally:
        os.close(sync)


def test_before_it_is_enrolled_no_device_is_touched(running_unenrolled: Running) -> None:
    """Its claim may be another gateway's, and used: who has no identity yet drives nobody's inverter."""
    said = running_unenrolled.wait_for("enrolment goes on trying", refuse="site runs without device")
    assert "coordinator unreachable" in said
    running_unenrolled.process.send_signal(signal.SIGTERM)
    assert running_unenrolled.process.wait(DEADLINE_S) == 0


def test_another_sites_claim_is_refused_before_a_device_is_touched(config: Path) -> None:
    claim = config.with_name("home-01.claim.toml")
    claim.write_text(claim.read_text().replace('site = "home-01"', 'site = "home-02"'))
    result = run("run", "--config", config)
    assert "is for site 'home-02'" in refusal(result)
    assert "device=hybrid" not in result.stderr


def test_two_agents_on_one_folder(running: Running) -> None:
    running.wait_for("agent started")
    line = refusal(run("run", "--config", running.config))
    assert "another agent runs on" in line
    assert "give this one a folder of its own" in line


def test_control_loads_nothing_heavy() -> None:
    """Its budget is 40 MB: what only sync needs stays in sync."""
    code = f"import sys, edge_agent.cli; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr
