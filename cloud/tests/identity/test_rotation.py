"""Each level of the hierarchy is rotated under a coordinator that serves, and no gateway loses contact."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cloud.gateway.testing import PASSPHRASE
from cloud.identity.key_store import KeyringError
from cloud.identity.keyring import open_keyring
from cloud.identity.rotation import Level, Rotation
from cloud.testing import DEADLINE_S, Gateway, Plant
from protos import subjects
from protos.vpp.v1 import site_pb2

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    open_keyring(tmp_path / "keys", ("127.0.0.1",), now=NOW, passphrase=PASSPHRASE)
    return tmp_path / "keys"


def at(folder: Path, later: timedelta = timedelta(0)) -> Rotation:
    return Rotation(folder, PASSPHRASE, NOW + later)


def test_old_keys_are_not_retired_while_a_gateway_may_need_them(folder: Path) -> None:
    at(folder).rotate(Level.DEVICES)
    with pytest.raises(KeyringError, match="wait until 2026-11-24 12:00 UTC, or give --now"):
        at(folder, timedelta(hours=23)).retire(Level.DEVICES)
    assert at(folder, timedelta(hours=24)).retire(Level.DEVICES) == 1
    assert all(one.former == 0 for one in at(folder).standing())


def test_next_command_key_is_vouched_for_by_the_one_before_and_signs_when_it_is_taken_into_use(folder: Path) -> None:
    keyring = open_keyring(folder, ("127.0.0.1",), now=NOW, passphrase=PASSPHRASE)
    first = keyring.signer.public_key
    at(folder).rotate(Level.COMMAND)
    assert keyring.refresh(NOW)
    assert keyring.command_keys[0] == keyring.signer.public_key == first
    (word,) = keyring.keys.command_rotations
    assert word.public_key == keyring.command_keys[1]
    Ed25519PublicKey.from_public_bytes(first).verify(word.signature, b"murmuration command key 1\n" + word.public_key)
    with pytest.raises(KeyringError, match="retire command"):
        at(folder).rotate(Level.COMMAND)
    at(folder, timedelta(hours=24)).retire(Level.COMMAND)
    assert keyring.refresh(NOW)
    assert keyring.command_keys == [word.public_key, first]


def test_root_is_taken_away_comes_back_for_a_rotation_and_no_other_root_will_do(folder: Path, tmp_path: Path) -> None:
    export, other = tmp_path / "root.export", tmp_path / "other"
    at(folder).export_root(export, b"a passphrase of its own")
    assert PASSPHRASE not in export.read_bytes()
    with pytest.raises(KeyringError, match="give the file it was exported to with --root"):
        at(folder).read_root(None, None)
    with pytest.raises(KeyringError, match="does not open with this passphrase"):
        at(folder).read_root(export, PASSPHRASE)
    at(folder).rotate(Level.ISSUING, root=at(folder).read_root(export, b"a passphrase of its own"))
    open_keyring(other, ("127.0.0.1",), now=NOW, passphrase=PASSPHRASE)
    with pytest.raises(KeyringError, match="is not the one of these keys"):
        at(folder).rotate(Level.ISSUING, root=at(other).read_root(None, None))


def issuer_of(token: str) -> str:
    body = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["iss"])


class Fleet:
    """A gateway that stays connected with what it has, and asks for more."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.sent = 0

    async def renew(self, *, certificate: bool = False) -> site_pb2.Credentials:
        agent = self.gateway.agent
        request = site_pb2.RenewRequest(
            certificate_request=agent.request() if certificate else b"", nats_public_key=agent.nats_public_key
        )
        async with self.gateway.sites() as stub:
            answer: site_pb2.Credentials = await stub.Renew(request, timeout=DEADLINE_S)
        return answer

    async def until(self, holds: Callable[[site_pb2.Credentials], bool], *, certificate: bool = False) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if holds(await self.renew(certificate=certificate)):
                    return
                await asyncio.sleep(0.05)

    async def assert_in_contact(self) -> None:
        """By the connection that was opened before everything."""
        self.sent += 1
        subject = subjects.telemetry(self.gateway.credentials.partition_token)
        await self.gateway.nc.jetstream(timeout=5).publish(subject, b"frame %d" % self.sent)
        assert not self.gateway.closed.is_set()


async def test_every_level_is_rotated_and_retired_without_a_gateway_losing_contact(plant: Plant) -> None:
    async def keys(*arguments: str) -> None:
        assert await plant.command("keys", *arguments) == 0

    async def server(fleet: Fleet, before: site_pb2.Credentials) -> None:
        await keys("rotate", "server")

    async def devices(fleet: Fleet, before: site_pb2.Credentials) -> None:
        await keys("rotate", "devices")
        await fleet.until(lambda now: issuer_of(now.nats_jwt) != issuer_of(before.nats_jwt))

    async def account(fleet: Fleet, before: site_pb2.Credentials) -> None:
        await keys("rotate", "account")
        await keys("retire", "account", "--now")

    async def command(fleet: Fleet, before: site_pb2.Credentials) -> None:
        await keys("rotate", "command")
        await fleet.until(lambda now: len(now.command_keys) == 2)

    async def issuing(fleet: Fleet, before: site_pb2.Credentials) -> None:
        await keys("rotate", "issuing")
        await fleet.until(lambda now: now.certificate_due)
        fresh = await fleet.renew(certificate=True)
        name = x509.load_pem_x509_certificate(fresh.certificate).issuer.rfc4514_string()
        assert name == "CN=Murmuration issuing 2"

    steps: tuple[Callable[[Fleet, site_pb2.Credentials], Awaitable[None]], ...]
    steps = (server, devices, account, command, issuing)
    async with plant.running():
        fleet = Fleet(await plant.enrol(await plant.claim("home-01")))
        await fleet.gateway.connect()
        before = await fleet.renew()
        for step in steps:
            await step(fleet, before)
            await fleet.assert_in_contact()
            newcomer = await plant.enrol(await plant.claim(f"home-{step.__name__}"))
            await (await newcomer.connect()).close()
        # The old certificate's authority and the old signing key go; who renewed meanwhile notices nothing.
        fresh = await fleet.renew(certificate=True)
        fleet.gateway.credentials.MergeFrom(
            site_pb2.Credentials(certificate=fresh.certificate, nats_jwt=fresh.nats_jwt)
        )
        await fleet.gateway.nc.close()
        await fleet.gateway.connect()
        await keys("retire", "issuing", "--now")
        await keys("retire", "devices", "--now")
        await fleet.until(lambda now: not now.certificate_due)
        await fleet.assert_in_contact()


async def test_new_root_is_believed_by_who_knows_the_old_one_only(plant: Plant) -> None:
    """Servers show the old root's word for the new one; the broker is started again under its new operator."""
    async with plant.running():
        old = await plant.enrol(await plant.claim("home-01"))
        nc = await old.connect()
        assert await plant.command("keys", "rotate", "root") == 0
        fleet = Fleet(old)
        await fleet.until(lambda now: now.ca_certificates.count(b"BEGIN CERTIFICATE") == 2)
        async with asyncio.timeout(DEADLINE_S):
            await old.closed.wait()  # the test's client does not reconnect by itself
        fresh = await fleet.renew(certificate=True)
        async with asyncio.timeout(DEADLINE_S):
            while not nc.is_connected:
                try:
                    nc = await old.connect()  # with the broker credentials and the trust of before
                except Exception:
                    await asyncio.sleep(0.1)
        await fleet.assert_in_contact()
        # What a gateway renewed is trusted by the new root alone, once the old one is retired.
        assert await plant.command("keys", "retire", "root", "--now") == 0
        old.credentials.certificate = fresh.certificate
        old.credentials.ca_certificates = fresh.ca_certificates
        await fleet.until(lambda now: now.ca_certificates.count(b"BEGIN CERTIFICATE") == 1)
        old.credentials.ca_certificates = (await fleet.renew()).ca_certificates
        assert (await fleet.renew()).nats_jwt
        newcomer = await plant.enrol(await plant.claim("home-02"))
        await (await newcomer.connect()).close()
    async with plant.running():
        assert (await Fleet(old).renew()).nats_jwt
