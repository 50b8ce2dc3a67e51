"""Where devices may stand, as a person types it on the command line."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from msgspec import structs

from edge_agent.drivers import SerialLines
from edge_agent.drivers.opening import connection_to
from edge_agent.drivers.profile_loading import load
from edge_agent.drivers.transaction import READ_ONLY, Connection, Pacing
from edge_agent.model.config import MODBUS_PORT, DeviceConfig, EvChargerConfig, FlexibleLoadConfig
from protos.settings import SettingsError

USUAL_UNITS = "1-3,126"  # where vendors put their SunSpec unit
UNPACED = Pacing()
TIMEOUT_S = 1.0  # of one transaction: a stranger may be slow


def parse_addresses(texts: Iterable[str], profile: str | None = None) -> list[DeviceConfig]:
    """HOST, HOST:PORT, [IPv6]:PORT or /dev/..., commas between them, as devices of unit 1.

    They speak SunSpec, or are registers as `profile` says. Raises SettingsError.
    """
    if profile is not None:
        load(profile)
    found = []
    for text in (part.strip() for texts_ in texts for part in texts_.split(",")):
        if "/" in text:
            found.append(_device(profile, serial=text))
            continue
        host, colon, port = text.rpartition(":") if not text.endswith("]") and text.count(":") != 0 else (text, "", "")
        if (colon and not (port.isdigit() and 0 < int(port) < 65536 and host)) or not text:
            raise SettingsError(f"address {text!r}: give HOST, HOST:PORT with a port of 1 to 65535, or /dev/ttyUSB0")
        found.append(_device(profile, host=host.strip("[]"), port=int(port) if colon else MODBUS_PORT))
    return found


def parse_units(text: str) -> list[int]:
    """ "1-3,126" as numbers. Raises SettingsError."""
    units: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise SettingsError(f"--unit-ids {text!r}: give numbers and ranges of them, as in 1-3,126")
        units += range(int(first), int(last if dash else first) + 1)
    if not units or max(units) > 255:
        raise SettingsError(f"--unit-ids {text!r}: units are 0 to 255")
    return units


@asynccontextmanager
async def connected(config: DeviceConfig, lines: SerialLines, pacing: Pacing = UNPACED) -> AsyncIterator[Connection]:
    """A connection that cannot write. Raises DeviceTimeout, DeviceFault."""
    connection = connection_to(config, lines, writable=READ_ONLY, pacing=pacing)
    try:
        await connection.connect()
        yield connection
    finally:
        async with asyncio.timeout(TIMEOUT_S):
            await connection.close()


def as_profile(config: DeviceConfig, name: str) -> DeviceConfig:
    """The same place, with a profile's device. What only its installation knows of it is assumed, to read it with."""
    profile = load(name)
    return structs.replace(
        config,
        driver="profile",
        profile=name,
        ev_charger=EvChargerConfig(max_current_a=6.0, phases=1) if profile.ev_charger is not None else None,
        flexible_load=FlexibleLoadConfig(power_w=1000.0, max_off_s=3600.0)
        if profile.flexible_load is not None
        else None,
    )


def _device(profile: str | None, **where: str | int) -> DeviceConfig:
    config = DeviceConfig(name="probed", driver="sunspec", timeout_s=TIMEOUT_S, read_only=True, **where)  # type: ignore[arg-type]
    return config if profile is None else as_profile(config, profile)
