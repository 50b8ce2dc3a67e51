"""Builds a device's SunSpec register map from the model definitions, and writes values into it.

Written from the definitions alone and apart from the agent's own codec on purpose: were both one piece of code, a
mistake in it would be invisible. Layout, types, sizes, access and scale factors come from the model JSON that
pysunspec2 carries; a point that is never set reads as "not implemented".
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

BASE_ADDRESS: Final = 40000
_MARK: Final = (0x5375, 0x6E53)  # "SunS"
_END_MODEL: Final = (0xFFFF, 0)

# "Not implemented", by type (SunSpec Device Information Model Specification, table of types).
_UNIMPLEMENTED: Final[Mapping[str, int]] = {
    "int16": 0x8000,
    "sunssf": 0x8000,
    "uint16": 0xFFFF,
    "count": 0xFFFF,
    "enum16": 0xFFFF,
    "bitfield16": 0xFFFF,
    "acc16": 0,
    "pad": 0x8000,
    "int32": 0x8000_0000,
    "uint32": 0xFFFF_FFFF,
    "enum32": 0xFFFF_FFFF,
    "bitfield32": 0xFFFF_FFFF,
    "acc32": 0,
    "int64": 0x8000_0000_0000_0000,
    "uint64": 0xFFFF_FFFF_FFFF_FFFF,
    "acc64": 0,
    "float32": 0x7FC0_0000,
    "string": 0,
}
_SIGNED: Final = frozenset({"int16", "int32", "int64", "sunssf"})


class MapError(ValueError):
    """A value that does not fit its point, or a point that is not in the map."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point at its place in the map."""

    model: int
    name: str  # "W", or "Prt[1].DCW" inside a repeated group, "PFWInj.PF" inside a single one
    type: str
    index: int  # first register, from the start of the map
    size: int  # [registers]
    writable: bool  # by the definition
    scale: str | None  # the scale-factor point's name

    @property
    def address(self) -> int:
        return BASE_ADDRESS + self.index


class RegisterMap:
    """The registers of one device, and where its points lie."""

    def __init__(self, models: Sequence[int], *, counts: Mapping[str, int]) -> None:
        """Lays out the models in order; `counts`: how often groups repeat, by their count point or name."""
        self.registers: list[int] = list(_MARK)
        self.points: dict[tuple[int, str], Point] = {}
        self._by_index: dict[int, Point] = {}
        for model in models:
            self._lay_out(model, counts)
        self.registers += _END_MODEL

    def point(self, model: int, name: str) -> Point:
        """Raises MapError for a point that is not there."""
        try:
            return self.points[model, name]
        except KeyError:
            raise MapError(f"model {model} has no point {name}") from None

    def starting_at(self, index: int) -> Point | None:
        """The point whose first register this is."""
        return self._by_index.get(index)

    def put(self, point: Point, raw: int) -> None:
        """Writes an integer as it stands on the wire (scaled by the point's scale factor). Raises MapError."""
        bits = 16 * point.size
        signed = point.type in _SIGNED
        lowest, highest = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        if not lowest <= raw <= highest:
            raise MapError(f"model {point.model} {point.name}: {raw} does not fit {point.type}")
        index, left = point.index, raw & ((1 << bits) - 1)
        for offset in range(point.size - 1, -1, -1):
            self.registers[index + offset] = left & 0xFFFF
            left >>= 16

    def put_number(self, point: Point, number: float) -> None:
        """Writes a number in the point's unit, by its scale factor or as a float. Raises MapError."""
        if point.type == "float32":
            self.put(point, int.from_bytes(struct.pack(">f", number)))
        else:
            exponent = self.get(self.point(point.model, point.scale)) if point.scale is not None else 0
            self.put(point, round(number / 10.0**exponent))

    def put_text(self, point: Point, text: str) -> None:
        """Writes a string, padded with NUL. Raises MapError."""
        encoded = text.encode()
        if point.type != "string" or len(encoded) > 2 * point.size:
            raise MapError(f"model {point.model} {point.name}: {text!r} does not fit")
        padded = encoded.ljust(2 * point.size, b"\0")
        for offset in range(point.size):
            self.registers[point.index + offset] = int.from_bytes(padded[2 * offset : 2 * offset + 2], "big")

    def get(self, point: Point, registers: Sequence[int] | None = None) -> int:
        """The integer at a point, or the one that `registers` (the point's own) would write there."""
        words = self.registers[point.index : point.index + point.size] if registers is None else registers
        raw = 0
        for word in words:
            raw = raw << 16 | word
        bits = 16 * point.size
        return raw - (1 << bits) if point.type in _SIGNED and raw >> (bits - 1) else raw

    def _lay_out(self, model: int, counts: Mapping[str, int]) -> None:
        group = _definition(model)["group"]
        first = len(self.registers)
        for name, definition in _flatten(group, counts):
            self._append(model, name, definition)
        self.put(self.point(model, "ID"), model)
        self.put(self.point(model, "L"), len(self.registers) - first - 2)
        for name, count in counts.items():
            if (model, name) in self.points:
                self.put(self.point(model, name), count)

    def _append(self, model: int, name: str, definition: Mapping[str, Any]) -> None:
        kind, size = definition["type"], definition["size"]
        point = Point(
            model, name, kind, len(self.registers), size, definition.get("access") == "RW", definition.get("sf")
        )
        self.points[model, name] = self._by_index[point.index] = point
        unimplemented = _UNIMPLEMENTED[kind]
        self.registers += [unimplemented >> 16 * i & 0xFFFF for i in range(size - 1, -1, -1)]


def _flatten(
    group: Mapping[str, Any], counts: Mapping[str, int], prefix: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for definition in group["points"]:
        yield prefix + definition["name"], definition
    for inner in group.get("groups", ()):
        count = inner.get("count", 1)
        if count == 1:
            yield from _flatten(inner, counts, f"{prefix}{inner['name']}.")
            continue
        # A count of 0 means as many as the model's length leaves room for, and goes by the group's name here.
        for i in range(count if isinstance(count, int) and count else counts[count or inner["name"]]):
            yield from _flatten(inner, counts, f"{prefix}{inner['name']}[{i}].")


@cache
def _definition(model: int) -> dict[str, Any]:
    path = resources.files("sunspec2") / "models" / "json" / f"model_{model}.json"
    definition: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return definition
