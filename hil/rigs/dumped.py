"""A register map that `vpp-agent dump` wrote, served as the device it came from: same registers, nothing moves."""

from pathlib import Path
from typing import Annotated

import msgspec

from edge_agent.drivers.profile import TABLES, Range, TableName
from edge_agent.drivers.transaction import Table, Write
from hil.rigs.served import ILLEGAL_ADDRESS, Refused, ServedDevice
from protos import settings
from protos.settings import SettingsError

Register = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF, description="0 to 65535")]
_SUNSPEC_MARKER = (0x5375, 0x6E53)


class Block(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Registers from an address on."""

    address: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF, description="0 to 65535")]
    table: Annotated[TableName, msgspec.Meta(description='"holding", "input", "coil" or "discrete"')] = "holding"
    registers: tuple[Register, ...]


class Dump(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    unit_id: Annotated[int, msgspec.Meta(ge=0, le=255, description="0 to 255")]
    blocks: Annotated[tuple[Block, ...], msgspec.Meta(min_length=1, description="at least one table [[blocks]]")]
    writable: tuple[Range, ...] = ()  # taken beyond what the blocks show; read, they are refused until then


def load(path: Path) -> Dump:
    """Raises SettingsError, also where blocks overlap, or those of a SunSpec map do not follow each other."""
    dump = settings.read(path, Dump)
    taken: set[tuple[str, int]] = set()
    for index, block in enumerate(dump.blocks):
        where = f"{path}: $.blocks[{index}].address: {block.address}"
        before = dump.blocks[index - 1]
        end = before.address + len(before.registers)
        if dump.blocks[0].registers == _SUNSPEC_MARKER and index and block.address != end:
            raise SettingsError(f"{where}, but the block before it ends at {end}; dump the device again")
        own = {(block.table, block.address + offset) for offset in range(len(block.registers))}
        if own & taken:
            raise SettingsError(f"{where}: overlaps another block; dump the device again")
        taken |= own
    return dump


class DumpedDevice(ServedDevice):
    """The device. What is written to it is kept and changes nothing; what it did not show is refused."""

    def __init__(self, dump: Dump) -> None:
        super().__init__()
        self._registers = {
            (TABLES[block.table], block.address + offset): register
            for block in dump.blocks
            for offset, register in enumerate(block.registers)
        }
        self._writable = {(TABLES[r.table], n) for r in dump.writable for n in range(r.first, r.last + 1)}

    def read(self, table: Table, address: int, count: int) -> list[int]:
        try:
            return [self._registers[table, register] for register in range(address, address + count)]
        except KeyError:
            raise Refused(ILLEGAL_ADDRESS) from None

    def write(self, function: Write, address: int, words: list[int]) -> None:
        table = Table.COIL if function is Write.COIL else Table.HOLDING
        registers = [(table, address + offset) for offset in range(len(words))]
        if any(register not in self._registers and register not in self._writable for register in registers):
            raise Refused(ILLEGAL_ADDRESS)
        self._registers.update(zip(registers, words, strict=True))
