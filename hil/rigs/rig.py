"""All homes of a scenario in one process, and the orders they take while they run."""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from hil.data.recordings import RecordingError, underfrequency_event
from hil.plant.frequency import FrequencyError, Timeline
from hil.plant.household import Household
from hil.rigs.clock import RigClock
from hil.rigs.flexible_home import FlexibleDevices, WithFlexible
from hil.rigs.history import household
from hil.rigs.home import HomeRig
from hil.rigs.recorded import RecordedTime
from hil.rigs.scenario import Scenario, ScenarioError


class OrderError(ValueError):
    """An order that cannot be obeyed; says why."""


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One order; exactly one field is given."""

    play_at_utc_ms: float | None = None  # the recorded event begins at this instant
    steps: Annotated[tuple[tuple[float, float], ...], msgspec.Meta(min_length=1)] | None = None  # (UTC ms, Hz)
    save: str | None = None  # the recording so far, to this .npz
    freeze: str | None = None  # this site's device stops answering
    thaw: str | None = None


def parse_order(line: str | bytes) -> Order:
    """An order from a JSON line. Raises OrderError."""
    try:
        order = msgspec.json.decode(line, type=Order)
    except msgspec.DecodeError as error:
        raise OrderError(f"order {line!r}: {error}") from error
    if sum(getattr(order, name) is not None for name in Order.__struct_fields__) != 1:
        raise OrderError(f"order {line!r}: give exactly one of {', '.join(Order.__struct_fields__)}")
    return order


class Rig:
    """The homes of a scenario on one clock and one frequency."""

    def __init__(
        self, scenario: Scenario, count: int, recorded: RecordedTime, clock: RigClock, *, host: str, first_port: int
    ) -> None:
        """`first_port`: of the first home, the others' follow; 0: free ones."""
        self.scenario = scenario
        self.recorded = recorded
        self.event = underfrequency_event(scenario.frequency.bus)
        if scenario.frequency.window_s is not None:
            try:
                self.event = self.event.between(*scenario.frequency.window_s)
            except RecordingError as error:
                raise ScenarioError(f"scenario {scenario.id}: frequency.window_s: {error}") from error
        self.frequency = Timeline(quiet_hz=scenario.frequency.quiet_hz)
        self._clock = clock
        self.homes = []
        self.flexible: dict[str, FlexibleDevices] = {}  # site -> what hangs behind its meter
        for index in range(count):
            home = scenario.home(index)
            lives: Household = household(home, recorded)
            if home.flexible:
                devices = self.flexible[home.site] = FlexibleDevices(lambda: clock.utc_ms() / 1000.0, host=host)
                lives = WithFlexible(lives, devices)
            self.homes.append(
                HomeRig(
                    home,
                    household=lives,
                    frequency=self.frequency,
                    clock=clock,
                    host=host,
                    port=first_port + index if first_port else 0,
                )
            )

    @property
    def event_duration_s(self) -> float:
        """From the recording's first frame to the frequency being quiet again [s]."""
        settings = self.scenario.frequency
        left_hz = abs(float(self.event.frequency_hz[-1]) - settings.quiet_hz)
        return self.event.duration_s + left_hz / settings.return_hz_per_s

    async def listen(self, stack: AsyncExitStack) -> None:
        """Opens every home's port; the stack closes them. Raises ListenError."""
        for rig in self.homes:
            await rig.server.start()
            stack.push_async_callback(rig.server.stop)
        for devices in self.flexible.values():
            await devices.listen(stack)

    def describe(self) -> list[dict[str, Any]]:
        """The homes as rig.json tells them; they must listen."""
        return [
            {
                "site": rig.site,
                "host": rig.host,
                "port": rig.port,
                "unit_id": rig.unit_id,
                "legacy": rig.home.legacy,
                "rated_power_w": rig.home.rating.inverter.power_w,
                "max_charge_w": rig.home.rating.battery.max_charge_w,
                "max_discharge_w": rig.home.rating.battery.max_discharge_w,
                "storage_capacity_wh": rig.home.rating.battery.capacity_wh,
                "pv_rating_w": rig.home.rating.pv_w,
                "soc": rig.home.soc,
                "recorded_home": rig.home.recorded_home,
                "days_earlier": rig.home.days_earlier,
                "more_devices": self.flexible[rig.site].agent_toml() if rig.home.flexible else "",
            }
            for rig in self.homes
        ]

    async def obey(self, order: Order) -> dict[str, Any] | None:
        """Does what an order says; the answer, where it has one. Raises OrderError."""
        now_ms = self._clock.utc_ms()
        try:
            if order.play_at_utc_ms is not None:
                self.frequency.play(
                    self.event,
                    at_ms=order.play_at_utc_ms,
                    return_hz_per_s=self.scenario.frequency.return_hz_per_s,
                    now_ms=now_ms,
                )
            if order.steps is not None:
                self.frequency.steps(order.steps, now_ms=now_ms)
        except FrequencyError as error:
            raise OrderError(str(error)) from error
        if order.freeze is not None:
            self._named(order.freeze).freeze()
        if order.thaw is not None:
            self._named(order.thaw).thaw()
        if order.save is not None:
            await self._save(Path(order.save))
            return {"saved": order.save}
        return None

    def _named(self, site: str) -> HomeRig:
        for rig in self.homes:
            if rig.site == site:
                return rig
        raise OrderError(f"no home is called {site!r}: home-01 .. {self.homes[-1].site}")

    async def _save(self, path: Path) -> None:
        utc_ms, hz = self.frequency.breakpoints()
        columns: dict[str, Any] = {"frequency/utc_ms": utc_ms, "frequency/hz": hz}
        for rig in self.homes:
            columns |= {f"{rig.site}/{name}": values for name, values in rig.recorder.arrays().items()}
            await asyncio.sleep(0)  # the devices go on answering between the copies
        try:
            await asyncio.to_thread(_write_npz, path, columns)
        except OSError as error:
            raise OrderError(f"save {path}: {error.strerror}") from error


def _write_npz(path: Path, columns: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, **columns)
    os.replace(partial, path)
