"""Schedules against closed forms, an exhaustive search, and what no plan may ever do."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.optimise.bench import example, solve_seconds
from cloud.optimise.problem import Horizon, Plan, ReserveTerms, Storage
from cloud.optimise.schedule import Problem, opportunity_cost, solve, solve_all

HOUR = 3600
# A watt of tolerance is 1e-3 kW; the solver works to 1e-7 kW.
TOLERANCE_W, TOLERANCE_WH = 1e-2, 1e-2


def storage(**changes: float) -> Storage:
    values = {
        "rated_power_w": 5_000.0,
        "max_charge_w": 5_000.0,
        "max_discharge_w": 5_000.0,
        "capacity_wh": 10_000.0,
        "soc_min": 0.0,
        "soc_max": 1.0,
        "charge_efficiency": 1.0,
        "discharge_efficiency": 1.0,
        "wear_per_kwh": 0.0,
    }
    return Storage(**(values | changes))


def horizon(prices: list[float], *, load_w: float = 0.0, pv_w: float = 0.0, terminal_value: float = 0.0) -> Horizon:
    price = np.array(prices)
    return Horizon(
        mtu_s=HOUR,
        load_w=np.full(price.size, load_w),
        pv_w=np.full(price.size, pv_w),
        import_price=price,
        export_price=price,
        terminal_value=terminal_value,
    )


def terms(units: list[int], of: int, **changes: object) -> ReserveTerms:
    mask = np.zeros(of, dtype=bool)
    mask[units] = True
    values: dict[str, object] = {
        "units": mask,
        "sustain_s": 3600.0,
        "upward": True,
        "downward": False,
        "limit_w": 5_000.0,
        "delivery_h": float(len(units)),
    }
    return ReserveTerms(**(values | changes))  # type: ignore[arg-type]


def test_buys_cheap_and_sells_dear() -> None:
    plan = solve(
        Problem(storage=storage(charge_efficiency=0.9, discharge_efficiency=0.9), horizon=horizon([0.1, 0.5]), soc=0.0)
    )
    # 5 kWh bought for 0.50 become 4.5 stored and 4.05 sold for 2.025
    assert plan.inverter_power_w == pytest.approx([-5_000, 4_050])
    assert plan.soc == pytest.approx([0.0, 0.45, 0.0], abs=1e-9)
    assert plan.cost == pytest.approx(0.5 - 2.025)
    assert plan.status == "optimal"


@settings(deadline=None, max_examples=25)
@given(
    prices=st.lists(st.floats(0.01, 1.0), min_size=2, max_size=12),
    soc=st.floats(0.05, 0.9),
    load_w=st.floats(0, 3_000),
    pv_w=st.floats(0, 3_000),
)
def test_stored_energy_is_worth_what_a_little_more_of_it_would_save(
    prices: list[float], soc: float, load_w: float, pv_w: float
) -> None:
    """The dual against a finite difference: between what a little less costs and a little more saves."""
    problem = Problem(
        storage=storage(charge_efficiency=0.95, discharge_efficiency=0.9, wear_per_kwh=0.01),
        horizon=horizon(prices, load_w=load_w, pv_w=pv_w, terminal_value=0.2),
        soc=soc,
    )
    plan, step = solve(problem), 1e-4
    less, more = (solve(replace(problem, soc=soc + by)).cost for by in (-step, step))
    assert plan.stored_value_per_kwh is not None
    kwh = step * 10.0
    saved, lost = (plan.cost - more) / kwh, (less - plan.cost) / kwh
    assert saved - 1e-3 <= plan.stored_value_per_kwh[0] <= lost + 1e-3


def test_stored_energy_is_worth_what_it_saves_buying_or_what_is_left_of_it() -> None:
    """Room is filled at 0.1, so that more at first saves that; later both limits bind and more is left over, at 0.2."""
    plan = solve(
        Problem(
            storage=storage(discharge_efficiency=0.9),
            horizon=horizon([0.1, 0.1, 0.5, 0.1], terminal_value=0.2),
            soc=0.3,
        )
    )
    assert plan.soc == pytest.approx([0.3, 0.5, 1.0, 1.0 - 0.5 / 0.9, 1.5 - 0.5 / 0.9])
    assert plan.stored_value_per_kwh == pytest.approx([0.1, 0.1, 0.2, 0.2])


def test_an_award_that_binds_is_no_price_of_energy() -> None:
    """Where every kWh more would mean more reserve held, it is still worth no more than energy costs."""
    prices = [0.3, 0.3, 0.3]
    held = terms([1], 3, awarded_w=5_000.0)
    plan = solve(Problem(storage=storage(max_charge_w=100.0), horizon=horizon(prices), soc=0.2, reserve=held))
    assert plan.shortfall_w > 0
    assert plan.stored_value_per_kwh is not None
    assert plan.stored_value_per_kwh.max() <= 0.3 + 1e-9


def test_wear_keeps_a_spread_that_does_not_pay_untouched() -> None:
    plan = solve(Problem(storage=storage(wear_per_kwh=0.1), horizon=horizon([0.20, 0.29]), soc=0.0))
    assert plan.inverter_power_w == pytest.approx([0, 0])


def test_the_meter_sees_load_and_sun() -> None:
    plan = solve(Problem(storage=storage(capacity_wh=0.0), horizon=horizon([0.3], load_w=1_000, pv_w=7_000), soc=0.0))
    assert plan.inverter_power_w == pytest.approx([5_000])  # the rating
    assert plan.grid_power_w == pytest.approx([4_000])
    assert plan.cost == pytest.approx(-1.2)


def test_import_and_export_have_their_own_price() -> None:
    dear = replace(horizon([0.3], load_w=2_000), export_price=np.array([0.1]))
    plan = solve(Problem(storage=storage(), horizon=dear, soc=1.0))
    # 2 kW save 0.3 each, the other 3 kW earn 0.1: all of it is worth more than a terminal value of 0
    assert plan.cost == pytest.approx(-0.3)
    kept = solve(Problem(storage=storage(), horizon=replace(dear, terminal_value=0.2), soc=1.0))
    assert kept.grid_power_w == pytest.approx([0])


def test_reserve_costs_the_margin_it_displaces() -> None:
    problem = Problem(
        storage=storage(), horizon=horizon([0.5], terminal_value=0.2), soc=1.0, reserve=terms([0], 1, sustain_s=600.0)
    )
    # without reserve 5 kW earn 0.3 each over the terminal value; 2 kW of reserve displace 2 kWh of it
    assert opportunity_cost(problem, 2_000.0) == pytest.approx(0.6)


def test_reserve_holds_energy_back_as_well_as_power() -> None:
    # 3 kWh stored, 0.9 out: 2.7 kW for an hour is all that can be promised
    problem = Problem(
        storage=storage(discharge_efficiency=0.9),
        horizon=horizon([0.0, 0.0]),
        soc=0.3,
        reserve=terms([0], 2, price_per_mw_h=100.0),
    )
    plan = solve(problem)
    assert plan.reserve_w == pytest.approx(2_700)
    short = solve(replace(problem, reserve=terms([0], 2, awarded_w=4_000.0)))
    assert short.reserve_w == pytest.approx(2_700)
    assert short.shortfall_w == pytest.approx(1_300)


def test_a_symmetric_service_needs_room_both_ways() -> None:
    problem = Problem(
        storage=storage(charge_efficiency=0.8),
        horizon=horizon([0.0]),
        soc=0.9,
        reserve=terms([0], 1, upward=True, downward=True, price_per_mw_h=100.0),
    )
    # 1 kWh of room takes 1.25 kW for an hour
    assert solve(problem).reserve_w == pytest.approx(1_250)


def test_reserve_never_relies_on_the_sun() -> None:
    sunny = Problem(
        storage=storage(max_discharge_w=1_000.0),
        horizon=horizon([0.1], pv_w=4_000),
        soc=1.0,
        reserve=terms([0], 1, sustain_s=60.0, price_per_mw_h=1e4),
    )
    assert solve(sunny).reserve_w == pytest.approx(1_000)


def test_reserve_beats_energy_only_at_a_price_that_pays() -> None:
    # a kW of reserve displaces 0.3 of margin in its hour: 300 per MW and hour
    held = [
        solve(
            Problem(
                storage=storage(),
                horizon=horizon([0.5], terminal_value=0.2),
                soc=1.0,
                reserve=terms([0], 1, sustain_s=600.0, limit_w=2_000.0, price_per_mw_h=price),
            )
        ).reserve_w
        for price in (299.0, 301.0)
    ]
    assert held == pytest.approx([0, 2_000])


@pytest.mark.parametrize("seed", range(6))
def test_as_good_as_trying_everything(seed: int) -> None:
    """A lossless storage moved in whole kWh: the programme's corners are whole, so a search over them is the truth."""
    rng = np.random.default_rng(seed)
    price = rng.integers(-3, 12, 5) / 10
    load, reserve_kw = rng.integers(0, 3, 5), int(rng.integers(0, 3))
    unit = int(rng.integers(0, 5))
    capacity, start, rating, terminal = 4, 2, 2, 0.3
    best = np.inf
    for moves in itertools.product(range(-rating, rating + 1), repeat=5):  # discharge, kW
        level = start - np.concatenate(([0], np.cumsum(moves)))
        if level.min() < 0 or level.max() > capacity or moves[unit] + reserve_kw > rating:
            continue
        if min(level[unit], level[unit + 1]) < reserve_kw:
            continue
        best = min(best, float(((load - np.array(moves)) * price).sum()) - terminal * level[-1])
    plan = solve(
        Problem(
            storage=storage(rated_power_w=2_000.0, max_charge_w=2_000.0, max_discharge_w=2_000.0, capacity_wh=4_000.0),
            horizon=replace(horizon(price.tolist(), terminal_value=terminal), load_w=load.astype(np.float64) * 1e3),
            soc=0.5,
            reserve=terms([unit], 5, awarded_w=reserve_kw * 1e3),
        )
    )
    if np.isfinite(best):
        assert plan.shortfall_w == 0
        assert plan.cost == pytest.approx(best, abs=1e-6)
    else:
        assert plan.shortfall_w > 0


def test_a_storage_outside_its_band_promises_nothing() -> None:
    full = Problem(
        storage=storage(soc_max=0.8, max_discharge_w=100.0),
        horizon=horizon([0.2, 0.2]),
        soc=1.0,
        reserve=terms([1], 2, upward=False, downward=True, awarded_w=500.0),
    )
    plan = solve(full)
    assert (plan.status, plan.reserve_w, plan.shortfall_w) == ("optimal", 0.0, 500.0)


def test_negative_prices_do_not_burn_energy_in_the_storage() -> None:
    lossy = storage(charge_efficiency=0.7, discharge_efficiency=0.7)
    plan = solve(Problem(storage=lossy, horizon=horizon([-0.5] * 6), soc=0.5))
    for power_w, before, after in zip(plan.inverter_power_w, plan.soc[:-1], plan.soc[1:], strict=True):
        stored_wh = -power_w * 0.7 if power_w < 0 else -power_w / 0.7
        assert (after - before) * 10_000 == pytest.approx(stored_wh, abs=1e-3)


problems = st.builds(
    lambda store, seed, units, soc, reserve: Problem(
        storage=store,
        horizon=_drawn_horizon(seed, units),
        soc=soc,
        reserve=replace(reserve, units=_drawn_units(seed, units)),
    ),
    st.builds(
        Storage,
        rated_power_w=st.floats(1_000, 10_000),
        max_charge_w=st.floats(0, 12_000),
        max_discharge_w=st.floats(0, 12_000),
        capacity_wh=st.floats(500, 30_000),
        soc_min=st.floats(0, 0.4),
        soc_max=st.floats(0.6, 1),
        charge_efficiency=st.floats(0.7, 1),
        discharge_efficiency=st.floats(0.7, 1),
    ),
    st.integers(0, 2**32),
    st.integers(1, 24),
    st.floats(0, 1),
    st.builds(
        ReserveTerms,
        units=st.just(np.zeros(0, dtype=bool)),
        sustain_s=st.floats(1, 3600),
        upward=st.booleans(),
        downward=st.booleans(),
        limit_w=st.floats(0, 12_000),
        delivery_h=st.floats(0.01, 4),
        price_per_mw_h=st.floats(0, 1_000),
        awarded_w=st.none() | st.floats(0, 12_000),
    ),
)


def _drawn_horizon(seed: int, units: int) -> Horizon:
    rng = np.random.default_rng(seed)
    price = rng.uniform(-0.2, 0.6, units) if seed % 3 == 0 else rng.uniform(0.05, 0.6, units)
    return Horizon(
        mtu_s=900,
        load_w=rng.gamma(2.0, 500.0, units),
        pv_w=rng.uniform(0, 8_000, units) * (rng.random(units) < 0.5),
        import_price=price,
        export_price=price - rng.uniform(0, 0.1),
        terminal_value=float(rng.uniform(0, 0.5)),
    )


def _drawn_units(seed: int, units: int) -> np.ndarray:
    rng = np.random.default_rng(seed + 1)
    first = int(rng.integers(0, units))
    mask = np.zeros(units, dtype=bool)
    mask[first : first + int(rng.integers(1, 5))] = True
    return mask


def check(problem: Problem, plan: Plan) -> None:
    """What holds for every plan, from the plan's own numbers."""
    store, reserve = problem.storage, problem.reserve
    assert reserve is not None
    power, energy = plan.inverter_power_w, plan.soc * store.capacity_wh
    assert np.abs(power).max() <= store.rated_power_w + TOLERANCE_W
    floor, ceiling = store.soc_min * store.capacity_wh, store.soc_max * store.capacity_wh
    start = problem.soc * store.capacity_wh
    assert energy.min() >= min(floor, start) - TOLERANCE_WH
    assert energy.max() <= max(ceiling, start) + TOLERANCE_WH
    hours = problem.horizon.mtu_s / 3600
    change = np.diff(energy)
    assert change.max() <= store.max_charge_w * store.charge_efficiency * hours + TOLERANCE_WH
    assert change.min() >= -store.max_discharge_w / store.discharge_efficiency * hours - TOLERANCE_WH
    # the storage's own AC power if it only ever does one thing; the rest is sun, which is not more than there is
    of_storage = np.where(change > 0, -change / store.charge_efficiency, -change * store.discharge_efficiency) / hours
    sun = power - of_storage
    assert sun.min() >= -TOLERANCE_W * 4
    assert (sun <= np.maximum(problem.horizon.pv_w, 0) + TOLERANCE_W * 4).all()
    held = plan.reserve_w
    assert held >= 0
    limit = reserve.limit_w if reserve.awarded_w is None else reserve.awarded_w
    assert held <= limit + TOLERANCE_W
    assert plan.shortfall_w == pytest.approx(max(0.0, limit - held) if reserve.awarded_w is not None else 0, abs=0.1)
    if held < 1e-3:
        return
    at = np.flatnonzero(reserve.units)
    ends = np.unique(np.concatenate((at, at + 1)))
    sustain_h = reserve.sustain_s / 3600
    if reserve.upward:
        assert (power[at] + held <= store.rated_power_w + TOLERANCE_W).all()
        assert (of_storage[at] + held <= store.max_discharge_w + TOLERANCE_W * 4).all()
        assert (energy[ends] - held * sustain_h / store.discharge_efficiency >= floor - TOLERANCE_WH).all()
    if reserve.downward:
        assert (power[at] - held >= -store.rated_power_w - TOLERANCE_W).all()
        assert (of_storage[at] - held >= -store.max_charge_w - TOLERANCE_W * 4).all()
        assert (energy[ends] + held * sustain_h * store.charge_efficiency <= ceiling + TOLERANCE_WH).all()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problem=problems)
def test_no_plan_promises_what_is_not_there(problem: Problem) -> None:
    plan = solve(problem)
    assert plan.status == "optimal"
    check(problem, plan)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problem=problems)
def test_without_time_there_is_still_a_possible_plan(problem: Problem) -> None:
    plan = solve(problem, time_limit_s=0.0)
    assert plan.status in ("optimal", "time limit", "at rest")
    check(problem, plan)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problem=problems)
def test_holding_more_never_costs_less(problem: Problem) -> None:
    assert problem.reserve is not None
    most = solve(replace(problem, reserve=replace(problem.reserve, awarded_w=12_000.0))).reserve_w
    costs = [opportunity_cost(problem, share * most) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert costs[0] == pytest.approx(0, abs=1e-6)
    assert (np.diff(costs) >= -1e-5).all()


def test_many_homes_at_once_are_the_same_as_one_by_one() -> None:
    homes = [example(seed) for seed in range(4)]
    assert [plan.cost for plan in solve_all(homes)] == pytest.approx([solve(home).cost for home in homes])


def test_the_bench_takes_a_time_for_each_home() -> None:
    ticks = itertools.count()
    assert solve_seconds(3, lambda: float(next(ticks))).tolist() == [1.0, 1.0, 1.0]


def test_a_problem_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="export price above import price"):
        replace(horizon([0.1]), export_price=np.array([0.2]))
    with pytest.raises(ValueError, match="not a number"):
        replace(horizon([0.1]), load_w=np.array([np.nan]))
    with pytest.raises(ValueError, match=r"soc 1\.5"):
        solve(Problem(storage=storage(), horizon=horizon([0.1]), soc=1.5))
    with pytest.raises(ValueError, match="soc_min"):
        storage(soc_min=0.9, soc_max=0.5)
    with pytest.raises(ValueError, match="no reserve terms"):
        opportunity_cost(Problem(storage=storage(), horizon=horizon([0.1]), soc=0.5), 1.0)
