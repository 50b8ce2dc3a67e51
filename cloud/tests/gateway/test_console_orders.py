"""What people order in the console, through dispatcher, fleet guard and a real broker."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from nats.aio.client import Client

from cloud.api.testing import World, person
from cloud.dispatch.dispatcher import Dispatcher
from cloud.dispatch.fleet_guard import AreaLimits
from cloud.dispatch.prices import PriceGrid
from cloud.gateway import stopping
from cloud.gateway.broadcasts import BroadcastSender
from cloud.gateway.fleet_guard import ELSEWHERE, FleetGuard
from cloud.gateway.intents import IntentSender
from cloud.gateway.testing import SiteConnect
from cloud.gateway.workers import FleetWorkers
from cloud.identity.keyring import Keyring
from protos import subjects
from protos.vpp.v1 import broadcast_pb2, intent_pb2

LIMITS = AreaLimits(step_w=2_000.0, ramp_w_per_min=2_000.0, turns_per_hour=3)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "console", allow_password_only=True)
    world.add_site("home-1", "north")
    yield world
    world.ledger.close()


@pytest.fixture
def dispatcher(world: World, backend: Client, keyring: Keyring) -> Dispatcher:
    guard = FleetGuard(world.ledger, {ELSEWHERE: LIMITS}, {}, lambda: world.now_ms)
    return Dispatcher(
        ledger=world.ledger,
        workers=FleetWorkers(backend, [], lambda: world.now_ms),
        grid=PriceGrid(),
        intents=IntentSender(backend, keyring.signer, world.ledger, lambda: world.now_ms, guard),
        broadcasts=BroadcastSender(backend, keyring.signer, world.ledger, lambda: world.now_ms, guard),
        utc_ms=lambda: world.now_ms,
    )


async def test_a_setpoint_that_the_guard_stops_leaves_when_somebody_else_approves(
    world: World, dispatcher: Dispatcher
) -> None:
    ada, bob = await person(world, "ada", "operator"), await person(world, "bob", "operator")
    order = {"site": "home-1", "power_kw": "4", "minutes": "10", "reason": "test", "confirmed": "yes"}
    assert (await ada.post("/dispatch/setpoint", data=order)).status_code == 303

    async def state() -> str:
        await dispatcher.cycle()
        calls = (await ada.get("/api/v1/dispatch")).json()
        return str(calls["orders"][0]["state"])

    assert await state() == "waiting"
    (asked,) = world.ledger.approvals()
    assert (asked.asked_by, asked.to_w) == ("user:ada", 4000.0)
    grant = {"number": str(asked.number), "verdict": "grant"}
    assert (await ada.post("/dispatch/approvals/answer", data=grant)).status_code == 422
    assert await state() == "waiting"
    assert (await bob.post("/dispatch/approvals/answer", data=grant)).status_code == 303
    assert await state() == "issued"
    assert [each.used_ms is not None for each in world.ledger.approvals()] == [True]


async def test_what_was_declined_is_not_asked_for_again_at_once(world: World, dispatcher: Dispatcher) -> None:
    ada, bob = await person(world, "ada", "operator"), await person(world, "bob", "operator")
    order = {"site": "home-1", "power_kw": "4", "minutes": "10", "reason": "test", "confirmed": "yes"}
    await ada.post("/dispatch/setpoint", data=order)
    await dispatcher.cycle()
    await bob.post("/dispatch/approvals/answer", data={"number": "1", "verdict": "deny"})
    for _ in range(3):
        await dispatcher.cycle()
    assert [each.denied_by for each in world.ledger.approvals()] == ["user:bob"]
    await bob.post("/dispatch/setpoint", data=order)
    await dispatcher.cycle()
    asked_by = {each.asked_by for each in world.ledger.approvals()}
    assert asked_by == {"user:ada", "user:bob"}, "who asks the same has to find a second person of his own"


async def test_a_stop_reaches_the_site_and_stays_at_the_broker(
    world: World, backend: Client, keyring: Keyring, connect_site: SiteConnect
) -> None:
    async def send_stop(
        *, stop: bool, reason: str, sites: Sequence[str], groups: Sequence[str], actor: str
    ) -> stopping.Told:
        return await stopping.order(
            backend, keyring.signer, world.ledger, stop=stop, reason=reason, sites=sites, groups=groups, actor=actor,
            utc_ms=lambda: world.now_ms,
        )  # fmt: skip

    world.send_stop = send_stop
    site = await connect_site("home-1", ("north",))
    heard = await site.nc.subscribe(subjects.broadcast("north", "stop"))
    await site.nc.flush()
    ada = await person(world, "ada", "operator")
    answer = await ada.post("/dispatch/stop", data={"scope": "all", "reason": "fire"})
    assert "Stopped: 1 site by an order that the broker keeps, 1 group by broadcast." in answer.text
    signed = broadcast_pb2.SignedBroadcast.FromString((await heard.next_msg(5)).data)
    said = broadcast_pb2.Broadcast.FromString(signed.broadcast).stop
    assert (said.stop, said.reason) == (True, "fire")
    async with asyncio.timeout(10):
        kept = await backend.jetstream().get_last_msg(subjects.INTENT_STREAM, subjects.intent("home-1", "stop"))
    intent = intent_pb2.Intent.FromString(intent_pb2.SignedIntent.FromString(kept.data or b"").intent)
    assert (intent.site, intent.stop.stop, intent.stop.reason) == ("home-1", True, "fire")
    issued = [entry.actor for entry in world.ledger.audit_entries() if entry.action == "intent.issued"]
    assert issued == ["user:ada"]
