"""Chargers and a tank that follow prices by the agent's own controllers and gate: recorded stays, a week of baths.

What the agent will do once a driver offers such a device: read, the owner's bounds, the function at the price, the
arbiter, the safety gate, and only then a write.
"""

import math

import pytest

from edge_agent.control import owner
from edge_agent.control.arbiter import merge
from edge_agent.control.supply import PriceBand, thermal_load, vehicle
from edge_agent.model.devices import FlexiblePlate
from edge_agent.model.supply import SupplyFunction
from edge_agent.model.values import Proposal, admitted
from edge_agent.safety.gate import admit
from hil.data.recordings import ChargingSession, workplace_sessions
from hil.plant.charger import Charger, ChargerRating, Visit
from hil.plant.heater import Heater, HeaterRating
from hil.rigs.clock import ManualClock
from hil.rigs.flexible import FlexibleRig, SimulatedCharger, SimulatedHeater
from hil.rigs.testing import AgentClock

STEP_S = 30.0
BAND = PriceBand(low_ticks=2_000, high_ticks=10_000)
RATING = ChargerRating(max_draw_w=6_600.0, least_draw_w=1_380.0, efficiency=0.92)
CAPACITY_WH = 80_000.0


def band_between(from_s: float, to_s: float) -> PriceBand:
    """As a schedule tells it: the least and the most that is expected until then."""
    expected = [price_at(from_s + (to_s - from_s) * part / 20) for part in range(21)]
    return PriceBand(low_ticks=min(expected), high_ticks=max(expected))


def price_at(now_s: float) -> int:
    """Two cycles a day, from the band's low to its high."""
    return round(6_000 - 4_000 * math.cos(4 * math.pi * now_s / 86_400))


async def obey(
    device: SimulatedCharger | SimulatedHeater, wish: SupplyFunction, limits: Proposal, price: int, now_s: float
) -> None:
    """One cycle, from a wish to the device; nothing is written around the gate."""
    assert device.control is not None
    bounds = owner.device_bounds(device.plate)
    proposals = [limits, Proposal(source="price", power_w=wish.power_w(price))]
    merged = merge(proposals, bounds, expires_s=now_s + 2 * STEP_S)
    assert merged is not None
    verdict = admit(
        merged.setpoint,
        bounds,
        envelope=limits.bounds,
        rated_power_w=device.plate.max_draw_w,
        read_s=now_s,
        previous_w=None,
        ramp_w_per_s=None,
        dt_s=STEP_S,
        now_s=now_s,
    )
    passed = admitted(verdict)
    assert passed is not None
    await device.control.write_power(passed, 2 * STEP_S)


async def stay(session: ChargingSession, arrives_s: float) -> tuple[float, float]:
    """A vehicle's stay: what it still needs when it is to be ready [Wh], and the mean price of what it drew."""
    clock = ManualClock()
    agent_clock = AgentClock(clock)
    plant = Charger(RATING)
    rig = FlexibleRig(plant, agent_clock)
    device = SimulatedCharger("wallbox", plant, rig, agent_clock)
    stored_wh = session.energy_wh * RATING.efficiency
    plant.plug(Visit(stored_wh=0.0, capacity_wh=CAPACITY_WH, wanted_wh=stored_wh, ready_at_s=session.duration_s))
    paid = drawn_wh = passed_s = 0.0
    while passed_s < session.duration_s:
        reading = await device.read_charger()
        price = price_at(arrives_s + passed_s)
        wish = vehicle(
            needed_wh=reading.needed_wh.value,
            ready_in_s=reading.ready_in_s.value,
            max_charge_w=RATING.max_draw_w,
            band=band_between(arrives_s + passed_s, arrives_s + session.duration_s),
        )
        limits = owner.ready_by(device.plate, reading)
        await obey(device, wish, limits, price, agent_clock.monotonic_s())
        wh = -rig.power_w * STEP_S / 3600
        paid, drawn_wh = paid + wh * price, drawn_wh + wh
        clock.leap(STEP_S)
        passed_s += STEP_S
    rig.to_present()
    return plant.needed_wh, paid / drawn_wh if drawn_wh else 0.0


def at_once(session: ChargingSession, arrives_s: float) -> float:
    """The mean price of charging without waiting."""
    takes_s = session.energy_wh * 3600 / RATING.max_draw_w
    return sum(price_at(arrives_s + takes_s * part / 100) for part in range(100)) / 100


async def test_recorded_vehicles_are_ready_in_time_and_cheaper_than_without_waiting() -> None:
    """Every eighth stay of a month in which charging could be done in the time there was, with ten minutes to spare."""
    possible = [
        session
        for session in workplace_sessions()
        if 0 < session.energy_wh * 3600 / RATING.max_draw_w < session.duration_s - 600
    ][::8]
    assert len(possible) > 30
    saved = 0.0
    for number, session in enumerate(possible):
        arrives_s = 86_400 * (number % 24) / 24  # at every hour of the prices
        left_wh, mean_price = await stay(session, arrives_s)
        assert left_wh <= RATING.max_draw_w * STEP_S / 3600, session
        saved += at_once(session, arrives_s) - mean_price
    assert saved / len(possible) > 300, "3.00 currency/MWh cheaper in the mean"


async def test_a_stay_too_short_is_charged_from_its_first_minute() -> None:
    session = ChargingSession(energy_wh=20_000.0, duration_s=3_600.0)
    left_wh, _ = await stay(session, arrives_s=21_600.0)  # at the highest price
    assert left_wh == pytest.approx(20_000.0 - RATING.max_draw_w, abs=1.0)


async def test_a_tank_with_baths_stays_within_comfort_for_a_week_of_prices() -> None:
    clock = ManualClock()
    agent_clock = AgentClock(clock)
    rating = HeaterRating()
    plant = Heater(rating, temperature_c=55.0)
    rig = FlexibleRig(plant, agent_clock)
    device = SimulatedHeater("tank", plant, rig, agent_clock)
    assert device.plate == FlexiblePlate(max_draw_w=2_000.0, least_draw_w=2_000.0)
    forced, prices, powers = False, [], []
    for minute in range(7 * 24 * 60):
        if minute % 720 == 420:  # at seven, morning and evening
            rig.to_present()
            plant.draw_off(25.0)
        reading = await device.read_load()
        now_s = agent_clock.monotonic_s()
        forced, limits = owner.comfort(device.plate, reading, forced=forced)
        wish = thermal_load(level=reading.level.value, max_power_w=rating.power_w, band=BAND)
        price = price_at(minute * 60.0)
        await obey(device, wish, limits, price, now_s)
        prices.append(price)
        powers.append(-rig.power_w)
        # A bath may take it below for as long as the rod needs; nothing else may.
        assert plant.temperature_c < rating.comfort_max_c + 0.5
        assert plant.temperature_c > rating.comfort_min_c - 0.5 or forced
        clock.leap(STEP_S)
        await obey(device, wish, limits, price, agent_clock.monotonic_s())
        clock.leap(STEP_S)
    drawn = sum(powers)
    assert drawn > 0
    mean_paid = sum(p * w for p, w in zip(prices, powers, strict=True)) / drawn
    assert mean_paid < 0.9 * sum(prices) / len(prices), "it heats when it is cheap"
