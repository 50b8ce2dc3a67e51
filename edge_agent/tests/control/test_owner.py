"""Ready by, and comfort: bounds under which everything else has its way, and on which nothing has."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.control.arbiter import merge
from edge_agent.control.owner import HEAD_START_S, comfort, device_bounds, ready_by
from edge_agent.control.supply import PriceBand, thermal_load, vehicle
from edge_agent.model.devices import ChargerReading, FlexiblePlate, LoadReading
from edge_agent.model.values import MISSING, PowerBounds, Proposal, Quality, Sample
from edge_agent.tests.control.test_arbiter import proposals

CAR = FlexiblePlate(max_draw_w=11_000.0, least_draw_w=4_140.0)
V2G = FlexiblePlate(max_draw_w=11_000.0, least_draw_w=4_140.0, max_feed_w=8_000.0)
ROD = FlexiblePlate(max_draw_w=2_000.0, least_draw_w=2_000.0)


def good(value: float) -> Sample:
    return Sample(value, Quality.GOOD, 0.0)


def stands(needed_wh: float, ready_in_s: float) -> ChargerReading:
    return ChargerReading(power_w=good(0.0), plugged=True, needed_wh=good(needed_wh), ready_in_s=good(ready_in_s))


@pytest.mark.parametrize(
    ("plate", "reading", "lower_w", "upper_w"),
    [
        pytest.param(CAR, stands(11_000.0, 36_000.0), -11_000.0, 0.0, id="there is time: as one likes, but no feeding"),
        pytest.param(CAR, stands(11_000.0, 3_600.0), -11_000.0, -11_000.0, id="there is none left"),
        pytest.param(CAR, stands(11_000.0, 3_600.0 + HEAD_START_S), -11_000.0, -11_000.0, id="nor beyond a margin"),
        pytest.param(CAR, stands(11_000.0, 3_601.0 + HEAD_START_S), -11_000.0, 0.0, id="a second more"),
        pytest.param(CAR, stands(100.0, -60.0), -11_000.0, -11_000.0, id="late already"),
        pytest.param(CAR, stands(0.0, 3_600.0), -11_000.0, 0.0, id="ready: more if one likes"),
        pytest.param(V2G, stands(0.0, 3_600.0), -11_000.0, 0.0, id="ready to the dot: nothing to feed"),
        pytest.param(V2G, stands(-1.0, 3_600.0), -11_000.0, 8_000.0, id="something to spare"),
        pytest.param(V2G, stands(1.0, 86_400.0), -11_000.0, 0.0, id="nothing to spare"),
        pytest.param(V2G, ChargerReading(plugged=False), 0.0, 0.0, id="no vehicle"),
        pytest.param(V2G, ChargerReading(plugged=True), -11_000.0, -11_000.0, id="a vehicle that tells nothing"),
        pytest.param(V2G, ChargerReading(), -11_000.0, -11_000.0, id="a charger that tells nothing"),
    ],
)
def test_a_vehicles_limits(plate: FlexiblePlate, reading: ChargerReading, lower_w: float, upper_w: float) -> None:
    assert ready_by(plate, reading).bounds == PowerBounds(lower_w=lower_w, upper_w=upper_w)


@pytest.mark.parametrize(
    ("level", "forced", "bounds", "then"),
    [
        pytest.param(-0.2, False, (-2_000.0, -2_000.0), True, id="cold"),
        pytest.param(0.0, False, (-2_000.0, -2_000.0), True, id="at its lower end"),
        pytest.param(0.04, False, (-2_000.0, 0.0), False, id="falling towards it: as one likes"),
        pytest.param(0.04, True, (-2_000.0, -2_000.0), True, id="rising from it: a little further"),
        pytest.param(0.05, True, (-2_000.0, 0.0), False, id="far enough"),
        pytest.param(1.0, False, (0.0, 0.0), False, id="at its upper end"),
        pytest.param(1.3, False, (0.0, 0.0), False, id="hot"),
        pytest.param(None, True, (0.0, 0.0), False, id="not known"),
    ],
)
def test_a_tanks_limits(level: float | None, forced: bool, bounds: tuple[float, float], then: bool) -> None:
    reading = LoadReading(level=good(level) if level is not None else MISSING)
    now, proposal = comfort(ROD, reading, forced=forced)
    assert now is then
    assert proposal.bounds == PowerBounds(lower_w=bounds[0], upper_w=bounds[1])


readings = st.builds(
    ChargerReading,
    power_w=st.just(good(0.0)),
    plugged=st.sampled_from([True, False, None]),
    needed_wh=st.just(MISSING) | st.floats(-50_000, 100_000).map(good),
    ready_in_s=st.just(MISSING) | st.floats(-3_600, 86_400).map(good),
)


@given(plate=st.sampled_from([CAR, V2G]), reading=readings, below=proposals)
def test_nothing_overrides_ready_by(plate: FlexiblePlate, reading: ChargerReading, below: list[Proposal]) -> None:
    """Whatever services, prices and plans propose for the charger, together."""
    owner = ready_by(plate, reading)
    merged = merge([owner, *below], device_bounds(plate), expires_s=1.0)
    if merged is not None:
        assert owner.bounds is not None
        assert owner.bounds.clip(merged.setpoint.power_w) == pytest.approx(merged.setpoint.power_w)


@given(level=st.floats(-1, 2), forced=st.booleans(), below=proposals)
def test_nothing_overrides_comfort(level: float, forced: bool, below: list[Proposal]) -> None:
    _, owner = comfort(ROD, LoadReading(level=good(level)), forced=forced)
    merged = merge([owner, *below], device_bounds(ROD), expires_s=1.0)
    if merged is not None:
        assert owner.bounds is not None
        assert owner.bounds.clip(merged.setpoint.power_w) == pytest.approx(merged.setpoint.power_w)


@settings(deadline=None, max_examples=30)
@given(
    needed_wh=st.floats(500, 60_000),
    spare_h=st.floats(0.2, 12),
    prices=st.lists(st.integers(0, 20_000), min_size=4, max_size=24),
)
def test_a_vehicle_that_follows_any_prices_is_ready_in_time(
    needed_wh: float, spare_h: float, prices: list[int]
) -> None:
    """A night by its own supply function, however dear it is, at the arbiter: what is needed is in before the time."""
    takes_s = needed_wh * 3600 / CAR.max_draw_w
    total_s = takes_s + HEAD_START_S + spare_h * 3600
    band, left_wh, now_s, dt_s = PriceBand(low_ticks=0, high_ticks=20_000), needed_wh, 0.0, 60.0
    while now_s < total_s:
        price = prices[min(len(prices) - 1, int(now_s / total_s * len(prices)))]
        function = vehicle(needed_wh=left_wh, ready_in_s=total_s - now_s, max_charge_w=CAR.max_draw_w, band=band)
        owner = ready_by(CAR, stands(left_wh, total_s - now_s))
        wish = Proposal(source="price", power_w=function.power_w(price))
        merged = merge([owner, wish], device_bounds(CAR), expires_s=math.inf)
        assert merged is not None
        left_wh += merged.setpoint.power_w * min(dt_s, total_s - now_s) / 3600
        now_s += dt_s
    assert left_wh <= 1e-6


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-5_000, 30_000), min_size=1, max_size=24), st.floats(0.0, 1.0))
def test_a_tank_that_follows_any_prices_stays_within_comfort(prices: list[int], level: float) -> None:
    """Two days in which half of its rod's power is drawn off or lost."""
    band, forced = PriceBand(low_ticks=0, high_ticks=20_000), False
    for minute in range(2 * 24 * 60):
        function = thermal_load(level=level, max_power_w=ROD.max_draw_w, band=band)
        forced, owner = comfort(ROD, LoadReading(level=good(level)), forced=forced)
        price = prices[minute * len(prices) // (2 * 24 * 60)]
        merged = merge(
            [owner, Proposal(source="price", power_w=function.power_w(price))], device_bounds(ROD), expires_s=math.inf
        )
        assert merged is not None
        level += (-merged.setpoint.power_w / ROD.max_draw_w - 0.5) * 60 / 7_200  # filled in two hours
        assert -0.01 <= level <= 1.01
