"""Simulated devices that no wire leads to: a vehicle's charger and a water heater, as a driver would hand them over.

They keep the rules of the device contract: what they obey ends by a timer of their own, a silent one is a time-out, and
what they cannot do they refuse by name.
"""

from typing import Protocol

from edge_agent.model.clock import Clock
from edge_agent.model.devices import (
    ChargerReading,
    DeviceRejected,
    DeviceTimeout,
    EvCharger,
    FlexibleLoad,
    FlexiblePlate,
    LoadReading,
    PowerControl,
)
from edge_agent.model.values import MISSING, Admitted, Nameplate, Quality, Sample
from hil.plant.charger import Charger
from hil.plant.heater import Heater

RENEW_SHARE = 0.5  # of a lifetime that is over before a repeated power is written again


class _Plant(Protocol):
    """What obeys, and has a default of its own."""

    asked_w: float | None

    @property
    def power_w(self) -> float: ...

    def advance(self, to_s: float) -> None: ...


class FlexibleRig:
    """A plant on the agent's clock, with the timer that ends what it was told."""

    def __init__(self, plant: _Plant, clock: Clock) -> None:
        self._plant = plant
        self._clock = clock
        self._start_s = clock.monotonic_s()
        self._reverts_s = float("inf")
        self.silent = False
        self.writes = 0

    @property
    def commanded_w(self) -> float | None:
        """The power it obeys now; None: its own default."""
        self.to_present()
        return self._plant.asked_w

    @property
    def power_w(self) -> float:
        self.to_present()
        return self._plant.power_w

    def to_present(self) -> None:
        """Lets the plant live until now; a timer that ran out on the way ended what it was told at its instant."""
        now_s = self._clock.monotonic_s()
        if self._reverts_s <= now_s:
            self._plant.advance(self._reverts_s - self._start_s)
            self.obey(None, 0.0)
        self._plant.advance(now_s - self._start_s)

    def obey(self, power_w: float | None, lifetime_s: float) -> None:
        self._plant.asked_w = power_w
        self._reverts_s = float("inf") if power_w is None else self._clock.monotonic_s() + lifetime_s


class _Device:
    """What the two have in common."""

    def __init__(self, name: str, rig: FlexibleRig, clock: Clock, plate: FlexiblePlate, *, read_only: bool) -> None:
        self.name = name
        self.plate = plate
        self.nameplate = Nameplate(manufacturer="Murmuration", model="simulated", serial=name)
        self.findings: tuple[str, ...] = ()
        self.inverter = None
        self.meter = None
        self.switch = None
        self.switch_control = None
        self.microcontroller = None
        self.charger: EvCharger | None = None
        self.load: FlexibleLoad | None = None
        self.control: PowerControl | None = None if read_only else self
        self._rig = rig
        self._clock = clock
        self._renew_s = 0.0  # when a power that it obeys already is written again

    async def write_power(self, admitted: Admitted, lifetime_s: float) -> None:
        power_w, now_s = admitted.setpoint.power_w, self._clock.monotonic_s()
        self._answer()
        if refused := self._refuses(power_w):
            raise DeviceRejected(f"device {self.name}: {refused}")
        if self._rig.commanded_w == power_w and now_s < self._renew_s:
            return
        self._rig.writes += 1
        self._rig.obey(power_w, lifetime_s)
        self._renew_s = now_s + RENEW_SHARE * lifetime_s

    async def release(self) -> None:
        self._answer()
        self._rig.writes += 1
        self._rig.obey(None, 0.0)

    async def close(self) -> None:
        """There is no connection to end."""

    def _refuses(self, power_w: float) -> str:
        if not -self.plate.max_draw_w <= power_w <= self.plate.max_feed_w:
            return f"{power_w:.0f} W lie outside {-self.plate.max_draw_w:.0f} to {self.plate.max_feed_w:.0f} W"
        return ""

    def _answer(self) -> None:
        if self._rig.silent:
            raise DeviceTimeout(f"device {self.name}: no answer")
        self._rig.to_present()

    def _good(self, value: float) -> Sample:
        return Sample(value, Quality.GOOD, self._clock.monotonic_s())


class SimulatedCharger(_Device):
    """A charger, with whatever vehicle stands at it."""

    def __init__(self, name: str, plant: Charger, rig: FlexibleRig, clock: Clock, *, read_only: bool = False) -> None:
        rating = plant.rating
        plate = FlexiblePlate(
            max_draw_w=rating.max_draw_w, least_draw_w=rating.least_draw_w, max_feed_w=rating.max_feed_w
        )
        super().__init__(name, rig, clock, plate, read_only=read_only)
        self._plant = plant
        self.charger = self

    async def read_charger(self) -> ChargerReading:
        self._answer()
        plant, ready_in_s = self._plant, self._plant.ready_in_s
        return ChargerReading(
            power_w=self._good(plant.power_w),
            plugged=plant.plugged,
            session_wh=self._good(plant.drawn_wh) if plant.plugged else MISSING,
            needed_wh=self._good(plant.needed_wh) if plant.plugged else MISSING,
            ready_in_s=self._good(ready_in_s) if ready_in_s is not None else MISSING,
        )

    def _refuses(self, power_w: float) -> str:
        return super()._refuses(power_w) if self._plant.plugged else "no vehicle is plugged in"


class SimulatedHeater(_Device):
    """A water heater."""

    def __init__(self, name: str, plant: Heater, rig: FlexibleRig, clock: Clock, *, read_only: bool = False) -> None:
        power_w = plant.rating.power_w
        super().__init__(name, rig, clock, FlexiblePlate(max_draw_w=power_w, least_draw_w=power_w), read_only=read_only)
        self._plant = plant
        self.load = self

    async def read_load(self) -> LoadReading:
        self._answer()
        return LoadReading(power_w=self._good(self._plant.power_w), level=self._good(self._plant.level))
