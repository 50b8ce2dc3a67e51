"""What a 5 kW hybrid with 10 kWh can hold."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.control.bounds import TAPER, Storage, available
from edge_agent.model.values import MISSING, Nameplate, Quality, Sample

PLATE = Nameplate(
    manufacturer="Example",
    model="Hybrid 5",
    serial="1",
    rated_power_w=5000.0,
    max_charge_w=4000.0,
    max_discharge_w=4500.0,
    storage_capacity_wh=10_000.0,
)
STORAGE = Storage(nameplate=PLATE, soc_min=0.1, soc_max=0.9)


def good(value: float) -> Sample:
    return Sample(value, Quality.GOOD, 0.0)


@pytest.mark.parametrize(
    ("soc", "pv_w", "lower_w", "upper_w"),
    [
        pytest.param(0.5, 0.0, -4000.0, 4500.0, id="night, half full"),
        pytest.param(0.5, 2000.0, -4000.0, 5000.0, id="sun adds, up to the rating"),
        pytest.param(0.1, 0.0, -4000.0, 0.0, id="at the lower limit: nothing to give"),
        pytest.param(0.05, 1200.0, -4000.0, 1200.0, id="below it: the sun only"),
        pytest.param(0.9, 0.0, 0.0, 4500.0, id="at the upper limit: no room"),
        pytest.param(0.95, 1200.0, 0.0, 5000.0, id="above it"),
        pytest.param(0.1 + TAPER / 2, 0.0, -4000.0, 2250.0, id="half way down the taper"),
        pytest.param(0.9 - TAPER / 4, 0.0, -1000.0, 4500.0, id="near the end of the taper"),
    ],
)
def test_what_it_can_hold(soc: float, pv_w: float, lower_w: float, upper_w: float) -> None:
    bounds = available(STORAGE, good(soc), good(pv_w))
    assert bounds is not None
    assert (bounds.lower_w, bounds.upper_w) == pytest.approx((lower_w, upper_w))


@pytest.mark.parametrize(
    ("pv_w", "lower_w"),
    [
        pytest.param(0.0, -4000.0, id="night"),
        pytest.param(1500.0, -2500.0, id="the sun takes its share of what the storage takes"),
        pytest.param(4500.0, 0.0, id="more sun than the storage takes is throttled, not imported against"),
    ],
)
def test_panels_that_go_on_while_it_imports_leave_less_of_it(pv_w: float, lower_w: float) -> None:
    older = replace(STORAGE, nameplate=replace(STORAGE.nameplate, throttles_to_import=False))
    bounds = available(older, good(0.5), good(pv_w))
    assert bounds is not None
    assert (bounds.lower_w, bounds.upper_w) == pytest.approx((lower_w, min(5000.0, pv_w + 4500.0)))


def test_panels_that_are_not_known_count_as_dark() -> None:
    bounds = available(STORAGE, good(0.5), MISSING)
    assert bounds is not None
    assert bounds.upper_w == 4500.0


@pytest.mark.parametrize("soc", [MISSING, good(1.2), good(-0.1), good(float("nan")), Sample(0.5, Quality.STALE, 0.0)])
def test_no_bounds_without_a_state_of_charge_that_can_be_true(soc: Sample) -> None:
    assert available(STORAGE, soc, good(0.0)) is None


def test_without_storage_the_rating_bounds() -> None:
    plain = Nameplate(manufacturer="Example", model="PV", serial="1", rated_power_w=3000.0)
    bounds = available(Storage(nameplate=plain, soc_min=0.1, soc_max=0.9), MISSING, good(500.0))
    assert bounds is not None
    assert (bounds.lower_w, bounds.upper_w) == (0.0, 3000.0)


def test_no_rating_no_bounds() -> None:
    plain = Nameplate(manufacturer="Example", model="PV", serial="1")
    assert available(Storage(nameplate=plain, soc_min=0.1, soc_max=0.9), good(0.5), good(0.0)) is None


@given(soc=st.floats(0.0, 1.0), pv_w=st.floats(-100.0, 20_000.0))
def test_bounds_are_a_range_inside_the_rating(soc: float, pv_w: float) -> None:
    bounds = available(STORAGE, good(soc), good(pv_w))
    assert bounds is not None
    assert -5000.0 <= bounds.lower_w <= 0.0 <= bounds.upper_w <= 5000.0
