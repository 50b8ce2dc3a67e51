"""Every charger's and load's profile that is shipped, driven through the device contract against a simulated device."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from msgspec import structs

from edge_agent.drivers import open_device
from edge_agent.drivers.profile_loading import load, shipped
from edge_agent.model.config import DeviceConfig, EvChargerConfig, FlexibleLoadConfig
from edge_agent.model.devices import Device, FlexiblePlate
from hil.contract import power
from hil.contract_flexible import ChargerContract, LoadContract
from hil.plant.charger import Charger, ChargerRating, Visit
from hil.plant.heater import Heater, HeaterRating
from hil.rigs.clock import ManualClock
from hil.rigs.profile_flexible import FlexibleProfileDevice
from hil.rigs.served import TcpDevice
from hil.rigs.testing import AgentClock

PROFILES = {name: load(name) for name in shipped()}
CHARGERS = [name for name, profile in PROFILES.items() if profile.ev_charger is not None]
LOADS = [name for name, profile in PROFILES.items() if profile.flexible_load is not None]
EV = EvChargerConfig(max_current_a=16.0, phases=3)
CAR = ChargerRating(max_draw_w=11_040.0, least_draw_w=4_140.0)
HEATER = HeaterRating(power_w=3_500.0, least_w=100.0)
LOAD = FlexibleLoadConfig(
    power_w=HEATER.power_w, comfort_min_c=HEATER.comfort_min_c, comfort_max_c=HEATER.comfort_max_c
)


class Bench:
    """A simulated device behind a socket, and the driver on it."""

    forgets_by_itself = False
    needed_wh = ready_in_s = None

    def __init__(self, name: str, plant: Charger | Heater, clock: ManualClock) -> None:
        self.plant, self.manual = plant, clock
        self.clock = AgentClock(clock)
        self.device = FlexibleProfileDevice(PROFILES[name], plant, now_s=lambda: clock.now_ms / 1000.0)
        self.devices: dict[bool, Device] = {}
        charges = isinstance(plant, Charger)
        self.plate = (
            FlexiblePlate(max_draw_w=CAR.max_draw_w, least_draw_w=CAR.least_draw_w)
            if charges
            else FlexiblePlate(max_draw_w=HEATER.power_w, least_draw_w=100.0)
        )

    @property
    def commanded_w(self) -> float | None:
        return self.device.commanded_w

    @property
    def power_w(self) -> float:
        return self.device.power_w

    @property
    def writes(self) -> int:
        return self.device.writes

    @property
    def drawn_wh(self) -> float:
        self.device.to_present()
        assert isinstance(self.plant, Charger)
        return self.plant.drawn_wh

    @property
    def level(self) -> float | None:
        self.device.to_present()
        assert isinstance(self.plant, Heater)
        return self.plant.level if tells_level(self.device) else None

    def open(self, *, read_only: bool = False) -> Device:
        return self.devices[read_only]

    def pass_time(self, seconds: float) -> None:
        self.manual.leap(seconds)

    def keep_silent(self, silent: bool) -> None:
        self.device.silent = silent

    def plug_again(self) -> None:
        self.device.to_present()
        assert isinstance(self.plant, Charger)
        self.plant.plug(Visit(stored_wh=20_000.0, capacity_wh=60_000.0, wanted_wh=40_000.0, ready_at_s=8 * 3600.0))

    def unplug(self) -> None:
        self.device.to_present()
        assert isinstance(self.plant, Charger)
        self.plant.plug(None)

    def overfill(self) -> None:
        self.device.to_present()
        assert isinstance(self.plant, Heater)
        self.plant.temperature_c = 80.0


def tells_level(device: FlexibleProfileDevice) -> bool:
    load_points = device.profile.flexible_load
    return load_points is not None and bool(load_points.temperature_c)


@pytest.fixture
async def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """The device of the profile that the class was given. Its pauses are the wire's business, and tested there."""
    name, clock = request.param, ManualClock()
    unpaced = structs.replace(
        PROFILES[name], link=structs.replace(PROFILES[name].link, pause_s=0.0, pause_after_write_s=0.0)
    )
    monkeypatch.setattr("edge_agent.drivers.opening.load", lambda _: unpaced)
    charger = PROFILES[name].ev_charger is not None
    plant = Charger(CAR) if charger else Heater(HEATER, temperature_c=55.0)
    made = Bench(name, plant, clock)
    if charger:
        made.plug_again()
    async with TcpDevice(made.device, unit_id=3) as served:
        for read_only in (False, True):
            made.devices[read_only] = await open_device(
                DeviceConfig(
                    name=name,
                    driver="profile",
                    profile=name,
                    host="127.0.0.1",
                    port=served.port,
                    unit_id=3,
                    timeout_s=0.1,
                    read_only=read_only,
                    ev_charger=EV if charger else None,
                    flexible_load=None if charger else LOAD,
                ),
                made.clock,
            )
        yield made
        for device in made.devices.values():
            await device.close()


def of(names: list[str]) -> Callable[[Any], Any]:
    return pytest.mark.parametrize("bench", names, indirect=True)


class ByItsProfile:
    """When it lets go, by what its profile says."""

    @pytest.fixture(autouse=True)
    def what_is_particular_to_it(self, bench: Bench) -> None:
        control = bench.device.profile.control
        assert control is not None
        self.control_of = control
        self.writes_of_a_renewal = len(control.setpoint)

    def lets_go_after_s(self, lifetime_s: float) -> float | None:
        if self.control_of.reversion.kind == "watchdog":
            return self.control_of.reversion.seconds
        step = next(step for step in self.control_of.steps if step.carries == "lifetime")
        return max(step.least or 0.0, lifetime_s)

    def release_takes_s(self) -> float:
        return 0.0 if self.control_of.release else self.lets_go_after_s(60.0) or 0.0


@of(CHARGERS)
class TestChargers(ByItsProfile, ChargerContract):
    covers = frozenset(
        {"hil.rigs.profile_flexible", *(f"{name} {part}" for name in CHARGERS for part in ("ev_charger", "control"))}
    )

    async def test_killed_it_falls_back_to_its_fail_safe_current(self, bench: Bench) -> None:
        device = bench.open()
        assert device.charger is not None
        assert device.control is not None
        await device.charger.read_charger()
        await device.control.write_power(power(0.0), 30.0)
        bench.pass_time(1.0)
        assert bench.power_w == 0.0
        bench.pass_time(self.lets_go_after_s(30.0) or 0.0)
        assert bench.power_w == pytest.approx(-6.0 * 3 * 230.0)


@of(LOADS)
class TestLoads(ByItsProfile, LoadContract):
    covers = frozenset(f"{name} {part}" for name in LOADS for part in ("flexible_load", "control"))


def test_at_least_three_chargers_are_shipped() -> None:
    assert len(CHARGERS) >= 3
    assert LOADS
