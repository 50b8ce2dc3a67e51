import itertools
from fractions import Fraction
from typing import Any

import highspy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.dispatch.curve import Curve
from cloud.dispatch.nested import Nested, NestedClearing
from cloud.dispatch.prices import Array, Price, PriceGrid
from cloud.dispatch.rows import Rows, powers_at, usable, whole_watts
from cloud.dispatch.tree import Limits, Tree

GRID = PriceGrid(-20, 60)
INF = float("inf")


def rows(*functions: list[tuple[int, int]], breakpoints: int = 16) -> Rows:
    """Functions as (price, power) points; prices in ticks as the market counts them."""
    full = [points + [points[-1]] * (breakpoints - len(points)) for points in functions]
    table = np.array(full, dtype=np.int32)
    return Rows(np.ascontiguousarray(table[:, :, 0].T) - GRID.first, np.ascontiguousarray(table[:, :, 1].T))


def exact_power(points: list[tuple[int, int]], price: Price) -> Fraction:
    """What the contract says (supply.proto, broadcast.proto), in fractions and by nothing of what is tested."""
    at = Fraction(price.ticks) + Fraction(price.tick_fraction)
    here = [power for tick, power in points if tick == at]
    if here:
        return here[0] + Fraction(price.step_share) * (here[-1] - here[0])
    below, above = [p for p in points if p[0] < at], [p for p in points if p[0] > at]
    if not below:
        return Fraction(points[0][1])
    if not above:
        return Fraction(points[-1][1])
    (t0, p0), (t1, p1) = below[-1], above[0]
    return p0 + (p1 - p0) * (at - t0) / (t1 - t0)


@st.composite
def functions(draw: st.DrawFn) -> list[tuple[int, int]]:
    count = draw(st.integers(1, 8))
    ticks = sorted(draw(st.lists(st.integers(GRID.first, GRID.last), min_size=count, max_size=count)))
    powers = sorted(draw(st.lists(st.integers(-5000, 5000), min_size=count, max_size=count)))
    return list(zip(ticks, powers, strict=True))


fleets = st.lists(functions(), min_size=1, max_size=12)


def test_worked_example_half_way_up_a_slope_and_half_way_up_a_step() -> None:
    curve = Curve.of(rows([(0, 0), (10, 1000)], [(5, 0), (5, 400)]), GRID)
    assert GRID.price(curve.clear(250).position) == Price(2, 1.0, 0.5)
    assert GRID.price(curve.clear(700).position) == Price(5, 0.5, 0.0)
    assert GRID.price(curve.clear(1400).position) == Price(10, 0.0, 0.0)


def test_where_nobody_reacts_the_lowest_price_is_taken() -> None:
    curve = Curve.of(rows([(-10, -100), (-10, 0), (30, 0), (30, 100)]), GRID)
    assert GRID.price(curve.clear(0).position).ticks == -10
    assert curve.clear(0).power_w == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("target_w", "nearest_w"), [(901.5, 900), (-301.5, -300)])
def test_out_of_reach_is_proven_with_the_nearest_power(target_w: float, nearest_w: float) -> None:
    clearing = Curve.of(rows([(0, -300), (10, 900)]), GRID).clear(target_w)
    assert (clearing.feasible, clearing.power_w) == (False, nearest_w)


@given(fleets, st.integers(-70_000, 70_000))
def test_a_target_is_met_to_a_watt_or_nobody_can(fleet: list[list[tuple[int, int]]], target_w: int) -> None:
    table = rows(*fleet)
    clearing = Curve.of(table, GRID).clear(target_w)
    reach = sum(points[0][1] for points in fleet), sum(points[-1][1] for points in fleet)
    nearest_w = min(max(target_w, reach[0]), reach[1])
    powers_w = powers_at(table, clearing.position)
    assert clearing.feasible == (abs(nearest_w - target_w) <= 1)
    assert powers_w.sum() == pytest.approx(nearest_w, abs=0.01)
    said = GRID.price(clearing.position)  # what goes out, in millionths
    told = [float(exact_power(points, said)) for points in fleet]
    assert powers_at(table, GRID.position(said)) == pytest.approx(told, abs=1e-6)
    assert told == pytest.approx(powers_w.tolist(), abs=0.02)
    assert whole_watts(powers_w, 3).sum() == pytest.approx(nearest_w, abs=0.02)


@given(fleets, fleets, st.randoms(use_true_random=False))
def test_updates_leave_what_a_new_sum_would_be(
    before: list[list[tuple[int, int]]], after: list[list[tuple[int, int]]], random: object
) -> None:
    count = min(len(before), len(after))
    old, new = rows(*before), rows(*after[:count])
    curve = Curve.of(old, GRID)
    curve.update(old.take(slice(0, count)), new)
    fresh = Curve.of(rows(*after[:count], *before[count:]), GRID)
    assert curve.drift_w(fresh) < 1e-6


def test_what_would_spoil_the_sum_is_found() -> None:
    good = rows([(0, 0), (10, 5)])
    falls = rows([(10, 0), (0, 5)])
    back = rows([(0, 5), (10, 0)])
    beyond = rows([(0, 0), (GRID.last + 1, 5)])
    below = rows([(GRID.first - 1, 0)])
    assert [bool(usable(table, GRID)[0]) for table in (good, falls, back, beyond, below)] == [True] + [False] * 4


def test_left_over_watts_rotate() -> None:
    power_w = np.full(7, 10 / 7)
    dealt = np.array([whole_watts(power_w, cycle) for cycle in range(700)])
    assert (dealt.sum(axis=1) == 10).all()
    assert set(np.unique(dealt)) == {1, 2}
    assert dealt.mean(axis=0) == pytest.approx(power_w, abs=0.01)


def steps_only(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The staircase that has each power from its price on."""
    return [
        point for (_, before), (tick, power) in itertools.pairwise(points) for point in ((tick, before), (tick, power))
    ] or points[:1]


def least_cost(
    fleet: list[list[tuple[int, int]]], node: Array, parents: list[int], limits: Limits, target_w: float
) -> float:
    """The same by linear programming: cheapest powers that meet the target and every limit. Infinite: none."""
    model: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    model.setOptionValue("output_flag", False)
    inside: dict[int, list[Any]] = {n: [] for n in range(len(parents))}
    cost: list[Any] = []
    for points, at in zip(fleet, node.tolist(), strict=True):
        parts: list[Any] = [float(points[0][1])]
        for (tick, before), (_, power) in itertools.pairwise(points):
            if power > before:
                part = model.addVariable(lb=0.0, ub=float(power - before))
                parts.append(part)
                cost.append(tick * part)
        while at >= 0:
            inside[at].extend(parts)
            at = parents[at]
    fixed = model.addVariable(lb=1.0, ub=1.0)
    for at, parts in inside.items():
        total = sum((part for part in parts if not isinstance(part, float)), start=0.0 * fixed)
        constant = sum(part for part in parts if isinstance(part, float))
        lower, upper = (target_w, target_w) if at == 0 else (limits.lower_w[at], limits.upper_w[at])
        model.addConstr(total + constant * fixed >= max(lower, -1e9))
        model.addConstr(total + constant * fixed <= min(upper, 1e9))
    model.minimize(sum(cost, start=0.0 * fixed))
    if model.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return INF
    return float(model.getInfo().objective_function_value)


def bill(fleet: list[list[tuple[int, int]]], powers_w: Array) -> float:
    """What powers cost: the area under each site's staircase."""
    total = 0.0
    for points, power_w in zip(fleet, powers_w.tolist(), strict=True):
        for (tick, before), (_, power) in itertools.pairwise(points):
            total += tick * min(max(power_w - before, 0.0), power - before)
    return total


limit_pairs = st.tuples(st.integers(-8000, 8000), st.integers(-8000, 8000)).map(sorted)
PARENTS = [-1, 0, 0, 1, 1, 2, 3]  # a root, two areas, feeders in them, and a street in a feeder


def solved(
    fleet: list[list[tuple[int, int]]], node: Array, limits: Limits, target_w: float
) -> tuple[NestedClearing, Array]:
    table = rows(*fleet)
    nested = Nested(table, node, Tree(PARENTS), GRID)
    clearing = nested.clear(target_w, limits)
    return clearing, powers_at(table, clearing.position[node])


def limits_of(pairs: list[list[int] | None]) -> Limits:
    return Limits(
        np.array([-INF, *(INF * -1 if pair is None else float(pair[0]) for pair in pairs)]),
        np.array([INF, *(INF if pair is None else float(pair[1]) for pair in pairs)]),
    )


nested_cases = st.integers(1, 10).flatmap(
    lambda count: st.tuples(
        st.lists(functions(), min_size=count, max_size=count),
        st.lists(st.integers(0, len(PARENTS) - 1), min_size=count, max_size=count).map(np.array),
        st.lists(st.none() | limit_pairs, min_size=len(PARENTS) - 1, max_size=len(PARENTS) - 1).map(limits_of),
        st.integers(-30_000, 30_000),
    )
)


@settings(max_examples=150, deadline=None)
@given(nested_cases)
def test_nested_limits_cost_what_linear_programming_finds(
    case: tuple[list[list[tuple[int, int]]], Array, Limits, int],
) -> None:
    fleet, node, limits, target_w = case
    fleet = [steps_only(points) for points in fleet]
    clearing, powers_w = solved(fleet, node, limits, target_w)
    cheapest = least_cost(fleet, node, PARENTS, limits, target_w)
    if (
        clearing.total.feasible
        and clearing.total.power_w == pytest.approx(target_w, abs=1e-2)
        and not clearing.broken.any()
    ):
        assert powers_w.sum() == pytest.approx(target_w, abs=1e-2)
        assert bill(fleet, powers_w) == pytest.approx(cheapest, abs=1.0)
    else:
        assert cheapest == INF or abs(clearing.total.power_w - target_w) <= 1


@settings(max_examples=150, deadline=None)
@given(nested_cases)
def test_local_prices_keep_every_limit_that_can_be_kept(
    case: tuple[list[list[tuple[int, int]]], Array, Limits, int],
) -> None:
    fleet, node, limits, target_w = case
    clearing, powers_w = solved(fleet, node, limits, target_w)
    given_w = np.bincount(node, powers_w, len(PARENTS))
    for child in range(len(PARENTS) - 1, 0, -1):
        given_w[PARENTS[child]] += given_w[child]
    assert given_w == pytest.approx(clearing.power_w, abs=0.01)
    kept = clearing.broken == 0
    assert (given_w[kept] <= limits.upper_w[kept] + 0.01).all()
    assert (given_w[kept] >= limits.lower_w[kept] - 0.01).all()
    for child, parent in enumerate(PARENTS[1:], start=1):
        pushed = clearing.position[child] - clearing.position[parent]
        if pushed < 0:  # the local price is below that above only where the upper limit binds
            assert given_w[child] >= min(limits.upper_w[child], 1e9) - 0.01
        if pushed > 0:
            assert given_w[child] <= limits.lower_w[child] + 0.01


def test_a_floor_above_what_is_there_is_reported_and_comes_nearest() -> None:
    limits = limits_of([[500, 600], None, None, None, None, None])
    clearing, powers_w = solved([[(0, 0), (10, 300)]], np.array([1]), limits, 100)
    assert clearing.broken.tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert powers_w.tolist() == [300.0]
    assert (clearing.total.feasible, clearing.total.power_w) == (False, 300.0)


def test_children_whose_floors_are_above_their_parents_ceiling_are_reported() -> None:
    limits = limits_of([[0, 100], None, [80, 900], [80, 900], None, None])
    fleet = [[(0, 0), (10, 300)], [(0, 0), (10, 300)]]
    clearing, powers_w = solved(fleet, np.array([3, 4]), limits, 0)
    assert clearing.broken.tolist() == [0, 2, 0, 0, 0, 0, 0]
    assert powers_w.tolist() == pytest.approx([80.0, 80.0])


def test_limits_the_wrong_way_round_are_refused() -> None:
    nested = Nested(rows([(0, 0)]), np.array([0]), Tree([-1, 0]), GRID)
    with pytest.raises(ValueError, match="node 1: its lower limit is above"):
        nested.clear(0, Limits(np.array([-INF, 5.0]), np.array([INF, 4.0])))


@settings(max_examples=50, deadline=None)
@given(nested_cases, fleets)
def test_nested_updates_leave_what_a_new_one_would_be(
    case: tuple[list[list[tuple[int, int]]], Array, Limits, int], news: list[list[tuple[int, int]]]
) -> None:
    fleet, node, limits, target_w = case
    count = min(len(fleet), len(news))
    nested = Nested(rows(*fleet), node, Tree(PARENTS), GRID)
    nested.update(np.arange(count), rows(*news[:count]))
    clearing = nested.clear(target_w, limits)
    again, _ = solved([*news[:count], *fleet[count:]], node, limits, target_w)
    assert clearing.power_w == pytest.approx(again.power_w, abs=0.01)


@pytest.mark.parametrize("parents", [[], [0], [-1, -1], [-1, 2, 1], [-1, 5]])
def test_what_is_no_tree_is_refused(parents: list[int]) -> None:
    with pytest.raises(ValueError, match="root"):
        Tree(parents)
