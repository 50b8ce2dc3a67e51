"""Intents from the sender through a real broker to the site that asks for its latest."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import nacl.signing
import pytest
from nats.aio.client import Client

from cloud.gateway.broker import Broker
from cloud.gateway.intents import IntentNotSent, IntentSender
from cloud.gateway.testing import SiteConnect
from cloud.identity.keyring import Keyring
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger
from protos import subjects
from protos.vpp.v1 import intent_pb2

NOW_MS = 1_700_000_000_000
SCHEDULE = intent_pb2.Schedule(start_ms=NOW_MS, mtu_s=900, inverter_power_w=[100, -200, 0], plan_id="p1")


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.add_site("s1", (), NOW_MS)
        yield ledger


@pytest.fixture
def sender(backend: Client, keyring: Keyring, ledger: Ledger) -> IntentSender:
    return IntentSender(backend, keyring.signer, ledger, lambda: NOW_MS)


async def test_site_reads_what_was_sent_signed_and_numbered(
    sender: IntentSender, keyring: Keyring, ledger: Ledger, connect_site: SiteConnect
) -> None:
    sequence = await sender.send(SCHEDULE, "s1", "schedule", NOW_MS, NOW_MS + 60_000)
    site = await connect_site("s1")
    answer = await site.nc.request(subjects.latest_intent("s1", "schedule"), b"", timeout=5)
    signed = intent_pb2.SignedIntent.FromString(answer.data)
    verified = nacl.signing.VerifyKey(keyring.signer.public_key).verify(signed.intent, signed.signature)
    intent = intent_pb2.Intent.FromString(verified)
    assert (intent.site, intent.sequence, intent.issued_ms) == ("s1", sequence, NOW_MS)
    assert (intent.valid_from_ms, intent.expires_ms) == (NOW_MS, NOW_MS + 60_000)
    assert intent.schedule == SCHEDULE
    record = ledger.intent("s1", "schedule", sequence)
    assert record is not None
    assert json.loads(record.body)["schedule"]["inverter_power_w"] == [100, -200, 0]


async def test_sequences_count_per_site_and_kind(sender: IntentSender, ledger: Ledger) -> None:
    ledger.add_site("s2", (), NOW_MS)
    release = intent_pb2.Release(award_id="a1")
    sent = [
        await sender.send(SCHEDULE, "s1", "schedule", NOW_MS, NOW_MS + 1),
        await sender.send(SCHEDULE, "s1", "schedule", NOW_MS, NOW_MS + 1),
        await sender.send(release, "s1", "service", NOW_MS, NOW_MS + 1),
        await sender.send(SCHEDULE, "s2", "schedule", NOW_MS, NOW_MS + 1),
    ]
    assert sent == [1, 2, 1, 1]


async def test_of_many_at_once_the_highest_is_what_the_broker_keeps(sender: IntentSender, backend: Client) -> None:
    sends = [sender.send(SCHEDULE, "s1", "schedule", NOW_MS, NOW_MS + 1) for _ in range(20)]
    assert sorted(await asyncio.gather(*sends)) == list(range(1, 21))
    kept = await backend.jetstream(timeout=5).get_last_msg("INTENT", "vpp.intent.s1.schedule")
    assert kept.data is not None
    signed = intent_pb2.SignedIntent.FromString(kept.data)
    assert intent_pb2.Intent.FromString(signed.intent).sequence == 20


@pytest.mark.parametrize(
    ("site", "kind", "expires_ms", "error"),
    [
        pytest.param("s1", "service", NOW_MS + 1, ValueError, id="a schedule is no service"),
        pytest.param("s1", "price", NOW_MS + 1, ValueError, id="unknown kind"),
        pytest.param("s9", "schedule", NOW_MS + 1, LedgerError, id="unknown site"),
        pytest.param("s1", "schedule", NOW_MS, LedgerError, id="over before it begins"),
        pytest.param("*", "schedule", NOW_MS + 1, ValueError, id="wildcard"),
    ],
)
async def test_what_cannot_be_is_not_sent(
    sender: IntentSender, backend: Client, site: str, kind: str, expires_ms: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await sender.send(SCHEDULE, site, kind, NOW_MS, expires_ms)
    assert (await backend.jetstream(timeout=5).stream_info("INTENT")).state.messages == 0


async def test_sender_says_when_the_broker_is_gone(sender: IntentSender, backend: Client, broker: Broker) -> None:
    await broker.stop()
    await backend.close()
    with pytest.raises(IntentNotSent, match=r"vpp\.intent\.s1\.schedule"):
        await sender.send(SCHEDULE, "s1", "schedule", NOW_MS, NOW_MS + 1)
