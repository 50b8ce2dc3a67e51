"""A device as its profile describes it: one picture a cycle in the fewest transactions, and what it says."""

import logging
from dataclasses import dataclass
from functools import partial

from edge_agent.drivers import samples
from edge_agent.drivers.profile import PARTS, Point, Profile, Reversion, SwitchPoints, table_of
from edge_agent.drivers.profile_control import InverterTarget, ProfilePowerControl, Target, encoded
from edge_agent.drivers.profile_flexible import ProfileCharger, ProfileLoad, SwitchedControl, SwitchedLoad
from edge_agent.drivers.sunspec import codec
from edge_agent.drivers.sunspec.definitions import PointDef, PointType
from edge_agent.drivers.sunspec.layout import Field
from edge_agent.drivers.sunspec.plan import Block, plan_reads
from edge_agent.drivers.sunspec.poll import Poller
from edge_agent.drivers.transaction import Connection, Table
from edge_agent.model.clock import Clock
from edge_agent.model.config import DeviceConfig, NameplateConfig
from edge_agent.model.devices import (
    DeviceFault,
    DeviceRejected,
    EvCharger,
    FlexibleLoad,
    InverterReading,
    MeterReading,
    PowerControl,
)
from edge_agent.model.values import Nameplate

_log = logging.getLogger(__name__)

# Tables are planned side by side, each in a space of its own.
_SPAN = 1 << 17
_NO_NUMBER = 1e30  # float32 of some devices holds -3.4e38 where it has nothing to say
_RATINGS = ("rated_power_w", "max_charge_w", "max_discharge_w", "storage_capacity_wh")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProfileField(Field):
    """One point of a profile. Its address is that on the wire, beyond its table's space."""

    spec: Point
    swapped: bool  # low word first

    def __str__(self) -> str:
        return self.path


class ProfileRegisters:
    """A connection as the planner sees it: all tables one behind the other, high words first."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, address: int, count: int, what: object) -> list[int]:
        table, first = divmod(address, _SPAN)
        registers = await self._connection.read(first, count, what, Table(table))
        if isinstance(what, Block):
            for field in what.fields:
                if isinstance(field, ProfileField) and field.swapped:
                    at, end = field.address - address, field.end - address
                    registers[at:end] = registers[at:end][::-1]
        return registers


class ProfileDevice:
    """A device that a profile describes."""

    def __init__(self, config: DeviceConfig, profile: Profile, connection: Connection, clock: Clock) -> None:
        self.name = config.name
        self._profile = profile
        self._given = config.nameplate or NameplateConfig()
        self._connection = connection
        self._fields: dict[str, list[ProfileField]] = {}
        for role, point in profile.points:
            self._fields.setdefault(role, []).append(_field(profile, role, point))
        # Each half is read by itself, when it is asked for; the first one brings the nameplate along, now and then.
        parts = [part for part in PARTS if getattr(profile, part) is not None]
        self._pollers = {
            part: self._poller(connection, clock, part, ("nameplate",) if part == parts[0] else ()) for part in parts
        }
        self._pollers["nameplate"] = self._pollers[parts[0]]
        self.inverter = _Inverter(self) if profile.inverter is not None else None
        self.meter = _Meter(self) if profile.meter is not None else None
        self.switch = _Switch(self) if profile.switch is not None else None
        self.charger: EvCharger | None = None
        self.load: FlexibleLoad | None = None
        self.switch_control = (
            _SwitchControl(connection, profile.switch) if profile.switch is not None and not config.read_only else None
        )
        self.control: PowerControl | None = None
        self.microcontroller = None
        if (target := self._target(config)) is not None and profile.control is not None and not config.read_only:
            self.control = ProfilePowerControl(
                connection, profile, profile.control, clock, device_name=config.name, target=target
            )
        if self.switch is not None and config.flexible_load is not None:
            load = SwitchedLoad(config.name, self.switch, config.flexible_load, clock.monotonic_s)
            self.load = load
            if self.switch_control is not None:
                self.control = SwitchedControl(config.name, load, self.switch_control, config.flexible_load)
        self._pv: tuple[float, float | None] = (float("-inf"), None)  # when, and the panels' power [W]

    def _target(self, config: DeviceConfig) -> Target | None:
        """Makes what can be steered, and says how its powers become registers; None where nothing can be."""
        profile = self._profile
        if profile.ev_charger is not None and config.ev_charger is not None:
            self.charger = charger = ProfileCharger(self, profile.ev_charger, config.ev_charger)
            return charger
        control = profile.control
        if profile.flexible_load is not None and config.flexible_load is not None:
            step_w = control.step_w if control is not None else 1.0
            self.load = load = ProfileLoad(self, profile.flexible_load, config.flexible_load, step_w=step_w)
            return load
        if control is None or profile.inverter is None:
            return None
        return InverterTarget(config.name, control, lambda: self.nameplate, lambda: self._pv)

    def _poller(self, connection: Connection, clock: Clock, part: str, slow: tuple[str, ...]) -> Poller:
        link = self._profile.link
        return Poller(
            ProfileRegisters(connection),
            clock,
            fast=self._of((part,)),
            slow=self._of(slow),
            expected={},
            plan=partial(plan_reads, longest=link.longest_read, widest_gap=link.widest_gap),
        )

    def _of(self, parts: tuple[str, ...]) -> list[ProfileField]:
        return [field for role, fields in self._fields.items() if role.startswith(parts) for field in fields]

    async def start(self) -> None:
        """The first reading of everything. Raises DeviceFault where the device is not what the profile describes."""
        try:
            for poller in dict.fromkeys(self._pollers.values()):
                await poller.start()
        except DeviceRejected as error:
            raise DeviceFault(
                f"{error}; the profile {self._profile.title!r} does not fit this device: check profile and unit_id"
            ) from error
        plate = self.nameplate
        if self.control is not None and self.inverter is not None:
            missing = [role for role in _RATINGS if not getattr(plate, role)]
            if missing:
                raise DeviceFault(
                    f"device {self.name}: does not tell {', '.join(missing)}, without which its power cannot be set; "
                    "give them in a table [devices.nameplate], or set read_only = true"
                )

    @property
    def findings(self) -> tuple[str, ...]:
        steered = self.control is not None and self._profile.control is not None
        return (*self._profile.caveats, *([self._afterwards] if steered else []))

    @property
    def nameplate(self) -> Nameplate:
        """What the device says; what it does not say comes from the configuration."""
        plate, given = self._profile.nameplate, self._given
        return Nameplate(
            manufacturer=plate.manufacturer,
            model=plate.model if isinstance(plate.model, str) else self._text("nameplate.model"),
            serial=self._text("nameplate.serial"),
            rated_power_w=self.number("nameplate.rated_power_w") or given.rated_power_w or 0.0,
            max_charge_w=self.number("nameplate.max_charge_w") or given.max_charge_w or 0.0,
            max_discharge_w=self.number("nameplate.max_discharge_w") or given.max_discharge_w or 0.0,
            storage_capacity_wh=self.number("nameplate.storage_capacity_wh") or given.storage_capacity_wh or 0.0,
        )

    @property
    def _afterwards(self) -> str:
        """What becomes of a setpoint if this agent dies, in words."""
        reversion = self._profile.control.reversion if self._profile.control is not None else Reversion(kind="none")
        match reversion.kind:
            case "timer":
                return "its own timer ends a setpoint that is not renewed"
            case "watchdog":
                return f"its watchdog ends a setpoint {reversion.seconds:g} s after the last word, whatever was asked"
            case "none":
                return "it keeps its last setpoint if this agent dies: it has no reversion timer"

    async def picture(self, reader: str) -> float:
        at_s = await self._pollers[reader].picture(reader)
        if reader == "inverter":
            self._pv = (at_s, self.number("inverter.pv_power_w"))
        return at_s

    def number(self, role: str) -> float | None:
        """The sum of a role's points [SI], None where one of them has nothing to say."""
        total: float | None = None
        for field in self._fields.get(role, ()):
            image = self._pollers[role.partition(".")[0]].image
            raw = image.raw(field)
            value = _value(field.spec, raw)
            if value is not None and field.scale is not None:
                power = image.power(field)
                value = codec.scaled(value, power) if power is not None else None
            if value is None or abs(value) > _NO_NUMBER:
                if field.spec.optional:
                    continue
                return None
            total = (total or 0.0) + value
        return total

    async def close(self) -> None:
        await self._connection.close()

    def _text(self, role: str) -> str:
        raw = [self._pollers["nameplate"].image.raw(field) for field in self._fields.get(role, ())]
        return str(raw[0]).strip() if raw and raw[0] is not None else ""


def _value(point: Point, raw: int | float | str | None) -> float | None:
    """A number in SI units, positive towards the grid; of a state, whether it is so."""
    if point.mask is not None and isinstance(raw, int):
        raw &= point.mask
    if point.are:
        return None if raw is None else float((raw.strip() if isinstance(raw, str) else raw) in point.are)
    return raw * point.factor if isinstance(raw, int | float) else None


class _Inverter:
    def __init__(self, device: ProfileDevice) -> None:
        self._device = device

    @property
    def nameplate(self) -> Nameplate:
        return self._device.nameplate

    async def read_inverter(self) -> InverterReading:
        device = self._device
        at_s = await device.picture("inverter")
        voltage_v = device.number("inverter.voltage_v")
        rated_w = device.nameplate.rated_power_w
        return InverterReading(
            power_w=samples.sample(device.number("inverter.power_w"), at_s, samples.believable_power(rated_w)),
            frequency_hz=samples.frequency(device.number("inverter.frequency_hz"), voltage_v, None, at_s),
            voltage_v=samples.sample(voltage_v, at_s),
            pv_power_w=samples.sample(device.number("inverter.pv_power_w"), at_s),
            soc=samples.sample(device.number("inverter.soc"), at_s, samples.SHARE),
        )


class _Meter:
    def __init__(self, device: ProfileDevice) -> None:
        self._device = device

    async def read_meter(self) -> MeterReading:
        device = self._device
        at_s = await device.picture("meter")
        voltage_v = device.number("meter.voltage_v")
        return MeterReading(
            power_w=samples.sample(device.number("meter.power_w"), at_s),
            frequency_hz=samples.frequency(device.number("meter.frequency_hz"), voltage_v, None, at_s),
            voltage_v=samples.sample(voltage_v, at_s),
        )


class _Switch:
    def __init__(self, device: ProfileDevice) -> None:
        self._device = device

    async def read_switch(self) -> bool:
        await self._device.picture("switch")
        state = self._device.number("switch.state")
        if state is None:
            raise DeviceRejected(f"device {self._device.name}: does not say whether it is on")
        return state != 0


class _SwitchControl:
    def __init__(self, connection: Connection, points: SwitchPoints) -> None:
        self._connection = connection
        self._points = points

    async def write_switch(self, on: bool) -> None:
        step = self._points.on if on else self._points.off
        registers = encoded(step, step.value or 0, "big")
        await self._connection.write(step.address, list(registers), "the switch", step.write)


def _field(profile: Profile, role: str, point: Point) -> ProfileField:
    kind: PointType = "uint16" if point.type == "bit" else point.type
    space = table_of(profile, point) * _SPAN
    scale = None
    if point.exponent is not None:
        name = f"{role}'s power of ten"
        scale = Field(model_id=0, path=name, address=space + point.exponent, point=PointDef(name, "sunssf", 1))
    return ProfileField(
        model_id=0,
        path=role,
        address=space + point.address,
        point=PointDef(role, kind, point.size),
        scale=scale,
        spec=point,
        swapped=point.type != "string" and (point.word_order or profile.link.word_order) == "little",
    )
