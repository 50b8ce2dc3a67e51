"""A home's plant: energy is neither made nor lost, and the inverter lets go on its own."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.plant.battery import BatteryRating
from hil.plant.frequency import Timeline
from hil.plant.home import HomePlant, HomeRating
from hil.plant.household import SteadyHousehold
from hil.plant.inverter import InverterRating, PowerControl, Setting

T0 = 1_800_000_000_000.0
RATING = HomeRating(
    inverter=InverterRating(power_w=5000),
    battery=BatteryRating(capacity_wh=10_000, max_charge_w=4000, max_discharge_w=4500),
    pv_w=6000,
)


def plant(*, soc: float = 0.5, load: float = 700.0, pv: float = 2000.0) -> HomePlant:
    household = SteadyHousehold(load=load, pv=pv)
    return HomePlant(RATING, soc=soc, household=household, frequency=Timeline(), start_ms=T0)


def command(home: HomePlant, power_w: float, *, reversion_time_s: int = 0) -> None:
    home.control = PowerControl(active=Setting(enabled=True, power_w=power_w), reversion_time_s=reversion_time_s)
    home.control.rearm(home.utc_ms)


def test_by_its_own_default_pv_passes_through_and_the_battery_rests() -> None:
    home = plant()
    home.advance(T0 + 600_000)
    assert (home.power_w, home.pv_w, home.storage_w, home.grid_w) == (2000, 2000, 0, 1300)
    assert home.battery.soc == 0.5
    assert home.energy.export_wh == pytest.approx(1300 / 6)


def test_by_default_pv_beyond_the_rating_is_throttled() -> None:
    home = plant(pv=5800)
    home.advance(T0 + 10_000)
    assert (home.power_w, home.pv_w, home.storage_w) == (5000, 5000, 0)


@pytest.mark.parametrize(
    ("asked_w", "pv", "soc", "power_w", "pv_w", "storage_w"),
    [
        pytest.param(3500, 2000, 0.5, 3500, 2000, 1500, id="battery adds to PV"),
        pytest.param(500, 2000, 0.5, 500, 2000, -1500, id="battery takes what is not asked for"),
        pytest.param(-3000, 2000, 0.5, -3000, 1000, -4000, id="beyond the charging limit PV is throttled"),
        pytest.param(5000, 200, 0.5, 4700, 200, 4500, id="no more than PV and the battery's limit"),
        pytest.param(9000, 6000, 0.5, 5000, 6000, -1000, id="no more than the rating"),
        pytest.param(3500, 2000, 0.05, 2000, 2000, 0, id="empty battery: only PV"),
        pytest.param(500, 2000, 1.0, 500, 500, 0, id="full battery: PV is throttled"),
        pytest.param(-3000, 0, 1.0, 0, 0, 0, id="full battery takes nothing from the grid"),
    ],
)
def test_a_setpoint_is_held_inside_the_limits(
    asked_w: float, pv: float, soc: float, power_w: float, pv_w: float, storage_w: float
) -> None:
    home = plant(soc=soc, pv=pv)
    command(home, asked_w)
    home.advance(T0 + 2000)
    assert (home.power_w, home.pv_w, home.storage_w) == pytest.approx((power_w, pv_w, storage_w), abs=1.0)


def test_the_reversion_timer_lets_go_at_its_instant_even_if_nobody_looks() -> None:
    looked, unseen = plant(), plant()
    for home in (looked, unseen):
        command(home, 4000, reversion_time_s=10)
    for ms in range(0, 11_000, 20):
        looked.advance(T0 + ms)
    for home in (looked, unseen):
        home.advance(T0 + 60_000)
        assert home.reversions_ms == [T0 + 10_000]
        assert home.commanded_w is None
        assert home.power_w == pytest.approx(2000)
    assert looked.battery.soc == pytest.approx(unseen.battery.soc, abs=1e-9)


def test_it_reverts_to_a_setpoint_where_one_is_set() -> None:
    home = plant()
    command(home, 4000, reversion_time_s=5)
    home.control.reversion = replace(home.control.active, power_w=-1000.0)
    home.advance(T0 + 20_000)
    assert home.power_w == pytest.approx(-1000)


def test_voltage_rises_with_export_and_falls_with_import() -> None:
    exporting, importing = plant(load=0, pv=4800), plant(load=4800, pv=0)
    assert exporting.voltage_v == pytest.approx(242.0)
    assert importing.voltage_v == pytest.approx(238.0)


def test_an_instant_that_has_passed_changes_nothing() -> None:
    home = plant()
    home.advance(T0 - 5000)
    assert (home.utc_ms, home.energy.load_wh) == (T0, 0.0)


@settings(max_examples=60, deadline=None)
@given(
    soc=st.floats(0.05, 1.0),
    pv=st.floats(0, 6000),
    load=st.floats(0, 8000),
    orders=st.lists(st.tuples(st.none() | st.floats(-6000, 6000), st.floats(0.001, 4000.0)), min_size=1, max_size=12),
)
def test_energy_is_neither_made_nor_lost(
    soc: float, pv: float, load: float, orders: list[tuple[float | None, float]]
) -> None:
    home = plant(soc=soc, pv=pv, load=load)
    for power_w, seconds in orders:
        home.control = PowerControl(active=Setting(enabled=power_w is not None, power_w=power_w or 0.0))
        home.advance(home.utc_ms + 1000 * seconds)
        assert 0.05 <= home.battery.soc <= 1.0
        assert -5000 <= home.power_w <= 5000
        assert 0.0 <= home.pv_w <= pv
        assert -4000 - 1e-6 <= home.storage_w <= 4500 + 1e-6
    energy = home.energy
    inverter_wh = energy.inverter_injected_wh - energy.inverter_absorbed_wh
    assert inverter_wh == pytest.approx(energy.pv_wh + energy.discharged_wh - energy.charged_wh, abs=1e-6)
    assert energy.export_wh - energy.import_wh == pytest.approx(inverter_wh - energy.load_wh, abs=1e-6)
    stored_wh = soc * 10_000 + 0.95 * energy.charged_wh - energy.discharged_wh / 0.95
    assert home.battery.stored_wh == pytest.approx(stored_wh, abs=1e-6)
    hours = (home.utc_ms - T0) / 3_600_000
    assert energy.load_wh == pytest.approx(load * hours)
    assert energy.pv_wh <= pv * hours + 1e-6
