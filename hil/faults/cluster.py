"""The cloud as many processes: three nodes of a broker, two coordinators, two workers, PostgreSQL, one history."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cloud.data_folder import DataFolder
from cloud.gateway import tied
from cloud.gateway.ports import free_port
from cloud.identity.keyring import Keyring, open_keyring
from cloud.store.testing import PostgresServer, postgres_server
from hil.faults.network import Network, Place, inside, network
from hil.run.processes import ChainError, last_line

NODES: Final = 3
COORDINATORS: Final = ("coordinator-a", "coordinator-b")
WORKERS: Final = ("ingest-a", "ingest-b")  # both are given every partition
_READY_S: Final = 60.0
_TICK_S: Final = 0.05


class Cluster:
    """Processes by name: nats-1 to nats-3, coordinators and workers a and b."""

    def __init__(self, folder: Path, net: Network, ledger: PostgresServer) -> None:
        self.folder = folder
        self.net = net
        self.ledger = ledger
        self.ledger_url: Final = ledger.new_database()
        self.nodes: Final = dict(zip((f"nats-{number}" for number in range(1, NODES + 1)), net.places, strict=True))
        ports = {place.address: _ports(place) for place in net.places}
        self._client = {place.address: ports[place.address][0] for place in net.places}
        self._route = {place.address: ports[place.address][1] for place in net.places}
        self.urls: Final = [f"tls://{address}:{port}" for address, port in self._client.items()]
        self.history: Final = folder / "history"
        self.keyring: Final = self._make_keys()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def _make_keys(self) -> Keyring:
        now = datetime.now(UTC)
        names = (*self.nodes, *COORDINATORS, *WORKERS)
        first, *others = (DataFolder(self.folder / name) for name in names)
        with first.owned():
            keyring = open_keyring(first.keys, None, now=now, passphrase=first.passphrase(make=True))
        for data in others:
            shutil.copytree(first.path, data.path)
            shutil.copy(f"{first.path}.passphrase", f"{data.path}.passphrase")
        return keyring

    def start(self, name: str) -> None:
        """Starts a process and waits until it serves. Raises ChainError."""
        role = name.split("-")[0].replace("nats", "broker")
        config = self.folder / f"{name}.toml"
        config.write_text(self._config(name))
        served = DataFolder(self.folder / name).run_of((role,))
        served.unlink(missing_ok=True)
        log = self.folder / f"{name}.log"
        command = [sys.executable, "-m", "cloud.cli", "run", "--role", role]
        command += ["--data", str(self.folder / name), "--config", str(config)]
        place = inside(self.nodes[name]) if name in self.nodes else ()
        with log.open("ab") as output:
            process = subprocess.Popen(
                # `ip netns exec` becomes the command, and stays tied.
                [
                    sys.executable,
                    "-I",
                    "-S",
                    tied.__file__,
                    str(os.getpid()),
                    *place,
                    *command,
                    "--config",
                    str(config),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._running[name] = process
        deadline_s = time.monotonic() + _READY_S
        while not served.exists():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise ChainError(f"{name} does not serve: {last_line(log)} (log: {log})")
            time.sleep(_TICK_S)

    def kill(self, name: str) -> None:
        """SIGKILL: the process, and with a node its nats-server, ends where it stands."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        """To the process itself; to a node's nats-server."""
        if name in self.nodes:
            served = json.loads(DataFolder(self.folder / name).run_of(("broker",)).read_text())
            os.kill(int(served["broker_pid"]), number)
        else:
            self._running[name].send_signal(number)

    def stop(self) -> None:
        for name in reversed(list(self._running)):
            process = self._running.pop(name)
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(20.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _config(self, name: str) -> str:
        quote = json.dumps
        address = self.nodes[name].address if name in self.nodes else self.net.home
        lines = [
            "[listen]",
            f"host = {quote(address)}",
            f"broker_port = {self._client.get(address, 0)}",
            "[messaging]",
            f"urls = {quote(self.urls)}",
            f"replicas = {NODES}",
            "[ledger]",
            f"url = {quote(self.ledger_url)}",
            "[history]",
            f"path = {quote(str(self.history))}",
        ]
        if name in self.nodes:
            others = [f"{other}:{port}" for other, port in self._route.items() if other != address]
            lines += ["[broker]", f"name = {quote(name)}", f"cluster_port = {self._route[address]}"]
            lines.append(f"routes = {quote(others)}")
        return "\n".join(lines) + "\n"


def _ports(place: Place) -> tuple[int, int]:
    """For clients and for the other nodes. A namespace has all of them to itself."""
    return (4222, 6222) if place.namespace is not None else (free_port(place.address), free_port(place.address))


@contextmanager
def cluster(folder: Path, names: Sequence[str] = ()) -> Iterator[Cluster]:
    """Everything started, and gone afterwards. Raises ChainError, PostgresMissing."""
    folder.mkdir(parents=True, exist_ok=True)
    with network(NODES) as net, postgres_server(net.home) as ledger:
        running = Cluster(folder, net, ledger)
        try:
            for name in names or (*running.nodes, *COORDINATORS, *WORKERS):
                running.start(name)
            yield running
        finally:
            running.stop()
