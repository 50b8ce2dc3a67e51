"""A regulation signal with the real broker: a message a cycle, and each site's part."""

import asyncio
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from cloud.dispatch.regulation import participation
from cloud.model.records import Description, Site
from cloud.store.ledger import Ledger
from cloud.testing import Plant
from protos import services, subjects
from protos.vpp.v1 import broadcast_pb2, intent_pb2


def described(charge_w: float, discharge_w: float) -> Description:
    return Description(
        agent_version="1", rated_power_w=5_000, max_charge_w=charge_w, max_discharge_w=discharge_w,
        storage_capacity_wh=10_000, soc_min=0.1, soc_max=0.9,
    )  # fmt: skip


def site(slot: int, charge_w: float, discharge_w: float) -> Site:
    told = described(charge_w, discharge_w)
    return Site(slot=slot, site=f"s{slot}", groups=("g",), created_ms=1, enrolled_ms=1, description=told)


def test_parts_are_in_proportion_to_what_sites_can_give_both_ways() -> None:
    sites = [site(0, 3_000, 6_000), site(1, 1_000, 4_000), site(2, 0, 4_000)]
    assert participation(sites, services.load("pjm-regd"), 2_000) == {"s0": 1_500, "s1": 500}
    assert participation(sites, services.load("afrr-up"), 1_300) == {"s0": 500, "s1": 400, "s2": 400}
    with pytest.raises(ValueError, match="3 sites can give 4000 W together, not 4001 W"):
        participation(sites, services.load("pjm-regd"), 4_001)


async def test_the_signal_is_one_message_a_cycle_and_every_site_knows_its_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant = Plant(tmp_path)
    signal = tmp_path / "signal.csv"
    signal.write_text("0.5\n-0.25\n")
    contract = ("--group", "g", "--power-w", "2000", "--minutes", "5", "--signal", str(signal))
    async with plant.running():
        for name in ("home-1", "home-2"):
            claim = str(tmp_path / f"{name}.toml")
            assert await plant.command("site", "add", name, "--group", "g", "--claim-file", claim) == 0
        with Ledger(plant.data.ledger) as ledger:
            for name in ("home-1", "home-2"):
                ledger.set_description(name, described(4_000, 4_000), 1)
                ledger._execute("UPDATE sites SET enrolled_ms = 1 WHERE site = ?", (name,))
        backend = await plant.backend()
        heard: asyncio.Queue[Msg] = asyncio.Queue()
        await backend.subscribe(subjects.broadcast("g", "regulation"), cb=heard.put)
        await backend.flush()
        assert await plant.command("regulate", *contract, "--service", "pjm-regd") == 0
        said = [broadcast_pb2.SignedBroadcast.FromString((await heard.get()).data) for _ in range(2)]
        assert heard.empty()
        parts = []
        for name in ("home-1", "home-2"):
            kept = await backend.jetstream().get_last_msg(subjects.INTENT_STREAM, subjects.intent(name, "service"))
            signed = intent_pb2.SignedIntent.FromString(kept.data or b"")
            parts.append(intent_pb2.Intent.FromString(signed.intent).arm)
        assert await plant.command("regulate", *contract, "--service", "ercot-ffr") == 2
        with Ledger(plant.data.ledger) as ledger:
            (kept_of,) = ledger.regulations()
            broadcast = [value for _, value in ledger.regulation_signals(kept_of.regulation_id)]
            told = ledger.regulated(kept_of)
        assert await plant.command("dispatch", "show", kept_of.regulation_id) == 0
        await backend.close()
    signals = [broadcast_pb2.Broadcast.FromString(one.broadcast).regulation.signal_e6 for one in said]
    assert signals == broadcast == [500_000, -250_000]
    assert (kept_of.ended, kept_of.signals, kept_of.power_w) == (True, 2, 2_000)
    assert told == {"home-1": (0, 1_000), "home-2": (1, 1_000)}
    shown = capsys.readouterr().out
    assert "pjm-regd  2000 W of g" in shown
    assert "2 signals: not scored yet" in shown
    assert "+0.500" in shown
    assert [(arm.contracted_w, arm.group, arm.service_id) for arm in parts] == [(1_000, "g", "pjm-regd")] * 2
