"""Helpers of the tests that need a whole coordinator: it runs in the test's own loop, with its real broker."""

import asyncio
import json
import ssl
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from nats.aio.client import Client, RawCredentials

from cloud.cli import main
from cloud.config import ConsoleConfig, CoordinatorConfig
from cloud.coordinator import Coordinator
from cloud.data_folder import DataFolder
from cloud.gateway.broker import Broker
from cloud.gateway.link import BrokerClient
from cloud.gateway.testing import HOST, Agent, utc_now
from cloud.identity import certificates, jwt, nkey
from cloud.identity.keyring import Keyring, open_keyring
from cloud.identity.nkey import Nkey
from protos import subjects
from protos.vpp.v1 import site_pb2, site_pb2_grpc

DEADLINE_S = 30


@dataclass
class Gateway:
    """A site's gateway with keys of its own and the credentials it got for them."""

    agent: Agent
    user: Nkey
    credentials: site_pb2.Credentials
    nc: Client = field(default_factory=Client)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    errors: list[str] = field(default_factory=list)

    async def connect(self) -> Client:
        """To the broker, as the site. `closed` is set when the broker ends it."""
        self.nc, self.closed = BrokerClient(), asyncio.Event()
        closed = self.closed

        async def on_closed() -> None:
            closed.set()

        async def on_error(error: Exception) -> None:
            self.errors.append(str(error))

        trust = ssl.create_default_context(cadata=self.credentials.ca_certificates.decode())
        await asyncio.wait_for(
            self.nc.connect(
                list(self.credentials.nats_urls),
                tls=trust,
                user_credentials=RawCredentials(jwt.credentials_text(self.credentials.nats_jwt, self.user.seed)),
                inbox_prefix=subjects.inbox_prefix(self.credentials.site),
                allow_reconnect=False,
                max_reconnect_attempts=1,
                closed_cb=on_closed,
                error_cb=on_error,
            ),
            DEADLINE_S,
        )
        return self.nc

    @asynccontextmanager
    async def sites(self) -> AsyncIterator[site_pb2_grpc.SiteServiceStub]:
        """SiteService with the gateway's certificate."""
        pem = certificates.key_pem(self.agent.key)
        trust = grpc.ssl_channel_credentials(self.credentials.ca_certificates, pem, self.credentials.certificate)
        async with grpc.aio.secure_channel(self.credentials.site_service, trust) as channel:
            yield site_pb2_grpc.SiteServiceStub(channel)  # type: ignore[no-untyped-call]


class Plant:
    """A data folder, the coordinator that runs on it, and the gateways that enrolled."""

    def __init__(self, folder: Path) -> None:
        self.data = DataFolder(folder / "cloud")
        self._claims = folder
        self._made = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[dict[str, Any]]:
        """What run.json says while the coordinator serves."""
        stop, serves = asyncio.Event(), asyncio.Event()
        coordinator = Coordinator(
            CoordinatorConfig(console=ConsoleConfig(insecure_loopback_only=True)),
            self.data,
            configured_by="command:installer",
        )
        task = asyncio.create_task(coordinator.run(stop, lambda _: serves.set()))
        waiting = asyncio.create_task(serves.wait())
        try:
            await asyncio.wait({task, waiting}, timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            yield json.loads(self.data.run.read_text())
        finally:
            waiting.cancel()
            stop.set()
            await asyncio.wait_for(task, DEADLINE_S)

    async def command(self, *arguments: str) -> int:
        """Runs a command as a person would, beside the coordinator."""
        return await asyncio.to_thread(main, [*arguments, "--data", str(self.data.path)])

    async def claim(self, site: str, verb: str = "add") -> dict[str, str]:
        """A fresh claim; verb "claim" for a site that is there already."""
        self._made += 1
        path = self._claims / f"{site}.{self._made}.claim.toml"
        if await self.command("site", verb, site, "--claim-file", str(path)) != 0:
            raise AssertionError(f"no claim for {site}")
        return tomllib.loads(path.read_text())

    async def enrol(self, claim: dict[str, str]) -> Gateway:
        """A new gateway, with keys of its own."""
        user = nkey.from_seed(nkey.make_seed(nkey.USER), nkey.USER)
        agent = Agent(certificates.make_key(), user.public)
        return await self.enrol_again(claim, agent, user)

    async def enrol_again(self, claim: dict[str, str], agent: Agent, user: Nkey) -> Gateway:
        trust = grpc.ssl_channel_credentials(claim["ca_certificates"].encode())
        async with grpc.aio.secure_channel(claim["enrolment"], trust) as channel:
            stub = site_pb2_grpc.EnrolmentStub(channel)  # type: ignore[no-untyped-call]
            return Gateway(agent, user, await stub.Enrol(agent.enrol(claim["token"]), timeout=DEADLINE_S))

    def keyring(self) -> Keyring:
        """The coordinator's keys, as who sits on its machine has them."""
        return open_keyring(
            self.data.keys, (HOST, HOST, "localhost", HOST), now=utc_now(), passphrase=self.data.passphrase()
        )

    async def backend(self) -> Client:
        """A connection with the coordinator's own rights."""
        port = int(json.loads(self.data.ports.read_text())["broker_port"])
        broker = Broker(self.data.broker, self.keyring(), host=HOST, port=port, public_host=HOST, now=utc_now)
        return await broker.connect("test")
