"""A SunSpec device: discover its map, and put together what it can do."""

import logging

from edge_agent.drivers.sunspec import checks, control, legacy_control, readings
from edge_agent.drivers.sunspec.control import SunSpecPowerControl
from edge_agent.drivers.sunspec.discovery import BASES, MARKER, DeviceMap, NoSunSpecMap, discover
from edge_agent.drivers.sunspec.kept import KeptFunctions
from edge_agent.drivers.sunspec.layout import Field, ModelMap
from edge_agent.drivers.sunspec.legacy_control import LegacyPowerControl
from edge_agent.drivers.sunspec.microcontroller import UPDATE_MODEL, SunSpecMicrocontroller
from edge_agent.drivers.sunspec.points import FAST_METER, METER_MODELS, Points, choose_points
from edge_agent.drivers.sunspec.poll import Poller
from edge_agent.drivers.transaction import Connection
from edge_agent.model.clock import Clock
from edge_agent.model.config import DeviceConfig
from edge_agent.model.devices import (
    DeviceFault,
    DeviceRejected,
    DeviceTimeout,
    InverterReading,
    LocalDroop,
    MeterReading,
    Microcontroller,
    PowerControl,
)
from edge_agent.model.values import Nameplate

_log = logging.getLogger(__name__)

# Where vendors put their SunSpec unit; tried only to tell the installer what to write instead of a wrong one.
_USUAL_UNITS = (1, 2, 3, 126)


class SunSpecDevice:
    """A device that speaks SunSpec over Modbus."""

    def __init__(
        self,
        name: str,
        connection: Connection,
        poller: Poller,
        points: Points,
        device: DeviceMap,
        kept: KeptFunctions,
    ) -> None:
        self.name = name
        self._found = (*device.findings, *checks.look(poller.image, points))
        self._kept = kept
        self._connection = connection
        self._poller = poller
        self._points = points
        self._model_ids = device.model_ids
        self.inverter = _Inverter(self) if points.power is not None else None
        self.meter = _Meter(poller, points) if points.is_meter else None
        self.switch = None
        self.charger = None
        self.load = None
        self.switch_control = None
        self.control: PowerControl | None = None
        self.microcontroller: Microcontroller | None = None

    @property
    def findings(self) -> tuple[str, ...]:
        """What its map showed when it was opened, and how it has drifted from what is configured since."""
        return (*self._found, *self._kept.findings)

    @property
    def local_droop(self) -> LocalDroop | None:
        """None where it has none, or is read-only."""
        return self._kept.local_droop

    @property
    def nameplate(self) -> Nameplate:
        return readings.read_nameplate(self._poller.image, self._points, self._model_ids)

    async def read_inverter(self) -> InverterReading:
        at_s = await self._poller.picture("inverter")
        return readings.read_inverter(self._poller.image, self._points, at_s)

    async def close(self) -> None:
        await self._connection.close()


class _Inverter:
    def __init__(self, device: SunSpecDevice) -> None:
        self._device = device

    @property
    def nameplate(self) -> Nameplate:
        return self._device.nameplate

    async def read_inverter(self) -> InverterReading:
        return await self._device.read_inverter()


class _Meter:
    def __init__(self, poller: Poller, points: Points) -> None:
        self._poller = poller
        self._points = points

    async def read_meter(self) -> MeterReading:
        at_s = await self._poller.picture("meter")
        return readings.read_meter(self._poller.image, self._points, at_s)


async def open_sunspec(config: DeviceConfig, connection: Connection, clock: Clock) -> SunSpecDevice:
    """Finds out what the device behind a connection can do. Raises DeviceFault, DeviceTimeout as open_device."""
    where = f"device {config.name}"
    found = await _discover(config, connection)
    points = choose_points(found, config.meter_positive)
    if points.power is None and not points.is_meter:
        there = ", ".join(map(str, found.model_ids)) or "nothing"
        raise DeviceFault(
            f"{where}: its map at {found.base} has neither an inverter (models 701, 101 to 103, 111 to 113) "
            f"nor a meter (models {METER_MODELS[0]} to {METER_MODELS[-1]}), only {there}{_listed(found)}; "
            "check unit_id, or leave the device out"
        )
    writable = _writable(found) if not config.read_only else ()
    used = {field.model_id for field in (*points.measured, *points.constant)}
    models = [model for model in found.models if model.model_id in used or model in writable]
    expected = {m.fields["ID"]: m.model_id for m in models} | {m.fields["L"]: m.length for m in models}
    kept = KeptFunctions(config, found)
    poller = Poller(
        connection,
        clock,
        fast=points.measured,
        slow=(*points.constant, *_control_fields(writable), *kept.fields),
        expected=expected,
        seen_slow=kept.look,
    )
    try:
        await poller.start()
    except DeviceRejected as error:
        raise DeviceFault(
            f"{error}; its map promises this point{_listed(found)}: update the device's firmware"
        ) from error
    await kept.put_in_force(connection, poller.image, points.frequency)
    device = SunSpecDevice(config.name, connection, poller, points, found, kept)
    for finding in device.findings:
        _log.warning("register map: device=%s finding=%s", config.name, finding)
    if writable and device.inverter is not None:
        device.control = _control(config.name, connection, found, poller, points, clock)
    fast = found.first(FAST_METER)
    if fast is not None and not config.read_only:
        device.microcontroller = SunSpecMicrocontroller(config.name, connection, fast, found.first(UPDATE_MODEL))
    return device


def _writable(found: DeviceMap) -> tuple[ModelMap, ...]:
    """The models by which its power can be set: the newer one, or what there is of the older ones."""
    newer = found.first(704)
    older = (found.first(123), found.first(124))
    return (newer,) if newer is not None else tuple(model for model in older if model is not None)


def _control_fields(models: tuple[ModelMap, ...]) -> tuple[Field, ...]:
    newer = models and models[0].model_id == 704
    return control.required_fields(models[0]) if newer else legacy_control.required_fields(*models)


def _control(
    name: str, connection: Connection, found: DeviceMap, poller: Poller, points: Points, clock: Clock
) -> PowerControl:
    newer = found.first(704)
    if newer is not None:
        return SunSpecPowerControl(connection, newer, poller.image, clock, device_name=name)
    return LegacyPowerControl(
        connection,
        found.first(123),
        found.first(124),
        points,
        poller.image,
        lambda: poller.pictured_s,
        clock,
        device_name=name,
    )


async def _discover(config: DeviceConfig, connection: Connection) -> DeviceMap:
    try:
        return await discover(connection)
    except DeviceTimeout as error:
        raise DeviceTimeout(f"{error}; it accepts connections, so check unit_id = {config.unit_id}") from error
    except NoSunSpecMap as error:
        units = await _units_with_a_map(connection)
        remedy = (
            f"unit {units[0]} has one: set unit_id = {units[0]}"
            if units
            else "check unit_id, and that SunSpec is enabled on the device; one without it needs a profile"
        )
        where = f"{config.where} unit_id {config.unit_id}"
        raise DeviceFault(f"device {config.name}: no SunSpec map at {where} ({error}); {remedy}") from error


async def _units_with_a_map(connection: Connection) -> list[int]:
    configured, units = connection.unit_id, []
    try:
        for unit_id in _USUAL_UNITS:
            connection.unit_id = unit_id
            for base in BASES:
                try:
                    if await connection.read(base, len(MARKER), "the SunSpec marker") == MARKER:
                        units.append(unit_id)
                except DeviceRejected:
                    continue
                except DeviceTimeout:
                    break
    finally:
        connection.unit_id = configured
    return units


def _listed(found: DeviceMap) -> str:
    return f" ({'; '.join(found.findings)})" if found.findings else ""
