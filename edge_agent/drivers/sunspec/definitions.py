"""The SunSpec models, read as data from the JSON files that pysunspec2 carries. Its code is never imported.

A file holds what the SunSpec Alliance publishes in github.com/sunspec/models: a tree of groups of points. Only what
the codec needs is kept, and only the models that are asked for are read. Those of our own firmware are beside it.
"""

from importlib.resources import files
from typing import Literal

import msgspec

PointType = Literal[
    "int16",
    "uint16",
    "count",
    "acc16",
    "enum16",
    "bitfield16",
    "pad",
    "sunssf",
    "int32",
    "uint32",
    "acc32",
    "enum32",
    "bitfield32",
    "ipaddr",
    "int64",
    "uint64",
    "acc64",
    "float32",
    "float64",
    "string",
    "eui48",
    "ipv6addr",
]


class PointDef(msgspec.Struct, frozen=True, gc=False):
    """One point: `size` registers of `type`."""

    name: str
    type: PointType
    size: int
    sf: str | int | None = None  # name of the point that holds the power of ten, or the power itself
    static: Literal["S", "D"] = "D"  # S: does not change while the device runs


class GroupDef(msgspec.Struct, frozen=True):
    """Points, then nested groups, in register order.

    `count` is absent for a group that stands once, a number, the name of the point that holds it, or 0: as many as the
    model's length leaves room for.
    """

    name: str
    points: tuple[PointDef, ...] = ()
    groups: tuple["GroupDef", ...] = ()
    count: str | int | None = None


class _ModelFile(msgspec.Struct, frozen=True):
    id: int
    group: GroupDef


def load_model(model_id: int) -> GroupDef | None:
    """The definition of a model, None where neither SunSpec nor our firmware has one under this number."""
    for folder in (files("sunspec2") / "models" / "json", files("edge_agent") / "firmware" / "models"):
        try:
            text = (folder / f"model_{model_id}.json").read_bytes()
        except FileNotFoundError:
            continue
        return msgspec.json.decode(text, type=_ModelFile).group
    return None
