"""A signing key has leaked: what it signed is worth nothing within seconds, and the honest gateways are back."""

import asyncio
import ssl
from datetime import timedelta

import grpc
import grpc.aio
import nats.errors
import pytest
from nats.aio.client import Client, RawCredentials

from cloud.gateway.testing import utc_now
from cloud.identity import certificates, jwt, nkey
from cloud.identity.key_store import read_online
from cloud.testing import DEADLINE_S, Gateway, Plant
from protos import subjects
from protos.vpp.v1 import site_pb2

REVOKE_S = 10  # what is promised


async def renewed(gateway: Gateway) -> site_pb2.Credentials:
    async with gateway.sites() as stub:
        request = site_pb2.RenewRequest(nats_public_key=gateway.agent.nats_public_key)
        answer: site_pb2.Credentials = await stub.Renew(request, timeout=DEADLINE_S)
    return answer


async def test_leaked_devices_key_cuts_the_thief_within_seconds_and_every_gateway_comes_back(plant: Plant) -> None:
    async with plant.running():
        honest = await plant.enrol(await plant.claim("home-01"))
        await honest.connect()
        stolen = plant.keyring().devices
        user = nkey.from_seed(nkey.make_seed(nkey.USER), nkey.USER)
        now_s = int(utc_now().timestamp())
        token = jwt.site_jwt(
            stolen, plant.keyring().account, "home-01", (), user.public, now_s=now_s, expires_s=now_s + 10**6
        )
        gone = asyncio.Event()

        async def on_closed() -> None:
            gone.set()

        thief = Client()
        trust = ssl.create_default_context(cadata=honest.credentials.ca_certificates.decode())
        credentials = RawCredentials(jwt.credentials_text(token, user.seed))
        await thief.connect(
            list(honest.credentials.nats_urls),
            tls=trust,
            user_credentials=credentials,
            inbox_prefix=subjects.inbox_prefix("home-01"),
            allow_reconnect=False,
            closed_cb=on_closed,
        )
        assert await plant.command("keys", "rotate", "devices", "--leaked") == 0
        async with asyncio.timeout(REVOKE_S):
            await gone.wait()
            await honest.closed.wait()
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
            await Client().connect(
                list(honest.credentials.nats_urls), tls=trust, user_credentials=credentials, allow_reconnect=False
            )
        fresh = await renewed(honest)
        assert not fresh.certificate  # the one it has renews it
        honest.credentials.nats_jwt = fresh.nats_jwt
        await (await honest.connect()).close()


async def test_leaked_issuing_key_makes_nobody_a_site(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate for home-01 that our own authority's key signed: the site is known by the key that enrolled."""
    async with plant.running():
        honest = await plant.enrol(await plant.claim("home-01"))
        keyring = plant.keyring()
        key = certificates.make_key()
        forged = certificates.issue_site_certificate(
            keyring.authority,
            keyring.authority_key,
            key.public_key(),
            "home-01",
            now=utc_now(),
            lifetime=timedelta(days=1),
        )
        thief = Gateway(type(honest.agent)(key, honest.agent.nats_public_key), honest.user, site_pb2.Credentials())
        thief.credentials.CopyFrom(honest.credentials)
        thief.credentials.certificate = certificates.certificate_pem(forged)
        with pytest.raises(grpc.aio.AioRpcError, match="another key than the one that enrolled"):
            await renewed(thief)
        assert (await renewed(honest)).nats_jwt
    assert await plant.command("audit", "export") == 0
    assert '"why": "not the key that enrolled"' in capsys.readouterr().out


async def test_leaked_command_key_signs_no_longer_and_gateways_come_for_the_new_one(plant: Plant) -> None:
    async with plant.running():
        gateway = await plant.enrol(await plant.claim("home-01"))
        await gateway.connect()
        old = list(gateway.credentials.command_keys)
        assert await plant.command("keys", "rotate", "command", "--leaked") == 0
        async with asyncio.timeout(REVOKE_S):
            await gateway.closed.wait()
        fresh = await renewed(gateway)
        assert len(fresh.command_keys) == 1
        assert fresh.command_keys[0] not in old
        (word,) = fresh.command_key_rotations
        assert word.public_key == fresh.command_keys[0]


async def test_online_keys_alone_do_not_make_an_authority(plant: Plant) -> None:
    """With the root taken away, who has all that `run` has cannot replace the authority that gateways trust."""
    async with plant.running():
        pass
    keys = read_online(plant.data.keys, plant.data.passphrase())
    secret = plant.data.path.parent / "root.passphrase"
    secret.write_text("a passphrase of its own\n")
    secret.chmod(0o600)
    export = ("keys", "export-root", str(plant.data.path.parent / "root.export"), "--root-passphrase-file", str(secret))
    assert await plant.command(*export) == 0
    assert not (plant.data.keys / "root.sealed").exists()
    assert await plant.command("keys", "rotate", "issuing") == 2
    assert read_online(plant.data.keys, plant.data.passphrase()) == keys
    async with plant.running():
        await plant.enrol(await plant.claim("home-01"))
