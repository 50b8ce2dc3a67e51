"""What draws and can wait, as a profile describes it: a vehicle's charger, a heater, a load behind a relay.

A charger is told a current: the power that it is asked for is what its phases carry at nominal voltage, in tenths of an
ampere, rounded down. So it draws a little less than it is asked where the voltage is low, and what it is measured at
says how much.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_agent.drivers import samples
from edge_agent.drivers.profile import EvChargerPoints, FlexibleLoadPoints, Step
from edge_agent.model.config import EvChargerConfig, FlexibleLoadConfig
from edge_agent.model.devices import (
    ChargerReading,
    DeviceRejected,
    FlexiblePlate,
    LoadReading,
    Switch,
    SwitchControl,
)
from edge_agent.model.values import MISSING, Admitted, Quality, Sample

_STEPS_PER_A = 10
_ROUND = 6  # digits: what is a whole step stays one
_INSANE = 1.3  # of the most that it can draw: voltage is high, and the next is no charger's


class Registers(Protocol):
    """The device as its parts see it."""

    @property
    def name(self) -> str: ...

    async def picture(self, reader: str) -> float:
        """Reads a part; when [monotonic s]."""
        ...

    def number(self, role: str) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Wiring:
    """Between currents and powers."""

    phases: int
    voltage_v: float

    def power_w(self, current_a: float) -> float:
        return current_a * self.phases * self.voltage_v

    def current_a(self, power_w: float) -> float:
        """What a power, whatever its sign, is on each phase, in whole steps, rounded down."""
        current_a = abs(power_w) / (self.phases * self.voltage_v)
        return math.floor(round(current_a * _STEPS_PER_A, _ROUND)) / _STEPS_PER_A


class ProfileCharger:
    """A vehicle's charger."""

    def __init__(self, device: Registers, points: EvChargerPoints, config: EvChargerConfig) -> None:
        self._device = device
        self._points = points
        self._config = config
        self.wiring = Wiring(config.phases, config.voltage_v)
        self.plugged: bool | None = None  # as last read

    @property
    def most_a(self) -> float:
        """No more than the fuse, and than the charger itself says."""
        told_a = self._device.number("nameplate.max_current_a")
        return min(self._config.max_current_a, told_a) if told_a else self._config.max_current_a

    @property
    def plate(self) -> FlexiblePlate:
        least_a = min(self._points.least_current_a, self.most_a)
        return FlexiblePlate(max_draw_w=self.wiring.power_w(self.most_a), least_draw_w=self.wiring.power_w(least_a))

    async def read_charger(self) -> ChargerReading:
        device, at_s = self._device, await self._device.picture("ev_charger")
        limit_w = _INSANE * self.plate.max_draw_w
        plugged = device.number("ev_charger.plugged")
        self.plugged = plugged != 0 if plugged is not None else None
        session_wh = device.number("ev_charger.session_wh")
        return ChargerReading(
            power_w=samples.sample(device.number("ev_charger.power_w"), at_s, (-limit_w, limit_w)),
            plugged=self.plugged,
            session_wh=samples.sample(session_wh, at_s) if session_wh is not None else MISSING,
        )

    # ---- as the target of writes

    def power_w(self, asked_w: float, now_s: float) -> float:
        power_w = drawn(self._device.name, self.plate, asked_w)
        if self.plugged is False:
            raise DeviceRejected(f"device {self._device.name}: writing {asked_w:.0f} W: no vehicle is plugged in")
        return -self.wiring.power_w(self.wiring.current_a(power_w)) or 0.0

    def amperes(self, step: Step, power_w: float) -> float:
        match step.carries:
            case "most":
                return self.most_a
            case "fallback":
                return min(self._config.fallback_current_a, self.most_a)
            case _:
                return self.wiring.current_a(power_w)


class ProfileLoad:
    """A load that is told a power, and may tell how warm its store is."""

    def __init__(
        self, device: Registers, points: FlexibleLoadPoints, config: FlexibleLoadConfig, *, step_w: float
    ) -> None:
        self._device = device
        self._config = config
        self._step_w = step_w
        self.plate = FlexiblePlate(max_draw_w=config.power_w, least_draw_w=min(points.least_w, config.power_w))

    async def read_load(self) -> LoadReading:
        device, at_s = self._device, await self._device.picture("flexible_load")
        limit_w = _INSANE * self.plate.max_draw_w
        return LoadReading(
            power_w=samples.sample(device.number("flexible_load.power_w"), at_s, (-limit_w, limit_w)),
            level=self._level(device.number("flexible_load.temperature_c"), at_s),
        )

    def _level(self, temperature_c: float | None, at_s: float) -> Sample:
        low_c, high_c = self._config.comfort_min_c, self._config.comfort_max_c
        if temperature_c is None or low_c is None or high_c is None:
            return MISSING
        return samples.sample((temperature_c - low_c) / (high_c - low_c), at_s)

    # ---- as the target of writes

    def power_w(self, asked_w: float, now_s: float) -> float:
        power_w = drawn(self._device.name, self.plate, asked_w)
        return math.trunc(round(power_w / self._step_w, _ROUND)) * self._step_w

    def amperes(self, step: Step, power_w: float) -> float:
        raise DeviceRejected(f"device {self._device.name}: a load is not told currents")


class SwitchedLoad:
    """A load behind a relay, which knows on and off and measures nothing.

    Its power is what the owner says it is while it may run; whether its own thermostat lets it, nobody tells. A relay
    has no timer: where the agent is killed it stays as it was switched.
    """

    def __init__(self, name: str, switch: Switch, config: FlexibleLoadConfig, now_s: Callable[[], float]) -> None:
        self._name = name
        self._switch = switch
        self._config = config
        self._now_s = now_s
        self.plate = FlexiblePlate(max_draw_w=config.power_w, least_draw_w=config.power_w)

    async def read_load(self) -> LoadReading:
        runs = await self._switch.read_switch() is (self._config.relay == "runs")
        power_w = -self.plate.max_draw_w if runs else 0.0
        return LoadReading(power_w=Sample(power_w, Quality.GOOD, self._now_s()))


class SwitchedControl:
    """The writable half of a load behind a relay."""

    def __init__(self, name: str, load: SwitchedLoad, control: SwitchControl, config: FlexibleLoadConfig) -> None:
        self._name = name
        self._load = load
        self._control = control
        self._relay = config.relay
        self._runs: bool | None = None  # as last switched

    async def write_power(self, admitted: Admitted, lifetime_s: float) -> None:
        plate = self._load.plate
        power_w = drawn(self._name, plate, admitted.setpoint.power_w)
        await self._run(power_w < 0)

    async def release(self) -> None:
        """It may run: then its own thermostat decides."""
        self._runs = None
        await self._run(True)
        self._runs = None

    async def _run(self, runs: bool) -> None:
        if runs is self._runs:
            return
        self._runs = None
        await self._control.write_switch(runs is (self._relay == "runs"))
        self._runs = runs


def drawn(name: str, plate: FlexiblePlate, asked_w: float) -> float:
    """What of a power is drawn: less than it can draw without resting makes it rest. Raises DeviceRejected."""
    if not -plate.max_draw_w <= asked_w <= plate.max_feed_w:
        raise DeviceRejected(
            f"device {name}: writing {asked_w:.0f} W: it draws {plate.least_draw_w:.0f} to {plate.max_draw_w:.0f} W, "
            "so nothing was written"
        )
    return asked_w if -asked_w >= plate.least_draw_w else 0.0
