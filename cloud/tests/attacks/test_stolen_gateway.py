"""A thief holds one gateway with all its keys: he is that site, and nobody else; nor can he hold up the others."""

import asyncio

import nats.errors
import pytest
from nats.aio.client import Client
from nats.js.errors import APIError

from cloud.model.records import EventRecord
from cloud.store.ledger import Ledger
from cloud.testing import DEADLINE_S, Gateway, Plant
from protos import frame, subjects
from protos.vpp.v1 import report_pb2

FLOOD = 20_000
TICK_MS = 1_795_000_000_000


async def _objections(nc: Client, gateway: Gateway) -> list[str]:
    """What the broker objected to, up to now."""
    await nc.flush(DEADLINE_S)
    await nc.flush(DEADLINE_S)
    found, gateway.errors[:] = list(gateway.errors), []
    return found


async def test_publishes_as_another_site(plant: Plant) -> None:
    async with plant.running():
        thief, other = await plant.enrol(await plant.claim("home-01")), await plant.enrol(await plant.claim("home-02"))
        nc = await thief.connect()
        for subject in (
            subjects.telemetry(other.credentials.partition_token),
            subjects.event(other.credentials.partition_token),
            subjects.acknowledgement(other.credentials.partition_token),
            subjects.supply_function(other.credentials.partition_token),
            subjects.intent("home-02", "stop"),
            subjects.broadcast("fast", "stop"),
        ):
            await nc.publish(subject, b"x")
            (objection,) = await _objections(nc, thief)
            assert "permissions violation for publish" in objection.lower(), subject
        await nc.close()


async def test_listens_to_another_sites_intents(plant: Plant) -> None:
    async with plant.running():
        thief = await plant.enrol(await plant.claim("home-01"))
        await plant.claim("home-02")
        nc = await thief.connect()
        for subject in ("vpp.intent.home-02.*", "vpp.intent.*.stop", "vpp.>", "_INBOX_home-02.>", "$JS.EVENT.>"):
            await nc.subscribe(subject)
            (objection,) = await _objections(nc, thief)
            assert "permissions violation for subscription" in objection.lower(), subject
        with pytest.raises((nats.errors.TimeoutError, nats.errors.NoRespondersError)):
            await nc.request(subjects.latest_intent("home-02", "stop"), b"", timeout=0.5)
        await nc.close()


async def test_speaks_for_another_site_inside_its_own_subject(plant: Plant) -> None:
    """Frames with another's slot and reports that name another are set aside; history and ledger show none of them."""
    async with plant.running():
        thief, other = await plant.enrol(await plant.claim("home-01")), await plant.enrol(await plant.claim("home-02"))
        nc = await thief.connect()
        stream = nc.jetstream(timeout=DEADLINE_S)
        columns = [[float(sample) for sample in range(frame.SAMPLES)] for _ in range(6)]
        stolen = frame.batch([frame.pack(other.credentials.slot, 1, TICK_MS, 1000, columns)])
        await stream.publish(subjects.telemetry(thief.credentials.partition_token), stolen)
        forged = report_pb2.Event(site="home-02", event_id="forged", at_ms=TICK_MS, code="x", text="forged")
        await stream.publish(subjects.event(thief.credentials.partition_token), forged.SerializeToString())
        async with asyncio.timeout(DEADLINE_S):
            while True:  # the coordinator says so itself
                events = await _events(plant)
                if any(event.code == "report.refused" for event in events):
                    break
                await asyncio.sleep(0.02)
        assert not any(event.event_id == "forged" for event in events)
        await nc.close()


async def test_floods_while_another_site_delivers(plant: Plant) -> None:
    async with plant.running():
        thief, honest = await plant.enrol(await plant.claim("home-01")), await plant.enrol(await plant.claim("home-02"))
        attack, work = await thief.connect(), await honest.connect()
        subject = subjects.telemetry(thief.credentials.partition_token)

        async def flood() -> None:
            for number in range(FLOOD):
                await attack.publish(subject, b"garbage %d" % number)
            await attack.flush(DEADLINE_S)

        flooding = asyncio.create_task(flood())
        acknowledged = 0
        while not flooding.done() or acknowledged < 20:
            own = subjects.telemetry(honest.credentials.partition_token)
            await work.jetstream(timeout=DEADLINE_S).publish(own, b"")
            acknowledged += 1
        await flooding
        assert acknowledged >= 20
        assert not honest.errors
        assert work.is_connected
        for nc in (attack, work):
            await nc.close()


async def test_answers_meant_for_itself_are_sent_to_another(plant: Plant) -> None:
    """A reply subject is not checked by the broker: what an acknowledgement can overwrite so is put back and told."""
    async with plant.running():
        thief = await plant.enrol(await plant.claim("home-01"))
        await plant.claim("home-02")
        nc = await thief.connect()
        target = subjects.intent("home-02", "stop")
        await nc.publish(subjects.telemetry(thief.credentials.partition_token), b"", reply=target)
        await nc.flush(DEADLINE_S)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if any(event.code.startswith("intent.") for event in await _events(plant)):
                    break
                await asyncio.sleep(0.02)
        backend = await plant.backend()
        with pytest.raises(APIError, match="no message found"):
            await backend.jetstream(timeout=DEADLINE_S).get_last_msg(subjects.INTENT_STREAM, target)
        await backend.close()
        await nc.close()


async def _events(plant: Plant) -> list[EventRecord]:
    def read() -> list[EventRecord]:
        with Ledger(plant.data.ledger) as ledger:
            return ledger.events(after=0, limit=1000)

    return await asyncio.to_thread(read)
