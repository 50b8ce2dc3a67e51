"""A site uses the reply subject, which no permission covers, to put something else in place of another's intent."""

import asyncio
import shutil

import pytest
from google.protobuf.json_format import MessageToJson, Parse

from cloud.gateway.intents import IntentNotSent, IntentSender
from cloud.model.records import EventRecord, IntentState
from cloud.roles.foundation import utc_ms
from cloud.store.ledger import Ledger
from cloud.testing import DEADLINE_S, Gateway, Plant
from protos import services, subjects
from protos.vpp.v1 import intent_pb2

HOUR_MS = 3_600_000
VICTIM = subjects.intent("victim", "schedule")
SCHEDULE = intent_pb2.Schedule(start_ms=1, mtu_s=900, inverter_power_w=[100, -200, 0], plan_id="p1")


async def ask(plant: Plant, *sites: str) -> None:
    """Sends each site a schedule for the next hour, as the desk does."""
    nc = await plant.backend()
    with Ledger(plant.data.ledger) as ledger:
        sender = IntentSender(nc, plant.keyring().signer, ledger, utc_ms)
        for site in sites:
            await sender.send(SCHEDULE, site, "schedule", utc_ms(), utc_ms() + HOUR_MS)
    await nc.close()


async def stored(gateway: Gateway, kind: str = "schedule") -> bytes:
    """What a site reads as its latest intent."""
    answer = await gateway.nc.request(subjects.latest_intent(gateway.credentials.site, kind), b"", timeout=5)
    return bytes(answer.data)


async def told(plant: Plant, code: str) -> EventRecord:
    """The first event of this kind, once it is there."""

    def look() -> EventRecord | None:
        with Ledger(plant.data.ledger) as ledger:
            return next((event for event in ledger.events() if event.code == code), None)

    async with asyncio.timeout(DEADLINE_S):
        while True:
            if event := await asyncio.to_thread(look):
                return event
            await asyncio.sleep(0.02)


def acknowledged(thief: Gateway) -> tuple[str, bytes]:
    """A telemetry message whose acknowledgement goes where the thief says."""
    return subjects.telemetry(thief.credentials.partition_token), b"frame"


async def test_spoofed_reply_does_not_displace_an_intent_for_good(plant: Plant) -> None:
    async with plant.running():
        thief, victim = await plant.enrol(await plant.claim("thief")), await plant.enrol(await plant.claim("victim"))
        await thief.connect()
        await victim.connect()
        await ask(plant, "thief", "victim")
        before = await stored(victim)
        live = await victim.nc.subscribe(VICTIM)
        await victim.nc.flush(5)
        await thief.nc.publish(*acknowledged(thief), reply=VICTIM)
        forged, again = await live.next_msg(DEADLINE_S), await live.next_msg(DEADLINE_S)
        assert forged.data != before  # the attack works at the broker
        assert again.data == before  # and the guard answers it, to the byte
        assert await stored(victim) == before
        alarm = await told(plant, "intent.displaced")
        assert (alarm.site, alarm.severity) == ("victim", "alarm")
        assert "with the credentials of thief" in alarm.text
        await thief.nc.close()
        await victim.nc.close()
    with Ledger(plant.data.ledger) as ledger:
        (entry,) = [entry for entry in ledger.audit_entries() if entry.action == "intent.displaced"]
    assert (entry.actor, entry.subject) == ("site:thief", "victim")


async def test_replayed_intent_of_another_site_is_told(plant: Plant) -> None:
    """Validly signed, but for the thief: the broker does not store its own answers to reads, yet it delivers them."""
    async with plant.running():
        thief, victim = await plant.enrol(await plant.claim("thief")), await plant.enrol(await plant.claim("victim"))
        await thief.connect()
        await victim.connect()
        await ask(plant, "thief", "victim")
        before = await stored(victim)
        live = await victim.nc.subscribe(VICTIM)
        await victim.nc.flush(5)
        await thief.nc.publish(subjects.latest_intent("thief", "schedule"), b"", reply=VICTIM)
        forged = await live.next_msg(DEADLINE_S)
        assert forged.data == await stored(thief)
        alarm = await told(plant, "intent.forged")
        assert (alarm.site, alarm.severity) == ("victim", "alarm")
        assert "with the credentials of thief" in alarm.text
        assert await stored(victim) == before
        await thief.nc.close()
        await victim.nc.close()


async def test_made_up_intent_subjects_are_cleared(plant: Plant) -> None:
    """They would fill the stream until it lets real intents go."""
    async with plant.running():
        thief = await plant.enrol(await plant.claim("thief"))
        await thief.connect()
        await ask(plant, "thief")
        for number in range(5):
            await thief.nc.publish(*acknowledged(thief), reply=f"vpp.intent.nobody.{number}")
        await thief.nc.flush(5)
        alarm = await told(plant, "intent.displaced")
        assert "with the credentials of thief" in alarm.text
        js = (backend := await plant.backend()).jetstream(timeout=5)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if (await js.stream_info("INTENT")).state.messages == 1:
                    break
                await asyncio.sleep(0.02)
        await backend.close()
        await thief.nc.close()


async def test_broker_that_lost_its_store_gets_what_is_in_force_from_the_ledger(plant: Plant) -> None:
    async with plant.running():
        site = await plant.enrol(await plant.claim("victim"))
        await site.connect()
        await ask(plant, "victim")
        before = await stored(site)
        await site.nc.close()
    shutil.rmtree(plant.data.broker / "jetstream")
    async with plant.running():
        restored = await told(plant, "intent.restored")
        assert "lost" in restored.text
        await site.connect()
        assert await stored(site) == before
        await site.nc.close()


async def test_what_was_let_go_or_is_over_is_not_brought_back(plant: Plant) -> None:
    async with plant.running():
        site = await plant.enrol(await plant.claim("victim"))
        await plant.claim("live")
        await ask(plant, "victim", "live")
    with Ledger(plant.data.ledger) as ledger:
        ledger.update_intent_state("victim", "schedule", 1, IntentState.RELEASED, "", utc_ms())
    shutil.rmtree(plant.data.broker / "jetstream")
    async with plant.running():
        assert (await told(plant, "intent.restored")).site == "live"  # the sweep goes by name: "victim" comes after
        js = (backend := await plant.backend()).jetstream(timeout=5)
        assert (await js.stream_info("INTENT", subjects_filter="vpp.intent.>")).state.subjects == {
            "vpp.intent.live.schedule": 1
        }
        await backend.close()
    assert site.credentials.site == "victim"


def test_intent_comes_out_of_the_ledger_to_the_byte() -> None:
    """A site knows an intent again by its bytes; other bytes under the same number it would refuse."""
    arm = intent_pb2.ArmService(
        award_id="a1", service_id="ercot-ffr", contracted_w=3000, service_toml=services.text("ercot-ffr")
    )
    for intent in (intent_pb2.Intent(arm=arm), intent_pb2.Intent(schedule=SCHEDULE)):
        text = MessageToJson(intent, indent=None, preserving_proto_field_name=True)
        again = Parse(text, intent_pb2.Intent()).SerializeToString(deterministic=True)
        assert again == intent.SerializeToString(deterministic=True)


async def test_intent_that_was_not_sent_is_not_brought_back(plant: Plant) -> None:
    """The desk was told that the site was not told: arming it later would be a surprise."""
    async with plant.running():
        await plant.claim("victim")
        nc = await plant.backend()
    with Ledger(plant.data.ledger) as ledger:
        sender = IntentSender(nc, plant.keyring().signer, ledger, utc_ms)
        await nc.close()
        with pytest.raises(IntentNotSent):
            await sender.send(SCHEDULE, "victim", "schedule", utc_ms(), utc_ms() + HOUR_MS)
        latest = ledger.latest_intent("victim", "schedule")
        assert latest is not None
        assert not latest.in_force(utc_ms())
