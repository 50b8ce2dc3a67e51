"""A coordinator as an operator runs it, under load: TLS, credentials of its device key, its ingest and history."""

import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from nats.aio.client import Client
from prometheus_client.parser import text_string_to_metric_families

from cloud.data_folder import DataFolder
from cloud.gateway.link import Link, own_login
from cloud.gateway.ports import free_port
from cloud.identity.keyring import open_keyring
from cloud.store.history import History
from hil.load import credentials
from hil.load.driver import Concentrator, site_name
from hil.load.link import LoadError, Login
from hil.load.rig import Cost, costs_of, register, stored, until
from hil.run.processes import ChainError, Processes

HOST: Final = "127.0.0.1"
_NAME: Final = "coordinator"
_START_S: Final = 120.0


class Installation:
    """`vpp-cloud run` on a folder of its own, started and stopped as one. Raises LoadError."""

    def __init__(self, folder: Path, *, streams: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._data = DataFolder(folder / "cloud")
        self._streams = streams
        self._processes = Processes(folder / "logs")
        self._metrics_port = free_port(HOST)
        self._broker_port = free_port(HOST)
        self._config = folder / "cloud.toml"
        self._config.write_text(
            f"[listen]\nbroker_port = {self._broker_port}\n[messaging]\ntelemetry_streams = {streams}\n"
            f"[observe]\nport = {self._metrics_port}\n"
        )
        with self._data.owned():
            passphrase = self._data.passphrase(make=True)
            self._keyring = open_keyring(self._data.keys, None, now=datetime.now(UTC), passphrase=passphrase)
        self._trust = ssl.create_default_context(cadata=self._keyring.authority_pem.decode())
        self._served: dict[str, Any] = {}

    @property
    def port(self) -> int:
        return self._broker_port

    @property
    def history(self) -> History:
        return History(self._data.history)

    def login(self, concentrator: str, site: int) -> Login:
        """Credentials as the coordinator issues them, for who sends for sites of this one's partition."""
        token, user = credentials.issue(self._keyring, concentrator, (site_name(site),))
        return Login(self._trust, token, user)

    async def start(self, sites: int, concentrators: Sequence[Concentrator]) -> None:
        """With these in its registry."""
        register(self._data.ledger, sites, concentrators)
        command = ["vpp-cloud", "run", "--data", str(self._data.path), "--config", str(self._config)]
        self._processes.start(_NAME, command)
        await until(self._serves, f"the coordinator does not serve (log: {self._processes.log(_NAME)})", _START_S)

    def _serves(self) -> bool:
        try:
            self._processes.check()
        except ChainError as error:
            raise LoadError(str(error)) from error
        if not self._data.run.exists():
            return False
        self._served = msgspec.json.decode(self._data.run.read_bytes())
        return True

    async def stored(self, within_s: float) -> None:
        """Returns when the history has everything that the streams have."""
        connection = await self._connected()
        try:
            await stored(connection, self.history, self._streams, within_s)
        finally:
            await connection.close()

    async def reading(self) -> None:
        """Returns when every telemetry stream is read: a large registry takes it a while."""
        await until(self._ready, "the coordinator is not ready", _START_S, 0.2)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://{HOST}:{self._metrics_port}/readyz", timeout=5.0).is_success
        except httpx.HTTPError:
            return False

    async def _connected(self) -> Client:
        urls = [f"tls://{HOST}:{self._broker_port}"]
        login = own_login(self._keyring, lambda: datetime.now(UTC))
        return await Link(urls, login, self._keyring.authority_file).connect("load")

    def costs(self) -> dict[str, Cost]:
        """Of each process so far, the generator's own included."""
        pids = {"generator": os.getpid(), "broker": self._served["broker_pid"], "coordinator": self._served["pid"]}
        return costs_of(pids)

    def refused(self) -> int:
        """Frames that ingest did not take."""
        text = httpx.get(f"http://{HOST}:{self._metrics_port}/metrics", timeout=10.0).text
        return int(
            sum(
                sample.value
                for family in text_string_to_metric_families(text)
                if family.name == "murmuration_ingest_refused_frames"
                for sample in family.samples
            )
        )

    def stop(self) -> None:
        self._processes.stop_all()
