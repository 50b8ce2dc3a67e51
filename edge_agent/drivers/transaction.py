"""What a Modbus transaction is, whatever carries it: tables, functions, refusals, and what may be written."""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Protocol

from edge_agent.model.devices import DeviceRejected


class Table(IntEnum):
    """A table of a device, by the function that reads it."""

    COIL = 1
    DISCRETE = 2
    HOLDING = 3
    INPUT = 4

    @property
    def bits(self) -> bool:
        """Whether it holds single bits rather than registers."""
        return self in (Table.COIL, Table.DISCRETE)


class Write(IntEnum):
    """A function that writes."""

    COIL = 5  # one coil, 0 or 1
    SINGLE = 6  # one register
    MULTIPLE = 16


# What a device means by its exception codes (Modbus Application Protocol V1.1b3, section 7).
_EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledged, still working",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not respond",
}


class ModbusRejected(DeviceRejected):
    """An exception reply; `code` is the device's own."""

    def __init__(self, doing: str, code: int) -> None:
        super().__init__(f"{doing}: exception {code}, {_EXCEPTIONS.get(code, 'not in the Modbus specification')}")
        self.code = code


class _Every(Enum):
    REGISTER = "every register"


@dataclass(frozen=True, slots=True)
class WriteAllowance:
    """Which registers a connection may write: checked where the request is made, below every driver."""

    registers: frozenset[tuple[Table, int]] | _Every

    def check(self, doing: str, function: Write, address: int, count: int) -> None:
        """Raises DeviceRejected for the first register that is not allowed."""
        if isinstance(self.registers, _Every):
            return
        table = Table.COIL if function is Write.COIL else Table.HOLDING
        for register in range(address, address + count):
            if (table, register) not in self.registers:
                raise DeviceRejected(
                    f"{doing}: {table.name.lower()} register {register} is not on the list of those that may be "
                    "written, so nothing was sent"
                )


READ_ONLY = WriteAllowance(frozenset())
UNLIMITED = WriteAllowance(_Every.REGISTER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """What a device needs of whoever asks it."""

    pause_s: float = 0.0  # between its reply and the next request to it
    pause_after_write_s: float = 0.0  # the same after a write, where that is longer
    latest_reply_s: float = 1.0  # after this long no reply comes any more; matters where replies bear no number: RTU

    def after(self, *, write: bool) -> float:
        """How long the device is left alone after its reply [s]."""
        return max(self.pause_s, self.pause_after_write_s) if write else self.pause_s


class Connection(Protocol):
    """Registers of one unit. Every method raises DeviceTimeout and DeviceRejected that name device and point."""

    unit_id: int

    async def read(self, address: int, count: int, what: object, table: Table = Table.HOLDING) -> list[int]:
        """`count` registers (or bits, as 0 and 1) from `address`."""
        ...

    async def write(self, address: int, registers: list[int], what: object, function: Write = Write.MULTIPLE) -> None:
        """Writes from `address` in one transaction."""
        ...

    async def connect(self) -> None:
        """Raises DeviceTimeout where there is nothing to connect to."""
        ...

    async def close(self) -> None: ...
