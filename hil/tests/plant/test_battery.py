"""Energy and limits of the battery."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.plant.battery import Battery, BatteryRating

RATING = BatteryRating(capacity_wh=10_000, max_charge_w=4000, max_discharge_w=5000)


def test_discharge_takes_more_than_it_gives() -> None:
    battery = Battery(RATING, soc=0.5)
    assert battery.step(1900.0, 3600.0) == 1900.0
    assert battery.soc == pytest.approx(0.5 - 1900 / 0.95 / 10_000)


def test_charge_stores_less_than_it_takes() -> None:
    battery = Battery(RATING, soc=0.5)
    assert battery.step(-2000.0, 3600.0) == -2000.0
    assert battery.soc == pytest.approx(0.5 + 2000 * 0.95 / 10_000)


def test_a_round_trip_returns_the_product_of_the_efficiencies() -> None:
    battery = Battery(RATING, soc=0.5)
    battery.step(-2000.0, 3600.0)
    given_wh = 0.0
    while battery.soc > 0.5 + 1e-12:
        left_wh = (battery.soc - 0.5) * 10_000 * 0.95
        given_wh += battery.step(min(1000.0, left_wh * 3600), 1.0) / 3600.0
    assert given_wh == pytest.approx(2000 * 0.9025, rel=1e-6)


@pytest.mark.parametrize(
    ("asked_w", "given_w"), [pytest.param(9000, 5000, id="discharge"), pytest.param(-9000, -4000, id="charge")]
)
def test_power_stays_inside_its_limits(asked_w: float, given_w: float) -> None:
    assert Battery(RATING, soc=0.5).step(asked_w, 0.01) == given_w


def test_an_empty_battery_gives_nothing() -> None:
    battery = Battery(RATING, soc=0.05)
    assert battery.max_discharge_w == 0.0
    assert battery.step(3000.0, 10.0) == 0.0
    assert battery.max_charge_w == 4000.0


def test_a_full_battery_takes_nothing() -> None:
    battery = Battery(RATING, soc=1.0)
    assert battery.max_charge_w == 0.0
    assert battery.step(-3000.0, 10.0) == 0.0


def test_an_impossible_state_of_charge_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.01 lies outside 0\.05\.\.1\.0"):
        Battery(RATING, soc=0.01)


@given(
    soc=st.floats(0.05, 1.0),
    steps=st.lists(st.tuples(st.floats(-10_000, 10_000), st.floats(0.001, 7200)), max_size=30),
)
def test_state_of_charge_never_leaves_its_limits_and_energy_balances(
    soc: float, steps: list[tuple[float, float]]
) -> None:
    battery = Battery(RATING, soc)
    taken_wh = given_wh = 0.0
    for power_w, dt_s in steps:
        accepted_w = battery.step(power_w, dt_s)
        assert abs(accepted_w) <= abs(power_w)
        assert accepted_w * power_w >= 0.0
        assert 0.05 <= battery.soc <= 1.0
        taken_wh += max(-accepted_w, 0.0) * dt_s / 3600
        given_wh += max(accepted_w, 0.0) * dt_s / 3600
    assert battery.stored_wh == pytest.approx(soc * 10_000 + 0.95 * taken_wh - given_wh / 0.95, abs=1e-6)
