"""Chargers and heaters in the whole loop, in virtual time: what moves them, what never does, what is told of them."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge_agent.model.clock import VirtualClock
from edge_agent.model.config import ControlConfig, DeviceConfig, EvChargerConfig, FlexibleLoadConfig
from edge_agent.model.devices import ChargerReading, Device
from edge_agent.model.status import sentences
from edge_agent.model.values import MISSING
from edge_agent.runtime.agent import Agent
from edge_agent.runtime.testing import Bench
from hil.plant.charger import Charger, ChargerRating, Visit
from hil.plant.heater import Heater, HeaterRating
from hil.rigs.flexible import FlexibleRig, SimulatedCharger, SimulatedHeater
from protos.vpp.v1 import broadcast_pb2, intent_pb2, supply_pb2

EV = EvChargerConfig(max_current_a=16.0, phases=3, min_run_s=0.0, min_off_s=0.0)
READY = EvChargerConfig(max_current_a=16.0, phases=3, min_run_s=0.0, min_off_s=0.0, ready_by="07:00", energy_wh=1_840.0)
MOST_W = 11_040.0
ROD_W = 2_000.0
LOAD = FlexibleLoadConfig(power_w=ROD_W, comfort_min_c=48.0, comfort_max_c=62.0, min_run_s=0.0, min_off_s=0.0)


class Wallbox(SimulatedCharger):
    """As most are: it says nothing of what the vehicle needs."""

    async def read_charger(self) -> ChargerReading:
        return replace(await super().read_charger(), needed_wh=MISSING, ready_in_s=MISSING)


class Home:
    """The agent's bench with a charger and a heater behind the same meter."""

    def __init__(
        self, folder: Path, *, ev: EvChargerConfig = EV, load: FlexibleLoadConfig = LOAD, **given: Any
    ) -> None:
        self.car = Charger(ChargerRating(max_draw_w=MOST_W, least_draw_w=4_140.0))
        self.tank = Heater(HeaterRating(), temperature_c=55.0)
        self.bench = Bench(folder, others=lambda clock: self._devices(clock, ev, LOAD), **given)
        self.bench.home.others_w = lambda: self.car_w + self.tank_w

    def _devices(
        self, clock: VirtualClock, ev: EvChargerConfig, load: FlexibleLoadConfig
    ) -> list[tuple[DeviceConfig, Device]]:
        self.car_rig, self.tank_rig = FlexibleRig(self.car, clock), FlexibleRig(self.tank, clock)
        common = {"driver": "profile", "profile": "x.toml", "host": "192.0.2.9"}
        return [
            (
                DeviceConfig(name="wallbox", ev_charger=ev, unit_id=1, **common),  # type: ignore[arg-type]
                Wallbox("wallbox", self.car, self.car_rig, clock),
            ),
            (
                DeviceConfig(name="tank", flexible_load=load, unit_id=2, **common),  # type: ignore[arg-type]
                SimulatedHeater("tank", self.tank, self.tank_rig, clock),
            ),
        ]

    @property
    def car_w(self) -> float:
        return self.car_rig.power_w

    @property
    def tank_w(self) -> float:
        return self.tank_rig.power_w

    def plug(self) -> None:
        self.car_rig.to_present()
        self.car.plug(Visit(stored_wh=20_000.0, capacity_wh=60_000.0, wanted_wh=60_000.0, ready_at_s=1e9))

    def at(self, local: str) -> None:
        """Sets the clock to a time of day of a summer's day in Berlin."""
        utc = datetime.fromisoformat(f"2026-07-10T{local}+02:00").astimezone(UTC)
        self.bench.clock.set_utc(round(utc.timestamp() * 1e3))

    def follow_price(self, fallback: int = 5_000) -> None:
        price = intent_pb2.FollowPrice(group="north", fallback_ticks=fallback)
        self.bench.send(0.0, 86_400.0, intent_pb2.Intent(price=price))

    def price(self, ticks: int) -> None:
        self.bench.broadcast(broadcast_pb2.Broadcast(price=broadcast_pb2.Price(ticks=ticks)), lasts_s=86_400.0)

    def supply(self) -> supply_pb2.SupplyFunction:
        """As last told."""
        return [m.supply for m in self.bench.received if m.WhichOneof("body") == "supply"][-1]

    def words(self, about: str) -> str:
        summary = self.bench.agent.summary()
        return " ".join(words for what, words in sentences(summary, self.bench.clock.utc_ms()) if what == about)


Make = Callable[..., Home]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Home] = []

    def one(**given: Any) -> Home:
        made.append(
            Home(tmp_path, control=ControlConfig(rate_hz=10.0, default="idle", **given.pop("limits", {})), **given)
        )
        return made[-1]

    yield one
    for home in made:
        await home.bench.agent.site.close()
        home.bench.close()


async def test_a_price_moves_both_and_each_by_its_own_function(make: Make) -> None:
    home = make()
    await home.bench.agent.site.open_all()
    home.plug()
    await home.bench.run_for(3.0)
    assert home.car_w == -MOST_W, "nobody asks for anything else: it charges"
    home.follow_price(fallback=5_000)
    home.price(9_000)
    await home.bench.run_for(15.0)
    assert (home.car_w, home.tank_w) == (0.0, 0.0)
    assert "waits: the price that was broadcast" in home.words("Vehicle")
    home.price(2_000)
    await home.bench.run_for(15.0)
    assert (home.car_w, home.tank_w) == (-MOST_W, -ROD_W)
    assert "wallbox: charging 11.0 kW: the price that was broadcast" in home.words("Vehicle")
    assert home.tank.level == pytest.approx(0.5, abs=0.02)
    assert "tank: running at 2.0 kW" in home.words("Load")


async def test_the_sites_function_has_all_of_its_devices(make: Make) -> None:
    home = make()
    await home.bench.agent.site.open_all()
    home.plug()
    home.follow_price(fallback=5_000)
    home.price(9_000)
    home.bench.schedule([0] * 4, end_s=86_400.0)
    await home.bench.run_for(30.0)
    told = home.supply()
    assert min(told.power_w) == -(MOST_W + ROD_W), "the storage keeps to its plan of 0 W"
    assert max(told.power_w) == 0.0
    assert told.lower_w == round(-5_000.0 - MOST_W - ROD_W)


async def test_ready_by_forces_charging_whatever_the_price(make: Make) -> None:
    """1.84 kWh at 11.04 kW take ten minutes: with five to spare it begins at 06:45."""
    home = make(ev=READY)
    home.at("06:43")
    await home.bench.agent.site.open_all()
    home.plug()
    home.follow_price()
    home.price(900_000)
    await home.bench.run_for(60.0)
    assert home.car_w == 0.0
    assert "ready by 07:00 needs 1.8 kWh" in home.words("Vehicle")
    await home.bench.run_for(90.0)
    assert home.car_w == -MOST_W
    assert "charging 11.0 kW: it charges now, or it is not ready in time; ready by 07:00 needs" in home.words("Vehicle")
    await home.bench.run_for(11 * 60.0)
    assert home.car.drawn_wh == pytest.approx(1_840.0, abs=20.0)
    assert home.car_w == 0.0, "what was wanted is in, and the rest is dear"


async def test_a_vehicle_that_takes_less_than_it_is_offered_begins_earlier_the_next_time(make: Make) -> None:
    home = make(ev=READY)
    home.car.rating = ChargerRating(max_draw_w=MOST_W / 3, least_draw_w=1_000.0)  # one phase of three
    home.at("03:00")
    await home.bench.agent.site.open_all()
    home.plug()
    home.follow_price()
    home.price(0)  # it charges, and shows what it takes
    await home.bench.run_for(5 * 60.0)
    home.price(900_000)
    await home.bench.run_for(60.0)
    assert home.car_w == 0.0
    home.at("06:31")  # 1.5 kWh at 3.7 kW take 25 minutes, and at 11 kW 8
    await home.bench.run_for(10.0)
    assert home.car_w == -MOST_W / 3


async def test_comfort_beats_a_price_both_ways(make: Make) -> None:
    home = make()
    await home.bench.agent.site.open_all()
    home.follow_price()
    home.price(900_000)
    home.tank.temperature_c = 47.5
    await home.bench.run_for(15.0)
    assert home.tank_w == -ROD_W
    assert "below the owner's comfort" in home.words("Load")
    home.price(-900_000)
    home.tank_rig.to_present()
    home.tank.temperature_c = 62.5
    await home.bench.run_for(15.0)
    assert home.tank_w == 0.0
    assert "as full as allowed" in home.words("Load")


async def test_the_limit_at_the_grid_connection_is_kept_by_all_of_them_together(make: Make) -> None:
    home = make(limits={"import_limit_w": 9_000.0})
    await home.bench.agent.site.open_all()
    home.bench.home.load_w = 1_500.0
    home.plug()
    home.follow_price()
    home.price(0)
    imported = []
    for _ in range(60):
        await home.bench.run_for(1.0)
        imported.append(home.bench.home.load_w - home.bench.home.power_w - home.car_w - home.tank_w)
    assert max(imported[15:]) <= 9_000.0 + 50.0
    assert imported[-1] > 7_000.0, "and what it leaves is used"
    assert "the grid connection leaves no more" in home.words("Vehicle")


async def test_a_setpoint_beyond_the_inverter_is_carried_by_the_others(make: Make) -> None:
    home = make()
    await home.bench.agent.site.open_all()
    home.plug()
    home.follow_price()
    home.price(9_000)
    await home.bench.run_for(10.0)
    assert home.car_w == 0.0
    asked = intent_pb2.PowerSetpoint(inverter_power_w=-13_000, reason="test run")
    home.bench.send(0.0, 600.0, intent_pb2.Intent(setpoint=asked))
    await home.bench.run_for(20.0)
    assert home.bench.home.power_w == -5_000.0
    assert home.car_w == pytest.approx(-8_000.0 * MOST_W / (MOST_W + ROD_W), abs=1.0)
    assert "an operator's setpoint" in home.words("Vehicle")


async def test_an_emergency_stop_releases_and_a_stopped_agent_too(make: Make) -> None:
    home = make()
    await home.bench.agent.site.open_all()
    home.plug()
    home.follow_price()
    home.price(9_000)
    await home.bench.run_for(10.0)
    assert home.car_rig.commanded_w == 0.0
    stop = intent_pb2.StopOrder(stop=True, reason="fire")
    home.bench.send(0.0, 60.0, intent_pb2.Intent(stop=stop))
    await home.bench.run_for(3.0)
    assert home.car_rig.commanded_w is None
    assert home.tank_rig.commanded_w is None
    home.bench.send(0.0, 60.0, intent_pb2.Intent(stop=intent_pb2.StopOrder(stop=False, reason="out")))
    await home.bench.run_for(3.0)
    assert home.car_rig.commanded_w == -MOST_W
    await home.bench.agent.loop.release()
    assert home.car_rig.commanded_w is None


async def test_a_silent_wallbox_holds_nobody_up_and_comes_back(make: Make) -> None:
    home = make()
    await home.bench.agent.site.open_all()
    home.plug()
    await home.bench.run_for(3.0)
    home.car_rig.silent = True
    cycles = home.bench.agent.cycles
    await home.bench.run_for(20.0)
    assert home.bench.agent.cycles - cycles >= 190
    assert "device.lost" in home.bench.codes()
    assert "does not answer" in home.words("Vehicle")
    home.car_rig.silent = False
    await home.bench.run_for(5.0)
    assert "device.found" in home.bench.codes()
    assert home.car_rig.commanded_w == -MOST_W


async def test_few_writes_while_nothing_changes(make: Make) -> None:
    home = make()
    await home.bench.agent.site.open_all()
    home.plug()
    await home.bench.run_for(300.0)
    assert home.car_rig.writes <= 12


async def test_an_unplugged_wallbox_is_given_back(make: Make) -> None:
    home = make()
    await home.bench.agent.site.open_all()
    home.plug()
    await home.bench.run_for(3.0)
    home.car_rig.to_present()
    home.car.plug(None)
    await home.bench.run_for(3.0)
    assert home.car_rig.commanded_w is None
    assert home.words("Vehicle") == "wallbox: no vehicle is plugged in."


async def test_a_home_without_an_inverter_offers_and_obeys(make: Make) -> None:
    home = make(inverter=False)
    await home.bench.agent.site.open_all()
    home.plug()
    home.follow_price(fallback=5_000)
    home.price(9_000)
    await home.bench.run_for(30.0)
    told = home.supply()
    assert (min(told.power_w), max(told.power_w)) == (-MOST_W - ROD_W, 0.0)
    assert told.valid_s > 1
    asked = intent_pb2.PowerSetpoint(inverter_power_w=-6_520, reason="test run")
    home.bench.send(0.0, 600.0, intent_pb2.Intent(setpoint=asked))
    await home.bench.run_for(20.0)
    assert home.car_w == pytest.approx(-MOST_W / 2)


async def test_what_a_vehicle_has_got_is_not_asked_for_again_after_a_restart(make: Make) -> None:
    home = make(ev=READY)
    home.at("03:00")
    await home.bench.agent.site.open_all()
    home.plug()
    home.follow_price()
    home.price(0)
    await home.bench.run_for(5 * 60.0)
    got_wh = home.car.drawn_wh
    assert got_wh > 500.0
    home.bench.agent.close()
    restarted = Agent(
        home.bench.config,
        open_device=home.bench._open,
        clock=home.bench.clock,
        kick=lambda: None,
        sleep=home.bench.clock.sleep,
    )
    await restarted.site.open_all()
    for _ in range(30):
        await restarted.loop.cycle()
        await home.bench.clock.sleep(0.1)
    (charger,) = [each for each in restarted.summary()["flexible"] if each["kind"] == "ev_charger"]
    assert charger["session_wh"] == pytest.approx(home.car.drawn_wh, abs=10.0)
    assert charger["needed_wh"] == pytest.approx(1_840.0 - home.car.drawn_wh, abs=10.0)
    await restarted.flexible.close()
    restarted.close()
