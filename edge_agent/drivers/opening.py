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
    """The profile a device is configured with.

    Raises DeviceFault where there is none such, it is wrong, or the configuration says of it what it is not.
    """
    if config.driver != "profile" or config.profile is None:
        return None
    try:
        profile = load(config.profile)
    except SettingsError as error:
        raise DeviceFault(f"device {config.name}: {error}") from error
    if finding := _unfit(config, profile):
        raise DeviceFault(f"device {config.name}: {finding}")
    return profile


def _unfit(config: DeviceConfig, profile: Profile) -> str:
    """What the owner says of a charger or a load against what the profile describes: finding, remedy."""
    name = config.profile
    if profile.ev_charger is not None and config.ev_charger is None:
        return f"{name} is a charger; give a table [devices.ev_charger] with max_current_a and phases"
    if profile.ev_charger is None and config.ev_charger is not None:
        return f"ev_charger: {name} is no charger; leave the table out, or give the charger's profile"
    if profile.flexible_load is not None and config.flexible_load is None:
        return f"{name} is a load that can wait; give a table [devices.flexible_load] with power_w"
    load = config.flexible_load
    if load is None:
        return ""
    if profile.flexible_load is None and profile.switch is None:
        return f"flexible_load: {name} is neither a load nor a relay; leave the table out"
    if load.comfort_min_c is not None and (profile.flexible_load is None or not profile.flexible_load.temperature_c):
        return f"flexible_load.comfort_min_c: {name} tells no temperature; leave it out, and give max_off_s"
    if load.relay != "runs" and profile.switch is None:
        return f"flexible_load.relay: {name} is no relay; leave it out"
    return ""


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
