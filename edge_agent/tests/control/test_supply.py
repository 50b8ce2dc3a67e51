"""What battery, sun, vehicle and flexible load do at a price."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.control.bounds import Storage, available
from edge_agent.control.price import propose
from edge_agent.control.supply import (
    ROUND_TRIP,
    SUN_STANDS_S,
    PriceBand,
    SunState,
    band_until,
    battery,
    follow_sun,
    site,
    sun,
    thermal_load,
    vehicle,
)
from edge_agent.model.broadcast import Price
from edge_agent.model.intent import Schedule
from edge_agent.model.supply import MOST_POINTS, SupplyFunction, total
from edge_agent.model.values import Nameplate, PowerBounds, Quality, Sample, Snapshot

BAND = PriceBand(low_ticks=2_000, high_ticks=10_000)
NOW_S = 1_000.0


def good(value: float) -> Sample:
    return Sample(value, Quality.GOOD, NOW_S)


def hybrid(soc: float = 0.5, pv_w: float = 0.0, capacity_wh: float = 10_000.0) -> tuple[Storage, Snapshot, PowerBounds]:
    plate = Nameplate(
        manufacturer="Example",
        model="Hybrid",
        serial="1",
        rated_power_w=5_000.0,
        max_charge_w=3_000.0 if capacity_wh else 0.0,
        max_discharge_w=3_000.0 if capacity_wh else 0.0,
        storage_capacity_wh=capacity_wh,
    )
    storage = Storage(nameplate=plate, soc_min=0.1, soc_max=0.95)
    snapshot = Snapshot(at_s=NOW_S, utc_ms=0, soc=good(soc), pv_power_w=good(pv_w))
    bounds = available(storage, snapshot.soc, snapshot.pv_power_w)
    assert bounds is not None
    return storage, snapshot, bounds


def schedule(power_w: float = 800.0, *values: int) -> Schedule:
    units = max(1, len(values))
    return Schedule(start_s=NOW_S - 100, mtu_s=900, power_w=(power_w,) * units, plan_id="p", stored_value_ticks=values)


@pytest.mark.parametrize(
    ("value", "ticks", "power_w"),
    [
        # 0.95 of what is bought gets in, 0.9 of what is taken out gets there, and each way wears off 5.00/MWh.
        pytest.param(5_000, 4_249, -3_000.0, id="cheap: charges"),
        pytest.param(5_000, 4_251, 0.0, id="rests from here"),
        pytest.param(5_000, 5_000, 0.0, id="at the value: rests"),
        pytest.param(5_000, 6_055, 0.0, id="rests up to here"),
        pytest.param(5_000, 6_057, 2_000.0, id="dear: discharges"),
        pytest.param(0, 501, 2_000.0, id="worth nothing: sold for its wear"),
        pytest.param(0, -501, -3_000.0, id="worth nothing: taken for its wear"),
        pytest.param(-50_000, -50_000, 0.0, id="a burden: rests around its price, too"),
        pytest.param(-50_000, -56_000, -3_000.0, id="a burden, but one is paid more for taking it"),
    ],
)
def test_a_battery_trades_where_the_round_trip_pays(value: int, ticks: int, power_w: float) -> None:
    function = battery(stored_value_ticks=value, charge_limit_w=3_000.0, discharge_limit_w=2_000.0)
    assert function.power_w(ticks) == power_w


@given(st.integers(1, 1_000_000), st.integers(-100_000, 1_000_000), st.integers(-100_000, 1_000_000))
def test_a_battery_never_loses_by_a_round_trip(value: int, bought: int, sold: int) -> None:
    function = battery(stored_value_ticks=value, charge_limit_w=1.0, discharge_limit_w=1.0)
    if function.power_w(bought) < 0 < function.power_w(sold):
        assert sold * ROUND_TRIP >= bought - 2  # a tick each for what is rounded


def test_the_sun_is_taken_for_nothing_and_curtailed_below() -> None:
    assert [sun(1_500.0).power_w(ticks) for ticks in (-5_000, -1, 0, 5_000)] == [0.0, 0.0, 1_500.0, 1_500.0]


@pytest.mark.parametrize(
    ("needed_wh", "hours", "buys_up_to"),
    [
        pytest.param(1_100.0, 10.0, 2_080, id="a hundredth of the time is needed: nearly the cheapest"),
        pytest.param(55_000.0, 10.0, 6_000, id="half of it: the middle"),
        pytest.param(104_500.0, 10.0, 9_600, id="nearly all of it: nearly the dearest"),
    ],
)
def test_a_vehicle_pays_more_the_less_time_it_has(needed_wh: float, hours: float, buys_up_to: int) -> None:
    function = vehicle(needed_wh=needed_wh, ready_in_s=hours * 3600, max_charge_w=11_000.0, band=BAND)
    assert function.power_w(buys_up_to - 1) == -11_000.0
    assert function.power_w(buys_up_to + 1) == 0.0


@pytest.mark.parametrize(
    ("needed_wh", "ready_in_s", "band"),
    [
        pytest.param(11_000.0, 3_600.0, BAND, id="it takes all the time there is"),
        pytest.param(11_000.0, 600.0, BAND, id="more than there is"),
        pytest.param(11_000.0, -1.0, BAND, id="it is late already"),
        pytest.param(1_000.0, 36_000.0, None, id="nobody knows what energy will cost"),
    ],
)
def test_a_vehicle_in_need_charges_at_every_price(needed_wh: float, ready_in_s: float, band: PriceBand | None) -> None:
    function = vehicle(needed_wh=needed_wh, ready_in_s=ready_in_s, max_charge_w=11_000.0, band=band)
    assert {function.power_w(ticks) for ticks in (-100_000, 0, 1_000_000)} == {-11_000.0}


def test_a_vehicle_sells_only_what_it_has_to_spare_and_only_where_a_round_trip_pays() -> None:
    spare = vehicle(needed_wh=-5_000.0, ready_in_s=3_600, max_charge_w=11_000.0, band=BAND, max_discharge_w=7_000.0)
    assert (spare.power_w(11_000), spare.power_w(11_697)) == (0.0, 7_000.0)
    full = vehicle(needed_wh=0.0, ready_in_s=3_600, max_charge_w=11_000.0, band=BAND, max_discharge_w=7_000.0)
    assert full.power_w(1_000_000) == 0.0


@pytest.mark.parametrize(
    ("level", "ticks", "power_w"),
    [
        pytest.param(-0.1, 1_000_000, -2_000.0, id="colder than the owner wants: at every price"),
        pytest.param(0.0, 1_000_000, -2_000.0, id="as cold as the owner wants it"),
        pytest.param(0.25, 7_999, -2_000.0, id="a quarter full: up to three quarters of the band"),
        pytest.param(0.25, 8_001, 0.0, id="and no further"),
        pytest.param(0.75, 3_999, -2_000.0, id="nearly full: only cheap"),
        pytest.param(0.75, 4_001, 0.0, id="not else"),
        pytest.param(1.0, -100_000, 0.0, id="full: not even for money"),
    ],
)
def test_a_tank_pays_less_the_fuller_it_is(level: float, ticks: int, power_w: float) -> None:
    assert thermal_load(level=level, max_power_w=2_000.0, band=BAND).power_w(ticks) == power_w


def test_a_band_is_what_the_schedule_says_until_then() -> None:
    told = schedule(0.0, 3_000, 9_000, 1_000, 5_000)  # begins 100 s ago
    assert band_until(told, NOW_S, NOW_S + 800.0) == PriceBand(low_ticks=3_000, high_ticks=3_000)
    assert band_until(told, NOW_S, NOW_S + 801.0) == PriceBand(low_ticks=3_000, high_ticks=9_000)
    assert band_until(told, NOW_S, NOW_S + 1e6) == PriceBand(low_ticks=1_000, high_ticks=9_000)
    assert band_until(told, NOW_S, NOW_S - 50.0) == PriceBand(low_ticks=3_000, high_ticks=3_000)
    assert band_until(told, NOW_S + 3_600.0, NOW_S + 7_200.0) is None, "the schedule is over"
    assert band_until(schedule(), NOW_S, NOW_S + 1.0) is None, "it puts no value on energy"
    assert band_until(None, NOW_S, NOW_S + 1.0) is None


def test_a_site_is_the_sum_of_its_devices_within_its_room() -> None:
    storage, snapshot, bounds = hybrid(pv_w=1_000.0)
    tank = thermal_load(level=0.5, max_power_w=2_000.0, band=BAND)
    own = site(storage, snapshot, schedule(800.0, 5_000), bounds)
    assert own is not None
    function = total((own, tank))
    found = [function.power_w(ticks) for ticks in (-100, 100, 5_000, 6_005, 6_500)]
    assert found == [-5_000.0, -4_000.0, -1_000.0, 1_000.0, 4_000.0]
    narrow = PowerBounds(lower_w=-500.0, upper_w=2_500.0)
    inside = site(storage, snapshot, schedule(800.0, 5_000), narrow)
    assert inside is not None
    assert [inside.power_w(ticks) for ticks in (-100, 5_000, 6_500)] == [-500.0, 1_000.0, 2_500.0]


@pytest.mark.parametrize(
    ("plan", "expected_w"),
    [
        pytest.param(schedule(800.0), 800.0, id="a plan without values"),
        pytest.param(None, 1_000.0, id="no plan: the storage rests and the sun goes on"),
    ],
)
def test_a_storage_of_unknown_worth_keeps_to_its_plan(plan: Schedule | None, expected_w: float) -> None:
    storage, snapshot, bounds = hybrid(pv_w=1_000.0)
    function = site(storage, snapshot, plan, bounds)
    assert function is not None
    assert {function.power_w(ticks) for ticks in (0, 5_000, 1_000_000)} == {expected_w}
    assert function.power_w(-1) == expected_w - 1_000.0


def test_a_site_that_does_not_know_its_charge_offers_nothing() -> None:
    storage, snapshot, bounds = hybrid()
    blind = Snapshot(at_s=NOW_S, utc_ms=0)
    assert site(storage, blind, None, bounds) is None
    panels, _, _ = hybrid(capacity_wh=0.0)
    assert site(panels, snapshot, None, PowerBounds(lower_w=0.0, upper_w=5_000.0)) == sun(5_000.0)


@settings(deadline=None)
@given(
    soc=st.floats(0, 1),
    pv_w=st.floats(0, 6_000),
    value=st.integers(-50_000, 500_000),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    ticks=st.lists(st.integers(-100_000, 1_000_000), min_size=2, max_size=20),
    share=st.floats(0, 1),
)
def test_whatever_the_site_its_function_is_monotone_short_and_inside_its_room(
    soc: float, pv_w: float, value: int, cut: tuple[float, float], ticks: list[int], share: float
) -> None:
    storage, snapshot, bounds = hybrid(soc, pv_w)
    lower_w, upper_w = sorted(bounds.lower_w + c * (bounds.upper_w - bounds.lower_w) for c in cut)
    room = PowerBounds(lower_w=lower_w, upper_w=upper_w)
    function = site(storage, snapshot, schedule(0.0, value), room)
    assert function is not None
    assert len(function.points) <= MOST_POINTS
    prices = sorted({*ticks, *(tick + by for tick, _ in function.points for by in (-1, 0, 1))})
    powers = [function.power_w(tick, share) for tick in prices]
    assert powers == sorted(powers)
    assert all(lower_w - 1e-9 <= power_w <= upper_w + 1e-9 for power_w in powers)
    parts = (
        sun(pv_w),
        battery(
            stored_value_ticks=value,
            charge_limit_w=storage.charge_limit_w(soc),
            discharge_limit_w=storage.discharge_limit_w(soc),
        ),
    )
    whole = total(parts)
    for tick in prices:
        assert function.power_w(tick, share) == pytest.approx(_clipped_step(whole, room, tick, share), abs=1e-6)


def _clipped_step(whole: SupplyFunction, room: PowerBounds, ticks: int, share: float) -> float:
    """A step that a bound cuts is shared out over what is left of it."""
    foot_w, head_w = room.clip(whole.power_w(ticks, 0.0)), room.clip(whole.power_w(ticks, 1.0))
    return foot_w + share * (head_w - foot_w)


def test_the_fallback_price_says_why_it_is_used() -> None:
    function = SupplyFunction.step(5_000, -1_000.0, 1_000.0)
    heard = propose(function, Price(ticks=5_000, step_share=0.75), 0, "")
    assert (heard.power_w, heard.note) == (500.0, "")
    alone = propose(function, None, 6_000, "group north has heard no price yet")
    assert alone.power_w == 1_000.0
    assert alone.note == "group north has heard no price yet: fallback price 60.00"


# ---- panels alone


def panels_give(power_w: float, at_s: float) -> Snapshot:
    return Snapshot(at_s=at_s, utc_ms=0, inverter_power_w=Sample(power_w, Quality.GOOD, at_s))


def test_curtailed_panels_are_taken_for_what_they_gave_before_and_not_for_ever() -> None:
    panels, _, _ = hybrid(capacity_wh=0.0)
    state = SunState()
    for at_s, told_w, gives_w, could_w in [
        (0.0, None, 3_000.0, 3_000.0),  # by itself
        (10.0, 5_000.0, 2_800.0, 2_800.0),  # less than it may: a cloud
        (20.0, 500.0, 500.0, 2_800.0),  # curtailed
        (20.0 + SUN_STANDS_S / 2, 0.0, 0.0, 2_800.0),
        (10.0 + SUN_STANDS_S, 0.0, 0.0, 0.0),  # the sun has gone on
        (1_000.0, 5_000.0, 2_000.0, 2_000.0),
    ]:
        state = follow_sun(state, panels_give(gives_w, at_s), panels, told_w)
        assert state.power_w == could_w, at_s


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0.05, 600.0), st.none() | st.floats(0.0, 5_000.0), st.floats(0.0, 5_000.0)), max_size=30
    )
)
def test_panels_are_never_taken_for_more_than_they_gave_in_a_quarter_of_an_hour(
    cycles: list[tuple[float, float | None, float]],
) -> None:
    panels, _, _ = hybrid(capacity_wh=0.0)
    state, at_s, gave = SunState(), 0.0, [(0.0, 0.0)]
    for dt_s, told_w, sun_w in cycles:
        at_s += dt_s
        gives_w = sun_w if told_w is None else min(told_w, sun_w)
        gave.append((at_s, gives_w))
        state = follow_sun(state, panels_give(gives_w, at_s), panels, told_w)
        assert 0.0 <= state.power_w <= max(w for then_s, w in gave if at_s - then_s <= SUN_STANDS_S)
