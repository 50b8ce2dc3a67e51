"""The coordinator's schedule and the site's supply function, which share only the value of stored energy, agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.markets.planning import TICKS_PER_KWH
from cloud.optimise.problem import Horizon, Storage
from cloud.optimise.schedule import Problem, solve
from edge_agent.control.supply import battery

POWER_W = 3_000.0
ROUNDED_TICKS = 3  # of value and of both prices


@settings(deadline=None, max_examples=40)
@given(
    prices=st.lists(st.floats(0.02, 1.0), min_size=2, max_size=24),
    soc=st.floats(0.1, 0.9),
    terminal_value=st.floats(0.0, 0.6),
)
def test_at_its_own_prices_a_plan_is_on_the_supply_function(
    prices: list[float], soc: float, terminal_value: float
) -> None:
    """Complementary slackness: what a plan does in a unit is what its stored value there makes of the unit's price."""
    price = np.array(prices)
    nothing = np.zeros(price.size)
    storage = Storage(
        rated_power_w=5_000.0,
        max_charge_w=POWER_W,
        max_discharge_w=POWER_W,
        capacity_wh=8_000.0,
        soc_min=0.05,
        soc_max=0.95,
    )
    horizon = Horizon(
        mtu_s=3600,
        load_w=nothing,
        pv_w=nothing,
        import_price=price,
        export_price=price,
        terminal_value=terminal_value,
    )
    plan = solve(Problem(storage=storage, horizon=horizon, soc=soc))
    assert plan.stored_value_per_kwh is not None
    for power_w, at, value in zip(plan.inverter_power_w, price, plan.stored_value_per_kwh, strict=True):
        function = battery(
            stored_value_ticks=round(value * TICKS_PER_KWH), charge_limit_w=POWER_W, discharge_limit_w=POWER_W
        )
        ticks = round(at * TICKS_PER_KWH)
        least_w = function.power_w(ticks - ROUNDED_TICKS, 0.0)
        most_w = function.power_w(ticks + ROUNDED_TICKS, 1.0)
        assert least_w - 0.1 <= power_w <= most_w + 0.1
        # and where the price is no tie, to the watt
        if least_w == most_w:
            assert power_w == pytest.approx(least_w, abs=0.1)
