"""The ledger's server is away: gateways are told to come back, and a broker starts by what it knew last."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import nats.errors
import pytest
from nats.aio.client import Client, RawCredentials

from cloud.config import CoordinatorConfig, LedgerConfig
from cloud.coordinator import Coordinator
from cloud.data_folder import DataFolder
from cloud.gateway.nats_server import BrokerError
from cloud.gateway.testing import new_agent, utc_now
from cloud.identity import jwt, nkey
from cloud.identity.keyring import Keyring, open_keyring
from cloud.identity.nkey import Nkey
from cloud.model.role import Role
from cloud.roles.foundation import utc_ms
from cloud.store.errors import LedgerUnavailable
from cloud.store.ledger import Ledger
from cloud.store.testing import PostgresServer
from cloud.tests.gateway.doors import TIMEOUT_S, Gateway, refused
from protos import subjects
from protos.vpp.v1 import site_pb2

DEADLINE_S = 30


class TestGateways:
    @pytest.fixture
    def ledger_place(self, postgres: PostgresServer) -> str:
        return postgres.new_database()

    async def test_every_call_is_answered_with_come_back_later(
        self, gateway: Gateway, postgres: PostgresServer
    ) -> None:
        agent, credentials = await gateway.enrolled("home-01")
        claim, newcomer = gateway.claim("home-02"), new_agent()
        sites = gateway.sites(agent.key, credentials.certificate)
        postgres.stop()
        try:
            calls = (
                gateway.enrolment.Enrol(newcomer.enrol(claim), timeout=TIMEOUT_S),
                sites.Configure(site_pb2.SiteDescription(), timeout=TIMEOUT_S),
                sites.Renew(site_pb2.RenewRequest(nats_public_key=agent.nats_public_key), timeout=TIMEOUT_S),
                sites.Download(site_pb2.DownloadRequest(sha256="00" * 32), timeout=TIMEOUT_S).read(),
            )
            for call in calls:
                code, text = await refused(call)
                assert code is grpc.StatusCode.UNAVAILABLE
                assert text == "the coordinator cannot reach its ledger now: come back a little later"
        finally:
            postgres.start()
        await sites.Configure(site_pb2.SiteDescription(), timeout=TIMEOUT_S)
        assert (await gateway.enrolment.Enrol(newcomer.enrol(claim), timeout=TIMEOUT_S)).site == "home-02"


@asynccontextmanager
async def broker_role(config: CoordinatorConfig, data: DataFolder) -> AsyncIterator[str]:
    """The address of a broker that runs in a process's only role."""
    stop, serves = asyncio.Event(), asyncio.Event()
    process = Coordinator(config, data, [Role.BROKER], configured_by="command:ann")
    task = asyncio.create_task(process.run(stop, lambda _: None))
    looking = asyncio.create_task(_until_it_serves(data, serves))
    try:
        await asyncio.wait({task, looking}, timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield json.loads(data.run_of([Role.BROKER]).read_text())["broker"]
    finally:
        looking.cancel()
        stop.set()
        await asyncio.wait_for(task, DEADLINE_S)


async def _until_it_serves(data: DataFolder, serves: asyncio.Event) -> None:
    while not data.run_of([Role.BROKER]).exists():  # noqa: ASYNC110 (a file)
        await asyncio.sleep(0.05)
    serves.set()


async def connected(url: str, keyring: Keyring, site: str, user: Nkey, closed: asyncio.Event) -> Client:
    now_s, client = int(utc_now().timestamp()), Client()
    token = jwt.site_jwt(
        keyring.devices, keyring.account, site, (), user.public, now_s=now_s - 60, expires_s=now_s + 600
    )

    async def on_closed() -> None:
        closed.set()

    await client.connect(
        url,
        tls=ssl.create_default_context(cafile=str(keyring.authority_file)),
        user_credentials=RawCredentials(jwt.credentials_text(token, user.seed)),
        inbox_prefix=subjects.inbox_prefix(site),
        allow_reconnect=False,
        max_reconnect_attempts=1,
        closed_cb=on_closed,
    )
    return client


async def test_a_broker_starts_without_the_ledger_and_knows_who_was_revoked(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    url, data = postgres.new_database(), DataFolder(tmp_path / "cloud")
    config = CoordinatorConfig(ledger=LedgerConfig(url=url))
    thief, other = (nkey.from_seed(nkey.make_seed(nkey.USER), nkey.USER) for _ in range(2))
    with Ledger(url) as ledger:
        for site, user in (("home-01", thief), ("home-02", other)):
            added = ledger.add_site(site, (), utc_ms())
            ledger.keep_credentials(added, user.public, issued_ms=utc_ms(), expires_ms=utc_ms() + 600_000)
        ledger.revoke_site("home-01", "stolen", utc_ms(), "test")
    async with broker_role(config, data):
        pass
    keyring = open_keyring(data.keys, None, now=utc_now(), passphrase=data.passphrase())
    postgres.stop()
    try:
        both = Coordinator(config, data, [Role.COORDINATOR, Role.BROKER], configured_by="command:ann")
        with pytest.raises(LedgerUnavailable):
            await both.run(asyncio.Event(), lambda _: None)
        async with broker_role(config, data) as address:
            with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
                await connected(address, keyring, "home-01", thief, asyncio.Event())
            closed = asyncio.Event()
            client = await connected(address, keyring, "home-02", other, closed)
            postgres.start()
            with Ledger(url) as ledger:
                ledger.revoke_site("home-02", "stolen as well", utc_ms(), "test")
            await asyncio.wait_for(closed.wait(), DEADLINE_S)
            await client.close()
    finally:
        if not postgres.runs:
            postgres.start()


async def test_a_broker_that_never_knew_who_is_revoked_does_not_guess(tmp_path: Path, postgres: PostgresServer) -> None:
    url, data = postgres.new_database(), DataFolder(tmp_path / "cloud")
    config = CoordinatorConfig(ledger=LedgerConfig(url=url))
    async with broker_role(config, data):
        pass
    (data.broker / "revocations.json").unlink()
    postgres.stop()
    try:
        with pytest.raises(BrokerError, match="start it once while the ledger answers"):
            async with broker_role(config, data):
                pass
    finally:
        postgres.start()
