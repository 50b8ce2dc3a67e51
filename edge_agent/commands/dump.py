"""A device's register map as a file, without what names it or its owner. `vpp-hil rig --dump FILE` serves it again.

A SunSpec device is dumped model by model, another one as its profile reads it, and one of which nothing is known as a
range of registers. Nothing is written.
"""

from collections.abc import Iterable, Iterator

from edge_agent.commands.addresses import connected
from edge_agent.drivers import SerialLines
from edge_agent.drivers.profile import TABLES, Profile, Range, TableName, table_of
from edge_agent.drivers.profile_device import ProfileDevice
from edge_agent.drivers.sunspec.discovery import END, MARKER, DeviceMap, NoSunSpecMap, discover
from edge_agent.drivers.sunspec.layout import HEADER, Field, ModelMap
from edge_agent.drivers.transaction import Connection, ModbusRejected, Table, Write
from edge_agent.model.clock import SystemClock
from edge_agent.model.config import DeviceConfig
from edge_agent.model.devices import DeviceRejected
from protos.settings import SettingsError

__all__ = ["NoSunSpecMap", "dump", "dump_profile", "dump_ranges", "parse_range"]

LARGEST_READ = 120  # registers; Modbus allows 125
# Names, hosts, passwords and addresses of the communication models; where the device stands.
_PRIVATE_MODELS = frozenset(range(10, 20)) | {305}
_PRIVATE_TYPES = frozenset({"ipaddr", "ipv6addr", "eui48"})
_KEPT = frozenset({"ID", "L"})
_PAIRS, _CHARACTERS = 3, 8  # registers in a row that hold two characters, or one, and are taken for a text
_REFUSED_FOR_ONE = frozenset({2, 3, 4})  # exceptions by which a device refuses a block for one register in it

Cell = tuple[Table, int]
Block = tuple[Table, int, list[int], str]  # table, address, registers, what it is
_NAMES: dict[Table, TableName] = {table: name for name, table in TABLES.items()}


async def dump(config: DeviceConfig) -> str:
    """A SunSpec map as TOML. Raises DeviceTimeout, DeviceRejected, NoSunSpecMap."""
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
    end = blocks[-1][0] + len(blocks[-1][1]) if blocks else found.base + len(MARKER)
    head = [
        "# A SunSpec register map, dumped by `vpp-agent dump`: serial number, network and location are zeroed.",
        *(f"# finding: {finding}" for finding in found.findings),
    ]
    named = [(address, registers, f"model {registers[0]}, length {registers[1]}") for address, registers in blocks]
    edges = [(found.base, list(MARKER), "the marker"), (end, [END, 0], "the end")]
    whole = [edges[0], *named, edges[1]]
    return _as_toml(config, head, [(Table.HOLDING, *block) for block in whole])


async def dump_profile(config: DeviceConfig, profile: Profile) -> str:
    """What a profile reads, and the registers that it writes, as TOML. Raises DeviceTimeout, DeviceFault.

    Registers that the profile does not name, and those of a serial number, are zeroed.
    """
    async with connected(config, SerialLines(), profile.link.pacing) as connection:
        recorder = _Recorder(connection)
        await ProfileDevice(config, profile, recorder, SystemClock()).start()
        for check in profile.identification.checks if profile.identification is not None else ():
            table = table_of(profile, check)
            await recorder.try_read(list(_cells(table, check.address, check.size)), "what it is")
        unread = [where for where, cells in _written(profile).items() if not await recorder.try_read(cells, where)]
    named = {cell for cells in _written(profile).values() for cell in cells}
    private = set[Cell]()
    for check in profile.identification.checks if profile.identification is not None else ():
        named |= set(_cells(table_of(profile, check), check.address, check.size))
    for role, point in profile.points:
        cells = set(_cells(table_of(profile, point), point.address, point.size))
        private |= cells if role == "nameplate.serial" else set()
        named |= cells
        if point.exponent is not None:
            named.add((table_of(profile, point), point.exponent))
    head = [
        f"# {profile.title}",
        "# The registers of its profile, dumped by `vpp-agent dump`; the serial number, and what",
        "# the profile does not name, are zeroed.",
        *(f"# not readable: {where}" for where in unread),
    ]
    registers = {cell: value if cell in named - private else 0 for cell, value in recorder.registers.items()}
    return _as_toml(config, head, _in_blocks(registers), profile.writable)


async def dump_ranges(config: DeviceConfig, ranges: Iterable[tuple[Table, int, int]]) -> str:
    """Registers from first to last of a table, those that answer, as TOML. Raises DeviceTimeout, DeviceRejected.

    Texts are zeroed, since they may name device or owner; numbers stay, since nobody knows which of them do.
    """
    async with connected(config, SerialLines()) as connection:
        recorder = _Recorder(connection)
        for table, first, last in ranges:
            for start in range(first, last + 1, LARGEST_READ):
                await recorder.read_what_answers(table, start, min(start + LARGEST_READ, last + 1))
    if not recorder.registers:
        raise DeviceRejected(f"device {config.name}: none of these registers answers: {recorder.refusal}")
    found = _in_blocks(recorder.registers)
    blocks = [(table, address, _without_text(table, words), what) for table, address, words, what in found]
    head = [
        "# Registers as they answered, dumped by `vpp-agent dump`. Texts are zeroed. Numbers are not: look through",
        "# them for a serial number or an address before you give this file away.",
    ]
    return _as_toml(config, head, blocks)


def parse_range(text: str) -> tuple[Table, int, int]:
    """ "holding:0-99" or "input:30000". Raises SettingsError."""
    name, colon, numbers = text.partition(":")
    first, dash, last = numbers.partition("-")
    table = next((table for known, table in TABLES.items() if known == name), None)
    if table is None or not colon or not first.isdigit() or (dash and not last.isdigit()):
        raise SettingsError(
            f"--registers {text!r}: give a table ({', '.join(TABLES)}) and registers, as in holding:30000-30099"
        )
    start, end = int(first), int(last if dash else first)
    if not start <= end <= 0xFFFF:
        raise SettingsError(f"--registers {text!r}: registers are 0 to 65535, the lower one first")
    return table, start, end


class _Recorder:
    """A connection that remembers what it has read."""

    def __init__(self, connection: Connection) -> None:
        self.unit_id = connection.unit_id
        self.registers: dict[Cell, int] = {}
        self.refusal: DeviceRejected | None = None  # the last one
        self._connection = connection

    async def connect(self) -> None:
        await self._connection.connect()

    async def close(self) -> None:
        await self._connection.close()

    async def read(self, address: int, count: int, what: object, table: Table = Table.HOLDING) -> list[int]:
        registers = await self._connection.read(address, count, what, table)
        self.registers.update(zip(_cells(table, address, count), registers, strict=True))
        return registers

    async def write(self, address: int, registers: list[int], what: object, function: Write = Write.MULTIPLE) -> None:
        await self._connection.write(address, registers, what, function)

    async def try_read(self, cells: list[Cell], what: str) -> bool:
        """Whether these registers, which follow each other, can be read."""
        try:
            await self.read(cells[0][1], len(cells), what, cells[0][0])
        except DeviceRejected as refusal:
            self.refusal = refusal
            return False
        return True

    async def read_what_answers(self, table: Table, first: int, end: int) -> None:
        """By halves where a device refuses a block for one register in it."""
        if await self.try_read(list(_cells(table, first, end - first)), "the registers") or end - first == 1:
            return
        if not isinstance(self.refusal, ModbusRejected) or self.refusal.code not in _REFUSED_FOR_ONE:
            return
        middle = (first + end) // 2
        await self.read_what_answers(table, first, middle)
        await self.read_what_answers(table, middle, end)


def _cells(table: Table, address: int, count: int) -> Iterator[Cell]:
    return ((table, register) for register in range(address, address + count))


def _written(profile: Profile) -> dict[str, list[Cell]]:
    """The registers of each write of a profile, by what they are called."""
    cells: dict[str, list[Cell]] = {}
    for where, step in profile.writes:
        table = Table.COIL if step.function == "coil" else Table.HOLDING
        own = list(_cells(table, step.address, step.size))
        if own not in cells.values():
            cells[f"{where} at {step.address}"] = own
    return cells


def _in_blocks(registers: dict[Cell, int]) -> list[Block]:
    """Registers that follow each other together."""
    blocks: list[Block] = []
    for table, address in sorted(registers):
        if not blocks or (table, address) != (blocks[-1][0], blocks[-1][1] + len(blocks[-1][2])):
            blocks.append((table, address, [], f"{_NAMES[table]} from {address}"))
        blocks[-1][2].append(registers[table, address])
    return blocks


def _without_text(table: Table, registers: list[int]) -> list[int]:
    """Zeroes where registers in a row hold characters, two each or one each."""
    if table.bits:
        return registers
    kept = list(registers)
    for is_text, at_least in ((_is_pair, _PAIRS), (_is_character, _CHARACTERS)):
        start = 0
        for at in range(len(registers) + 1):
            if at < len(registers) and is_text(registers[at]):
                continue
            if at - start >= at_least:
                alone = registers[at : at + 1]  # its last character may stand alone
                end = at + bool(alone and _is_pair(alone[0] | ord(" ")) and not alone[0] & 0xFF)
                kept[start:end] = [0] * (end - start)
            start = at + 1
    return kept


def _is_pair(register: int) -> bool:
    return all(0x20 <= byte <= 0x7E for byte in divmod(register, 256))


def _is_character(register: int) -> bool:
    return register < 128 and chr(register).isalnum()


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


def _as_toml(config: DeviceConfig, head: list[str], blocks: Iterable[Block], writable: Iterable[Range] = ()) -> str:
    lines = [*head, "# `vpp-hil rig --dump FILE --data DIR` serves it.", f"unit_id = {config.unit_id}"]
    for table, address, registers, name in blocks:
        lines += ["", f"[[blocks]]  # {name}", f"address = {address}"]
        lines += [f'table = "{_NAMES[table]}"'] if table is not Table.HOLDING else []
        lines.append("registers = [")
        lines += [f"    {', '.join(map(str, registers[i : i + 16]))}," for i in range(0, len(registers), 16)]
        lines.append("]")
    for allowed in writable:
        lines += [
            "",
            "[[writable]]",
            f"first = {allowed.first}",
            f"last = {allowed.last}",
            f'table = "{allowed.table}"',
        ]
    return "\n".join(lines) + "\n"
