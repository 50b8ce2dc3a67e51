"""A device's register map as a file, without what names it or its owner. `vpp-hil rig --dump FILE` serves it again."""

from collections.abc import Iterator

from edge_agent.commands.addresses import connected
from edge_agent.drivers import SerialLines
from edge_agent.drivers.sunspec.discovery import END, MARKER, DeviceMap, NoSunSpecMap, discover
from edge_agent.drivers.sunspec.layout import HEADER, Field, ModelMap
from edge_agent.drivers.transaction import Connection
from edge_agent.model.config import DeviceConfig

__all__ = ["NoSunSpecMap", "dump"]

LARGEST_READ = 120  # registers; Modbus allows 125
# Names, hosts, passwords and addresses of the communication models; where the device stands.
_PRIVATE_MODELS = frozenset(range(10, 20)) | {305}
_PRIVATE_TYPES = frozenset({"ipaddr", "ipv6addr", "eui48"})
_KEPT = frozenset({"ID", "L"})


async def dump(config: DeviceConfig) -> str:
    """The map as TOML. Raises DeviceTimeout, DeviceRejected, NoSunSpecMap."""
    async with connected(config, SerialLines()) as connection:
        found = await discover(connection)
        blocks = await _blocks(connection, found)
    known = {model.address: model for model in found.models}
    for address, registers in blocks:
        if address not in known:
            registers[HEADER:] = [0] * len(registers[HEADER:])  # nobody knows what a vendor's own model tells
            continue
        for field in _private(known[address]):
            start = field.address - address
            registers[start : start + field.point.size] = [0] * field.point.size
    return _as_toml(config, found, blocks)


async def _blocks(connection: Connection, found: DeviceMap) -> list[tuple[int, list[int]]]:
    """Address and registers of every model in the chain, those without a definition too."""
    blocks, address = [], found.base + len(MARKER)
    for _ in found.model_ids:
        header = await connection.read(address, HEADER, "a model's ID and length")
        blocks.append((address, header + await _read(connection, address + HEADER, address + HEADER + header[1])))
        address += HEADER + header[1]
    return blocks


async def _read(connection: Connection, first: int, end: int) -> list[int]:
    registers: list[int] = []
    while (address := first + len(registers)) < end:
        registers += await connection.read(address, min(LARGEST_READ, end - address), "the register map")
    return registers


def _private(model: ModelMap) -> Iterator[Field]:
    """Fields that say whose device it is, or where."""
    for path, field in model.fields.items():
        serial = model.model_id == 1 and path == "SN"
        private = model.model_id in _PRIVATE_MODELS and path not in _KEPT and field.point.type != "sunssf"
        if serial or private or field.point.type in _PRIVATE_TYPES:
            yield field


def _as_toml(config: DeviceConfig, found: DeviceMap, blocks: list[tuple[int, list[int]]]) -> str:
    end = blocks[-1][0] + len(blocks[-1][1]) if blocks else found.base + len(MARKER)
    lines = [
        "# A SunSpec register map, dumped by `vpp-agent dump`: serial number, network and location are zeroed.",
        "# `vpp-hil rig --dump FILE --data DIR` serves it.",
        *(f"# finding: {finding}" for finding in found.findings),
        f"unit_id = {config.unit_id}",
    ]
    for address, registers in [(found.base, list(MARKER)), *blocks, (end, [END, 0])]:
        inside = found.base < address < end
        name = f"model {registers[0]}, length {registers[1]}" if inside else "the marker, or the end"
        lines += ["", f"[[blocks]]  # {name}", f"address = {address}", "registers = ["]
        lines += [f"    {', '.join(map(str, registers[i : i + 16]))}," for i in range(0, len(registers), 16)]
        lines.append("]")
    return "\n".join(lines) + "\n"
