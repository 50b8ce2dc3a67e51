"""The inverter's own droop and curves: put in force from the agent's configuration, and told when they drift."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from edge_agent.commands.probe import Found, probe_configured
from edge_agent.drivers import open_device
from edge_agent.drivers.device import SunSpecDevice
from edge_agent.drivers.sunspec.poll import SLOW_PERIOD_S
from edge_agent.model.config import LocalDroopConfig
from edge_agent.model.devices import Droop
from hil.plant.household import SteadyHousehold
from hil.rigs.clock import ManualClock, RigClock, SteadyClock
from hil.rigs.home import HomeRig, serve_home
from hil.rigs.scenario import load
from hil.rigs.testing import HomeBench

VOLT_VAR = ((93.0, 30.0), (97.0, 0.0), (103.0, 0.0), (107.0, -30.0))


class Home:
    """A served home and its grid's frequency, which a test sets."""

    def __init__(self) -> None:
        self.hz = 60.0
        self.rig: HomeRig

    async def open(self, clock: Any = None, **keys: Any) -> SunSpecDevice:
        config = msgspec.structs.replace(
            HomeBench(self.rig, ManualClock()).config(timeout_s=0.5, read_only=False), **keys
        )
        device = await open_device(config, clock)
        assert isinstance(device, SunSpecDevice)
        await device.close()
        return device

    def shown(self, model: int, name: str) -> int:
        return self.rig.registers.map.get(self.rig.registers.map.point(model, name))


@pytest.fixture(params=[False])
async def home(request: pytest.FixtureRequest) -> AsyncIterator[Home]:
    """`param`: whether it speaks the older models."""
    served, clock = Home(), SteadyClock()
    async with _serve(served, clock, legacy=request.param):
        yield served


@asynccontextmanager
async def _serve(served: Home, clock: RigClock, *, legacy: bool) -> AsyncIterator[None]:
    rated = msgspec.structs.replace(load("underfrequency").home(0), legacy=legacy)
    household = SteadyHousehold(load=750.0, pv=2000.0)
    async with serve_home(rated, household=household, frequency=lambda _: served.hz, clock=clock) as rig:
        served.rig = rig
        yield


async def test_a_configured_droop_is_adopted_and_the_inverter_answers_by_it(home: Home) -> None:
    droop = LocalDroopConfig(deadband_over_hz=0.02, deadband_under_hz=0.03, droop_over=0.04, droop_under=0.02)
    device = await home.open(local_droop=droop)
    assert device.findings == ()
    assert device.local_droop is not None
    assert device.local_droop.droop == Droop(
        deadband_over_hz=0.02, deadband_under_hz=0.03, droop_over=0.04, droop_under=0.02, response_s=5.0
    )
    assert (home.shown(711, "Ena"), home.shown(711, "Ctl[0].KUf")) == (1, 20)
    # IEEE 1547-2018, 6.5.2.7.1: (60 - 59.85 - 0.03) / (60 x 0.02) below, (60.26 - 60 - 0.02) / (60 x 0.04) above
    plant = home.rig.plant
    home.hz = 59.85
    plant.advance(plant.utc_ms + 2000)
    assert plant.power_w == pytest.approx(2000 + 0.1 * 5000, abs=1)
    home.hz = 60.26
    plant.advance(plant.utc_ms + 2000)
    assert plant.power_w == pytest.approx(2000 - 0.1 * 5000, abs=1)


async def test_what_is_in_force_already_is_not_written_again(home: Home) -> None:
    keys = {"local_droop": LocalDroopConfig(droop_over=0.04), "volt_var": VOLT_VAR}
    await home.open(**keys)
    writes = home.rig.server.writes
    assert writes > 0
    assert (await home.open(**keys)).findings == ()
    assert home.rig.server.writes == writes


async def test_curves_are_written_adopted_and_switched_on(home: Home) -> None:
    device = await home.open(
        volt_var=VOLT_VAR,
        volt_watt=((105.0, 100.0), (110.0, 20.0)),
        watt_var=((20.0, 0.0), (50.0, 0.0), (100.0, -44.0)),
    )
    assert device.findings == ()
    assert [home.shown(model, "Ena") for model in (705, 706, 712)] == [1, 1, 1]
    points = [(home.shown(705, f"Crv[0].Pt[{i}].V"), home.shown(705, f"Crv[0].Pt[{i}].Var")) for i in range(4)]
    assert points == [(930, 300), (970, 0), (1030, 0), (1070, -300)]
    assert (home.shown(706, "Crv[0].ActPt"), home.shown(706, "Crv[0].Pt[1].W")) == (2, 200)
    assert home.shown(712, "Crv[0].Pt[2].Var") == -440


async def test_a_curve_that_the_device_refuses_is_a_finding_with_its_answer(home: Home) -> None:
    device = await home.open(volt_var=((97.0, 30.0), (93.0, 0.0)))
    assert device.findings[0] == "the device does not adopt set 2 of volt-var curve (model 705): AdptCrvRslt is 2"
    assert device.findings[1].startswith("volt-var curve (model 705) is not as configured: Ena is 0, 1 is configured")
    assert device.control is not None


async def test_more_points_than_the_device_has_are_a_finding(home: Home) -> None:
    points = tuple((90.0 + i, 0.0) for i in range(5))
    device = await home.open(volt_var=points)
    assert "model 705 has no Crv[0].Pt[4].V on this device" in device.findings[0]
    assert home.shown(705, "Ena") == 0


async def test_drift_is_found_within_the_slow_period_and_forgotten_when_it_ends() -> None:
    served, clock = Home(), ManualClock()
    async with _serve(served, clock, legacy=False):
        bench = HomeBench(served.rig, clock)
        config = msgspec.structs.replace(
            bench.config(timeout_s=0.5, read_only=False), local_droop=LocalDroopConfig()
        )  # as it left the factory, so that only the switch is written
        device = await open_device(config, bench.clock)
        inverter = device.inverter
        assert inverter is not None

        async def half_a_minute() -> tuple[str, ...]:
            clock.leap(SLOW_PERIOD_S + 1)
            for _ in range(20):
                clock.leap(0.05)
                await inverter.read_inverter()
            return device.findings

        try:
            assert await half_a_minute() == ()
            served.rig.registers.put(711, **{"Ctl[0].KOf": 80})
            assert await half_a_minute() == (
                "local droop (model 711) is not as configured: Ctl[0].KOf is 0.08, 0.05 is configured",
            )
            served.rig.registers.put(711, **{"Ctl[0].KOf": 50})
            assert await half_a_minute() == ()
        finally:
            await device.close()


async def test_a_read_only_device_is_watched_and_not_written(home: Home) -> None:
    device = await home.open(local_droop=LocalDroopConfig(), read_only=True)
    assert device.findings == ("local droop (model 711) is not as configured: Ena is 0, 1 is configured",)
    assert device.local_droop is None
    assert home.rig.server.writes == 0


async def test_a_probe_of_the_configuration_writes_nothing(home: Home) -> None:
    bench = HomeBench(home.rig, ManualClock())
    config = msgspec.structs.replace(
        bench.config(timeout_s=0.5, read_only=False), local_droop=LocalDroopConfig(), volt_var=VOLT_VAR
    )
    (found,) = await probe_configured([config])
    assert isinstance(found, Found)
    assert home.rig.server.writes == 0


@pytest.mark.parametrize("home", [True], indirect=True)
async def test_an_older_inverter_lowers_its_power_above_nominal_only(home: Home) -> None:
    device = await home.open(local_droop=LocalDroopConfig(deadband_over_hz=0.02, droop_over=0.05), volt_var=VOLT_VAR)
    assert device.findings == (
        "volt_var is configured, and the device has no model 705",
        "local_droop: model 127 lowers power above nominal, and does nothing below it",
    )
    assert (home.shown(127, "WGra"), home.shown(127, "ModEna")) == (3333, 1)  # 100 % / (0.05 x 60 Hz)
    plant = home.rig.plant
    home.hz = 60.32
    plant.advance(plant.utc_ms + 2000)
    assert plant.power_w == pytest.approx(2000 - 0.1 * 5000, abs=1)
    home.hz = 59.0
    plant.advance(plant.utc_ms + 2000)
    assert plant.power_w == pytest.approx(2000, abs=1)
