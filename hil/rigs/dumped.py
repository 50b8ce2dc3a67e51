"""A register map that `vpp-agent dump` wrote, served as the device it came from: same registers, nothing moves."""

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from hil.rigs.modbus_server import ListenError
from protos import settings
from protos.settings import SettingsError

Register = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF, description="0 to 65535")]


class Block(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Registers from an address on."""

    address: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF, description="0 to 65535")]
    registers: tuple[Register, ...]


class Dump(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    unit_id: Annotated[int, msgspec.Meta(ge=0, le=255, description="0 to 255")]
    blocks: Annotated[tuple[Block, ...], msgspec.Meta(min_length=1, description="at least one table [[blocks]]")]


def load(path: Path) -> Dump:
    """Raises SettingsError, also where the blocks do not follow each other."""
    dump = settings.read(path, Dump)
    address = dump.blocks[0].address
    for index, block in enumerate(dump.blocks):
        if block.address != address:
            raise SettingsError(
                f"{path}: $.blocks[{index}].address: {block.address}, but the block before it ends at {address}; dump "
                "the device again"
            )
        address += len(block.registers)
    return dump


class DumpedDevice:
    """The device, over Modbus TCP. What is written to it is kept and changes nothing."""

    def __init__(self, dump: Dump, *, host: str, port: int) -> None:
        registers = [register for block in dump.blocks for register in block.registers]
        values = SimData(dump.blocks[0].address, values=registers, datatype=DataType.REGISTERS)
        self._where = f"{host}:{port}"
        self._server = ModbusTcpServer(SimDevice(id=dump.unit_id, simdata=[values]), address=(host, port))

    async def start(self) -> int:
        """Listens; its port. Raises ListenError."""
        try:
            await self._server.serve_forever(background=True)
        except RuntimeError as error:
            raise ListenError(
                f"cannot listen on {self._where}: the port is in use, or not this machine's address"
            ) from error
        assert isinstance(self._server.transport, asyncio.Server)  # noqa: S101 (it listens)
        return int(self._server.transport.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        await self._server.shutdown()  # type: ignore[no-untyped-call]
