"""The device contract of what is flexible beside the inverter: a vehicle's charger, a load with a store of its own.

As in `hil.contract`: a subclass of `ChargerContract` or `LoadContract` gives a `bench` fixture and inherits the tests,
and the bench tells the truth about its device.
"""
# ruff: noqa: S101  (a test suite, though other test modules import it)

from typing import ClassVar, Protocol

import pytest

from edge_agent.model.clock import Clock
from edge_agent.model.devices import (
    ChargerReading,
    Device,
    DeviceRejected,
    DeviceTimeout,
    EvCharger,
    FlexibleLoad,
    FlexiblePlate,
    LoadReading,
    PowerControl,
)
from hil.contract import power, there


class FlexibleBench(Protocol):
    """A device that draws, or feeds, and everything that happens to it."""

    @property
    def clock(self) -> Clock:
        """The agent's clock, which only `pass_time` moves."""
        ...

    @property
    def plate(self) -> FlexiblePlate: ...

    @property
    def commanded_w(self) -> float | None:
        """The power it obeys now; None: its own default."""
        ...

    @property
    def power_w(self) -> float:
        """What physically flows, positive towards the grid."""
        ...

    @property
    def writes(self) -> int: ...

    def open(self, *, read_only: bool = False) -> Device: ...

    def pass_time(self, seconds: float) -> None: ...

    def keep_silent(self, silent: bool) -> None: ...


class ChargerBench(FlexibleBench, Protocol):
    """At first a vehicle stands there that wants energy by a time, and has room for more."""

    @property
    def needed_wh(self) -> float: ...

    @property
    def ready_in_s(self) -> float: ...

    def unplug(self) -> None: ...

    def plug_again(self) -> None: ...


class LoadBench(FlexibleBench, Protocol):
    """At first its store is between the least and the most of comfort."""

    @property
    def level(self) -> float: ...

    def overfill(self) -> None:
        """Its store holds more than its own protection allows."""
        ...


async def read(device: Device) -> ChargerReading | LoadReading:
    if device.charger is not None:
        return await device.charger.read_charger()
    return await there(device.load).read_load()


class FlexibleContract:
    """What both must do. Sign first."""

    covers: ClassVar[frozenset[str]] = frozenset()  # as of Contract

    @pytest.fixture
    def device(self, bench: FlexibleBench) -> Device:
        return bench.open()

    @pytest.fixture
    def control(self, device: Device) -> PowerControl:
        return there(device.control)

    async def test_what_it_draws_is_negative(self, bench: FlexibleBench, device: Device, control: PowerControl) -> None:
        await control.write_power(power(-bench.plate.max_draw_w), 60.0)
        bench.pass_time(1.0)
        reading = await read(device)
        assert bench.commanded_w == -bench.plate.max_draw_w
        assert reading.power_w.good == bench.power_w == -bench.plate.max_draw_w

    async def test_a_reading_bears_its_own_instant(self, bench: FlexibleBench, device: Device) -> None:
        for _ in range(3):
            bench.pass_time(0.5)
            assert (await read(device)).power_w.at_s == bench.clock.monotonic_s()

    async def test_it_never_draws_more_than_it_is_told(
        self, bench: FlexibleBench, device: Device, control: PowerControl
    ) -> None:
        for asked_w in (-bench.plate.least_draw_w + 1.0, -1.0, 0.0):
            await control.write_power(power(asked_w), 60.0)
            bench.pass_time(1.0)
            assert (await read(device)).power_w.good == bench.power_w == 0.0
        await control.write_power(power(-bench.plate.least_draw_w), 60.0)
        bench.pass_time(1.0)
        assert (await read(device)).power_w.good == bench.power_w == -bench.plate.least_draw_w

    async def test_what_it_cannot_do_is_refused_and_changes_nothing(
        self, bench: FlexibleBench, device: Device, control: PowerControl
    ) -> None:
        await control.write_power(power(-bench.plate.max_draw_w), 60.0)
        for beyond_w in (-bench.plate.max_draw_w - 1.0, bench.plate.max_feed_w + 1.0):
            with pytest.raises(DeviceRejected, match=f"device {device.name}: "):
                await control.write_power(power(beyond_w), 60.0)
        assert bench.commanded_w == -bench.plate.max_draw_w

    async def test_silence_is_a_timeout_and_ends_when_the_device_speaks(
        self, bench: FlexibleBench, device: Device, control: PowerControl
    ) -> None:
        bench.keep_silent(True)
        with pytest.raises(DeviceTimeout, match=device.name):
            await read(device)
        with pytest.raises(DeviceTimeout, match=device.name):
            await control.write_power(power(0.0), 60.0)
        with pytest.raises(DeviceTimeout, match=device.name):
            await control.release()
        assert (bench.commanded_w, bench.writes) == (None, 0)
        bench.keep_silent(False)
        await read(device)
        await control.write_power(power(0.0), 60.0)
        assert bench.commanded_w == 0.0

    async def test_what_it_was_told_ends_by_its_own_timer_from_the_last_word(
        self, bench: FlexibleBench, control: PowerControl
    ) -> None:
        for asked_w in (0.0, -bench.plate.max_draw_w, 0.0):
            await control.write_power(power(asked_w), 4.0)
            bench.pass_time(2.1)
        assert bench.commanded_w == 0.0
        bench.pass_time(1.8)
        assert bench.commanded_w == 0.0
        bench.pass_time(0.2)
        assert bench.commanded_w is None
        await control.write_power(power(0.0), 4.0)
        assert bench.commanded_w == 0.0, "and it is obeyed again"

    async def test_a_power_that_is_repeated_holds_with_few_writes(
        self, bench: FlexibleBench, device: Device, control: PowerControl
    ) -> None:
        for _ in range(400):  # 20 s at 20 Hz
            await read(device)
            await control.write_power(power(0.0), 4.0)
            assert bench.commanded_w == 0.0
            bench.pass_time(0.05)
        assert bench.writes <= 11  # one renewal each half life

    async def test_release_gives_it_back(self, bench: FlexibleBench, control: PowerControl) -> None:
        await control.write_power(power(0.0), 60.0)
        await control.release()
        assert bench.commanded_w is None

    async def test_read_only_is_never_written(self, bench: FlexibleBench) -> None:
        device = bench.open(read_only=True)
        assert device.control is None
        for _ in range(10):
            bench.pass_time(20.0)
            await read(device)
        assert (bench.writes, bench.commanded_w) == (0, None)


class ChargerContract(FlexibleContract):
    """A vehicle's charger."""

    @pytest.fixture
    def charger(self, device: Device) -> EvCharger:
        return there(device.charger)

    async def test_it_tells_what_the_vehicle_needs_and_by_when(
        self, bench: ChargerBench, charger: EvCharger, control: PowerControl
    ) -> None:
        before = await charger.read_charger()
        assert before.plugged is True
        assert before.needed_wh.good == pytest.approx(bench.needed_wh)
        assert before.ready_in_s.good == pytest.approx(bench.ready_in_s)
        await control.write_power(power(-bench.plate.max_draw_w), 3600.0)
        bench.pass_time(360.0)
        after = await charger.read_charger()
        drawn_wh = bench.plate.max_draw_w / 10
        assert after.needed_wh.value == pytest.approx(before.needed_wh.value - drawn_wh)
        assert after.ready_in_s.value == pytest.approx(before.ready_in_s.value - 360.0)

    async def test_what_it_feeds_is_positive_and_comes_out_of_the_vehicle(
        self, bench: ChargerBench, charger: EvCharger, control: PowerControl
    ) -> None:
        if charger.plate.max_feed_w == 0:
            with pytest.raises(DeviceRejected):
                await control.write_power(power(1.0), 60.0)
            return
        before = await charger.read_charger()
        await control.write_power(power(charger.plate.max_feed_w), 3600.0)
        bench.pass_time(360.0)
        after = await charger.read_charger()
        assert after.power_w.good == bench.power_w == charger.plate.max_feed_w
        assert after.needed_wh.value > before.needed_wh.value

    async def test_without_a_vehicle_it_does_nothing_and_says_so(
        self, bench: ChargerBench, charger: EvCharger, control: PowerControl
    ) -> None:
        bench.unplug()
        reading = await charger.read_charger()
        assert reading.plugged is False
        assert (reading.power_w.good, reading.needed_wh.good, reading.ready_in_s.good) == (0.0, None, None)
        with pytest.raises(DeviceRejected, match="no vehicle"):
            await control.write_power(power(-bench.plate.max_draw_w), 60.0)

    async def test_the_next_vehicle_is_not_told_what_the_last_one_was(
        self, bench: ChargerBench, control: PowerControl
    ) -> None:
        await control.write_power(power(0.0), 60.0)
        bench.unplug()
        bench.plug_again()
        assert bench.commanded_w is None
        await control.write_power(power(0.0), 60.0)
        assert bench.commanded_w == 0.0


class LoadContract(FlexibleContract):
    """A load with a store."""

    @pytest.fixture
    def load(self, device: Device) -> FlexibleLoad:
        return there(device.load)

    async def test_its_level_rises_while_it_draws_and_falls_while_it_rests(
        self, bench: LoadBench, load: FlexibleLoad, control: PowerControl
    ) -> None:
        levels = [(await load.read_load()).level.value]
        for asked_w in (-bench.plate.max_draw_w, 0.0):
            await control.write_power(power(asked_w), 3600.0)
            bench.pass_time(900.0)
            levels.append((await load.read_load()).level.value)
            assert levels[-1] == pytest.approx(bench.level)
        assert 0.0 < levels[0] < levels[1] > levels[2]

    async def test_its_own_protection_is_stronger_than_what_it_is_told(
        self, bench: LoadBench, load: FlexibleLoad, control: PowerControl
    ) -> None:
        bench.overfill()
        await control.write_power(power(-bench.plate.max_draw_w), 60.0)
        bench.pass_time(1.0)
        assert (await load.read_load()).power_w.good == bench.power_w == 0.0

    async def test_left_alone_it_keeps_its_own_comfort(self, bench: LoadBench) -> None:
        for _ in range(48):
            bench.pass_time(3600.0)
            assert -0.05 <= bench.level <= 1.05
