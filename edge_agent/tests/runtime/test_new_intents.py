"""The real loop on a fake home: a price, an addressed setpoint, the grid operator's limits, a regulation signal."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.model.config import ControlConfig
from edge_agent.runtime.testing import PLATE, Bench
from protos.vpp.v1 import broadcast_pb2, intent_pb2, supply_pb2


def price(ticks: int, step_share_e6: int = 0) -> broadcast_pb2.Broadcast:
    return broadcast_pb2.Broadcast(price=broadcast_pb2.Price(ticks=ticks, step_share_e6=step_share_e6))


def signal(share: float) -> broadcast_pb2.Broadcast:
    return broadcast_pb2.Broadcast(regulation=broadcast_pb2.Regulation(signal_e6=round(share * 1e6)))


def follow(fallback_ticks: int) -> intent_pb2.Intent:
    return intent_pb2.Intent(price=intent_pb2.FollowPrice(group="north", fallback_ticks=fallback_ticks))


def setpoint(power_w: int) -> intent_pb2.Intent:
    return intent_pb2.Intent(setpoint=intent_pb2.PowerSetpoint(inverter_power_w=power_w, reason="a test run"))


def supplies(bench: Bench) -> list[supply_pb2.SupplyFunction]:
    return [m.supply for m in bench.received if m.WhichOneof("body") == "supply"]


async def test_a_price_is_followed_by_the_function_that_was_reported(bench: Bench) -> None:
    """Stored energy at 50.00/MWh: 0.95 of what is bought gets in and 0.9 of it out, less wear."""
    await bench.agent.site.open_all()
    bench.home.pv_w = 1000.0
    bench.schedule([500], stored_value_ticks=(5000,))
    bench.send(0.0, 3600.0, follow(5000))
    await bench.run_for(11.0)
    told = supplies(bench)[-1]
    assert list(zip(told.ticks, told.power_w, strict=True)) == [
        (-1, -5000),
        (0, -4000),
        (4250, -4000),
        (4250, 1000),
        (6056, 1000),
        (6056, 5000),
    ]
    assert (told.lower_w, told.upper_w, told.valid_s) == (-5000, 5000, 300)
    assert bench.home.power_w == 1000.0, "nothing was broadcast: the fallback lies in the dead band"
    assert "fallback price 50.00" in bench.agent.summary()["price_note"]
    for ticks, share, power_w in ((6057, 0, 5000.0), (6056, 250_000, 2000.0), (4249, 0, -4000.0), (4250, 0, -4000.0)):
        bench.broadcast(price(ticks, share))
        await bench.run_for(0.2)
        assert bench.home.power_w == power_w
    assert bench.agent.summary()["price_note"] == ""
    await bench.run_for(60.0)
    assert bench.home.power_w == 1000.0, "the broadcast has expired: the fallback again"


async def test_without_a_value_of_stored_energy_the_plan_is_kept_and_the_sun_curtailed_below_nothing(
    bench: Bench,
) -> None:
    await bench.agent.site.open_all()
    bench.home.pv_w = 1000.0
    bench.schedule([1500])
    bench.send(0.0, 3600.0, follow(5000))
    for ticks, power_w in ((100_000, 1500.0), (0, 1500.0), (-1, 500.0)):
        bench.broadcast(price(ticks))
        await bench.run_for(0.2)
        assert bench.home.power_w == power_w


async def test_a_function_is_told_when_it_changes_before_it_runs_out_and_when_there_is_none(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.home.pv_w = 1000.0
    bench.schedule([500], stored_value_ticks=(5000,))
    await bench.run_for(11.0)
    bench.received.clear()
    await bench.run_for(100.0)
    assert supplies(bench) == [], "nothing changed"
    await bench.run_for(30.0)
    assert len(supplies(bench)) == 1, "it would have run out"
    bench.home.pv_w = 1090.0
    await bench.run_for(20.0)
    assert len(supplies(bench)) == 1, "less than 2 % of the rating"
    bench.home.pv_w = 1200.0
    await bench.run_for(1.0)
    assert len(supplies(bench)) == 2
    bench.home.pv_w = 2000.0
    await bench.run_for(5.0)
    assert len(supplies(bench)) == 2, "no more often than every 10 s"
    await bench.run_for(6.0)
    assert len(supplies(bench)) == 3
    bench.home.soc_is_known = False
    await bench.run_for(1.0)
    assert (len(supplies(bench)), supplies(bench)[-1].valid_s) == (4, 1), "withdrawn, once"
    bench.home.soc_is_known = True
    await bench.run_for(1.0)
    seqs = [told.seq for told in supplies(bench)]
    assert len(seqs) == 5
    assert seqs == sorted(set(seqs))


async def test_a_schedule_that_offers_the_battery_is_told_at_once_but_swings_are_not(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.home.pv_w = 1000.0
    await bench.run_for(1.0)
    assert [max(told.power_w) for told in supplies(bench)] == [1000], "the panels alone"
    bench.schedule([0], stored_value_ticks=(5000,))
    await bench.run_for(1.5)  # the function is made each second
    assert [max(told.power_w) for told in supplies(bench)] == [1000, 5000]
    for second in range(8):
        bench.home.pv_w = 4000.0 * (second % 2)
        await bench.run_for(1.0)
    assert len(supplies(bench)) == 2, "once a minute"


async def test_a_service_takes_its_room_out_of_what_is_offered(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.schedule([0], stored_value_ticks=(5000,))
    bench.arm("gb-dc", 2000)
    bench.home.frequency_hz = lambda now_s: 50.0
    await bench.run_for(11.0)
    told = supplies(bench)[-1]
    assert (told.power_w[0], told.power_w[-1]) == (-3000, 3000)


async def test_a_setpoint_is_stronger_than_price_and_schedule_and_weaker_than_a_service(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.schedule([500], stored_value_ticks=(5000,))
    bench.send(0.0, 3600.0, follow(9000))
    await bench.run_for(1.0)
    assert bench.home.power_w == 5000.0
    bench.send(0.0, 60.0, setpoint(-1200))
    await bench.run_for(1.0)
    assert bench.home.power_w == -1200.0
    assert bench.agent.summary()["setpoint_reason"] == "a test run"
    bench.arm("ercot-ffr", 3000)
    bench.home.frequency_hz = lambda now_s: 59.8
    await bench.run_for(1.0)
    assert bench.home.power_w == -1200.0 + 3000.0
    await bench.run_for(60.0)
    assert bench.home.power_w == 5000.0, "the setpoint has run out: price and service together, within the rating"


async def test_the_grid_operators_limits_change_with_their_unit_and_bind_services_too(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.home.frequency_hz = lambda now_s: 59.8
    bench.schedule([4000])
    bench.arm("ercot-ffr", 1000)
    await bench.run_for(2.0)
    assert bench.home.power_w == 5000.0
    envelope = intent_pb2.Envelope(
        envelope_id="dso-1",
        start_ms=bench.clock.utc_ms() + 10_000,
        mtu_s=20,
        import_limit_w=[8000, 8000],
        export_limit_w=[1500, 0],
    )
    bench.send(0.0, 3600.0, intent_pb2.Intent(envelope=envelope))
    await bench.run_for(9.9)
    assert bench.home.power_w == 5000.0, "its first unit has not begun"
    for exported_w in (1500.0, 0.0):
        await bench.run_for(10.0)
        assert bench.home.power_w == pytest.approx(700.0 + exported_w, abs=1.0), "the home takes 700 W"
        await bench.run_for(10.0)
    await bench.run_for(1.0)
    assert bench.home.power_w == 5000.0, "its last unit is over"


async def test_the_owners_limits_stand_beside_the_grid_operators(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.schedule([-4000])
    envelope = intent_pb2.Envelope(start_ms=bench.clock.utc_ms(), mtu_s=900, import_limit_w=[2000], export_limit_w=[0])
    bench.send(0.0, 3600.0, intent_pb2.Intent(envelope=envelope))
    await bench.run_for(5.0)
    assert bench.home.power_w == pytest.approx(700.0 - 2000.0, abs=1.0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(
            intent_pb2.Intent(envelope=intent_pb2.Envelope(mtu_s=900, import_limit_w=[1], export_limit_w=[])),
            "as many import limits",
            id="limits that do not pair",
        ),
        pytest.param(
            intent_pb2.Intent(schedule=intent_pb2.Schedule(mtu_s=900, inverter_power_w=[1], stored_value_ticks=[1, 2])),
            "stored_value_ticks",
            id="values that do not pair",
        ),
    ],
)
async def test_what_does_not_add_up_is_refused_with_the_reason(
    bench: Bench, body: intent_pb2.Intent, reason: str
) -> None:
    await bench.agent.site.open_all()
    sequence = bench.send(0.0, 60.0, body)
    await bench.run_for(1.0)
    assert bench.acks() == [(sequence, "REFUSED")]
    assert reason in next(m.acknowledgement.reason for m in bench.received if m.WhichOneof("body") == "acknowledgement")


async def test_a_signal_is_followed_on_top_of_the_schedule_and_let_go_when_it_stops(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.schedule([500])
    bench.arm("pjm-regd", 2000, group="north")
    bench.home.frequency_hz = lambda now_s: 60.0
    await bench.run_for(1.0)
    assert bench.home.power_w == 500.0
    bench.broadcast(signal(0.4), group="south")  # somebody else's
    for share in (0.5, -1.0, 0.25):
        bench.broadcast(signal(share))
        await bench.run_for(2.0)
        assert bench.home.power_w == 500.0 + share * 2000.0
    bench.broadcast(signal(-0.9), lasts_s=0.0)
    await bench.run_for(0.2)
    assert bench.home.power_w == pytest.approx(1000.0, abs=10.0), "it had expired when it came"


async def test_a_signal_that_stays_away_is_held_then_let_go_along_the_services_ramp(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.schedule([500])
    bench.arm("pjm-regd", 2000, group="north")
    bench.broadcast(signal(1.0))
    await bench.run_for(10.0)
    assert bench.home.power_w == 2500.0, "held for 10 s"
    await bench.run_for(25.0)
    assert bench.home.power_w == pytest.approx(500.0 + 2000.0 * 0.5, abs=15.0), "0.02 a second"
    await bench.run_for(30.0)
    assert bench.home.power_w == 500.0
    assert "signal.lost" in bench.codes()
    bench.broadcast(signal(0.5))
    await bench.run_for(1.0)
    assert bench.home.power_w == 1500.0
    assert bench.codes()[-1] == "signal.followed"


async def test_automatic_restoration_reserve_moves_along_its_ramp(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.schedule([0])
    bench.arm("afrr", 1500, group="north")
    bench.broadcast(signal(1.0), lasts_s=1000.0)
    bench.home.frequency_hz = lambda now_s: 50.0
    began_s = bench.clock.now_s
    for after_s in (15.0, 30.0, 45.0):
        await bench.run_for(began_s + after_s - bench.clock.now_s)
        assert bench.home.power_w == pytest.approx(1500.0 * after_s / 300.0, abs=1.0)


async def test_a_signal_needs_a_group(bench: Bench) -> None:
    await bench.agent.site.open_all()
    sequence = bench.arm("pjm-rega", 1000)
    await bench.run_for(0.5)
    assert bench.acks() == [(sequence, "REFUSED")]


@pytest.mark.parametrize(
    ("ramp_w_per_s", "state"),
    [pytest.param(99.0, "REFUSED", id="too slow: 10.1 s"), pytest.param(101.0, "ACTIVE", id="just fast enough")],
)
async def test_a_signal_needs_a_ramp_that_can_follow_it(tmp_path: Path, ramp_w_per_s: float, state: str) -> None:
    bench = Bench(tmp_path, ControlConfig(ramp_w_per_s=ramp_w_per_s))
    try:
        await bench.agent.site.open_all()
        sequence = bench.arm("pjm-rega", 1000, group="north")
        await bench.run_for(0.5)
        assert bench.acks() == [(sequence, state)]
    finally:
        bench.close()


async def test_panels_alone_offer_what_they_give_and_let_themselves_be_curtailed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ControlConfig(default="release"))
    try:
        bench.home.nameplate = replace(PLATE, max_charge_w=0.0, max_discharge_w=0.0, storage_capacity_wh=0.0)
        bench.home.own_default_w = 3000.0
        await bench.agent.site.open_all()
        await bench.run_for(5.0)
        told = supplies(bench)[-1]
        assert (list(told.ticks), list(told.power_w)) == ([-1, 0], [0, 3000])
        assert (told.energy_up_wh, told.energy_down_wh) == (0, 0)
        bench.send(0.0, 600.0, follow(5000))
        bench.broadcast(price(-500))
        await bench.run_for(20.0)
        assert bench.home.power_w == 0.0
        told = supplies(bench)[-1]
        assert (list(told.ticks), list(told.power_w)) == ([-1, 0], [0, 3000]), "curtailed, and still there"
    finally:
        bench.close()
