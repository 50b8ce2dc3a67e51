"""Frozen dataclasses to rows and back: plain columns as they are, money as decimal text, the rest as JSON."""

import dataclasses
import functools
import types
import typing
from collections.abc import Hashable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar, cast

import msgspec

Record = TypeVar("Record")


def to_row(record: Any) -> dict[str, Any]:
    """Column values of a record, by field name."""
    row: dict[str, Any] = {}
    for name, kind in _kinds(cast(Hashable, type(record))).items():
        value = getattr(record, name)
        if value is not None:
            if kind == "json":
                value = msgspec.json.encode(value).decode()
            elif kind == "bool":
                value = int(value)
            elif kind == "text":
                value = str(value)
        row[name] = value
    return row


def from_row(cls: type[Record], row: Mapping[str, Any]) -> Record:
    """The record that `to_row` wrote; columns that the record has no field for are left out."""
    values: dict[str, Any] = {}
    for name, kind in _kinds(cast(Hashable, cls)).items():
        value = row[name]
        if value is not None:
            if kind == "json":
                value = msgspec.json.decode(value)
            elif kind == "bool":
                value = bool(value)
        values[name] = value
    return msgspec.convert(values, type=cls)


@functools.cache  # hints are strings that must be evaluated: dearer than the row itself
def _kinds(cls: Hashable) -> dict[str, str]:
    record: Any = cls
    hints = typing.get_type_hints(record)
    return {field.name: _kind(hints[field.name]) for field in dataclasses.fields(record)}


def _kind(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        (hint,) = (arm for arm in typing.get_args(hint) if arm is not types.NoneType)
    if hint is bool:
        return "bool"
    if typing.get_origin(hint) is not None or dataclasses.is_dataclass(hint):
        return "json"
    if issubclass(hint, Decimal | StrEnum):
        return "text"
    return "plain"
