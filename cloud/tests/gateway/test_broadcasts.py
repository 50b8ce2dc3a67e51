"""Broadcasts from the sender through a real broker to the sites of a group."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path

import nacl.signing
import pytest
from nats.aio.client import Client

from cloud.gateway.broadcasts import BroadcastNotSent, BroadcastSender
from cloud.gateway.broker import Broker
from cloud.gateway.testing import SiteConnect
from cloud.identity.keyring import Keyring
from cloud.store.ledger import Ledger
from protos import subjects
from protos.vpp.v1 import broadcast_pb2, intent_pb2

NOW_MS = 1_700_000_000_000
PRICE = broadcast_pb2.Price(ticks=-4_217, step_share_e6=250_000)


class Clock:
    now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        yield ledger


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sender(backend: Client, keyring: Keyring, ledger: Ledger, clock: Clock) -> BroadcastSender:
    return BroadcastSender(backend, keyring.signer, ledger, clock)


def opened(data: bytes, keyring: Keyring) -> broadcast_pb2.Broadcast:
    """What a site reads; nacl's Ed25519 is not the one that signed."""
    signed = broadcast_pb2.SignedBroadcast.FromString(data)
    assert signed.key_id == keyring.signer.key_id
    key = nacl.signing.VerifyKey(keyring.signer.public_key)
    key.verify(b"vpp.v1.Broadcast\0" + signed.broadcast, signed.signature)
    return broadcast_pb2.Broadcast.FromString(signed.broadcast)


async def test_every_site_of_the_group_hears_it_signed(
    sender: BroadcastSender, keyring: Keyring, connect_site: SiteConnect
) -> None:
    sites = [await connect_site("s1", ("g1",)), await connect_site("s2", ("g1", "g2"))]
    heard = [await site.nc.subscribe(subjects.broadcast("g1", "price")) for site in sites]
    for site in sites:
        await site.nc.flush()
    sequence = await sender.send(PRICE, "g1", NOW_MS + 5_000)
    for each in heard:
        broadcast = opened((await each.next_msg(5)).data, keyring)
        assert (broadcast.group, broadcast.sequence, broadcast.issued_ms) == ("g1", sequence, NOW_MS)
        assert (broadcast.expires_ms, broadcast.price) == (NOW_MS + 5_000, PRICE)


async def test_a_body_of_zeros_is_sent_as_what_it_is(
    sender: BroadcastSender, keyring: Keyring, backend: Client
) -> None:
    heard = await backend.subscribe("vpp.group.g1.*")
    for body in (broadcast_pb2.Regulation(), broadcast_pb2.Price(), intent_pb2.StopOrder()):
        await sender.send(body, "g1", NOW_MS + 1)
    bodies = [opened((await heard.next_msg(5)).data, keyring).WhichOneof("body") for _ in range(3)]
    assert bodies == ["regulation", "price", "stop"]


async def test_numbers_rise_with_the_clock_and_also_without_it(sender: BroadcastSender, clock: Clock) -> None:
    sent = [await sender.send(PRICE, "g1", clock.now_ms + 5_000) for _ in range(3)]
    clock.now_ms += 250
    sent.append(await sender.send(PRICE, "g1", clock.now_ms + 5_000))
    clock.now_ms -= 3_600_000
    sent.append(await sender.send(PRICE, "g1", clock.now_ms + 5_000))
    assert sent == [NOW_MS, NOW_MS + 1, NOW_MS + 2, NOW_MS + 250, NOW_MS + 251]


async def test_a_restart_with_the_clock_set_back_goes_on_above(
    sender: BroadcastSender, backend: Client, keyring: Keyring, ledger: Ledger, clock: Clock
) -> None:
    before = await sender.send(PRICE, "g1", clock.now_ms + 5_000)
    clock.now_ms -= 86_400_000
    again = BroadcastSender(backend, keyring.signer, ledger, clock)
    assert await again.send(PRICE, "g1", clock.now_ms + 5_000) > before
    assert await again.send(PRICE, "g2", clock.now_ms + 5_000) == clock.now_ms  # each group for itself


async def test_two_processes_never_use_the_same_number(
    sender: BroadcastSender, backend: Client, keyring: Keyring, ledger: Ledger, clock: Clock
) -> None:
    other = BroadcastSender(backend, keyring.signer, ledger, clock)
    sent = []
    for _ in range(100):  # 50 s: both have to take new spans
        clock.now_ms += 500
        sent += [await each.send(PRICE, "g1", clock.now_ms + 5_000) for each in (sender, other)]
    assert len(set(sent)) == len(sent)


async def test_many_at_once_are_heard_in_the_order_of_their_numbers(
    sender: BroadcastSender, keyring: Keyring, backend: Client
) -> None:
    heard = await backend.subscribe("vpp.group.g1.price")
    await asyncio.gather(*(sender.send(PRICE, "g1", NOW_MS + 5_000) for _ in range(50)))
    numbers = [opened((await heard.next_msg(5)).data, keyring).sequence for _ in range(50)]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    ("group", "expires_ms"),
    [
        pytest.param("g1", NOW_MS, id="over already"),
        pytest.param("g1", NOW_MS + 86_400_001, id="holds for longer than a day"),
        pytest.param("*", NOW_MS + 1, id="every group at once"),
        pytest.param("g1.price", NOW_MS + 1, id="two tokens"),
    ],
)
async def test_what_cannot_be_is_not_sent(
    sender: BroadcastSender, backend: Client, group: str, expires_ms: int
) -> None:
    heard = await backend.subscribe("vpp.group.>")
    with pytest.raises(ValueError, match=r"broadcast price|group"):
        await sender.send(PRICE, group, expires_ms)
    await sender.send(PRICE, "last", NOW_MS + 1)
    assert (await heard.next_msg(5)).subject == "vpp.group.last.price"


async def test_nothing_waits_for_a_broker_that_is_gone(
    sender: BroadcastSender, backend: Client, broker: Broker
) -> None:
    await broker.stop()
    await backend.close()
    with pytest.raises(BroadcastNotSent, match=r"vpp\.group\.g1\.price"):
        await sender.send(PRICE, "g1", NOW_MS + 5_000)


async def test_the_audit_log_covers_every_message(sender: BroadcastSender, ledger: Ledger, clock: Clock) -> None:
    for _ in range(1_300):  # 325 s at four a second
        await sender.send(PRICE, "g1", clock.now_ms + 5_000)
        clock.now_ms += 250
    await sender.send(intent_pb2.StopOrder(stop=True, reason="smoke"), "g1", clock.now_ms + 5_000, actor="command:ann")
    await sender.send(PRICE, "g1", clock.now_ms + 5_000)
    await sender.finish()
    entries = [entry for entry in ledger.audit_entries() if entry.action == "broadcast.sent"]
    details = [json.loads(entry.detail) for entry in entries]
    assert [detail["count"] for detail in details] == [1, 1_200, 99, 1, 1]
    assert [entry.actor for entry in entries] == [*["coordinator"] * 3, "command:ann", "coordinator"]
    assert all(before["last"] < after["first"] for before, after in itertools.pairwise(details))
