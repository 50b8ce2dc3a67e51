"""Whoever has the broker's own account can publish anything anywhere, and keep anything back. What can he move?"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.model.config import ControlConfig
from edge_agent.runtime.testing import Bench
from edge_agent.tests.attacks.doors import KEY, KEY_ID, THIEF, Site, StillClock, broadcast, intent
from protos.vpp.v1.broadcast_pb2 import SignedBroadcast
from protos.vpp.v1.intent_pb2 import Intent, Schedule, SignedIntent, StopOrder


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def site(tmp_path: Path, clock: StillClock) -> Site:
    return Site(tmp_path, clock)


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


def test_replayed(site: Site, clock: StillClock) -> None:
    honest, heard = intent().SerializeToString(), broadcast().SerializeToString()
    for _ in range(3):
        site.hear(honest)
        site.hear_group(heard)
    clock.now_ms += 120_000
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
