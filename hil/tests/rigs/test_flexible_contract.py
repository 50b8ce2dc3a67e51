"""Simulated chargers and a simulated water heater pass the device contract."""

import pytest

from edge_agent.model.devices import Device, FlexiblePlate
from hil.contract_flexible import ChargerBench, ChargerContract, LoadBench, LoadContract
from hil.plant.charger import Charger, ChargerRating, Visit
from hil.plant.heater import Heater, HeaterRating
from hil.rigs.clock import ManualClock
from hil.rigs.flexible import FlexibleRig, SimulatedCharger, SimulatedHeater
from hil.rigs.testing import AgentClock


class _Bench:
    """A simulated device as the contract wants it."""

    def __init__(self, plant: Charger | Heater) -> None:
        self._manual = ManualClock()
        self.clock = AgentClock(self._manual)
        self._rig = FlexibleRig(plant, self.clock)

    @property
    def commanded_w(self) -> float | None:
        return self._rig.commanded_w

    @property
    def power_w(self) -> float:
        return self._rig.power_w

    @property
    def writes(self) -> int:
        return self._rig.writes

    def pass_time(self, seconds: float) -> None:
        self._manual.leap(seconds)

    def keep_silent(self, silent: bool) -> None:
        self._rig.silent = silent


class _ChargerBench(_Bench):
    forgets_by_itself = True

    def __init__(self, rating: ChargerRating) -> None:
        self._plant = Charger(rating)
        super().__init__(self._plant)
        self.plate = FlexiblePlate(
            max_draw_w=rating.max_draw_w, least_draw_w=rating.least_draw_w, max_feed_w=rating.max_feed_w
        )
        self.plug_again()

    @property
    def needed_wh(self) -> float:
        self._rig.to_present()
        return self._plant.needed_wh

    @property
    def drawn_wh(self) -> float:
        self._rig.to_present()
        return self._plant.drawn_wh

    @property
    def ready_in_s(self) -> float:
        self._rig.to_present()
        assert self._plant.ready_in_s is not None
        return self._plant.ready_in_s

    def open(self, *, read_only: bool = False) -> Device:
        return SimulatedCharger("wallbox", self._plant, self._rig, self.clock, read_only=read_only)

    def plug_again(self) -> None:
        self._rig.to_present()
        self._plant.plug(Visit(stored_wh=20_000.0, capacity_wh=60_000.0, wanted_wh=40_000.0, ready_at_s=8 * 3600.0))

    def unplug(self) -> None:
        self._rig.to_present()
        self._plant.plug(None)


class _HeaterBench(_Bench):
    def __init__(self) -> None:
        rating = HeaterRating()
        self._plant = Heater(rating, temperature_c=55.0)
        super().__init__(self._plant)
        self.plate = FlexiblePlate(max_draw_w=rating.power_w, least_draw_w=rating.power_w)

    @property
    def level(self) -> float:
        self._rig.to_present()
        return self._plant.level

    def open(self, *, read_only: bool = False) -> Device:
        return SimulatedHeater("tank", self._plant, self._rig, self.clock, read_only=read_only)

    def overfill(self) -> None:
        self._rig.to_present()
        self._plant.temperature_c = 80.0


class TestThreePhaseCharger(ChargerContract):
    covers = frozenset({"hil.rigs.flexible"})

    @pytest.fixture
    def bench(self) -> ChargerBench:
        return _ChargerBench(ChargerRating(max_draw_w=11_040.0, least_draw_w=4_140.0))  # 6 to 16 A at 230 V


class TestChargerThatFeedsBack(ChargerContract):
    @pytest.fixture
    def bench(self) -> ChargerBench:
        return _ChargerBench(ChargerRating(max_draw_w=7_360.0, least_draw_w=1_380.0, max_feed_w=7_360.0))


class TestWaterHeater(LoadContract):
    covers = frozenset({"hil.rigs.flexible"})

    @pytest.fixture
    def bench(self) -> LoadBench:
        return _HeaterBench()
