"""The device contract: what every driver, together with every device it drives, must do. Sign first.

A subclass of `DeviceContract` in a test folder gives a `bench` fixture (a Bench) and inherits the tests. The bench is
the device: it tells the truth about itself, so that readings are held against it and not against the driver.
"""
# ruff: noqa: S101  (a test suite, though other test modules import it)

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import pytest

from edge_agent.drivers import open_device
from edge_agent.model.clock import Clock
from edge_agent.model.config import DeviceConfig
from edge_agent.model.devices import Device, DeviceRejected, DeviceTimeout, Inverter, Meter, PowerControl
from edge_agent.model.values import Applied, Setpoint

T = TypeVar("T")

_RECOVERY_S = 10.0  # far beyond what a driver needs to find its device again


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a device physically does now. Powers positive towards the grid."""

    inverter_power_w: float
    meter_power_w: float
    pv_power_w: float
    frequency_hz: float
    voltage_v: float  # line to neutral
    soc: float  # 0..1


class Bench(Protocol):
    """A hybrid inverter with battery, PV and grid meter, and everything that happens to it."""

    @property
    def clock(self) -> Clock:
        """The agent's clock, which only `pass_time` moves."""
        ...

    @property
    def rated_power_w(self) -> float: ...

    @property
    def max_charge_w(self) -> float: ...

    @property
    def max_discharge_w(self) -> float: ...

    @property
    def storage_capacity_wh(self) -> float: ...

    @property
    def commanded_w(self) -> float | None:
        """The power the device obeys now; None: its own default."""
        ...

    @property
    def writes(self) -> int:
        """Write transactions the device has received."""
        ...

    @property
    def truth(self) -> Truth: ...

    def config(self, *, timeout_s: float, read_only: bool) -> DeviceConfig:
        """How an agent finds the device."""
        ...

    def pass_time(self, seconds: float) -> None:
        """Moves the agent's clock and the device's own time."""
        ...

    def keep_silent(self, silent: bool) -> None:
        """A silent device keeps its connections and answers nothing."""
        ...


def power(power_w: float) -> Applied:
    """An admitted setpoint."""
    return Applied(Setpoint(power_w=power_w, source="contract", expires_s=float("inf")))


class DeviceContract:
    """Inherit, give `bench`, and pass."""

    @pytest.fixture
    async def device(self, bench: Bench) -> AsyncIterator[Device]:
        device = await open_device(bench.config(timeout_s=0.5, read_only=False), bench.clock)
        yield device
        await device.close()

    @pytest.fixture
    def inverter(self, device: Device) -> Inverter:
        return _there(device.inverter)

    @pytest.fixture
    def meter(self, device: Device) -> Meter:
        return _there(device.meter)

    @pytest.fixture
    def control(self, device: Device) -> PowerControl:
        return _there(device.control)

    # ---- sign

    @pytest.mark.parametrize(("asked_w", "sign"), [(1500.0, 1), (-1500.0, -1)], ids=["discharge", "charge"])
    async def test_positive_power_flows_towards_the_grid(
        self, bench: Bench, inverter: Inverter, meter: Meter, control: PowerControl, asked_w: float, sign: int
    ) -> None:
        await control.write_power(power(0.0), 60.0)
        bench.pass_time(2.0)
        at_rest = _number((await meter.read_meter()).power_w.good)
        await control.write_power(power(asked_w), 60.0)
        bench.pass_time(2.0)
        reading = await inverter.read_inverter()
        moved = _number((await meter.read_meter()).power_w.good)
        assert bench.commanded_w == asked_w
        assert sign * _number(reading.power_w.good) > 0
        assert sign * (moved - at_rest) > 0

    # ---- units

    async def test_readings_are_the_truth_in_si_units(self, bench: Bench, inverter: Inverter, meter: Meter) -> None:
        bench.pass_time(0.1)
        reading, grid = await inverter.read_inverter(), await meter.read_meter()
        truth = bench.truth
        assert reading.power_w.good == pytest.approx(truth.inverter_power_w, abs=10.0)
        assert reading.pv_power_w.good == pytest.approx(truth.pv_power_w, abs=10.0)
        assert reading.frequency_hz.good == pytest.approx(truth.frequency_hz, abs=0.001)
        assert reading.voltage_v.good == pytest.approx(truth.voltage_v, abs=0.1)
        assert reading.soc.good == pytest.approx(truth.soc, abs=0.005)
        assert grid.power_w.good == pytest.approx(truth.meter_power_w, abs=10.0)
        assert grid.frequency_hz.good == pytest.approx(truth.frequency_hz, abs=0.01)
        assert grid.voltage_v.good == pytest.approx(truth.voltage_v, abs=0.1)

    async def test_ratings_are_magnitudes_in_si_units(self, bench: Bench, device: Device) -> None:
        plate = device.nameplate
        assert plate.rated_power_w == pytest.approx(bench.rated_power_w, abs=10)
        assert plate.max_charge_w == pytest.approx(bench.max_charge_w, abs=10)
        assert plate.max_discharge_w == pytest.approx(bench.max_discharge_w, abs=10)
        assert plate.storage_capacity_wh == pytest.approx(bench.storage_capacity_wh, abs=10)
        assert plate.serial

    # ---- limits

    async def test_what_the_device_refuses_is_told_and_changes_nothing(
        self, bench: Bench, device: Device, control: PowerControl
    ) -> None:
        await control.write_power(power(500.0), 60.0)
        with pytest.raises(DeviceRejected, match=f"device {device.name}: "):
            await control.write_power(power(3 * bench.rated_power_w), 60.0)
        assert bench.commanded_w == 500.0

    async def test_after_a_refusal_the_next_setpoint_is_obeyed(self, bench: Bench, control: PowerControl) -> None:
        with pytest.raises(DeviceRejected):
            await control.write_power(power(3 * bench.rated_power_w), 60.0)
        await control.write_power(power(600.0), 60.0)
        assert bench.commanded_w == 600.0

    # ---- staleness

    async def test_each_reading_bears_its_own_instant(self, bench: Bench, inverter: Inverter, meter: Meter) -> None:
        for _ in range(3):
            bench.pass_time(0.05)
            now_s = bench.clock.monotonic_s()
            reading, grid = await inverter.read_inverter(), await meter.read_meter()
            assert {reading.power_w.at_s, reading.frequency_hz.at_s, reading.soc.at_s} == {now_s}
            assert {grid.power_w.at_s, grid.frequency_hz.at_s} == {now_s}

    # ---- time-out

    async def test_silence_is_a_timeout_and_ends_when_the_device_speaks(self, bench: Bench) -> None:
        device = await open_device(bench.config(timeout_s=0.1, read_only=False), bench.clock)
        inverter, control = _there(device.inverter), _there(device.control)
        try:
            bench.keep_silent(True)
            with pytest.raises(DeviceTimeout, match=device.name):
                await inverter.read_inverter()
            with pytest.raises(DeviceTimeout, match=device.name):
                await control.write_power(power(100.0), 60.0)
            bench.keep_silent(False)
            async with asyncio.timeout(_RECOVERY_S):
                await _until_obeyed(control, 700.0)
            assert bench.commanded_w == 700.0
        finally:
            await device.close()

    # ---- reversion

    async def test_a_setpoint_ends_by_the_devices_own_timer(self, bench: Bench, control: PowerControl) -> None:
        await control.write_power(power(900.0), 4.0)
        bench.pass_time(3.9)
        assert bench.commanded_w == 900.0
        bench.pass_time(0.2)
        assert bench.commanded_w is None

    async def test_a_setpoint_that_is_repeated_holds_with_few_writes(self, bench: Bench, control: PowerControl) -> None:
        await control.write_power(power(900.0), 4.0)
        writes = bench.writes
        for _ in range(400):  # 20 s at 20 Hz
            bench.pass_time(0.05)
            await control.write_power(power(900.0), 4.0)
            assert bench.commanded_w == 900.0
        assert bench.writes - writes <= 10  # one each half life

    async def test_a_timer_runs_from_the_last_word(self, bench: Bench, control: PowerControl) -> None:
        for power_w in (900.0, 950.0, 1000.0):
            await control.write_power(power(power_w), 4.0)
            bench.pass_time(2.1)
        assert bench.commanded_w == 1000.0
        bench.pass_time(4.0)
        assert bench.commanded_w is None

    async def test_after_reversion_a_setpoint_is_obeyed_again(self, bench: Bench, control: PowerControl) -> None:
        await control.write_power(power(900.0), 2.0)
        bench.pass_time(5.0)
        assert bench.commanded_w is None
        await control.write_power(power(900.0), 2.0)
        assert bench.commanded_w == 900.0

    async def test_a_changed_power_is_one_write(self, bench: Bench, control: PowerControl) -> None:
        await control.write_power(power(900.0), 60.0)
        writes = bench.writes
        await control.write_power(power(-900.0), 60.0)
        assert bench.writes == writes + 1
        assert bench.commanded_w == -900.0

    async def test_release_gives_the_device_back(self, bench: Bench, control: PowerControl) -> None:
        await control.write_power(power(900.0), 60.0)
        await control.release()
        assert bench.commanded_w is None

    # ---- read-only

    async def test_read_only_is_never_written(self, bench: Bench) -> None:
        device = await open_device(bench.config(timeout_s=0.5, read_only=True), bench.clock)
        try:
            assert device.control is None
            for _ in range(10):
                bench.pass_time(20.0)
                await _there(device.inverter).read_inverter()
                await _there(device.meter).read_meter()
        finally:
            await device.close()
        assert bench.writes == 0

    async def test_reading_writes_nothing(self, bench: Bench, inverter: Inverter, meter: Meter) -> None:
        for _ in range(5):
            bench.pass_time(20.0)
            await inverter.read_inverter()
            await meter.read_meter()
        assert bench.writes == 0
        assert bench.commanded_w is None


def _there(capability: T | None) -> T:
    if capability is None:
        raise AssertionError("the driver does not offer what the bench has")
    return capability


def _number(value: float | None) -> float:
    if value is None:
        raise AssertionError("the driver does not trust what the bench shows")
    return value


async def _until_obeyed(control: PowerControl, power_w: float) -> None:
    while True:
        try:
            return await control.write_power(power(power_w), 60.0)
        except DeviceTimeout:
            await asyncio.sleep(0.01)
