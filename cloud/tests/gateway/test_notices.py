"""A site is told at once, by the coordinator's signature, that what it is to be has changed; no other site hears it."""

import asyncio
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nats.aio.client import Client

from cloud.gateway.notices import ConfigureNotices
from cloud.gateway.testing import SiteConnect
from cloud.identity.keyring import Keyring
from cloud.model.records import Update
from cloud.store.ledger import Ledger
from protos import subjects
from protos.vpp.v1.site_pb2 import ConfigureNow, SignedConfigureNow

NOW_MS = 1_700_000_000_000


async def test_what_is_ordered_and_set_is_told_to_its_sites_alone(
    tmp_path: Path, backend: Client, keyring: Keyring, connect_site: SiteConnect
) -> None:
    heard: asyncio.Queue[ConfigureNow] = asyncio.Queue()
    ledger = Ledger(tmp_path / "ledger.db")
    for site in ("home-01", "home-02", "home-03"):
        ledger.add_site(site, (), NOW_MS)

        async def hear(message: object) -> None:
            signed = SignedConfigureNow.FromString(message.data)  # type: ignore[attr-defined]
            Ed25519PublicKey.from_public_bytes(keyring.signer.public_key).verify(
                signed.signature, b"vpp.v1.ConfigureNow\0" + signed.notice
            )
            heard.put_nowait(ConfigureNow.FromString(signed.notice))

        client = await connect_site(site)
        await client.nc.subscribe(subjects.configure_now(site), cb=hear)
        assert not await client.objections()
    ledger.configure_site("home-03", "", NOW_MS - 120_000, "somebody, long ago")
    notices = ConfigureNotices(backend, keyring.signer, ledger, lambda: NOW_MS)
    task = asyncio.create_task(notices.run())
    try:
        async with asyncio.timeout(20):
            ledger.configure_site("home-02", "", NOW_MS, "operator")
            assert (await heard.get()).site == "home-02"
            update = Update(
                digest="d" * 64,
                kind="model",
                name="site-forecast",
                version="1.0.0",
                manifest="{}",
                signature="",
                key_id="",
                published_ms=NOW_MS,
            )
            ledger.add_update(update, "operator")
            ledger.order_update(update, ["home-01", "home-02"], NOW_MS, "operator")
            assert sorted([(await heard.get()).site, (await heard.get()).site]) == ["home-01", "home-02"]
    finally:
        task.cancel()
        ledger.close()
    assert heard.empty()
