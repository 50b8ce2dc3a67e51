"""How a TOML file that a person writes is read: whole, into frozen structs, or refused with file, key and remedy.

Every key's allowed values stand in its annotation (msgspec.Meta), and the annotation's description is the remedy that
a refusal prints.
"""

import difflib
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta

T = TypeVar("T", bound=msgspec.Struct)

NEAR = 0.75  # of difflib's ratio: a slip of the keyboard; further off, all keys are named instead

_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*?)`(?: - at `(?P<path>.*)`)?$")
_MISSING = re.compile(r"Object missing required field `(?P<key>.*?)`(?: - at `(?P<path>.*)`)?$")
_OTHER = re.compile(r"(?P<finding>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)


class SettingsError(Exception):
    """Settings that cannot be used: says what, where and how to mend it, in one line."""


def read(path: Path, kind: type[T], *, dec_hook: Callable[[type, Any], Any] | None = None) -> T:
    """The file at `path` as a `kind`. Raises SettingsError.

    dec_hook: as msgspec.convert's, for types that TOML does not have; its ValueError becomes a refusal too.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); name a TOML file that is there") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    return parse(text, str(path), kind, dec_hook=dec_hook)


def parse(text: str, name: str, kind: type[T], *, dec_hook: Callable[[type, Any], Any] | None = None) -> T:
    """TOML text as a `kind`; `name` says in a refusal whose it is. Raises SettingsError. dec_hook: as in `read`."""
    try:
        return msgspec.convert(tomllib.loads(text), kind, dec_hook=dec_hook)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{name}: is not TOML: {error}; mend that line") from error
    except msgspec.ValidationError as error:
        raise SettingsError(f"{name}: {_explain(str(error), kind)}") from error


def remedy(where: str, kind: type[msgspec.Struct]) -> str:
    """The description of the key at a path such as `$.devices[0].port`."""
    for meta in getattr(_annotation(where, kind), "__metadata__", ()):
        if isinstance(meta, Meta) and meta.description:
            return meta.description
    return "a value of the right type"


def _explain(message: str, kind: type[msgspec.Struct]) -> str:
    """msgspec's finding as: key, finding, remedy."""
    if found := _UNKNOWN.match(message):
        key, where = found["key"], found["path"] or "$"
        known = [field.encode_name for field in msgspec.structs.fields(_bare(_annotation(where, kind)))]
        near = difflib.get_close_matches(key, known, n=1, cutoff=NEAR)
        return f"{where}.{key}: unknown key; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")
    if found := _MISSING.match(message):
        where = f"{found['path'] or '$'}.{found['key']}"
        return f"{where}: is missing; give {remedy(where, kind)}"
    found = _OTHER.match(message)
    where = (found and found["path"]) or "$"
    finding = found["finding"] if found else message
    return f"{where}: {finding[:1].lower()}{finding[1:]}; give {remedy(where, kind)}"


def _annotation(where: str, kind: Any) -> Any:
    for name, index in re.findall(r"\.(\w+)|(\[[^\]]*\])", where):
        within = _bare(kind)
        if index:
            kind = get_args(within)[0]
        else:
            kind = next(field.type for field in msgspec.structs.fields(within) if field.encode_name == name)
    return kind


def _bare(kind: Any) -> Any:
    """The type inside Annotated[...] and `... | None`."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    present = [part for part in get_args(kind) if part is not type(None)]
    return present[0] if type(None) in get_args(kind) and len(present) == 1 else kind
