"""Which registers to read together: points joined into the fewest Modbus transactions, and what they hold."""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_agent.drivers.sunspec import codec
from edge_agent.drivers.sunspec.codec import Value
from edge_agent.drivers.sunspec.layout import Field, scale_raw

MAX_READ = 125  # registers of one Modbus read (function 3)


@dataclass(frozen=True, slots=True)
class Block:
    """One transaction, and the fields it brings."""

    address: int
    count: int
    fields: tuple[Field, ...]
    name: str  # for messages to people
    # Numbers are unpacked all at once; None would say "not implemented" where the value is the one beside the field.
    layout: struct.Struct
    numbers: tuple[tuple[Field, Value], ...]
    others: tuple[Field, ...]

    def decode(self, registers: bytes) -> dict[Field, Value | None]:
        """The raw value of each field, None where it is not implemented."""
        raws: dict[Field, Value | None] = {
            field: None if value == absent or value != value else value
            for (field, absent), value in zip(self.numbers, self.layout.unpack(registers), strict=True)
        }
        for field in self.others:
            start = (field.address - self.address) * 2
            raws[field] = codec.decode(field.point.type, registers[start : start + field.point.size * 2])
        return raws

    def __str__(self) -> str:
        return self.name


def plan_reads(
    fields: Iterable[Field], *, across_models: bool = True, longest: int = MAX_READ, widest_gap: int = MAX_READ
) -> tuple[Block, ...]:
    """The fewest blocks that hold all fields, none of them split.

    A gap costs less than another transaction, so it is read along. Taking the fields in order and starting anew only
    where a block is full is optimal for blocks of one greatest length. `across_models=False` keeps each block inside
    one model, for devices that refuse to answer across; `longest` and `widest_gap` [registers] are for those that
    answer shorter blocks only, or refuse to read along what they do not have.
    """
    blocks: list[Block] = []
    current: list[Field] = []
    for field in sorted(set(fields), key=lambda field: field.address):
        full = current and (field.end - current[0].address > longest or field.address - current[-1].end > widest_gap)
        if full or (current and not across_models and field.model_id != current[0].model_id):
            blocks.append(_block(current))
            current = []
        current.append(field)
    if current:
        blocks.append(_block(current))
    return tuple(blocks)


def _block(fields: list[Field]) -> Block:
    address = at = fields[0].address
    end = max(field.end for field in fields)
    codes, numbers, others = [">"], list[tuple[Field, Value]](), list[Field]()
    for field in fields:
        form = codec.number_format(field.point.type)
        if form is None or field.address < at:  # a text, or one that shares registers with the one before
            others.append(field)
            continue
        code, absent = form
        codes.append(f"{2 * (field.address - at)}x{code}")
        numbers.append((field, absent))
        at = field.end
    codes.append(f"{2 * (end - at)}x")
    return Block(
        address,
        end - address,
        tuple(fields),
        _name(fields),
        struct.Struct("".join(codes)),
        tuple(numbers),
        tuple(others),
    )


def _name(fields: list[Field]) -> str:
    """Names the block, not each of its points."""
    models = list(dict.fromkeys(field.model_id for field in fields))
    if len(fields) == 1:
        return str(fields[0])
    if len(models) == 1:
        return f"{fields[0]} to {fields[-1].path}"
    return f"models {', '.join(map(str, models[:-1]))} and {models[-1]}"


class Image:
    """The last raw value of every field that was read."""

    def __init__(self) -> None:
        self._raw: dict[Field, Value | None] = {}

    def store(self, block: Block, registers: bytes) -> None:
        self._raw.update(block.decode(registers))

    def put(self, raws: Mapping[Field, Value | None]) -> None:
        """Values that were read apart from a block."""
        self._raw.update(raws)

    def raw(self, field: Field | None) -> Value | None:
        """None: not implemented, not in the map, or not read yet."""
        return self._raw.get(field) if field is not None else None

    def number(self, field: Field | None) -> float | None:
        """The scaled value; None as in `raw`, or where its scale factor has none."""
        raw = self.raw(field)
        if raw is None or field is None or isinstance(raw, str):
            return None
        if field.scale is None:
            return float(raw)
        return scale_raw(raw, self.power(field))

    def values(self) -> dict[Field, Value | None]:
        """The scaled value of every field that was read."""
        factors: dict[Field | int, tuple[int, int] | None] = {}
        values: dict[Field, Value | None] = {}
        for field, raw in self._raw.items():
            scale = field.scale
            if scale is None or raw is None or isinstance(raw, str):
                values[field] = raw
                continue
            if scale not in factors:
                power = self.power(field)
                factors[scale] = None if power is None else (10 ** max(power, 0), 10 ** max(-power, 0))
            factor = factors[scale]
            values[field] = None if factor is None else raw * factor[0] / factor[1]  # rounded once, as codec.scaled
        return values

    def power(self, field: Field) -> int | None:
        """The power of ten that scales a field."""
        power = self.raw(field.scale) if isinstance(field.scale, Field) else field.scale
        return power if isinstance(power, int) and -codec.MAX_SCALE <= power <= codec.MAX_SCALE else None

    def text(self, field: Field | None) -> str:
        raw = self.raw(field)
        return raw if isinstance(raw, str) else ""


def to_bytes(registers: list[int]) -> bytes:
    return struct.pack(f">{len(registers)}H", *registers)


def to_registers(data: bytes) -> list[int]:
    return list(struct.unpack(f">{len(data) // 2}H", data))
