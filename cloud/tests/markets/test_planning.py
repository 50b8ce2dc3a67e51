"""A site's plan as the ledger keeps it: windows, whole watts, and reserve that is really there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.markets.planning import UNITS, Prices, SiteState, Window, plan_award, plan_offer, plan_record
from cloud.markets.products import load as load_product
from cloud.model.records import Description
from protos import services

MTU_MS = 900_000
FFR, DROOP = services.load("ercot-ffr"), services.load("ieee1547-droop")
WINDOW = Window.around(10 * MTU_MS + 880_000, 11 * MTU_MS + 120_000)
HOUR = np.arange(UNITS) / 4
PRICES = Prices(
    import_price=np.where((HOUR >= 1) & (HOUR < 6), 0.54, 0.22),
    export_price=np.where((HOUR >= 1) & (HOUR < 6), 0.54, 0.22),
    reserve=8.0,
)


def state(soc: float, storage_wh: float = 10_000.0) -> SiteState:
    past = 14 * UNITS
    sun = np.tile(np.clip(np.sin((HOUR - 4) / 12 * np.pi), 0, None) * 900, 14)
    return SiteState(
        site="home-01",
        description=Description(
            agent_version="1",
            rated_power_w=5_000.0,
            max_charge_w=5_000.0,
            max_discharge_w=5_000.0,
            storage_capacity_wh=storage_wh,
            soc_min=0.1,
            soc_max=0.95,
        ),
        soc=soc,
        load_wh=np.full(past, 150.0),
        pv_wh=sun,
    )


def test_the_window_is_a_day_from_the_quarter_hour_in_which_delivery_begins() -> None:
    assert WINDOW.start_ms == 10 * MTU_MS
    assert WINDOW.end_ms - WINDOW.start_ms == 86_400_000
    assert np.flatnonzero(WINDOW.delivery_units()).tolist() == [0, 1]  # it goes over a quarter hour's end
    assert WINDOW.delivery_h == pytest.approx(140 / 3600)
    exact = Window.around(10 * MTU_MS, 11 * MTU_MS)
    assert np.flatnonzero(exact.delivery_units()).tolist() == [0]


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(500, 20_000))
def test_what_is_offered_can_be_held_whatever_the_charge(soc: float, storage_wh: float) -> None:
    for service, name in ((FFR, "ffr"), (DROOP, "droop")):
        planned, reserve = plan_offer(state(soc, storage_wh), WINDOW, PRICES, service, load_product(name))
        again = plan_award(state(soc, storage_wh), WINDOW, PRICES, service, load_product(name), reserve.reserve_w)
        assert again.plan.shortfall_w == 0
        record = plan_record("p", 1, WINDOW, [again], {"home-01": reserve.reserve_w}).sites[0]
        assert len(record.stored_value_ticks) in (0, UNITS)
        assert all(0 <= ticks <= 54_000 for ticks in record.stored_value_ticks), "0.54 a kWh are 540 a MWh"
        assert record.reserve_w[:3] == (reserve.reserve_w, reserve.reserve_w, 0)
        assert max(record.inverter_power_w[:2]) + reserve.reserve_w <= 5_000
        if reserve.reserve_w:
            energy_wh = min(record.soc[:3]) * storage_wh - 0.1 * storage_wh
            assert energy_wh * 0.9 >= reserve.reserve_w * 900 / 3600 - 0.1
        assert reserve.cost >= 0
        assert len(planned.record(0).soc) == UNITS + 1


def test_a_home_with_charge_to_spare_offers_all_it_may() -> None:
    _, reserve = plan_offer(state(0.6), WINDOW, PRICES, FFR, load_product("ffr"))
    assert reserve.reserve_w == 3_000
    _, reserve = plan_offer(state(0.6), WINDOW, PRICES, DROOP, load_product("droop"))
    assert reserve.reserve_w == 773


def test_an_empty_home_offers_nothing_upward() -> None:
    # it can charge to what a quarter of an hour of reserve needs only after the delivery began
    _, reserve = plan_offer(state(0.1), WINDOW, PRICES, FFR, load_product("ffr"))
    assert reserve.reserve_w == 0


def test_an_award_beyond_the_charge_is_reported_as_a_shortfall() -> None:
    planned = plan_award(state(0.15), WINDOW, PRICES, FFR, load_product("ffr"), 3_000)
    # 500 Wh above the limit, 0.9 out, a quarter of an hour: 1800 W
    assert planned.plan.reserve_w == pytest.approx(1_800, abs=1)
    assert planned.plan.shortfall_w == pytest.approx(1_200, abs=1)


@pytest.mark.parametrize(("service_id", "reserve_w"), [("gb-dr-low", 1_800), ("gb-dm-low", 3_000)])
def test_a_service_that_lasts_longer_than_its_product_is_planned_for_its_own_time(
    service_id: str, reserve_w: int
) -> None:
    # 2000 Wh above the limit, 0.9 out: an hour of 1800 W (DR), or half an hour (DM) of more than the 3000 W awarded
    planned = plan_award(state(0.3), WINDOW, PRICES, services.load(service_id), load_product("droop"), 3_000)
    assert planned.plan.reserve_w == pytest.approx(reserve_w, abs=1)
