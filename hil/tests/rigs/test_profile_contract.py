"""Every profile that is shipped: loaded, and driven through the device contract against a simulated device of it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from msgspec import structs

from edge_agent.drivers import open_device
from edge_agent.drivers.profile_loading import load, shipped
from edge_agent.model.config import DeviceConfig, NameplateConfig
from hil.contract import ControlContract, InverterContract, MeterContract, ReadingContract, Truth
from hil.rigs.clock import ManualClock
from hil.rigs.profile_device import ProfileDevice, Values
from hil.rigs.served import TcpDevice
from hil.rigs.testing import AgentClock

# What the profile describes, so that a contract runs for every profile that offers it, and for no other.
PROFILES = {name: load(name) for name in shipped()}
INVERTERS = [name for name, profile in PROFILES.items() if profile.inverter is not None]
METERS = [name for name, profile in PROFILES.items() if profile.meter is not None]
CONTROLLED = [name for name in INVERTERS if PROFILES[name].control is not None]
SWITCHES = [name for name, profile in PROFILES.items() if profile.switch is not None]
WANTED = ("rated_power_w", "max_charge_w", "max_discharge_w", "storage_capacity_wh")


class ProfileBench:
    """A simulated device as the contract wants it."""

    def __init__(self, name: str, served: TcpDevice, device: ProfileDevice, clock: ManualClock) -> None:
        self.name = name
        self.device = device
        self.clock = AgentClock(clock)
        self._served, self._rig_clock = served, clock
        values = device.values
        self.rated_power_w, self.storage_capacity_wh = values.rated_power_w, values.storage_capacity_wh
        self.max_charge_w, self.max_discharge_w = values.max_charge_w, values.max_discharge_w

    @property
    def commanded_w(self) -> float | None:
        return self.device.commanded_w

    @property
    def writes(self) -> int:
        return self.device.writes

    @property
    def truth(self) -> Truth:
        values, profile = self.device.values, self.device.profile

        def told(part: str, role: str, value: float) -> float | None:
            return value if getattr(getattr(profile, part), role, ()) else None

        return Truth(
            inverter_power_w=told("inverter", "power_w", self.device.power_w),
            meter_power_w=told("meter", "power_w", self.device.power_w - values.load_w),
            pv_power_w=told("inverter", "pv_power_w", values.pv_power_w),
            frequency_hz=told("inverter", "frequency_hz", values.frequency_hz),
            voltage_v=told("inverter", "voltage_v", values.voltage_v),
            soc=told("inverter", "soc", values.soc),
            meter_frequency_hz=told("meter", "frequency_hz", values.frequency_hz),
            meter_voltage_v=told("meter", "voltage_v", values.voltage_v),
        )

    def config(self, *, timeout_s: float, read_only: bool) -> DeviceConfig:
        """With the ratings that the device does not tell."""
        plate, values = self.device.profile.nameplate, self.device.values
        untold = {role: getattr(values, role) for role in WANTED if getattr(plate, role) is None}
        return DeviceConfig(
            name=self.name,
            driver="profile",
            profile=self.name,
            host="127.0.0.1",
            port=self._served.port,
            unit_id=self._served.unit_id,
            timeout_s=timeout_s,
            read_only=read_only,
            nameplate=NameplateConfig(**untold),
        )

    def pass_time(self, seconds: float) -> None:
        self._rig_clock.leap(seconds)

    def keep_silent(self, silent: bool) -> None:
        self.device.silent = silent


@pytest.fixture
async def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProfileBench]:
    """The device of the profile that the class was given. Its pauses are the wire's business, and tested there."""
    name, clock = request.param, ManualClock()
    unpaced = structs.replace(
        PROFILES[name], link=structs.replace(PROFILES[name].link, pause_s=0.0, pause_after_write_s=0.0)
    )
    monkeypatch.setattr("edge_agent.drivers.opening.load", lambda _: unpaced)
    device = ProfileDevice(PROFILES[name], Values(), now_s=lambda: clock.now_ms / 1000.0)
    async with TcpDevice(device, unit_id=3) as served:
        yield ProfileBench(name, served, device, clock)


def of(names: list[str]) -> Callable[[Any], Any]:
    return pytest.mark.parametrize("bench", names, indirect=True)


@of(INVERTERS)
class TestInverters(InverterContract):
    covers = frozenset(f"{name} inverter" for name in INVERTERS)


@of(METERS)
class TestMeters(MeterContract):
    covers = frozenset(f"{name} meter" for name in METERS)


@of(SWITCHES)
class TestSwitches(ReadingContract):
    covers = frozenset(f"{name} switch" for name in SWITCHES)

    async def test_it_switches_and_says_so(self, bench: ProfileBench) -> None:
        device = await open_device(bench.config(timeout_s=0.5, read_only=False), bench.clock)
        assert device.switch is not None
        assert device.switch_control is not None
        for on in (True, False, True):
            await device.switch_control.write_switch(on)
            assert bench.device.on is on
            bench.pass_time(1.0)
            assert await device.switch.read_switch() is on
        await device.close()


@of(CONTROLLED)
class TestControls(ControlContract):
    covers = frozenset({"driver profile", "hil.rigs.profile_device", *(f"{name} control" for name in CONTROLLED)})

    @pytest.fixture(autouse=True)
    def what_is_particular_to_it(self, bench: ProfileBench) -> None:
        self.control_of = bench.device.profile.control
        assert self.control_of is not None
        self.writes_of_a_change = len(self.control_of.setpoint)

    def lets_go_after_s(self, lifetime_s: float) -> float | None:
        assert self.control_of is not None
        match self.control_of.reversion.kind:
            case "timer":
                [step] = [step for step in self.control_of.steps if step.carries == "lifetime"]
                unit_s = 60.0 if step.unit == "min" else 1.0
                return max((step.least or 0.0) * unit_s, unit_s * -(-lifetime_s // unit_s))
            case "watchdog":
                return self.control_of.reversion.seconds
        return None

    def release_takes_s(self) -> float:
        assert self.control_of is not None
        return 0.0 if self.control_of.release else self.lets_go_after_s(0.0) or 0.0
