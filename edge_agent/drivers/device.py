"""A SunSpec device: discover its map, and put together what it can do."""

import logging

from edge_agent.drivers.sunspec import readings
from edge_agent.drivers.sunspec.control import SunSpecPowerControl, required_fields
from edge_agent.drivers.sunspec.discovery import BASES, MARKER, DeviceMap, NoSunSpecMap, discover
from edge_agent.drivers.sunspec.points import METER_MODELS, Points, choose_points
from edge_agent.drivers.sunspec.poll import Poller
from edge_agent.drivers.transaction import Connection
from edge_agent.model.clock import Clock
from edge_agent.model.config import DeviceConfig
from edge_agent.model.devices import DeviceFault, DeviceRejected, DeviceTimeout, InverterReading, MeterReading
from edge_agent.model.values import Nameplate

_log = logging.getLogger(__name__)

# Where vendors put their SunSpec unit; tried only to tell the installer what to write instead of a wrong one.
_USUAL_UNITS = (1, 2, 3, 126)


class SunSpecDevice:
    """A device that speaks SunSpec over Modbus."""

    def __init__(self, name: str, connection: Connection, poller: Poller, points: Points, device: DeviceMap) -> None:
        self.name = name
        self.findings = device.findings
        self._connection = connection
        self._poller = poller
        self._points = points
        self._model_ids = device.model_ids
        self.inverter = _Inverter(self) if points.power is not None else None
        self.meter = _Meter(poller, points) if points.meter_power is not None else None
        self.control: SunSpecPowerControl | None = None

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
    for finding in found.findings:
        _log.warning("register map: device=%s finding=%s", config.name, finding)
    points = choose_points(found)
    if points.power is None and points.meter_power is None:
        there = ", ".join(map(str, found.model_ids)) or "nothing"
        raise DeviceFault(
            f"{where}: its map at {found.base} has neither an inverter (model 701) nor a meter "
            f"(models {METER_MODELS[0]} to {METER_MODELS[-1]}), only {there}{_listed(found)}; "
            "check unit_id, or leave the device out"
        )
    used = {field.model_id for field in (*points.measured, *points.constant)}
    controls = found.first(704) if not config.read_only else None
    slow = (*points.constant, *(required_fields(controls) if controls is not None else ()))
    models = [model for model in found.models if model.model_id in used or model is controls]
    expected = {m.fields["ID"]: m.model_id for m in models} | {m.fields["L"]: m.length for m in models}
    poller = Poller(connection, clock, fast=points.measured, slow=slow, expected=expected)
    try:
        await poller.start()
    except DeviceRejected as error:
        raise DeviceFault(
            f"{error}; its map promises this point{_listed(found)}: update the device's firmware"
        ) from error
    device = SunSpecDevice(config.name, connection, poller, points, found)
    if controls is not None:
        device.control = SunSpecPowerControl(connection, controls, poller.image, clock, device_name=config.name)
    return device


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
            else "check unit_id, and that SunSpec is enabled on the device"
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
