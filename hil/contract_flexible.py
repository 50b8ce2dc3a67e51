"""The device contract of what is flexible beside the inverter: a vehicle's charger, a load with a store of its own.

As in `hil.contract`: a subclass of `ChargerContract` or `LoadContract` gives a `bench` fixture and inherits the tests,
and the bench tells the truth about its device.
"""
# ruff: noqa: S101  (a test suite, though other test modules import it)

import asyncio
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
from hil.contract import RECOVERY_S, power, there, until_answered


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
        """The power it obeys now; None: its own default, also where it was told just that."""
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
    def needed_wh(self) -> float | None:
        """None: it does not tell."""
        ...

    @property
    def ready_in_s(self) -> float | None:
        """None: it does not tell."""
        ...

    @property
    def drawn_wh(self) -> float:
        """At its terminals since the vehicle came."""
        ...

    @property
    def forgets_by_itself(self) -> bool:
        """What it was told, when the vehicle goes; else it has to be released."""
        ...

    def unplug(self) -> None: ...

    def plug_again(self) -> None: ...


class LoadBench(FlexibleBench, Protocol):
    """At first its store is between the least and the most of comfort."""

    @property
    def level(self) -> float | None:
        """None: it does not tell."""
        ...

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
    writes_of_a_renewal = 1  # transactions

    def lets_go_after_s(self, lifetime_s: float) -> float | None:
        """How long after the last word it obeys, asked for so long; None: for ever."""
        return lifetime_s

    def release_takes_s(self) -> float:
        """Until what was released is back at its own default."""
        return 0.0

    @pytest.fixture
    def device(self, bench: FlexibleBench) -> Device:
        return bench.open()

    @pytest.fixture
    def control(self, device: Device) -> PowerControl:
        return there(device.control)

    async def test_what_it_draws_is_negative(self, bench: FlexibleBench, device: Device, control: PowerControl) -> None:
        await control.write_power(power(-bench.plate.least_draw_w), 60.0)
        bench.pass_time(1.0)
        assert bench.commanded_w == -bench.plate.least_draw_w
        for asked_w in (-bench.plate.least_draw_w, -bench.plate.max_draw_w):
            await control.write_power(power(asked_w), 60.0)
            bench.pass_time(1.0)
            reading = await read(device)
            assert reading.power_w.good == bench.power_w == asked_w

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
        await control.write_power(power(-bench.plate.least_draw_w), 60.0)
        for beyond_w in (-bench.plate.max_draw_w - 1.0, bench.plate.max_feed_w + 1.0):
            with pytest.raises(DeviceRejected, match=f"device {device.name}: "):
                await control.write_power(power(beyond_w), 60.0)
        assert bench.commanded_w == -bench.plate.least_draw_w

    async def test_silence_is_a_timeout_and_ends_when_the_device_speaks(
        self, bench: FlexibleBench, device: Device, control: PowerControl
    ) -> None:
        bench.pass_time(1.0)
        bench.keep_silent(True)
        with pytest.raises(DeviceTimeout, match=device.name):
            await read(device)
        with pytest.raises(DeviceTimeout, match=device.name):
            await control.write_power(power(0.0), 60.0)
        if self.release_takes_s() == 0.0:  # else nothing is written to release it
            with pytest.raises(DeviceTimeout, match=device.name):
                await control.release()
        assert (bench.commanded_w, bench.writes) == (None, 0)
        bench.keep_silent(False)
        async with asyncio.timeout(RECOVERY_S):
            await until_answered(lambda: read(device))
        await control.write_power(power(0.0), 60.0)
        assert bench.commanded_w == 0.0

    async def test_what_it_was_told_ends_by_its_own_timer_from_the_last_word(
        self, bench: FlexibleBench, control: PowerControl
    ) -> None:
        for asked_w in (0.0, -bench.plate.max_draw_w, 0.0):
            await control.write_power(power(asked_w), 4.0)
            bench.pass_time(2.1)
        assert bench.commanded_w == 0.0
        lasts_s = self.lets_go_after_s(4.0)
        bench.pass_time((lasts_s or 7 * 86_400.0) - 2.2)
        assert bench.commanded_w == 0.0
        if lasts_s is None:
            return
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
        assert bench.writes <= 11 * self.writes_of_a_renewal  # one renewal each half life

    async def test_release_gives_it_back(self, bench: FlexibleBench, control: PowerControl) -> None:
        await control.write_power(power(0.0), 60.0)
        await control.release()
        bench.pass_time(self.release_takes_s())
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
        needed_wh, ready_in_s = bench.needed_wh, bench.ready_in_s
        assert before.needed_wh.good == (pytest.approx(needed_wh) if needed_wh is not None else None)
        assert before.ready_in_s.good == (pytest.approx(ready_in_s) if ready_in_s is not None else None)
        for _ in range(36):
            await control.write_power(power(-bench.plate.max_draw_w), 60.0)
            bench.pass_time(10.0)
        after = await charger.read_charger()
        drawn_wh = bench.plate.max_draw_w / 10
        assert bench.drawn_wh == pytest.approx(drawn_wh)
        if before.session_wh.good is not None:
            assert after.session_wh.value == pytest.approx(before.session_wh.value + drawn_wh, abs=1.0)
        if needed_wh is not None:
            assert after.needed_wh.value == pytest.approx(before.needed_wh.value - drawn_wh)
        if ready_in_s is not None:
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
        if not bench.forgets_by_itself:
            await control.release()
            bench.pass_time(self.release_takes_s())
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
        if bench.level is None:
            assert (await load.read_load()).level.good is None
            return
        levels = [(await load.read_load()).level.value]
        for asked_w in (-bench.plate.max_draw_w, 0.0):
            for _ in range(90):
                await control.write_power(power(asked_w), 60.0)
                bench.pass_time(10.0)
            levels.append((await load.read_load()).level.value)
            assert levels[-1] == pytest.approx(bench.level, abs=0.01)
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
            assert bench.level is None or -0.05 <= bench.level <= 1.05
