"""The charger's and the tank's physics, by hand."""

import pytest

from hil.plant.charger import Charger, ChargerRating, Visit
from hil.plant.heater import Heater, HeaterRating

RATING = ChargerRating(max_draw_w=11_000.0, least_draw_w=4_140.0, max_feed_w=5_000.0, efficiency=0.9)


def test_a_vehicle_is_charged_by_default_and_stops_when_it_is_full() -> None:
    charger = Charger(RATING)
    charger.plug(Visit(stored_wh=50_000.0, capacity_wh=60_000.0, wanted_wh=59_900.0, ready_at_s=7200.0))
    assert charger.needed_wh == pytest.approx(9_900.0 / 0.9)
    charger.advance(3600.0)
    assert charger.stored_wh == pytest.approx(59_900.0)
    assert charger.ready_in_s == 3600.0
    charger.advance(7200.0)
    assert (charger.stored_wh, charger.power_w) == (60_000.0, 0.0)
    assert charger.needed_wh == pytest.approx(-100.0 * 0.9)


def test_what_it_feeds_costs_its_battery_more() -> None:
    charger = Charger(RATING)
    charger.plug(Visit(stored_wh=1_000.0, capacity_wh=60_000.0, wanted_wh=0.0, ready_at_s=7200.0))
    charger.asked_w = 4_500.0
    charger.advance(360.0)
    assert charger.stored_wh == pytest.approx(1_000.0 - 450.0 / 0.9)
    charger.advance(3600.0)
    assert (charger.stored_wh, charger.power_w) == (0.0, 0.0)


def test_without_a_vehicle_nothing_happens() -> None:
    charger = Charger(RATING)
    charger.advance(3600.0)
    assert (charger.power_w, charger.needed_wh, charger.ready_in_s, charger.plugged) == (0.0, 0.0, None, False)


def test_a_tank_loses_what_its_label_says() -> None:
    tank = Heater(HeaterRating(), temperature_c=60.0)
    tank.asked_w = 0.0
    tank.advance(24 * 3600.0)
    lost_wh = (60.0 - tank.temperature_c) * 200.0 * 4186.0 / 3600.0
    assert lost_wh == pytest.approx(1_500.0, rel=0.08), "1.5 kWh a day at 60 degrees, a little less as it cools"


def test_a_tank_heats_by_its_rods_power_less_its_losses() -> None:
    tank = Heater(HeaterRating(loss_w_per_k=0.001), temperature_c=50.0)
    tank.asked_w = -2_000.0
    tank.advance(1800.0)
    assert tank.temperature_c == pytest.approx(50.0 + 1_000.0 * 3600.0 / (200.0 * 4186.0), abs=0.01)


def test_a_bath_cools_it_and_its_thermostat_heats_it_again() -> None:
    tank = Heater(HeaterRating(), temperature_c=55.0)
    tank.draw_off(100.0)
    assert tank.temperature_c == pytest.approx(32.5)
    tank.advance(10.0)
    assert tank.power_w == -2_000.0
    tank.advance(6 * 3600.0)
    assert tank.power_w == 0.0
    assert tank.level == pytest.approx(1.0, abs=0.1)
