"""A real broker under keys of its own, and sites that connect to it with minted credentials."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client, RawCredentials

from cloud.gateway.broker import Broker
from cloud.gateway.ports import free_port
from cloud.gateway.streams import ensure_streams
from cloud.gateway.testing import HOST, PASSPHRASE, SiteClient, SiteConnect, utc_now
from cloud.identity import jwt, nkey
from cloud.identity.keyring import Keyring, open_keyring
from cloud.identity.nkey import Nkey
from cloud.tests.gateway.doors import gateway, ledger_place
from protos import subjects

__all__ = ["gateway", "ledger_place"]


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return open_keyring(tmp_path / "keys", (HOST,), now=utc_now(), passphrase=PASSPHRASE)


@pytest.fixture
async def broker(tmp_path: Path, keyring: Keyring) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path / "broker", keyring, host=HOST, port=free_port(HOST), public_host=HOST, now=utc_now)
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def backend(broker: Broker) -> AsyncIterator[Client]:
    """The coordinator's connection, with the streams made."""
    nc = await broker.connect("test")
    await ensure_streams(nc.jetstream(timeout=10))
    yield nc
    await nc.close()


@pytest.fixture
def trust(keyring: Keyring) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(keyring.authority_file))


@pytest.fixture
async def connect_site(broker: Broker, keyring: Keyring, trust: ssl.SSLContext) -> AsyncIterator[SiteConnect]:
    """Connects as a site, with credentials that `signer` signed."""
    opened: list[Client] = []

    async def connect(site: str, groups: tuple[str, ...] = (), signer: Nkey = keyring.devices) -> SiteClient:
        user = nkey.from_seed(nkey.make_seed(nkey.USER), nkey.USER)
        now_s = int(utc_now().timestamp())
        token = jwt.site_jwt(
            signer,
            keyring.account,
            site,
            groups,
            user.public,
            now_s=now_s,
            expires_s=now_s + 600,
        )
        nc = Client()
        client = SiteClient(nc)

        async def on_error(error: Exception) -> None:
            client.errors.append(str(error))

        await nc.connect(
            broker.url,
            tls=trust,
            user_credentials=RawCredentials(jwt.credentials_text(token, user.seed)),
            inbox_prefix=subjects.inbox_prefix(site),
            error_cb=on_error,
            allow_reconnect=False,
        )
        opened.append(nc)
        return client

    yield connect
    for nc in opened:
        await nc.close()
