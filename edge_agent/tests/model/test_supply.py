"""Supply functions: monotone, exact where they are read, and adding to what their parts do."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.model.supply import MOST_POINTS, Point, SupplyFunction, total
from edge_agent.model.values import PowerBounds

TICKS = st.integers(-100_000, 1_000_000)  # -1 000 to 10 000 currency/MWh
POWER = st.floats(-10_000, 10_000)
SHARE = st.floats(0, 1)


@st.composite
def functions(draw: st.DrawFn, most: int = 6) -> SupplyFunction:
    size = draw(st.integers(1, most))
    ticks = sorted(draw(st.lists(TICKS, min_size=size, max_size=size)))
    powers = sorted(draw(st.lists(POWER, min_size=size, max_size=size)))
    return SupplyFunction(tuple(zip(ticks, powers, strict=True)))


@st.composite
def bounds(draw: st.DrawFn) -> PowerBounds:
    lower_w, upper_w = sorted((draw(POWER), draw(POWER)))
    return PowerBounds(lower_w=lower_w, upper_w=upper_w)


def near(function: SupplyFunction) -> list[int]:
    """Prices where something may go wrong: at each breakpoint and beside it."""
    return sorted({tick + by for tick, _ in function.points for by in (-1, 0, 1)})


@pytest.mark.parametrize(
    ("ticks", "share", "power_w"),
    [
        pytest.param(-100, 0.0, -3000.0, id="constant below the first"),
        pytest.param(0, 0.0, -3000.0, id="the first"),
        pytest.param(50, 0.0, -1500.0, id="half way on a slope"),
        pytest.param(100, 0.0, 0.0, id="the foot of a step"),
        pytest.param(100, 1.0, 2000.0, id="its head"),
        pytest.param(100, 0.25, 500.0, id="a quarter of the way up, by the tie rule"),
        pytest.param(101, 0.9, 2000.0, id="above it the tie rule does not count"),
        pytest.param(1000, 0.5, 2000.0, id="constant above the last"),
    ],
)
def test_reading_a_function(ticks: int, share: float, power_w: float) -> None:
    function = SupplyFunction(((0, -3000.0), (100, 0.0), (100, 2000.0)))
    assert function.power_w(ticks, share) == pytest.approx(power_w)


@given(functions(), TICKS, TICKS, SHARE, SHARE)
def test_power_never_falls_with_the_price_nor_with_the_share(
    function: SupplyFunction, one: int, other: int, share: float, more: float
) -> None:
    low, high = sorted((one, other))
    less, most = sorted((share, more))
    assert function.power_w(low, less) <= function.power_w(high, most) + 1e-9


@given(functions())
def test_a_breakpoint_is_read_as_it_stands(function: SupplyFunction) -> None:
    for ticks, power_w in (function.points[0], function.points[-1]):
        at_it = [p for t, p in function.points if t == ticks]
        assert function.power_w(ticks, 0.0) == min(at_it)
        assert function.power_w(ticks, 1.0) == max(at_it)
        assert min(at_it) <= power_w <= max(at_it)


@settings(deadline=None)
@given(st.lists(functions(), max_size=5), SHARE)
def test_a_sum_does_what_its_parts_do_at_every_price(parts: list[SupplyFunction], share: float) -> None:
    whole = total(parts)
    for tick in {tick for part in (*parts, whole) for tick in near(part)}:
        apart = sum(part.power_w(tick, share) for part in parts)
        assert whole.power_w(tick, share) == pytest.approx(apart, abs=1e-6)


@settings(deadline=None)
@given(functions(), bounds(), TICKS)
def test_within_bounds_it_is_the_same_and_beyond_them_the_bound(
    function: SupplyFunction, limits: PowerBounds, ticks: int
) -> None:
    clipped = function.clipped(limits)
    for tick in (*near(function), *near(clipped), ticks):
        for share in (0.0, 1.0):
            assert clipped.power_w(tick, share) == pytest.approx(limits.clip(function.power_w(tick, share)), abs=1e-6)


@settings(deadline=None)
@given(functions(most=40), st.integers(2, MOST_POINTS))
def test_shortened_it_keeps_its_ends_and_its_range(function: SupplyFunction, most: int) -> None:
    short = function.shortened(most)
    assert len(short.points) <= most
    assert (short.points[0], short.points[-1]) == (function.points[0], function.points[-1])
    if len(function.points) <= most:
        assert short == function


def test_shortening_takes_what_matters_least() -> None:
    bend = ((0, 0.0), (50, 10.0), (100, 1000.0))
    assert SupplyFunction((*bend, (150, 2000.5), (200, 3000.0))).shortened(4).points == (*bend, (200, 3000.0))


@pytest.mark.parametrize(
    "points",
    [
        pytest.param((), id="none"),
        pytest.param(((1, 0.0), (0, 1.0)), id="prices that fall"),
        pytest.param(((0, 1.0), (1, 0.0)), id="powers that fall"),
        pytest.param(((0, math.nan),), id="no number"),
        pytest.param(((0, math.inf),), id="no end"),
    ],
)
def test_what_is_no_supply_function_is_refused(points: tuple[Point, ...]) -> None:
    with pytest.raises(ValueError, match="a supply function"):
        SupplyFunction(points)
