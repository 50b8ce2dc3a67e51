"""Where each point of a model stands, once its repeating groups are counted, and what its registers say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.drivers.sunspec import codec
from edge_agent.drivers.sunspec.codec import Value
from edge_agent.drivers.sunspec.definitions import GroupDef, PointDef

HEADER = 2  # registers of ID and L, which L does not count


class LayoutError(ValueError):
    """The model's length and counts contradict its definition."""


# Compared by identity: a field is a place in one map, and thousands of look-ups a second go by it.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Field:
    """One point of one model. `path` is its name, with group names and indices before it: "Prt[0].DCW"."""

    model_id: int
    path: str
    address: int  # of its first register
    point: PointDef
    scale: "Field | int | None" = None  # the field that holds the power of ten, or the power itself

    @property
    def end(self) -> int:
        return self.address + self.point.size

    def __str__(self) -> str:
        return f"model {self.model_id} {self.path}"


@dataclass(frozen=True, slots=True)
class Group:
    """One instance of a group: its fields, and the instances of each group nested in it. Both in register order."""

    fields: dict[str, Field]
    single: dict[str, "Group"]
    repeated: dict[str, list["Group"]]


@dataclass(frozen=True, slots=True)
class ModelMap:
    """A model as it stands in a device: from `address`, `length` registers after its header."""

    model_id: int
    address: int
    length: int  # as the device says
    defined_length: int  # as the definition says, with the device's counts
    root: Group
    fields: dict[str, Field]  # by path; only those inside `length`

    @property
    def end(self) -> int:
        return self.address + HEADER + self.length

    def decode(self, data: bytes) -> dict[str, Any]:
        """The scaled value of every point, nested as the groups are; None where a point is not implemented.

        `data` holds the whole model from its ID on. A point whose scale factor is not implemented has no value.
        """
        return self._decode(self.root, data)

    def _decode(self, group: Group, data: bytes) -> dict[str, Any]:
        values: dict[str, Any] = {name: self._value(field, data) for name, field in group.fields.items()}
        values |= {name: self._decode(child, data) for name, child in group.single.items()}
        values |= {name: [self._decode(child, data) for child in each] for name, each in group.repeated.items()}
        return values

    def _raw(self, field: Field, data: bytes) -> Value | None:
        start, size = (field.address - self.address) * 2, field.point.size * 2
        part = data[start : start + size]
        return codec.decode(field.point.type, part) if len(part) == size else None

    def _value(self, field: Field, data: bytes) -> Value | None:
        raw, scale = self._raw(field, data), field.scale
        if scale is None or raw is None:
            return raw
        power = self._raw(scale, data) if isinstance(scale, Field) else scale
        return scale_raw(raw, power)

    def encode(self, values: Mapping[str, Any]) -> bytes:
        """The registers of the whole model from scaled values; what `values` leaves out is not implemented.

        ID and L are filled in. Raises ValueError naming the point that does not fit.
        """
        chunks: list[bytes] = []
        self._encode(self.root, {**values, "ID": self.model_id, "L": self.length}, {}, chunks)
        return b"".join(chunks)[: (HEADER + self.length) * 2]

    def _encode(self, group: Group, values: Mapping[str, Any], powers: dict[Field, int], chunks: list[bytes]) -> None:
        powers |= {f: values[n] for n, f in group.fields.items() if f.point.type == "sunssf" and n in values}
        for name, field in group.fields.items():
            value, power = values.get(name), field.scale
            if isinstance(power, Field):
                power = powers.get(power)
            try:
                if value is not None and field.scale is not None:
                    if power is None:
                        raise ValueError("its scale factor has no value")
                    value = round(value / 10**power if power >= 0 else value * 10**-power)
                chunks.append(codec.encode(field.point.type, field.point.size, value))
            except ValueError as error:
                raise ValueError(f"{field}: {error}") from None
        for name, child in group.single.items():
            self._encode(child, values.get(name) or {}, powers, chunks)
        for name, each in group.repeated.items():
            given = values.get(name) or []
            for index, child in enumerate(each):
                self._encode(child, given[index] if index < len(given) else {}, powers, chunks)


def scale_raw(raw: Value, power: Value | None) -> float | None:
    """raw x 10^power; None where the power is not implemented or not one that SunSpec allows."""
    if isinstance(raw, str) or not isinstance(power, int) or not -codec.MAX_SCALE <= power <= codec.MAX_SCALE:
        return None
    return codec.scaled(raw, power)


def count_points(definition: GroupDef) -> dict[str, int]:
    """The top-level points that say how often groups repeat, each with its offset from the model's ID."""
    names: set[str] = set()
    pending = list(definition.groups)
    while pending:
        group = pending.pop()
        pending.extend(group.groups)
        if isinstance(group.count, str):
            names.add(group.count)
    offsets, offset = {}, 0
    for point in definition.points:
        if point.name in names:
            offsets[point.name] = offset
        offset += point.size
    return offsets


def lay_out(
    model_id: int, definition: GroupDef, *, length: int, counts: Mapping[str, int], address: int = 0
) -> ModelMap:
    """A model's points at their places. `counts` are the values of its `count_points`.

    Raises LayoutError where no number of groups fits the length.
    """
    builder = _Builder(model_id, counts, address, address + HEADER + length)
    root = builder.group(definition, "", ())
    inside = {field.path: field for field in builder.fields if field.end <= builder.limit}
    return ModelMap(model_id, address, length, builder.address - address - HEADER, root, inside)


class _Builder:
    """Walks a definition in register order."""

    def __init__(self, model_id: int, counts: Mapping[str, int], address: int, limit: int) -> None:
        self._model_id = model_id
        self._counts = counts
        self.address = address  # of the next point
        self.limit = limit  # the first address after the model
        self.fields: list[Field] = []

    def group(self, definition: GroupDef, path: str, outer: tuple[dict[str, Field], ...]) -> Group:
        own = self._points(definition.points, path, outer)
        self.fields.extend(own.values())
        single: dict[str, Group] = {}
        repeated: dict[str, list[Group]] = {}
        for child in definition.groups:
            if child.count is None:
                single[child.name] = self.group(child, f"{path}{child.name}.", (own, *outer))
            else:
                repeated[child.name] = [
                    self.group(child, f"{path}{child.name}[{index}].", (own, *outer))
                    for index in range(self._count(child))
                ]
        return Group(own, single, repeated)

    def _points(self, points: Sequence[PointDef], path: str, outer: tuple[dict[str, Field], ...]) -> dict[str, Field]:
        addresses: dict[str, int] = {}
        for point in points:
            addresses[point.name] = self.address
            self.address += point.size
        own: dict[str, Field] = {}
        for point in sorted(points, key=lambda point: point.type != "sunssf"):  # what others refer to comes first
            scale = self._scale(point, (own, *outer))
            own[point.name] = Field(
                model_id=self._model_id,
                path=path + point.name,
                address=addresses[point.name],
                point=point,
                scale=scale,
            )
        return {point.name: own[point.name] for point in points}

    def _scale(self, point: PointDef, scopes: tuple[dict[str, Field], ...]) -> Field | int | None:
        if point.sf is None or isinstance(point.sf, int):
            return point.sf
        for scope in scopes:  # from the innermost group outwards
            if point.sf in scope:
                return scope[point.sf]
        raise LayoutError(f"model {self._model_id}: scale factor {point.sf} of {point.name} is not defined")

    def _count(self, definition: GroupDef) -> int:
        if isinstance(definition.count, str):
            # A count beyond the room that is left shows as a wrong length; it need not be laid out to the end.
            return min(self._counts.get(definition.count, 0), max(0, self.limit - self.address))
        if definition.count:
            return definition.count
        size = sum(point.size for point in definition.points)
        count, rest = divmod(max(0, self.limit - self.address), size)
        if rest:
            raise LayoutError(
                f"model {self._model_id}: {self.limit - self.address} registers are left for its groups "
                f"{definition.name} of {size}"
            )
        return count
