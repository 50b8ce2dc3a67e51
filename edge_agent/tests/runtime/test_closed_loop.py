"""The real loop on a fake home: both services from arming to the end, and what goes wrong on the way."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.model.config import ControlConfig
from edge_agent.runtime.testing import Bench


def low_between(start_s: float, end_s: float, hz: float) -> Callable[[float], float]:
    return lambda now_s: hz if start_s <= now_s < end_s else 60.0


def power_at(bench: Bench, at_s: float) -> float:
    """What the device had last been told by an instant."""
    return [power_w for written_s, power_w in bench.home.trace if written_s <= at_s][-1]


async def test_trigger_initiation_delivery_hold_release_and_expiry(bench: Bench) -> None:
    await bench.agent.site.open_all()
    begin_s = bench.clock.now_s
    cross_s = begin_s + 10.0
    bench.home.frequency_hz = low_between(cross_s, cross_s + 60.0, 59.8)
    bench.schedule([500, 800], mtu_s=600, end_s=1200.0)
    bench.arm("ercot-ffr", 3000, end_s=1100.0)
    await bench.run_for(9.99)
    assert power_at(bench, cross_s) == 500.0

    await bench.run_for(900.0)
    moved_s = next(written_s for written_s, power_w in bench.home.trace if power_w == 3500.0)
    assert 0.0 <= moved_s - cross_s <= 0.05 + 0.004, "one cycle and its transactions"
    assert power_at(bench, cross_s + 589.0) == 3500.0, "held, long after frequency recovered"
    assert power_at(bench, cross_s + 595.0) == 3800.0, "on top of what the schedule says meanwhile"

    await bench.run_for(20.0)
    released_s = cross_s + 900.25
    for after_s, share in ((-0.1, 1.0), (2.5, 0.5), (5.1, 0.0)):
        expected_w = 800.0 + share * 3000.0
        assert power_at(bench, released_s + after_s) == pytest.approx(expected_w, abs=0.06 * 0.2 * 3000 + 1)
    assert bench.codes() == ["service.armed", "service.triggered", "service.released"]
    assert "59.800 Hz" in bench.events()[1].text
    assert bench.acks() == [(1, "ACTIVE"), (2, "ACTIVE")]
    assert bench.accepted() == [1, 2]


async def test_droop_follows_the_lag_and_comes_back(bench: Bench) -> None:
    await bench.agent.site.open_all()
    step_s = bench.clock.now_s + 5.0
    bench.home.frequency_hz = low_between(step_s, step_s + 30.0, 59.7)
    bench.schedule([1000])
    bench.arm("ieee1547-droop", 2000)
    await bench.run_for(60.0)
    due_w = 0.088 * 5000.0  # IEEE 1547 default droop at 59.7 Hz (reference: services 1.9)
    for after_s in (0.5, 2.5, 5.0, 10.0, 29.0):
        expected_w = 1000.0 + due_w * (1 - 10 ** (-after_s / 5.0))
        assert power_at(bench, step_s + after_s) == pytest.approx(expected_w, abs=due_w * 0.06)
    assert power_at(bench, step_s + 35.0) == pytest.approx(1000.0 + due_w * 0.1, abs=due_w * 0.06)
    assert power_at(bench, step_s + 54.0) == pytest.approx(1000.0, abs=1.0)
    first_move_s = next(written_s for written_s, power_w in bench.home.trace if power_w > 1000.0)
    assert first_move_s - step_s <= 0.05 + 0.004
    assert bench.codes() == ["service.armed", "service.triggered", "service.released"]


async def test_an_armed_service_keeps_its_headroom_from_the_schedule(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.schedule([4500])
    bench.arm("ercot-ffr", 3000, start_s=5.0, end_s=15.0)
    await bench.run_for(30.0)
    begin_s = bench.home.trace[0][0]
    assert power_at(bench, begin_s + 4.0) == 4500.0
    assert power_at(bench, begin_s + 10.0) == 2000.0
    assert power_at(bench, begin_s + 20.0) == 4500.0


async def test_dead_man_intents_run_to_their_expiry_then_the_default(bench: Bench) -> None:
    """Sync and coordinator are gone for good: what is armed answers until it expires, then the default has the home."""
    await bench.agent.site.open_all()
    bench.schedule([500], end_s=100.0)
    bench.arm("ercot-ffr", 3000, end_s=60.0)
    await bench.run_for(5.0)
    bench.hang_up()
    cross_s = bench.clock.now_s + 5.0
    bench.home.frequency_hz = low_between(cross_s, cross_s + 2.0, 59.8)
    await bench.run_for(140.0)
    assert power_at(bench, cross_s + 1.0) == 3500.0
    end_s = bench.home.trace[0][0] + 60.0
    assert power_at(bench, end_s - 0.5) == 3500.0
    assert power_at(bench, end_s + 6.0) == 500.0, "released along its ramp, then the schedule alone"
    assert power_at(bench, end_s + 39.0) == 500.0
    assert power_at(bench, end_s + 60.0) == bench.home.load_w, "self-consumption"
    assert bench.agent.channel.waiting > 0, "what it has to tell waits for a new sync"


async def test_reads_failing_for_a_while(bench: Bench) -> None:
    """Half a second without answers moves nothing; longer, the device is told as lost, once, and found, once."""
    await bench.agent.site.open_all()
    bench.home.frequency_hz = lambda now_s: 59.8 if now_s > 1010.0 else 60.0
    bench.arm("ercot-ffr", 3000)
    await bench.run_for(15.0)
    assert bench.home.power_w == pytest.approx(3700.0)

    bench.home.fails = True
    await bench.run_for(0.5)
    bench.home.fails = False
    await bench.run_for(2.0)
    assert bench.home.power_w == pytest.approx(3700.0)
    assert "device.lost" not in bench.codes()

    bench.received.clear()
    bench.home.fails = True
    await bench.run_for(30.0)
    assert not bench.home.holds_setpoint, "the device's own timer let go"
    assert bench.codes() == ["device.lost"]
    assert "no answer" in bench.events()[0].text
    silent = bench.snapshots()[-1]
    assert not silent.HasField("frequency_hz")
    assert not silent.HasField("soc")

    bench.received.clear()
    bench.home.fails = False
    await bench.run_for(5.0)
    assert bench.codes() == ["device.found"]
    assert bench.home.power_w == pytest.approx(3700.0), "the hold that is owed goes on"


async def test_a_silent_device_does_not_stop_the_clock(bench: Bench) -> None:
    await bench.agent.site.open_all()
    await bench.run_for(1.0)
    bench.home.fails = True
    bench.received.clear()
    await bench.run_for(10.0)
    # In virtual time each failed attempt advances the clock for everybody; cycles still complete between them.
    assert len(bench.snapshots()) > 100


async def test_glitch_in_the_frequency_register_triggers_nothing(bench: Bench) -> None:
    await bench.agent.site.open_all()
    cycle = iter(range(10_000))
    bench.home.frequency_hz = lambda now_s: 57.0 if next(cycle) % 7 == 3 else 60.0
    bench.arm("ercot-ffr", 3000)
    await bench.run_for(20.0)
    assert "service.triggered" not in bench.codes()
    assert max(power_w for _, power_w in bench.home.trace) == bench.home.load_w


async def test_release_ends_the_service_with_its_ramp(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.home.frequency_hz = lambda now_s: 59.8
    bench.schedule([0])
    armed = bench.arm("ercot-ffr", 3000)
    await bench.run_for(5.0)
    assert bench.home.power_w == 3000.0
    bench.release_service("another award")
    await bench.run_for(5.0)
    assert bench.home.power_w == 3000.0
    bench.release_service("award-1")
    await bench.run_for(2.5)
    assert bench.home.power_w == pytest.approx(1500.0, abs=100.0)
    await bench.run_for(10.0)
    assert bench.home.power_w == 0.0
    assert (armed, "RELEASED") in bench.acks()


async def test_renewed_arming_moves_nothing(bench: Bench) -> None:
    """The same award again, with a later expiry, while it delivers: no release, no second trigger."""
    await bench.agent.site.open_all()
    bench.home.frequency_hz = lambda now_s: 59.8
    bench.schedule([0])
    bench.arm("ercot-ffr", 3000, end_s=20.0)
    await bench.run_for(10.0)
    bench.arm("ercot-ffr", 3000, end_s=200.0)
    await bench.run_for(60.0)
    assert {power_w for written_s, power_w in bench.home.trace if written_s > 1002.0} == {3000.0}
    assert bench.codes() == ["service.armed", "service.triggered"]
    assert bench.acks() == [(1, "ACTIVE"), (2, "ACTIVE"), (2, "RELEASED"), (3, "ACTIVE")]


async def test_energy_of_a_promise_is_kept_from_the_baseline(bench: Bench) -> None:
    """3 kW for a quarter of an hour need 0.75 kWh: below that the schedule may not drain the storage, and is moved by
    what the service's tolerance hides (5 % of the contract, of which the inverter keeps a fifth)."""
    await bench.agent.site.open_all()
    bench.home.soc = 0.1 + 0.07
    bench.schedule([2000])
    bench.arm("ercot-ffr", 3000)
    await bench.run_for(3.0)
    assert bench.home.power_w == pytest.approx(-120.0)
    assert bench.codes() == ["service.armed", "energy.short"]
    assert "17.0% charged, 18.8% are needed" in bench.events()[1].text
    bench.home.soc = 0.1 + 0.095
    await bench.run_for(1.0)
    assert bench.home.power_w == 2000.0


async def test_self_consumption_holds_the_grid_at_zero(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.home.load_w, bench.home.pv_w = 2200.0, 900.0
    await bench.run_for(10.0)
    assert bench.home.power_w == pytest.approx(2200.0, abs=10.0)
    bench.home.load_w = 300.0
    await bench.run_for(10.0)
    assert bench.home.power_w == pytest.approx(300.0, abs=10.0)
    bench.home.soc = 0.1
    bench.home.load_w = 2200.0
    await bench.run_for(10.0)
    assert bench.home.power_w == pytest.approx(900.0), "an empty storage gives nothing, the sun all it has"


@pytest.mark.parametrize(("default", "power_w"), [("idle", 900.0), ("release", -50.0)])
async def test_other_defaults(tmp_path: Path, default: str, power_w: float) -> None:
    bench = Bench(tmp_path, ControlConfig(default=default))  # type: ignore[arg-type]
    try:
        await bench.agent.site.open_all()
        bench.home.pv_w, bench.home.own_default_w = 900.0, -50.0
        await bench.run_for(5.0)
        assert bench.home.power_w == power_w
        assert bench.home.releases == (1 if default == "release" else 0)
    finally:
        bench.close()


async def test_stopping_releases_the_device(bench: Bench) -> None:
    await bench.agent.site.open_all()
    await bench.run_for(2.0)
    assert bench.home.holds_setpoint
    await bench.agent.loop.release()
    assert not bench.home.holds_setpoint


async def test_unknown_state_of_charge_lets_the_device_go_and_says_so_once(bench: Bench) -> None:
    await bench.agent.site.open_all()
    await bench.run_for(2.0)
    bench.home.soc_is_known = False
    await bench.run_for(0.5)
    assert bench.home.holds_setpoint
    await bench.run_for(20.0)
    assert not bench.home.holds_setpoint
    assert bench.home.releases == 1
    assert bench.codes() == ["setpoint.refused"]
    bench.home.soc_is_known = True
    await bench.run_for(1.0)
    assert bench.home.holds_setpoint


async def test_a_rejecting_device_is_told_at_most_once_a_minute(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.home.rejects = "device hybrid: model 704 does not hold what it was told"
    await bench.run_for(100.0)
    assert bench.codes() == ["setpoint.refused", "setpoint.refused"]
    assert "does not hold" in bench.events()[0].text
    assert "more before" in bench.events()[1].text


async def test_link_changes_are_told_and_nothing_else_happens(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.schedule([1500])
    bench.say_linked(True)
    await bench.run_for(1.0)
    assert bench.codes() == []
    bench.say_linked(False)
    await bench.run_for(5.0)
    bench.say_linked(True)
    await bench.run_for(1.0)
    assert bench.codes() == ["link.lost", "link.restored"]
    assert bench.home.power_w == 1500.0


@pytest.mark.parametrize(
    ("contracted_w", "read_only", "reason"),
    [(6000, False, "more than the inverter's 5000 W"), (3000, True, "read-only")],
)
async def test_arming_what_cannot_be_done_is_refused(
    tmp_path: Path, contracted_w: int, read_only: bool, reason: str
) -> None:
    bench = Bench(tmp_path, read_only=read_only)
    try:
        await bench.agent.site.open_all()
        bench.arm("ercot-ffr", contracted_w)
        await bench.run_for(1.0)
        assert (bench.acks(), bench.accepted()) == ([(1, "REFUSED")], [])
        refusal = next(m.acknowledgement for m in bench.received if m.WhichOneof("body") == "acknowledgement")
        assert reason in refusal.reason
        assert bench.codes() == []
    finally:
        bench.close()


async def test_an_inverter_that_turns_out_read_only_arms_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, read_only=True)
    try:
        bench.unreachable = True
        await bench.agent.site.open_all()
        bench.arm("ercot-ffr", 3000)
        await bench.run_for(1.0)
        bench.unreachable = False
        await bench.agent.site.find_missing(bench.agent.describe)
        bench.home.frequency_hz = lambda now_s: 59.8
        await bench.run_for(2.0)
        assert bench.codes() == ["device.lost", "device.found"]
        assert bench.home.trace == []
        assert bench.snapshots()[-1].frequency_hz == 59.8
    finally:
        bench.close()


async def test_one_silent_device_is_waited_for_once(bench: Bench) -> None:
    """Inverter and meter are one device here: its first missing answer costs one time-out, not two."""
    await bench.agent.site.open_all()
    await bench.run_for(1.0)
    bench.home.fails = True
    before_s = bench.clock.now_s
    await bench.agent.loop.cycle()
    assert bench.clock.now_s - before_s == pytest.approx(0.25)


async def test_event_ids_never_repeat(bench: Bench) -> None:
    await bench.agent.site.open_all()
    for _ in range(5):
        bench.schedule([0], end_s=1.0)
        await bench.run_for(2.0)
    told = [m for m in bench.received if m.WhichOneof("body") in ("event", "acknowledgement")]
    ids = [m.event.event_id or m.acknowledgement.event_id for m in told]
    assert len(ids) == 20
    assert len(set(ids)) == 20


async def test_snapshots_carry_the_picture(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.home.pv_w = 100.0
    await bench.run_for(1.0)
    picture = bench.snapshots()[-1]
    assert picture.inverter_power_w == 700.0
    assert picture.grid_power_w == 0.0
    assert (picture.soc, picture.frequency_hz, picture.voltage_v, picture.pv_power_w) == (0.5, 60.0, 240.0, 100.0)
    assert math.isclose(picture.at_ms, bench.clock.utc_ms(), abs_tol=60)
