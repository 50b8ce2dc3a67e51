"""Opening a device as it is configured: the wire it hangs on, then what speaks over it."""

from edge_agent.drivers.device import open_sunspec
from edge_agent.drivers.modbus import ModbusConnection
from edge_agent.drivers.profile import Profile
from edge_agent.drivers.profile_device import ProfileDevice
from edge_agent.drivers.profile_loading import load
from edge_agent.drivers.rtu import SerialConnection, SerialLines
from edge_agent.drivers.transaction import READ_ONLY, UNLIMITED, Connection, Pacing, WriteAllowance
from edge_agent.model.clock import Clock, SystemClock
from edge_agent.model.config import DeviceConfig
from edge_agent.model.devices import Device, DeviceFault
from protos.settings import SettingsError


async def open_device(config: DeviceConfig, clock: Clock | None = None, *, lines: SerialLines | None = None) -> Device:
    """Connects to a device and finds out what it can do. Devices of one serial port have to be given the same `lines`.

    Raises DeviceFault where it cannot be used as configured, DeviceTimeout where nobody answers (it may later).
    """
    clock = clock or SystemClock()
    profile = profile_of(config)
    allowed = profile.allowance if profile is not None else UNLIMITED
    connection = connection_to(
        config,
        lines or SerialLines(),
        writable=READ_ONLY if config.read_only else allowed,
        pacing=profile.link.pacing if profile is not None else Pacing(),
    )
    try:
        await connection.connect()
        if profile is None:
            return await open_sunspec(config, connection, clock)
        device = ProfileDevice(config, profile, connection, clock)
        await device.start()
        return device
    except BaseException:
        await connection.close()
        raise


def profile_of(config: DeviceConfig) -> Profile | None:
    """The profile a device is configured with. Raises DeviceFault where there is none such, or it is wrong."""
    if config.driver != "profile" or config.profile is None:
        return None
    try:
        return load(config.profile)
    except SettingsError as error:
        raise DeviceFault(f"device {config.name}: {error}") from error


def connection_to(config: DeviceConfig, lines: SerialLines, *, writable: WriteAllowance, pacing: Pacing) -> Connection:
    """What carries the transactions of a device. Raises DeviceFault as SerialConnection does."""
    if config.serial is not None:
        return SerialConnection(
            name=config.name,
            lines=lines,
            path=config.serial,
            settings=config.serial_settings,
            unit_id=config.unit_id,
            timeout_s=config.timeout_s,
            writable=writable,
            pacing=pacing,
        )
    return ModbusConnection(
        name=config.name,
        host=config.host or "",
        port=config.port,
        unit_id=config.unit_id,
        timeout_s=config.timeout_s,
        writable=writable,
        pacing=pacing,
    )
