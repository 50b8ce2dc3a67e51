"""How a serial line is spoken, where nobody answers as usual."""

from collections.abc import Iterable
from typing import Final

from msgspec import structs

from edge_agent.commands.addresses import connected
from edge_agent.drivers import SerialLines
from edge_agent.model.config import DeviceConfig, SerialSettings
from edge_agent.model.devices import DeviceFault, DeviceRejected, DeviceTimeout

# Beside 9600 baud without parity: Modbus' own default, and what makers set at the factory.
OTHERS: Final = (
    SerialSettings(baudrate=19_200, parity="even"),
    SerialSettings(baudrate=19_200),
    SerialSettings(baudrate=9_600, parity="even"),
    SerialSettings(baudrate=38_400),
    SerialSettings(baudrate=115_200),
)


async def spoken(address: DeviceConfig, units: Iterable[int], lines: SerialLines) -> DeviceConfig | None:
    """The line as one of the units speaks it, by the first reply of any kind. None: none of them says anything."""
    units = list(units)
    for settings in OTHERS:
        line = structs.replace(
            address, baudrate=settings.baudrate, parity=settings.parity, stop_bits=settings.stop_bits
        )
        for unit_id in units:
            if await _answers(structs.replace(line, unit_id=unit_id), lines):
                return line
    return None


async def _answers(config: DeviceConfig, lines: SerialLines) -> bool:
    try:
        async with connected(config, lines) as connection:
            await connection.read(0, 1, "whatever is there")
    except DeviceRejected:
        return True
    except (DeviceTimeout, DeviceFault):
        return False
    return True
