"""Coordinator and site agree on supply functions: in what a schedule says, and in what a price moves."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.dispatch.prices import Price, PriceGrid
from cloud.dispatch.rows import powers_at
from cloud.fleet.supply import SupplyColumns
from cloud.markets.planning import TICKS_PER_KWH
from cloud.optimise.problem import Horizon, Storage
from cloud.optimise.schedule import Problem, solve
from edge_agent.control.supply import battery
from edge_agent.runtime.testing import Bench
from protos.vpp.v1 import broadcast_pb2, intent_pb2

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


@pytest.mark.parametrize(
    ("soc", "pv_w", "values", "service"),
    [
        pytest.param(0.5, 0.0, (5_000,), "", id="a battery"),
        pytest.param(0.5, 1_800.0, (5_000,), "", id="and sun"),
        pytest.param(0.1025, 1_800.0, (23_684,), "", id="nearly empty"),
        pytest.param(0.95, 1_800.0, (-40_000,), "", id="full, and a burden"),
        pytest.param(0.5, 1_800.0, (), "", id="of unknown worth"),
        pytest.param(0.5, 1_800.0, (5_000,), "gb-dc", id="beside a service"),
    ],
)
async def test_a_site_gives_at_a_price_what_the_coordinator_reads_off_its_function(
    tmp_path: Path, soc: float, pv_w: float, values: tuple[int, ...], service: str
) -> None:
    """Through the messages: the agent's own report, as the coordinator keeps it; its own prices, as the agent hears."""
    columns, bench = SupplyColumns(PriceGrid()), Bench(tmp_path)
    try:
        await bench.agent.site.open_all()
        bench.home.soc, bench.home.pv_w = soc, pv_w
        bench.home.frequency_hz = lambda now_s: 50.0
        bench.schedule([700], stored_value_ticks=values)
        if service:
            bench.arm(service, 1_500)
        follow = intent_pb2.FollowPrice(group="north", fallback_ticks=0)
        bench.send(0.0, 3600.0, intent_pb2.Intent(price=follow))
        await bench.run_for(11.0)
        told = [message.supply for message in bench.received if message.WhichOneof("body") == "supply"]
        assert columns.update(
            np.zeros(len(told), np.int64), [t.SerializeToString() for t in told], bench.clock.utc_ms()
        )
        assert columns.refused.total() == 0
        assert columns.in_force(bench.clock.utc_ms()).tolist() == [True]
        assert (columns.lower_w[0], columns.upper_w[0]) == (told[-1].lower_w, told[-1].upper_w)
        for ticks in sorted({tick + by for tick in told[-1].ticks for by in (-1, 0, 1)}):
            for share in (0.0, 0.25, 1.0):
                price = Price(ticks, share, 0.0)
                said = broadcast_pb2.Price(ticks=ticks, step_share_e6=round(share * 1e6))
                bench.broadcast(broadcast_pb2.Broadcast(price=said))
                await bench.run_for(0.15)
                read_w = powers_at(columns.rows, columns.grid.position(price))[0]
                assert bench.home.power_w == pytest.approx(read_w, abs=1.0), (ticks, share)
    finally:
        bench.close()
