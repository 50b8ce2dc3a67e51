"""Two coordinators, one lease: one leads, the other takes over, and whoever is deposed commands nothing."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from cloud.gateway.broker import Broker
from cloud.gateway.intents import IntentSender, sequence_of
from cloud.gateway.lease import BUCKET, Lease, ensure_bucket
from cloud.gateway.ports import free_port
from cloud.gateway.streams import ensure_streams
from cloud.gateway.testing import HOST, PASSPHRASE, utc_now
from cloud.identity.keyring import open_keyring
from cloud.parts import Parts
from cloud.roles.foundation import utc_ms
from cloud.roles.leadership import Leadership
from cloud.store.errors import Deposed
from cloud.store.ledger import Ledger
from protos import subjects
from protos.vpp.v1 import intent_pb2

DEADLINE_S = 30
SITE = "home-01"
TTL_S = 2


@dataclass
class Rival:
    """A coordinator that dispatches to the site as fast as it can while it leads."""

    leadership: Leadership
    ledger: Ledger
    sender: IntentSender
    sent: list[int] = field(default_factory=list)

    async def lead(self, parts: Parts) -> None:
        parts.run("dispatch", self._dispatch())

    async def _dispatch(self) -> None:
        while True:
            await self.send()

    async def send(self) -> None:
        body = intent_pb2.Schedule(start_ms=utc_ms(), mtu_s=900, inverter_power_w=[1])
        now_ms = utc_ms()
        self.sent.append(await self.sender.send(body, SITE, "schedule", now_ms, now_ms + 60_000))


@dataclass
class World:
    """A broker, what the site heard, and a way to make coordinators."""

    backend: Client
    make: Callable[[str], Rival]
    heard: list[int] = field(default_factory=list)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    keyring = open_keyring(tmp_path / "keys", (HOST,), now=utc_now(), passphrase=PASSPHRASE)
    broker = Broker(tmp_path / "broker", keyring, host=HOST, port=free_port(HOST), public_host=HOST, now=utc_now)
    await broker.start()
    nc = await broker.connect("test")
    js = nc.jetstream(timeout=10)
    await ensure_streams(js)
    await ensure_bucket(js, 1)
    ledgers: list[Ledger] = []

    def make(name: str) -> Rival:
        ledger = Ledger(tmp_path / "ledger.db")
        ledgers.append(ledger)
        rivals: list[Rival] = []

        async def lead(parts: Parts) -> None:
            await rivals[0].lead(parts)

        lease = Lease(nc, "coordinator", name, time.monotonic, TTL_S)
        leadership = Leadership(lease, ledger, name, lead, utc_ms)
        rivals.append(Rival(leadership, ledger, IntentSender(nc, keyring.signer, ledger, utc_ms)))
        return rivals[0]

    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.add_site(SITE, (), now_ms=1)
    world = World(nc, make)

    async def hear(message: Msg) -> None:
        world.heard.append(sequence_of(message.data))

    await nc.subscribe(subjects.intent(SITE, "schedule"), cb=hear)
    yield world
    await nc.close()
    await broker.stop()
    for ledger in ledgers:
        ledger.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():  # noqa: ASYNC110 (several tasks and a broker have to come that far)
            await asyncio.sleep(0.02)


async def end(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_leader_whose_lease_ran_out_is_followed_and_commands_nothing_any_more(world: World) -> None:
    first, second = world.make("first"), world.make("second")
    leading = asyncio.create_task(first.leadership.run())
    await until(lambda: len(first.sent) > 3)
    standing_by = asyncio.create_task(second.leadership.run())
    await until(second.leadership.decided.is_set)
    assert not second.leadership.leads
    # As it is for a process that stood still: the lease is gone, and it does not know.
    await world.backend.jetstream(timeout=10).purge_stream(f"KV_{BUCKET}", subject=f"$KV.{BUCKET}.coordinator")
    await until(lambda: len(second.sent) > 3)
    with pytest.raises(Deposed, match="led term 1 and leads no more: the ledger is at term 2 of second"):
        await first.send()
    count = len(world.heard)
    await until(lambda: len(world.heard) > count + 3)
    assert world.heard == sorted(set(world.heard))  # each number once, and rising: nothing contradicts what came later
    assert max(first.sent) < min(second.sent)
    await end(leading, standing_by)


async def test_a_leader_that_stops_hands_over_at_once(world: World) -> None:
    first, second = world.make("first"), world.make("second")
    leading = asyncio.create_task(first.leadership.run())
    await until(lambda: first.leadership.leads)
    standing_by = asyncio.create_task(second.leadership.run())
    await until(second.leadership.decided.is_set)
    await end(leading)
    await until(lambda: second.leadership.leads)
    assert [term.holder for term in second.ledger.terms()] == ["first", "second"]
    await end(standing_by)


async def test_an_older_lease_begins_no_term(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.db") as first, Ledger(tmp_path / "ledger.db") as second:
        assert first.begin_term("a", 100, 5, 1) == 1
        assert second.begin_term("b", 100, 9, 2) == 2
        with pytest.raises(Deposed, match="older than that of b"):
            first.begin_term("a", 100, 7, 3)
        assert first.begin_term("a", 200, 1, 4) == 3  # the broker's store was made anew, and counts anew
