"""A charger's and a load's outlook: which limit binds, what is counted, and that nothing gets out of them."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.control import flexible
from edge_agent.control.arbiter import merge
from edge_agent.control.flexible import Outlook, State
from edge_agent.control.owner import HEAD_START_S, device_bounds
from edge_agent.control.running import Run, Times
from edge_agent.control.stay import Stay, Wants
from edge_agent.control.supply import PriceBand
from edge_agent.model.devices import ChargerReading, FlexiblePlate, LoadReading
from edge_agent.model.values import MISSING, PowerBounds, Proposal, Quality, Sample, admitted
from edge_agent.safety.gate import admit
from edge_agent.tests.control.test_arbiter import proposals

CAR = FlexiblePlate(max_draw_w=11_040.0, least_draw_w=4_140.0)
ROD = FlexiblePlate(max_draw_w=2_000.0, least_draw_w=2_000.0)
NO_TIMES = Times()
TIMES = Times(min_run_s=300.0, min_off_s=300.0, max_off_s=7_200.0)
BAND = PriceBand(low_ticks=2_000, high_ticks=10_000)
T0_MS = 1_790_000_000_000


def good(value: float, at_s: float = 0.0) -> Sample:
    return Sample(value, Quality.GOOD, at_s)


def car(power_w: float, *, plugged: bool | None = True, session_wh: float | None = None) -> ChargerReading:
    told = good(session_wh) if session_wh is not None else MISSING
    return ChargerReading(power_w=good(power_w), plugged=plugged, session_wh=told)


def charger(
    state: State,
    reading: ChargerReading,
    now_s: float,
    *,
    wants: Wants | None = None,
    times: Times = NO_TIMES,
    room_w: float = math.inf,
    told_w: float | None = None,
    told_for_s: float = math.inf,
) -> tuple[State, Outlook]:
    return flexible.charger(
        state,
        reading,
        CAR,
        times,
        wants,
        room_w=room_w,
        told_w=told_w,
        told_for_s=told_for_s,
        now_s=now_s,
        utc_ms=T0_MS + round(now_s * 1e3),
    )


def wants(energy_wh: float, in_s: float) -> Wants:
    return Wants(energy_wh=energy_wh, ready_at_ms=T0_MS + round(in_s * 1e3))


# ---- what is counted


@pytest.mark.parametrize(
    ("readings", "drawn_wh"),
    [
        pytest.param([(0, -3600.0, None), (10, -3600.0, None), (20, 0.0, None), (30, 0.0, None)], 20.0, id="by power"),
        pytest.param([(0, -3600.0, None), (1000, 0.0, None)], 60.0, id="over a gap no longer than a minute"),
        pytest.param([(0, 0.0, 500.0), (10, 0.0, 500.0), (20, 0.0, 700.0)], 200.0, id="by its own counter"),
        pytest.param([(0, 0.0, 500.0), (1000, 0.0, 900.0)], 400.0, id="which goes on while nobody listens"),
        pytest.param([(0, 0.0, 500.0), (10, 0.0, 3.0), (20, 0.0, 8.0)], 8.0, id="and begins anew with the session"),
    ],
)
def test_energy_of_a_stay(readings: list[tuple[float, float, float | None]], drawn_wh: float) -> None:
    state, _ = charger(State(), car(0.0, plugged=False), -1.0)
    for now_s, power_w, session_wh in readings:
        state, _ = charger(state, car(power_w, session_wh=session_wh), now_s)
    assert state.stay is not None
    assert state.stay.drawn_wh == pytest.approx(drawn_wh)
    state, _ = charger(state, car(0.0, plugged=False), 2_000.0)
    assert state.stay is not None
    assert state.stay.drawn_wh == 0.0, "the next one has got nothing yet"


def test_what_was_wanted_when_it_came_holds_for_its_whole_stay() -> None:
    state, outlook = charger(State(), car(0.0), 0.0, wants=wants(5_000.0, 36_000.0))
    assert outlook.needed_wh == 5_000.0
    state, outlook = charger(state, car(0.0), 40_000.0, wants=wants(5_000.0, 36_000.0 + 86_400.0))
    assert outlook.ready_in_s == -4_000.0
    assert outlook.bounds == PowerBounds(lower_w=-11_040.0, upper_w=-11_040.0), "late: now"


# ---- which limit binds


def test_a_vehicle_that_is_wanted_at_no_time_may_wait_for_ever_and_charges_where_nobody_asks() -> None:
    _, outlook = charger(State(), car(0.0), 0.0)
    assert outlook.bounds == PowerBounds(lower_w=-11_040.0, upper_w=0.0)
    assert outlook.default_w == -11_040.0
    function = outlook.at_prices(BAND)
    assert [function.power_w(ticks) for ticks in (5_999, 6_001)] == [-11_040.0, 0.0]


def test_least_times_bind_a_price_and_not_who_wants_to_leave() -> None:
    state, _ = charger(State(), car(-11_040.0), 0.0, times=TIMES)
    state, _ = charger(state, car(0.0), 10.0, times=TIMES)
    state, outlook = charger(state, car(0.0), 20.0, times=TIMES)
    assert outlook.bounds == PowerBounds(lower_w=0.0, upper_w=0.0)
    assert outlook.reason == "rests for 5 min at least"
    soon = replace(state, stay=Stay(at_s=20.0, plugged=True, wants=wants(5_000.0, 600.0)))
    _, outlook = charger(soon, car(0.0), 21.0, times=TIMES)
    assert outlook.bounds.upper_w == -11_040.0
    state, _ = charger(state, car(-11_040.0), 400.0, times=TIMES)
    _, outlook = charger(state, car(-11_040.0), 500.0, times=TIMES)
    assert outlook.bounds == PowerBounds(lower_w=-11_040.0, upper_w=-4_140.0)
    assert outlook.reason == "runs for 3 min more at least"


@pytest.mark.parametrize(
    ("level", "before", "bounds", "reason"),
    [
        pytest.param(0.5, [], (-2_000.0, 0.0), "", id="as one likes"),
        pytest.param(-0.1, [], (-2_000.0, -2_000.0), "below the owner's comfort", id="cold"),
        pytest.param(1.1, [(0, -2_000.0)], (0.0, 0.0), "as full as allowed", id="hot, though it has just begun"),
        pytest.param(-0.1, [(0, -2_000.0), (50, 0.0)], (0.0, 0.0), "rests for 4 min at least", id="cold, and worn"),
        pytest.param(
            None, [(-9_000, 0.0)], (0.0, 0.0), "level is not known", id="a sensor that broke: its own thermostat"
        ),
    ],
)
def test_a_loads_limits(
    level: float | None, before: list[tuple[float, float]], bounds: tuple[float, float], reason: str
) -> None:
    state = State()
    for now_s, power_w in before:
        state, _ = flexible.load(
            state, LoadReading(power_w=good(power_w), level=good(0.5)), ROD, TIMES, has_level=True, now_s=now_s
        )
    power_w = before[-1][1] if before else 0.0
    told = good(level) if level is not None else MISSING
    if not before:  # it has rested for long
        state = replace(state, run=Run(runs=False))
        times = replace(TIMES, max_off_s=math.inf)
    else:
        times = TIMES
    reading = LoadReading(power_w=good(power_w), level=told)
    _, outlook = flexible.load(state, reading, ROD, times, has_level=True, now_s=100.0)
    assert (outlook.bounds.lower_w, outlook.bounds.upper_w) == bounds
    assert outlook.reason == reason


def test_a_relay_that_knows_no_temperature_is_kept_off_no_longer_than_allowed() -> None:
    state, outlook = State(), None
    for minute in range(121):
        reading = LoadReading(power_w=good(0.0))
        state, outlook = flexible.load(state, reading, ROD, TIMES, has_level=False, now_s=60.0 * minute)
    assert outlook is not None
    assert outlook.bounds == PowerBounds(lower_w=-2_000.0, upper_w=-2_000.0)
    assert outlook.reason == "it was kept from running for 120 min"


# ---- whatever happens


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.tuples(
            st.floats(1.0, 900.0),  # between readings
            st.sampled_from([True, True, True, False, None]),
            st.floats(-12_000.0, 100.0),  # what is measured, whatever was asked
            proposals,
            st.none() | st.floats(-15_000.0, 5_000.0),  # what the grid connection leaves
            st.none() | st.tuples(st.floats(100.0, 60_000.0), st.floats(-3_600.0, 86_400.0)),
        ),
        max_size=12,
    )
)
def test_what_reaches_a_charger_is_inside_every_bound(
    steps: list[tuple[float, bool | None, float, list[Proposal], float | None, tuple[float, float] | None]],
) -> None:
    state, now_s, told_w = State(), 0.0, None
    for dt_s, plugged, power_w, below, lower_w, asked in steps:
        now_s += dt_s
        reading = replace(car(power_w, plugged=plugged), power_w=good(power_w, now_s))
        room = PowerBounds(lower_w=min(0.0, lower_w), upper_w=max(0.0, lower_w)) if lower_w is not None else None
        state, outlook = charger(
            state,
            reading,
            now_s,
            wants=wants(asked[0], now_s + asked[1]) if asked is not None else None,
            times=TIMES,
            room_w=-room.lower_w if room is not None else math.inf,
            told_w=told_w,
        )
        function = outlook.at_prices(BAND).clipped(outlook.bounds)
        assert all(outlook.bounds.lower_w <= w <= outlook.bounds.upper_w for _, w in function.points)
        merged = merge([*outlook.limits, *below], device_bounds(CAR), expires_s=math.inf)
        if merged is None:
            continue
        assert outlook.bounds.clip(merged.setpoint.power_w) == pytest.approx(merged.setpoint.power_w)
        verdict = admit(
            merged.setpoint, device_bounds(CAR), envelope=room, rated_power_w=CAR.max_draw_w, read_s=now_s,
            previous_w=None, ramp_w_per_s=None, dt_s=0.0, now_s=now_s,
        )  # fmt: skip
        passed = admitted(verdict)
        assert passed is not None
        told_w = passed.setpoint.power_w
        assert -CAR.max_draw_w <= told_w <= 0.0
        assert room is None or room.lower_w <= told_w
        if plugged is False:
            assert told_w == 0.0


@settings(deadline=None, max_examples=40)
@given(
    energy_wh=st.floats(500.0, 60_000.0),
    spare_h=st.floats(0.0, 12.0),
    share=st.floats(0.3, 1.0),
    prices=st.lists(st.integers(-5_000, 900_000), min_size=1, max_size=24),
    room_w=st.sampled_from([math.inf, 9_000.0, 5_000.0]),
)
def test_a_vehicle_is_ready_whenever_that_is_possible(
    energy_wh: float, spare_h: float, share: float, prices: list[int], room_w: float
) -> None:
    """At any prices, with least times, behind a grid connection that leaves less, and taking what was learned of it."""
    charges_w = min(CAR.max_draw_w * share, room_w)
    step_s = 30.0
    total_s = energy_wh * 3600.0 / charges_w + HEAD_START_S + spare_h * 3600.0
    state, now_s, drawn_wh, power_w, told_w, told_s = State(stay=Stay(at_s=0.0, share=share)), 0.0, 0.0, 0.0, None, 0.0
    while now_s < total_s:
        state, outlook = charger(
            state, car(power_w, session_wh=drawn_wh), now_s, wants=wants(energy_wh, total_s), times=TIMES,
            room_w=room_w, told_w=told_w, told_for_s=now_s - told_s,
        )  # fmt: skip
        price = prices[min(len(prices) - 1, int(now_s / total_s * len(prices)))]
        wish = Proposal(source="price", power_w=outlook.at_prices(BAND).power_w(price))
        merged = merge([*outlook.limits, wish], device_bounds(CAR), expires_s=math.inf)
        assert merged is not None
        asked_w = max(-room_w, merged.setpoint.power_w)
        if asked_w != told_w:
            told_w, told_s = asked_w, now_s
        power_w = max(told_w, -CAR.max_draw_w * share) if -told_w >= CAR.least_draw_w else 0.0
        dt_s = min(step_s, total_s - now_s)
        drawn_wh -= power_w * dt_s / 3600.0
        now_s += step_s
    assert drawn_wh >= energy_wh - 1.0
