"""`vpp-hil bench security`: what identity costs, how a dropped fleet comes back, how fast a thief is out."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.commands import registry
from cloud.data_folder import DataFolder
from cloud.gateway.testing import new_agent
from cloud.identity import certificates, jwt
from cloud.identity.claims import issue_claim, key_fingerprint
from cloud.identity.keyring import Keyring, open_keyring
from cloud.identity.rotation import Level, Rotation
from cloud.model.role import Role
from cloud.store.ledger import Ledger
from hil.bench.security_agents import AgentData, AgentsFile, user_key
from hil.bench.shares import Meter, Shares, peak_rss_mb
from hil.bench.verify import verify_figures
from hil.fuzz.command import fuzz, read_record
from hil.fuzz.target import Target
from hil.fuzz.targets import TARGETS
from hil.run.collect import machine
from hil.run.processes import ChainError, Processes
from protos.vpp.v1 import site_pb2_grpc

_START_S: Final = 60.0
_MINT_S: Final = 2.0
_ENROLMENTS: Final = 600
_AT_ONCE: Final = 8
_SURVIVORS: Final = 50
_FUZZ_S: Final = 1
_QUIET_S: Final = 3.0
_OTHER_ROLES: Final = (Role.BROKER, Role.COORDINATOR, Role.INGEST, Role.CONSOLE)
_COORDINATOR: Final = "coordinator, ingest, console"
_GATEWAY: Final = "gateway role"
_BROKER: Final = "broker (nats-server)"
_AGENTS: Final = "agents (load)"
_GATEWAYS: Final = "those who enrol (load)"
_DAY: Final = timedelta(days=1)


def bench_security(
    *,
    agents: int,
    say: Callable[[str], None],
    enrolments: int = _ENROLMENTS,
    targets: Sequence[Target] = tuple(TARGETS.values()),
) -> dict[str, Any]:
    """The figures. targets: of fuzzing. Raises ChainError."""
    with tempfile.TemporaryDirectory(prefix="bench-security-") as folder:
        data = DataFolder(Path(folder) / "cloud")
        processes = Processes(Path(folder) / "logs")
        try:
            return _measured(data, processes, agents, enrolments, targets, say)
        finally:
            processes.stop_all()


def _measured(
    data: DataFolder,
    processes: Processes,
    agents: int,
    enrolments: int,
    targets: Sequence[Target],
    say: Callable[[str], None],
) -> dict[str, Any]:
    figures: dict[str, Any] = {"agents": agents, "machine": machine(), "load": os.getloadavg()[0]}
    figures |= verify_figures()
    figures |= _fuzzed(targets, say)
    served = _start(data, processes)
    keyring = open_keyring(data.keys, None, now=_now(), passphrase=data.passphrase())
    figures["credentials_per_s"] = round(_credentials_per_s(keyring))
    say(f"credentials: {figures['credentials_per_s']} a second on one core")
    figures |= asyncio.run(_enrolments(data, served, enrolments, say))
    say(f"enrolments: {figures['enrolments_per_s']} a second of the gateway role's CPU, handshake and disk included")
    figures |= _storm(data, served, keyring, agents, say)
    figures["gateway_peak_rss_mb"] = round(peak_rss_mb(served["gateway_pid"]))
    figures["broker_peak_rss_mb"] = round(peak_rss_mb(served["broker_pid"]))
    return figures


def _fuzzed(targets: Sequence[Target], say: Callable[[str], None]) -> dict[str, Any]:
    """Executions recorded over the work, and what a moment on each target finds now."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # most of it is starting each target's process
        outcomes = list(pool.map(lambda one: fuzz(one.name, one.seeds, _FUZZ_S, -1, keep=False), targets))
    findings = [f"{outcome.target}: {outcome.finding}" for outcome in outcomes if outcome.finding]
    figures = {
        "fuzz_executions": sum(read_record().values()),
        "fuzz_executions_now": sum(outcome.executions for outcome in outcomes),
        "fuzz_crashes": len(findings),
        "fuzz_findings": findings,
    }
    say(f"fuzzing: {len(outcomes)} targets, {figures['fuzz_executions_now']} executions, {len(findings)} findings")
    return figures


def _credentials_per_s(keyring: Keyring) -> float:
    """NATS user JWTs, each for another site and key, in a second of CPU time."""
    users = [user_key(f"home-{number}").public for number in range(256)]
    count, began_s = 0, time.process_time()
    while (took_s := time.process_time() - began_s) < _MINT_S:
        for user in users:
            site = f"home-{count}"
            jwt.site_jwt(keyring.devices, keyring.account, site, ("fast",), user, now_s=1, expires_s=86_400)
            count += 1
    return count / took_s


async def _enrolments(
    data: DataFolder, served: dict[str, Any], enrolments: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Each gateway with keys, a claim and a TLS connection of its own, against the gateway role as it is run."""
    with Ledger(data.ledger) as ledger, ledger.transaction():
        for number in range(enrolments):
            ledger.add_site(f"enrol-{number}", ("fast",), _ms())
        tokens = [issue_claim(ledger, f"enrol-{number}", now_ms=_ms(), lifetime=_DAY) for number in range(enrolments)]
    requests = [new_agent().enrol(token) for token in tokens]
    trust = grpc.ssl_channel_credentials((data.keys / "ca.pem").read_bytes())
    waiting = iter(requests)

    async def gateways() -> None:
        for request in waiting:
            own = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.secure_channel(served["enrolment"], trust, options=own) as channel:
                await site_pb2_grpc.EnrolmentStub(channel).Enrol(request, timeout=30)  # type: ignore[no-untyped-call]

    meter = Meter({_GATEWAY: served["gateway_pid"], _GATEWAYS: os.getpid()})
    await asyncio.gather(*(gateways() for _ in range(_AT_ONCE)))
    shares = meter.read()
    for line in shares.table(enrolments, "enrolment"):
        say(line)
    return {
        "enrolments_per_s": round(enrolments / shares.of(_GATEWAY)),
        "enrolments_wall_per_s": round(enrolments / shares.wall_s),  # with the gateways on the same machine
        "enrolments_cpu_s": shares.rounded(),
    }


def _storm(
    data: DataFolder, served: dict[str, Any], keyring: Keyring, count: int, say: Callable[[str], None]
) -> dict[str, Any]:
    host, broker_port = str(served["broker"]).removeprefix("tls://").rsplit(":", 1)
    site_port = str(served["site_service"]).rsplit(":", 1)[1]
    key = certificates.make_key()
    names = [f"storm-{number}" for number in range(count)]
    survivors = [f"calm-{number}" for number in range(_SURVIVORS)]
    _enrol_directly(data, [*names, *survivors, "thief"], key_fingerprint(key.public_key()))

    def write(path: Path, sites: list[str], keys: Keyring) -> Path:
        now = _now()
        file = AgentsFile(
            host=host,
            broker_port=int(broker_port),
            site_port=int(site_port),
            ca=keys.authority_pem.decode(),
            key=certificates.key_pem(key).decode(),
            agents=[AgentData(site, _jwt(keys, site, now), _certificate(keys, key, site, now)) for site in sites],
        )
        path.write_bytes(msgspec.json.encode(file))
        return path

    folder = data.path.parent
    figures: dict[str, Any] = {}
    with _agents(write(folder / "storm.json", names, keyring), "storm") as storm:
        storm.hear("connected")
        say(f"{count} agents are connected")
        # The survivors' credentials are of the next key: what drops the others leaves them alone.
        Rotation(data.keys, data.passphrase(), _now()).rotate(Level.DEVICES)
        keyring.refresh(_now())
        with _agents(write(folder / "calm.json", survivors, keyring), "survive") as calm:
            calm.hear("connected")
            calm.ask("mark", "latencies_ms")
            processes = {_COORDINATOR: served["pid"], _GATEWAY: served["gateway_pid"], _BROKER: served["broker_pid"]}
            processes |= {_AGENTS: storm.pid, "survivors (load)": calm.pid}
            meter = Meter(processes)
            time.sleep(_QUIET_S)
            figures["quiet_cpu_s"] = meter.read().rounded()
            quiet = calm.ask("mark", "latencies_ms")
            meter = Meter(processes)
            storm.ask("cut", "waiting")
            figures["storm_s"] = round(storm.hear("storm_s")["storm_s"], 2)
            figures |= _told(meter.read(), "storm", count, say)
            during = calm.ask("mark", "latencies_ms")
            figures["storm_survivor_ms_p99"] = _p99(during)
            figures["quiet_ms_p99"] = _p99(quiet)
            say(f"{count} connections cut: all back after {figures['storm_s']} s")
            storm.ask("await", "waiting")
            meter = Meter(processes)
            Rotation(data.keys, data.passphrase(), _now()).retire(Level.DEVICES, now=True)
            figures["storm_leaked_key_s"] = round(storm.hear("storm_s")["storm_s"], 2)
            figures |= _told(meter.read(), "storm_leaked_key", count, say)
            leaked = calm.ask("mark", "latencies_ms")
            figures["storm_leaked_key_survivor_ms_p99"] = _p99(leaked)
            figures["survivors_lost"] = leaked["fallen"]
            say(f"their signing key retired: all back with new credentials after {figures['storm_leaked_key_s']} s")
    with _agents(write(folder / "thief.json", ["thief"], keyring), "storm") as thief:
        thief.hear("connected")
        thief.ask("out", "waiting")
        began_s = time.perf_counter()
        registry.revoke_sites(data, ["thief"], "bench")
        thief.hear("storm_s")
        figures["revoke_to_disconnect_s"] = round(time.perf_counter() - began_s, 2)
    return figures


def _told(shares: Shares, storm: str, agents: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Where the time of a storm went; `quiet_cpu_s` is what the same processes use when nothing happens.

    The agents' own share is load: in the field each gateway has a processor for it. What nats-server uses is its TLS
    handshakes and the Ed25519 signatures of JWT and nonce.
    """
    for line in shares.table(agents, "agent"):
        say(line)
    product_s = shares.of(_COORDINATOR, _GATEWAY, _BROKER)
    return {
        f"{storm}_cpu_s": shares.rounded(),
        f"{storm}_product_cpu_s": round(product_s, 2),
        f"{storm}_product_ms_per_agent": round(1000 * product_s / agents, 2),
    }


def _enrol_directly(data: DataFolder, sites: list[str], gateway_key: str) -> None:
    """As enrolment leaves them in the ledger, all at once."""
    with Ledger(data.ledger) as ledger, ledger.transaction():
        for site in sites:
            ledger.add_site(site, ("fast",), _ms())
            ledger.add_claim(f"claim of {site}", site, expires_ms=_ms() + 60_000, now_ms=_ms())
            added = ledger.use_claim(f"claim of {site}", site, _ms(), gateway_key=gateway_key)
            expires_ms = _ms() + _DAY // timedelta(milliseconds=1)
            ledger.keep_credentials(added, user_key(site).public, issued_ms=_ms(), expires_ms=expires_ms)


def _jwt(keys: Keyring, site: str, now: datetime) -> str:
    now_s = int(now.timestamp())
    return jwt.site_jwt(
        keys.devices, keys.account, site, ("fast",), user_key(site).public, now_s=now_s, expires_s=now_s + 86_400
    )


def _certificate(keys: Keyring, key: ec.EllipticCurvePrivateKey, site: str, now: datetime) -> str:
    issued = certificates.issue_site_certificate(
        keys.authority, keys.authority_key, key.public_key(), site, now=now + timedelta(seconds=2), lifetime=_DAY
    )
    return certificates.certificate_pem(issued).decode()


class _Agents:
    """A process of agents, spoken to in lines."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.pid = process.pid

    def hear(self, what: str) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 (a pipe)
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
        if what not in answer:
            raise ChainError(f"the bench's agents failed before they told {what}")
        return answer

    def ask(self, order: str, what: str) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101 (a pipe)
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return self.hear(what)


@contextmanager
def _agents(path: Path, kind: str) -> Iterator[_Agents]:
    process = subprocess.Popen(
        [sys.executable, "-m", "hil.bench.security_agents", str(path), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield _Agents(process)
    finally:
        process.kill()
        process.communicate()


def _start(data: DataFolder, processes: Processes) -> dict[str, Any]:
    """The product, with the gateway role in a process of its own: what it says of itself and where it serves."""
    command = ["vpp-cloud", "run", "--data", str(data.path)]
    processes.start("coordinator", [*command, *(word for role in _OTHER_ROLES for word in ("--role", role))])
    served = _served(data, processes, "coordinator", _OTHER_ROLES)
    config = data.path.parent / "gateway.toml"
    config.write_text(f"[messaging]\nurls = [{json.dumps(served['broker'])}]\n")
    processes.start("gateway", [*command, "--role", Role.GATEWAY, "--config", str(config)])
    gateway = _served(data, processes, "gateway", (Role.GATEWAY,))
    return {**gateway, **served, "gateway_pid": gateway["pid"]}


def _served(data: DataFolder, processes: Processes, name: str, roles: Sequence[Role]) -> dict[str, Any]:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s:
        processes.check()
        if data.run_of(roles).exists():
            served: dict[str, Any] = json.loads(data.run_of(roles).read_text())
            return served
        time.sleep(0.1)
    raise ChainError(f"the {name} did not serve within {_START_S:.0f} s (log: {processes.log(name)})")


def _p99(answer: dict[str, Any]) -> float:
    return round(float(np.percentile(answer["latencies_ms"], 99)), 1)


def _now() -> datetime:
    return datetime.now(UTC)


def _ms() -> int:
    return int(_now().timestamp() * 1000)
