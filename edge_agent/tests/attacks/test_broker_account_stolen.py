"""Whoever has the broker's own account can publish anything anywhere, and keep anything back. What can he move?"""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.model.config import ControlConfig
from edge_agent.runtime.testing import Bench
from edge_agent.sync.broadcasts import BroadcastDoor
from edge_agent.sync.intents import CommandKeys, IntentDoor
from edge_agent.sync.journal import Journal
from edge_agent.sync.state import State
from protos import subjects
from protos.vpp.v1.broadcast_pb2 import Broadcast, Price, SignedBroadcast
from protos.vpp.v1.intent_pb2 import Intent, PowerSetpoint, Schedule, SignedIntent, StopOrder
from protos.vpp.v1.report_pb2 import Acknowledgement

NOW_MS = 1_700_000_000_000
KEY, THIEF = (Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2))
RAW = KEY.public_key().public_bytes_raw()
KEY_ID = hashlib.sha256(RAW).digest()[:8]


class Clock:
    now_ms = NOW_MS

    def utc_ms(self) -> int:
        return self.now_ms

    def monotonic_s(self) -> float:
        return self.now_ms / 1000


class Site:
    """Both doors of a site, and what got through."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.moved: list[str] = []
        self.told: list[str] = []
        state = State(folder)
        self.journal = Journal(folder, "home-01", state, self.clock)
        keys = CommandKeys([RAW])
        self._intents = IntentDoor(
            site="home-01",
            keys=keys,
            state=state,
            journal=self.journal,
            clock=self.clock,
            forward=lambda kind, message: self.moved.append(f"{kind} {message.sequence}"),
            wake=lambda: None,
        )
        self._broadcasts = BroadcastDoor(
            groups=("north",),
            keys=keys,
            clock=self.clock,
            forward=lambda kind, message: self.moved.append(f"{kind} {message.sequence}"),
            refused=self.told.append,
        )

    def hear(self, data: bytes, kind: str = "setpoint", *, live: bool = True) -> None:
        self._intents.receive(kind, data, live=live)

    def hear_group(self, data: bytes, subject: str = "vpp.group.north.price") -> None:
        self._broadcasts.receive(subject, data)

    def refusals(self) -> list[str]:
        """Reasons that travel back, since the last call."""
        found = []
        while (report := self.journal.oldest_report()) is not None:
            ack = Acknowledgement.FromString(report.body)
            if ack.state == Acknowledgement.STATE_REFUSED:
                found.append(ack.reason)
            self.journal.report_acknowledged(report)
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def intent(sequence: int = 5, key: Ed25519PrivateKey = KEY, site: str = "home-01") -> SignedIntent:
    message = Intent(
        site=site,
        sequence=sequence,
        issued_ms=NOW_MS,
        valid_from_ms=NOW_MS,
        expires_ms=NOW_MS + 60_000,
        setpoint=PowerSetpoint(inverter_power_w=1000),
    )
    data = message.SerializeToString()
    return SignedIntent(intent=data, signature=key.sign(data), key_id=KEY_ID)


def broadcast(sequence: int = 5, key: Ed25519PrivateKey = KEY, group: str = "north") -> SignedBroadcast:
    message = Broadcast(
        group=group, sequence=sequence, issued_ms=NOW_MS, expires_ms=NOW_MS + 5_000, price=Price(ticks=100)
    )
    data = message.SerializeToString()
    return SignedBroadcast(broadcast=data, signature=key.sign(subjects.BROADCAST_SIGNED_AS + data), key_id=KEY_ID)


def test_forged(site: Site) -> None:
    site.hear(intent(key=THIEF).SerializeToString())
    site.hear_group(broadcast(key=THIEF).SerializeToString())
    assert site.moved == []
    assert site.refusals() == ["the signature is wrong"]
    assert "the signature is wrong" in site.told[0]


def test_altered_in_any_byte(site: Site) -> None:
    for honest, hear in ((intent(), site.hear), (broadcast(), site.hear_group)):
        data = honest.SerializeToString()
        for position in range(len(data)):
            for change in (0x01, 0x80):
                hear(data[:position] + bytes([data[position] ^ change]) + data[position + 1 :])
    assert site.moved == []


def test_replayed(site: Site) -> None:
    honest, heard = intent().SerializeToString(), broadcast().SerializeToString()
    for _ in range(3):
        site.hear(honest)
        site.hear_group(heard)
    site.clock.now_ms += 120_000
    site.hear(honest)
    site.hear_group(heard)
    assert site.moved == ["setpoint 5", "price 5"], "each once"


def test_replayed_to_another_site_or_group(site: Site) -> None:
    site.hear(intent(site="home-02").SerializeToString())
    site.hear_group(broadcast(group="south").SerializeToString())
    assert site.moved == []
    assert site.refusals() == ["it is for site 'home-02'"]


def test_replayed_as_another_kind(site: Site) -> None:
    """An intent as a broadcast, a broadcast as an intent, a setpoint as a schedule."""
    one, many = intent(), broadcast()
    site.hear(SignedIntent(intent=many.broadcast, signature=many.signature, key_id=KEY_ID).SerializeToString())
    disguised = SignedBroadcast(broadcast=one.intent, signature=one.signature, key_id=KEY_ID)
    site.hear_group(disguised.SerializeToString())
    site.hear(one.SerializeToString(), "schedule")
    assert site.moved == []
    assert len(site.refusals()) == 2


def test_reordered(site: Site) -> None:
    for sequence in (7, 5, 6, 8):
        site.hear(intent(sequence).SerializeToString())
        site.hear_group(broadcast(sequence).SerializeToString())
    assert site.moved == ["setpoint 7", "price 7", "setpoint 8", "price 8"]
    assert len(site.refusals()) == 2


def test_an_old_one_put_back_into_the_store(site: Site) -> None:
    site.hear(intent(7).SerializeToString())
    site.hear(intent(6).SerializeToString(), live=False)
    assert site.moved == ["setpoint 7"]


def test_a_stop_cannot_be_lifted_by_an_older_order(site: Site) -> None:
    def order(sequence: int, stop: bool) -> bytes:
        message = Intent.FromString(intent(sequence).intent)
        message.stop.CopyFrom(StopOrder(stop=stop))
        data = message.SerializeToString()
        return SignedIntent(intent=data, signature=KEY.sign(data), key_id=KEY_ID).SerializeToString()

    site.hear(order(5, False), "stop")
    site.hear(order(6, True), "stop")
    site.hear(order(5, False), "stop")
    assert site.moved == ["stop 5", "stop 6"]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    (tmp_path / "loop").mkdir()
    bench = Bench(tmp_path / "loop", ControlConfig(default="idle"))
    await bench.agent.site.open_all()
    yield bench
    bench.close()


async def test_withheld_everything_runs_out_and_the_owners_default_holds(bench: Bench) -> None:
    bench.send(0.0, 60.0, Intent(schedule=Schedule(start_ms=bench.clock.utc_ms(), mtu_s=900, inverter_power_w=[2000])))
    await bench.run_for(5.0)
    assert bench.home.power_w == 2000.0
    await bench.run_for(60.0)  # its successor, and whatever would have changed it, never comes
    assert bench.home.power_w == 0.0
    assert bench.acks()[-1][1] == "EXPIRED"
