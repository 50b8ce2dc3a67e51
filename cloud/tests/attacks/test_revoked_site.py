"""A gateway is stolen, and its site revoked: at the broker, in gRPC, over restarts, and for good."""

import asyncio

import grpc
import grpc.aio
import nats.errors
import pytest

from cloud.store.errors import CredentialsRefused
from cloud.store.ledger import Ledger
from cloud.testing import DEADLINE_S, Gateway, Plant
from protos import subjects
from protos.vpp.v1 import site_pb2

REVOKE_S = 10  # what is promised


async def code_of(gateway: Gateway) -> grpc.StatusCode:
    """What SiteService answers to the gateway's certificate."""
    async with gateway.sites() as stub:
        try:
            await stub.Configure(site_pb2.SiteDescription(rated_power_w=1), timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def assert_out(gateway: Gateway) -> None:
    """Neither the broker nor the site service lets it in, and its certificate renews nothing."""
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await gateway.connect()
    assert await code_of(gateway) is grpc.StatusCode.PERMISSION_DENIED
    request = site_pb2.RenewRequest(
        certificate_request=gateway.agent.request(), nats_public_key=gateway.agent.nats_public_key
    )
    async with gateway.sites() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Renew(request, timeout=DEADLINE_S)
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_revoked_gateway_is_cut_at_once_and_stays_out_over_restarts(plant: Plant) -> None:
    async with plant.running():
        claim = await plant.claim("home-01")
        thief, other = await plant.enrol(claim), await plant.enrol(await plant.claim("home-02"))
        await thief.connect()
        await other.connect()
        assert await plant.command("site", "revoke", "home-01", "--reason", "gateway stolen") == 0
        assert await code_of(thief) is grpc.StatusCode.PERMISSION_DENIED
        async with asyncio.timeout(REVOKE_S):
            await thief.closed.wait()
        await assert_out(thief)
        # The token it enrolled with, asked again by the same keys, does not let it in either.
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await plant.enrol_again(claim, thief.agent, thief.user)
        assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        subject = subjects.telemetry(other.credentials.partition_token)
        await other.nc.jetstream(timeout=5).publish(subject, b"the others notice nothing")
        assert not other.closed.is_set()
        await other.nc.close()
    async with plant.running():  # coordinator and broker are new
        await assert_out(thief)
        await (await other.connect()).close()
    with Ledger(plant.data.ledger) as ledger:
        told = [(entry.action, entry.subject) for entry in ledger.audit_entries()]
    assert ("site.revoked", "home-01") in told
    assert told.count(("certificate.refused", "home-01")) == 2  # once a run, however often it knocks
    assert await plant.command("audit", "verify") == 0


async def test_revocation_while_no_coordinator_runs_holds_from_its_first_moment(plant: Plant) -> None:
    async with plant.running():
        thief = await plant.enrol(await plant.claim("home-01"))
    assert await plant.command("site", "revoke", "home-01", "--reason", "stolen at night") == 0
    async with plant.running():
        await assert_out(thief)


async def test_replaced_gateway_keeps_slot_and_shuts_out_the_old_one(plant: Plant) -> None:
    async with plant.running():
        await plant.claim("home-00")
        old = await plant.enrol(await plant.claim("home-01"))
        await old.connect()
        new = await plant.enrol(await plant.claim("home-01", "claim"))
        async with asyncio.timeout(REVOKE_S):
            await old.closed.wait()
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
            await old.connect()
        assert (new.credentials.slot, new.credentials.partition_token) == (
            old.credentials.slot,
            old.credentials.partition_token,
        )
        await (await new.connect()).close()
        assert await code_of(new) is grpc.StatusCode.OK


async def test_revoked_site_comes_back_by_a_new_claim_on_a_new_gateway(plant: Plant) -> None:
    async with plant.running():
        thief = await plant.enrol(await plant.claim("home-01"))
        await thief.connect()
        assert await plant.command("site", "revoke", "home-01", "--reason", "stolen") == 0
        async with asyncio.timeout(REVOKE_S):
            await thief.closed.wait()
        new = await plant.enrol(await plant.claim("home-01", "claim"))
        assert new.credentials.slot == thief.credentials.slot
        assert await code_of(new) is grpc.StatusCode.OK
        await (await new.connect()).close()
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
            await thief.connect()


async def test_same_gateway_enrolled_anew_is_not_shut_out_by_its_own_key(plant: Plant) -> None:
    async with plant.running():
        first = await plant.enrol(await plant.claim("home-01"))
        again = await plant.enrol_again(await plant.claim("home-01", "claim"), first.agent, first.user)
        nc = await again.connect()
        await nc.flush(DEADLINE_S)
        assert nc.is_connected
        await nc.close()


async def test_batch_with_an_unknown_site_revokes_nothing(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    async with plant.running():
        gateway = await plant.enrol(await plant.claim("home-01"))
        assert await plant.command("site", "revoke", "home-01", "home-99", "--reason", "x") == 2
        assert "home-99" in capsys.readouterr().err
        assert await code_of(gateway) is grpc.StatusCode.OK


def test_credentials_are_not_issued_past_a_revocation_that_came_meanwhile(plant: Plant) -> None:
    """A renewal that was let in a moment before the revocation must not hand out a key that nobody revokes."""
    with Ledger(plant.data.ledger) as ledger:
        ledger.add_site("home-01", (), 1)
        ledger.add_claim("t", "home-01", expires_ms=100, now_ms=1)
        site = ledger.use_claim("t", "keys", 2)
        ledger.revoke_site("home-01", "stolen", 3, "user:ada")
        with pytest.raises(CredentialsRefused, match="home-01"):
            ledger.keep_credentials(site, "U" * 56, issued_ms=4, expires_ms=99)
        assert ledger.revocations(5) == {}
