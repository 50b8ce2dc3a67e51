"""Simulated homes with older inverters and meters of every kind, driven by the agent's own driver, pass the device
contract; and what is particular to them."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from edge_agent.control.bounds import Storage, available
from edge_agent.drivers import open_device
from edge_agent.model.devices import Device, DeviceRejected
from hil.contract import Bench, ControlContract, InverterContract, MeterContract, power
from hil.plant.household import SteadyHousehold
from hil.rigs.clock import ManualClock
from hil.rigs.home import HomeRig, serve_home
from hil.rigs.legacy_registers import LegacyLayout
from hil.rigs.scenario import load
from hil.rigs.testing import HomeBench

LAYOUTS = {
    "101 and 201": LegacyLayout(inverter=101, meter=201),
    "102 and 202, battery in 802": LegacyLayout(inverter=102, meter=202, battery_model=True),
    "103 and 203": LegacyLayout(),
    "111 and 211, battery in 802": LegacyLayout(inverter=111, meter=211, battery_model=True),
    "112 and 212": LegacyLayout(inverter=112, meter=212),
    "113 and 213, two strings": LegacyLayout(inverter=113, meter=213, strings=2),
    "103 and 204, three strings, no storage": LegacyLayout(meter=204, storage=False, strings=3),
    "113 and 214, no storage, strings not told": LegacyLayout(inverter=113, meter=214, storage=False, strings=0),
}
# How they are read differs in all, how they are written in these.
WITH_STORAGE = ("103 and 203", "111 and 211, battery in 802", "113 and 213, two strings")
PANELS_ONLY = ("103 and 204, three strings, no storage", "113 and 214, no storage, strings not told")


@pytest.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """The home of the layout that the class was given."""
    clock, layout = ManualClock(), LAYOUTS[request.param]
    household = SteadyHousehold(load=750.0, pv=2000.0)
    async with serve_home(household=household, frequency=lambda _: 59.88, clock=clock, layout=layout) as rig:
        yield HomeBench(rig, clock)


@pytest.mark.parametrize("bench", LAYOUTS, indirect=True)
class TestReadings(InverterContract, MeterContract):
    covers = frozenset(f"model {model}" for layout in LAYOUTS.values() for model in layout.models)


@pytest.mark.parametrize("bench", WITH_STORAGE, indirect=True)
class TestHybrids(ControlContract):
    covers = frozenset({"hil.rigs.home", "hil.rigs.legacy_registers"})


@pytest.mark.parametrize("bench", PANELS_ONLY, indirect=True)
class TestPanelsOnly(ControlContract):
    takes_power = False


class Sun:
    """A household whose panels' power a test sets."""

    def __init__(self) -> None:
        self.now_w = 2000.0

    def load_w(self, utc_ms: float) -> float:
        return 750.0

    def pv_w(self, utc_ms: float) -> float:
        return self.now_w


class Driven:
    """A legacy home under the agent's driver, asked for a power at 20 Hz."""

    def __init__(self, rig: HomeRig, clock: ManualClock, device: Device, sun: Sun) -> None:
        self.rig, self.clock, self.device, self.sun = rig, clock, device, sun

    async def hold(self, power_w: float, seconds: float) -> float:
        """The power at the AC terminals after holding."""
        assert self.device.control is not None
        assert self.device.inverter is not None
        for _ in range(round(seconds * 20)):
            self.clock.leap(0.05)
            await self.device.inverter.read_inverter()
            await self.device.control.write_power(power(power_w), 10.0)
        self.rig.to_present()
        return self.rig.plant.power_w

    def shown(self, model: int, name: str) -> int:
        self.rig.registers.refresh(0, len(self.rig.registers.map.registers))
        return self.rig.registers.map.get(self.rig.registers.map.point(model, name))


@pytest.fixture
async def driven(request: pytest.FixtureRequest) -> AsyncIterator[Driven]:
    """`param`: the state of charge it begins with."""
    clock, sun = ManualClock(), Sun()
    soc = getattr(request, "param", 0.5)
    home = msgspec.structs.replace(load("underfrequency").home(0), legacy=True, soc=soc)
    async with serve_home(home, household=sun, frequency=lambda _: 59.88, clock=clock) as rig:
        bench = HomeBench(rig, clock)
        device = await open_device(bench.config(timeout_s=0.5, read_only=False), bench.clock)
        yield Driven(rig, clock, device, sun)
        await device.close()


async def test_the_ac_power_stays_when_the_sun_moves(driven: Driven) -> None:
    assert await driven.hold(1000.0, 2.0) == pytest.approx(1000, abs=5)
    for sun_w in (3500.0, 800.0, 0.0):
        driven.sun.now_w = sun_w
        assert await driven.hold(1000.0, 1.0) == pytest.approx(1000, abs=30)
    assert driven.shown(123, "WMaxLim_Ena") == 0  # the storage takes and gives the difference: no panel is throttled


async def test_it_charges_from_the_grid_and_gives_the_owners_setting_back(driven: Driven) -> None:
    assert driven.shown(124, "ChaGriSet") == 0
    assert await driven.hold(-2500.0, 2.0) == pytest.approx(-2500, abs=5)
    assert driven.shown(124, "ChaGriSet") == 1
    assert driven.device.control is not None
    await driven.device.control.release()
    assert (driven.shown(124, "StorCtl_Mod"), driven.shown(124, "ChaGriSet")) == (0, 0)
    assert driven.rig.plant.commanded_w is None


@pytest.mark.parametrize("driven", [1.0], indirect=True)
async def test_a_full_storage_makes_the_cap_hold_the_power(driven: Driven) -> None:
    assert await driven.hold(500.0, 0.9) == pytest.approx(2000, abs=5)  # nothing takes what the panels give
    assert await driven.hold(500.0, 2.0) == pytest.approx(500, abs=5)
    assert driven.shown(123, "WMaxLim_Ena") == 1
    assert await driven.hold(800.0, 1.0) == pytest.approx(800, abs=5)  # and it follows
    driven.clock.leap(11.0)
    driven.rig.to_present()
    assert driven.rig.plant.commanded_w is None  # both time-outs of its own have let go
    assert (driven.shown(124, "StorCtl_Mod"), driven.shown(123, "WMaxLim_Ena")) == (0, 0)


async def test_more_sun_than_the_storage_takes_is_throttled_at_once(driven: Driven) -> None:
    driven.sun.now_w = 6500.0
    assert await driven.hold(0.0, 1.0) == pytest.approx(0, abs=30)
    assert driven.shown(123, "WMaxLim_Ena") == 1


async def test_what_it_says_it_can_import_it_can(driven: Driven) -> None:
    driven.sun.now_w = 1800.0
    await driven.hold(0.0, 1.0)
    assert driven.device.inverter is not None
    reading = await driven.device.inverter.read_inverter()
    storage = Storage(nameplate=driven.device.nameplate, soc_min=0.1, soc_max=0.95)
    bounds = available(storage, reading.soc, reading.pv_power_w)
    assert bounds is not None
    assert bounds.lower_w == pytest.approx(1800 - 5000, abs=5)
    assert await driven.hold(bounds.lower_w, 2.0) == pytest.approx(bounds.lower_w, abs=5)


async def test_a_rate_that_somebody_else_writes_is_found_out(driven: Driven) -> None:
    await driven.hold(1000.0, 2.0)
    point = driven.rig.registers.map.point(124, "OutWRte")
    driven.rig.registers.write(point.address, [3000], driven.rig.to_present())
    with pytest.raises(DeviceRejected, match=r"model 124 OutWRte is 3000, -.* was written"):
        await driven.hold(1000.0, 3.0)


async def test_power_beyond_the_rating_is_refused_by_name(driven: Driven) -> None:
    with pytest.raises(DeviceRejected, match=r"device home-01: 5100 W asked, and its rating is 5000 W"):
        await driven.hold(5100.0, 0.1)
    assert driven.rig.plant.commanded_w is None
