"""What a device without SunSpec is: profiles say by which registers theirs are known. Nothing is written."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from edge_agent.drivers.profile import Check, Profile, table_of
from edge_agent.drivers.sunspec import codec
from edge_agent.drivers.sunspec.codec import Value
from edge_agent.drivers.sunspec.plan import to_bytes
from edge_agent.drivers.transaction import Connection, Table
from edge_agent.model.devices import DeviceRejected, DeviceTimeout

SILENCES: Final = 2  # in a row, after which nobody is taken to be there
# Growatt's off-grid inverters restart when registers from 30000 on are read (github.com/0xAHA/Growatt_ModbusTCP,
# auto_detection.py), and tell themselves by their type in holding register 43. These are asked nothing else.
_FRAGILE_REGISTER: Final = 43
_FRAGILE_TYPES: Final = (3400, 3401, 3402, 3403)
_SURVEYED: Final = (
    0,
    1,
    100,
    256,
    500,
    1000,
    3000,
    5000,
    10000,
    13000,
    19000,
    30000,
    32000,
    33000,
    35000,
    40000,
    50000,
)


@dataclass(frozen=True, slots=True)
class Match:
    """A profile that fits, and what was read of it."""

    name: str
    profile: Profile
    seen: str  # in words

    @property
    def sure(self) -> bool:
        """Whether its maker's type code or name was read, and not just numbers that could be its."""
        return self.profile.identification is not None and self.profile.identification.by == "type"


async def is_fragile(connection: Connection) -> bool:
    """Whether it says that it does not bear being asked further."""
    return await _Asking(connection).number(_FRAGILE_REGISTER) in _FRAGILE_TYPES


async def identify(connection: Connection, profiles: dict[str, Profile]) -> list[Match]:
    """The profiles that fit, the surest first. Registers are asked in rising order; a type that is known ends it.

    Raises DeviceTimeout where nobody answers.
    """
    known = {name: profile for name, profile in profiles.items() if profile.identification is not None}
    asking, matches = _Asking(connection), list[Match]()
    for name, profile in sorted(known.items(), key=lambda item: (not _by_type(item[1]), _last(item[1]))):
        seen = [await asking.seen(profile, check) for check in _checks(profile)]
        if all(seen):
            matches.append(Match(name, profile, ", ".join(part for part in seen if part)))
            if matches[-1].sure:
                break
    return sorted(matches, key=lambda match: not match.sure)


async def survey(connection: Connection) -> list[str]:
    """Which registers of a few that makers use answer: "holding 0, 100", by table."""
    asking, lines = _Asking(connection), []
    for table in (Table.HOLDING, Table.INPUT):
        found = [str(r) for r in _SURVEYED if await asking.number(r, table) is not None]
        lines += [f"{table.name.lower()} {', '.join(found)}"] if found else []
    return lines


class _Asking:
    """Reads single values; a register that is not there is None."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._read: dict[tuple[Table, int, int], list[int] | None] = {}
        self._silences = 0

    async def number(self, register: int, table: Table = Table.HOLDING) -> int | None:
        registers = await self._registers(table, register, 1)
        return registers[0] if registers is not None else None

    async def seen(self, profile: Profile, check: Check) -> str | None:
        """What was read, in words, where a check holds."""
        table = table_of(profile, check)
        if (table, check.address, check.size) not in self._read:
            await asyncio.sleep(profile.link.pause_s)
        registers = await self._registers(table, check.address, check.size)
        if registers is None:
            return None
        swapped = check.type != "string" and (check.word_order or profile.link.word_order) == "little"
        value = codec.decode(check.type, to_bytes(registers[::-1] if swapped else registers))
        return f"{table.name.lower()} register {check.address} is {value!r}" if _holds(check, value) else None

    async def _registers(self, table: Table, address: int, count: int) -> list[int] | None:
        key = (table, address, count)
        if key not in self._read:
            try:
                self._read[key] = await self._connection.read(address, count, "what it is", table)
                self._silences = 0
            except DeviceRejected:
                self._read[key], self._silences = None, 0
            except DeviceTimeout:
                self._read[key], self._silences = None, self._silences + 1
                if self._silences >= SILENCES:
                    raise
        return self._read[key]


def _holds(check: Check, value: Value | None) -> bool:
    if check.pattern is not None:
        return isinstance(value, str) and re.match(check.pattern, value) is not None
    if not isinstance(value, int | float):
        return False
    if check.between is not None:
        return check.between[0] <= value * check.factor <= check.between[1]
    return value in check.values


def _checks(profile: Profile) -> Iterable[Check]:
    return profile.identification.checks if profile.identification is not None else ()


def _by_type(profile: Profile) -> bool:
    return profile.identification is not None and profile.identification.by == "type"


def _last(profile: Profile) -> int:
    return max(check.address for check in _checks(profile))
