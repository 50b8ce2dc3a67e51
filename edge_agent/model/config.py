"""The agent's configuration: one TOML file, read once at the start, refused whole if any of it is wrong.

`load(path)` gives an AgentConfig whose paths are absolute (they are written relative to the file). Every key's
allowed values stand in its annotation, and the same text is the remedy that a refusal prints.
"""

import difflib
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

SiteName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="1 to 63 of a-z 0-9 _ -, as in `vpp-cloud site add`, in quotes",
    ),
]
Share = Annotated[float, Meta(ge=0.0, le=1.0, description="a share of the storage's capacity, 0 to 1")]


class ConfigError(Exception):
    """A configuration that cannot be used: names file, key and remedy in one line."""


class CoordinatorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the site gets to its coordinator."""

    # Written by `vpp-cloud site add`; needed until the agent has enrolled.
    claim_file: Annotated[
        Path, Meta(description='the file that `vpp-cloud site add` wrote, e.g. claim_file = "home-01.claim.toml"')
    ]


class ControlConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the control loop runs, and the owner's limits."""

    rate_hz: Annotated[float, Meta(ge=10.0, le=50.0, description="cycles a second, 10 to 50")] = 20.0
    default: Annotated[
        Literal["self-consumption", "idle", "release"],
        Meta(
            description='"self-consumption" (storage holds the grid at zero), "idle" (storage rests) or "release" '
            "(the device's own default)"
        ),
    ] = "self-consumption"
    # The device's own reversion timer: how long it obeys after the agent's last word.
    setpoint_lifetime_s: Annotated[float, Meta(ge=2.0, le=3600.0, description="seconds, 2 to 3600")] = 10.0
    soc_min: Share = 0.1  # below it the agent does not discharge
    soc_max: Share = 0.95  # above it the agent does not charge


class DeviceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device behind the gateway."""

    name: Annotated[str, Meta(min_length=1, max_length=63, description='a name for people, e.g. name = "hybrid"')]
    driver: Annotated[Literal["sunspec"], Meta(description='"sunspec"')]
    host: Annotated[str, Meta(min_length=1, description='address of the device, e.g. host = "192.168.1.20"')]
    port: Annotated[int, Meta(ge=1, le=65535, description="TCP port, 1 to 65535; Modbus' own is 502")] = 502
    unit_id: Annotated[int, Meta(ge=0, le=255, description="Modbus unit, 0 to 255")] = 1
    # Of one Modbus transaction; sized from the device's own response time, well below a second.
    timeout_s: Annotated[float, Meta(ge=0.02, le=5.0, description="seconds, 0.02 to 5")] = 0.25
    read_only: Annotated[bool, Meta(description="true or false")] = False


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    site: SiteName
    # Journal, keys and statistics; one agent each.
    data_dir: Annotated[Path, Meta(description='a folder for journal and keys, e.g. data_dir = "home-01"')]
    coordinator: Annotated[CoordinatorConfig, Meta(description='a table [coordinator] with claim_file = "..."')]
    control: Annotated[ControlConfig, Meta(description="a table [control]")] = ControlConfig()
    devices: Annotated[
        tuple[DeviceConfig, ...],
        Meta(min_length=1, description="at least one table [[devices]] with name, driver, host and port"),
    ]


def load(path: Path) -> AgentConfig:
    """The configuration in the file at `path`. Raises ConfigError."""
    path = path.absolute()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give --config an agent's TOML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}; mend that line") from error

    def resolve(kind: type, value: object) -> Path:
        if kind is not Path or not isinstance(value, str) or not value:
            raise ValueError("Expected a path in quotes")
        return path.parent / value

    try:
        config = msgspec.convert(raw, AgentConfig, dec_hook=resolve)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error))}") from error
    _check_whole(config, path)
    return config


def _check_whole(config: AgentConfig, path: Path) -> None:
    control = config.control
    if control.soc_min >= control.soc_max:
        raise ConfigError(
            f"{path}: $.control.soc_min: {control.soc_min} is not below soc_max {control.soc_max}; lower one or raise "
            "the other"
        )
    for key in ("name", "host"):
        of = (lambda d: d.name) if key == "name" else (lambda d: f"{d.host}:{d.port} unit {d.unit_id}")
        twice = [value for value, count in Counter(map(of, config.devices)).items() if count > 1]
        if twice:
            raise ConfigError(f"{path}: $.devices[...].{key}: {twice[0]} is given twice; each device needs its own")


_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*?)`(?: - at `(?P<path>.*)`)?$")
_MISSING = re.compile(r"Object missing required field `(?P<key>.*?)`(?: - at `(?P<path>.*)`)?$")
_OTHER = re.compile(r"(?P<finding>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)


def _explain(message: str) -> str:
    """msgspec's finding as: key, finding, remedy."""
    if found := _UNKNOWN.match(message):
        key, where = found["key"], found["path"] or "$"
        known = [field.encode_name for field in msgspec.structs.fields(_annotation(where, unwrap=True))]
        near = difflib.get_close_matches(key, known, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"{where}.{key}: unknown key; {remedy}"
    if found := _MISSING.match(message):
        where = f"{found['path'] or '$'}.{found['key']}"
        return f"{where}: is missing; give {_remedy(where)}"
    found = _OTHER.match(message)
    where = (found and found["path"]) or "$"
    finding = found["finding"] if found else message
    return f"{where}: {finding[:1].lower()}{finding[1:]}; give {_remedy(where)}"


def _remedy(where: str) -> str:
    """The description of the key at a path such as `$.devices[0].port`."""
    kind = _annotation(where)
    for meta in getattr(kind, "__metadata__", ()):
        if isinstance(meta, Meta) and meta.description:
            return meta.description
    return "a value of the right type"


def _annotation(where: str, *, unwrap: bool = False) -> Any:
    kind: Any = AgentConfig
    for part in re.findall(r"\.(\w+)|(\[[^\]]*\])", where):
        kind = _bare(kind)
        if part[0]:
            kind = next(field.type for field in msgspec.structs.fields(kind) if field.encode_name == part[0])
        else:
            kind = get_args(kind)[0]
    return _bare(kind) if unwrap else kind


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind
