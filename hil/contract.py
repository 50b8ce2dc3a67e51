"""The device contract: what every driver, together with every device it drives, must do. Sign first.

A subclass of `DeviceContract`, or of the contracts of those capabilities that a device has, gives a `bench` fixture (a
Bench) in a test folder and inherits the tests. The bench is the device: it tells the truth about itself, so that
readings are held against it and not against the driver.
"""
# ruff: noqa: S101  (a test suite, though other test modules import it)

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

import pytest

from edge_agent.drivers import open_device
from edge_agent.model.clock import Clock
from edge_agent.model.config import DeviceConfig
from edge_agent.model.devices import Device, DeviceRejected, DeviceTimeout, Inverter, Meter, PowerControl
from edge_agent.model.values import Applied, Sample, Setpoint

T = TypeVar("T")

RECOVERY_S = 10.0  # far beyond what a driver needs to find its device again


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a device physically does now. Powers positive towards the grid. None: it does not tell."""

    inverter_power_w: float | None
    meter_power_w: float | None
    pv_power_w: float | None
    frequency_hz: float | None
    voltage_v: float | None  # line to neutral
    soc: float | None  # 0..1
    meter_frequency_hz: float | None
    meter_voltage_v: float | None


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


class Contract:
    """What all capabilities share: inherit one or more of those below, give `bench`, and pass."""

    covers: ClassVar[frozenset[str]] = (
        frozenset()
    )  # what a subclass proves; see hil/tests/rigs/test_contract_complete.py
    writes_of_a_change = 1  # transactions that another power takes
    takes_power = True  # from the grid; a PV inverter only gives less
    oldest_s = 0.0  # how old a frequency may be where the device tells its age

    def lets_go_after_s(self, lifetime_s: float) -> float | None:
        """How long the device obeys after the last word, where asked for `lifetime_s`; None: for ever."""
        return lifetime_s

    def release_takes_s(self) -> float:
        """How long after its release the device may still obey."""
        return 0.0

    @pytest.fixture
    async def device(self, bench: Bench) -> AsyncIterator[Device]:
        device = await open_device(bench.config(timeout_s=0.5, read_only=False), bench.clock)
        yield device
        await device.close()

    @pytest.fixture
    def inverter(self, device: Device) -> Inverter:
        return there(device.inverter)

    @pytest.fixture
    def meter(self, device: Device) -> Meter:
        return there(device.meter)

    @pytest.fixture
    def control(self, device: Device) -> PowerControl:
        return there(device.control)


class ReadingContract(Contract):
    """Whatever can be read."""

    async def test_silence_is_a_timeout_and_ends_when_the_device_speaks(self, bench: Bench) -> None:
        device = await open_device(bench.config(timeout_s=0.3, read_only=False), bench.clock)
        read = _any_reading(device)
        try:
            bench.keep_silent(True)
            with pytest.raises(DeviceTimeout, match=device.name):
                await read()
            bench.keep_silent(False)
            async with asyncio.timeout(RECOVERY_S):
                await until_answered(read)
        finally:
            await device.close()

    async def test_reading_writes_nothing(self, bench: Bench, device: Device) -> None:
        for _ in range(5):
            bench.pass_time(20.0)
            await _read_all(device)
        assert bench.writes == 0
        assert bench.commanded_w is None

    async def test_read_only_is_never_written(self, bench: Bench) -> None:
        device = await open_device(bench.config(timeout_s=0.5, read_only=True), bench.clock)
        try:
            assert device.control is None
            assert device.switch_control is None
            for _ in range(10):
                bench.pass_time(20.0)
                await _read_all(device)
        finally:
            await device.close()
        assert bench.writes == 0


class InverterContract(ReadingContract):
    """Units and instants of an inverter, and what it says it is."""

    async def test_the_inverter_tells_the_truth_in_si_units(self, bench: Bench, inverter: Inverter) -> None:
        bench.pass_time(0.5)
        reading, truth = await inverter.read_inverter(), bench.truth
        _same(reading.power_w, truth.inverter_power_w, 10.0)
        _same(reading.pv_power_w, truth.pv_power_w, 10.0)
        _same(reading.frequency_hz, truth.frequency_hz, 0.001)
        _same(reading.voltage_v, truth.voltage_v, 0.1)
        _same(reading.soc, truth.soc, 0.005)

    async def test_ratings_are_magnitudes_in_si_units(self, bench: Bench, device: Device) -> None:
        plate = device.nameplate
        assert plate.rated_power_w == pytest.approx(bench.rated_power_w, abs=10)
        assert plate.max_charge_w == pytest.approx(bench.max_charge_w, abs=10)
        assert plate.max_discharge_w == pytest.approx(bench.max_discharge_w, abs=10)
        assert plate.storage_capacity_wh == pytest.approx(bench.storage_capacity_wh, abs=10)
        assert plate.manufacturer

    async def test_each_reading_of_the_inverter_bears_its_own_instant(self, bench: Bench, inverter: Inverter) -> None:
        for _ in range(3):
            bench.pass_time(0.5)
            now_s = bench.clock.monotonic_s()
            reading = await inverter.read_inverter()
            assert {reading.power_w.at_s, reading.frequency_hz.at_s, reading.soc.at_s} == {now_s}


class MeterContract(ReadingContract):
    """Units and instants of the grid meter."""

    async def test_the_meter_tells_the_truth_in_si_units(self, bench: Bench, meter: Meter) -> None:
        bench.pass_time(0.5)
        reading, truth = await meter.read_meter(), bench.truth
        _same(reading.power_w, truth.meter_power_w, 10.0)
        _same(reading.frequency_hz, truth.meter_frequency_hz, 0.01)
        _same(reading.voltage_v, truth.meter_voltage_v, 0.1)

    async def test_each_reading_of_the_meter_bears_its_own_instant(self, bench: Bench, meter: Meter) -> None:
        for _ in range(3):
            bench.pass_time(0.5)
            now_s = bench.clock.monotonic_s()
            reading = await meter.read_meter()
            assert now_s - self.oldest_s <= reading.frequency_hz.at_s <= now_s
            if bench.truth.meter_power_w is not None:
                assert reading.power_w.at_s == now_s


class ControlContract(ReadingContract):
    """The writable half: sign, limits, time-outs, reversion."""

    @pytest.mark.parametrize(("asked_w", "sign"), [(1500.0, 1), (-1500.0, -1)], ids=["discharge", "charge"])
    async def test_positive_power_flows_towards_the_grid(
        self, bench: Bench, device: Device, control: PowerControl, asked_w: float, sign: int
    ) -> None:
        inverter = there(device.inverter)
        if sign < 0 and not self.takes_power:
            with pytest.raises(DeviceRejected, match=f"device {device.name}: "):
                await control.write_power(power(asked_w), 60.0)
            assert bench.commanded_w is None
            return
        await inverter.read_inverter()
        await control.write_power(power(0.0), 60.0)
        bench.pass_time(2.0)
        at_rest = await _grid_power_w(device)
        await inverter.read_inverter()
        await control.write_power(power(asked_w), 60.0)
        bench.pass_time(2.0)
        reading = await inverter.read_inverter()
        moved = await _grid_power_w(device)
        assert bench.commanded_w == asked_w
        if bench.truth.inverter_power_w is not None:
            assert sign * _number(reading.power_w.good) > 0
        if at_rest is not None and moved is not None:
            assert sign * (moved - at_rest) > 0

    async def test_what_the_device_refuses_is_told_and_changes_nothing(
        self, bench: Bench, device: Device, control: PowerControl
    ) -> None:
        await _read_all(device)
        await control.write_power(power(500.0), 60.0)
        with pytest.raises(DeviceRejected, match=f"device {device.name}: "):
            await control.write_power(power(3 * bench.rated_power_w), 60.0)
        assert bench.commanded_w == 500.0

    async def test_after_a_refusal_the_next_setpoint_is_obeyed(
        self, bench: Bench, device: Device, control: PowerControl
    ) -> None:
        await _read_all(device)
        with pytest.raises(DeviceRejected):
            await control.write_power(power(3 * bench.rated_power_w), 60.0)
        await control.write_power(power(600.0), 60.0)
        assert bench.commanded_w == 600.0

    async def test_a_setpoint_to_a_silent_device_is_a_timeout_and_the_next_is_obeyed(self, bench: Bench) -> None:
        device = await open_device(bench.config(timeout_s=0.3, read_only=False), bench.clock)
        control = there(device.control)
        try:
            await _read_all(device)
            bench.keep_silent(True)
            with pytest.raises(DeviceTimeout, match=device.name):
                await control.write_power(power(100.0), 60.0)
            bench.keep_silent(False)
            async with asyncio.timeout(RECOVERY_S):
                await until_answered(lambda: control.write_power(power(700.0), 60.0))
            assert bench.commanded_w == 700.0
        finally:
            await device.close()

    async def test_a_setpoint_ends_by_the_devices_own_timer_or_the_device_is_said_to_have_none(
        self, bench: Bench, device: Device, control: PowerControl
    ) -> None:
        await _read_all(device)
        await control.write_power(power(900.0), 4.0)
        after_s = self.lets_go_after_s(4.0)
        bench.pass_time((after_s or 3600.0) - 0.1)
        assert bench.commanded_w == 900.0
        bench.pass_time(0.2)
        if after_s is not None:
            assert bench.commanded_w is None
        else:
            assert any("no reversion timer" in finding for finding in device.findings)

    async def test_a_setpoint_that_is_repeated_holds_with_few_writes(
        self, bench: Bench, device: Device, control: PowerControl
    ) -> None:
        await _read_all(device)
        await control.write_power(power(900.0), 4.0)
        writes = bench.writes
        for _ in range(400):  # 20 s at 20 Hz
            bench.pass_time(0.05)
            await _read_all(device)
            await control.write_power(power(900.0), 4.0)
            assert bench.commanded_w == 900.0
        assert bench.writes - writes <= 10 * self.writes_of_a_change  # one renewal each half life

    async def test_a_timer_runs_from_the_last_word(self, bench: Bench, device: Device, control: PowerControl) -> None:
        after_s = self.lets_go_after_s(4.0)
        for power_w in (900.0, 950.0, 1000.0):
            await _read_all(device)
            await control.write_power(power(power_w), 4.0)
            bench.pass_time(0.525 * (after_s or 4.0))
        assert bench.commanded_w == 1000.0
        bench.pass_time(after_s or 4.0)
        assert bench.commanded_w == (None if after_s is not None else 1000.0)

    async def test_after_reversion_a_setpoint_is_obeyed_again(
        self, bench: Bench, device: Device, control: PowerControl
    ) -> None:
        after_s = self.lets_go_after_s(2.0)
        await _read_all(device)
        await control.write_power(power(900.0), 2.0)
        bench.pass_time((after_s or 2.0) + 3.0)
        assert bench.commanded_w == (None if after_s is not None else 900.0)
        await _read_all(device)
        await control.write_power(power(900.0), 2.0)
        assert bench.commanded_w == 900.0

    async def test_a_changed_power_is_as_few_writes_as_the_device_allows(
        self, bench: Bench, device: Device, control: PowerControl
    ) -> None:
        await _read_all(device)
        await control.write_power(power(900.0), 60.0)
        writes = bench.writes
        another_w = -900.0 if self.takes_power else 300.0
        await control.write_power(power(another_w), 60.0)
        assert bench.writes - writes <= self.writes_of_a_change
        assert bench.commanded_w == another_w

    async def test_release_gives_the_device_back(self, bench: Bench, device: Device, control: PowerControl) -> None:
        await _read_all(device)
        await control.write_power(power(900.0), 60.0)
        await control.release()
        bench.pass_time(self.release_takes_s())
        assert bench.commanded_w is None


class DeviceContract(InverterContract, MeterContract, ControlContract):
    """A hybrid with everything."""


def there(capability: T | None) -> T:
    if capability is None:
        raise AssertionError("the driver does not offer what the bench has")
    return capability


def _number(value: float | None) -> float:
    if value is None:
        raise AssertionError("the driver does not trust what the bench shows")
    return value


def _same(sample: Sample, truth: float | None, within: float) -> None:
    """A sample against the truth; what the device does not tell must not be made up."""
    if truth is None:
        assert sample.good is None
    else:
        assert sample.good == pytest.approx(truth, abs=within)


async def _grid_power_w(device: Device) -> float | None:
    return _number((await device.meter.read_meter()).power_w.good) if device.meter is not None else None


async def _read_all(device: Device) -> None:
    if device.inverter is not None:
        await device.inverter.read_inverter()
    if device.meter is not None:
        await device.meter.read_meter()
    if device.switch is not None:
        await device.switch.read_switch()


def _any_reading(device: Device) -> Callable[[], Awaitable[object]]:
    if device.inverter is not None:
        return device.inverter.read_inverter
    return device.meter.read_meter if device.meter is not None else there(device.switch).read_switch


async def until_answered(what: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await what()
        except DeviceTimeout:
            await asyncio.sleep(0.01)
        else:
            return
