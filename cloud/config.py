"""The coordinator's configuration: one TOML file, read once at the start, refused whole if any of it is wrong.

Every key's allowed values stand in its annotation, and the same text is the remedy that a refusal prints.
"""

import difflib
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from protos import services

Port = Annotated[int, Meta(ge=0, le=65535, description="a TCP port, or 0 for a free one that is then kept")]
GroupName = Annotated[
    str,
    Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="a group of sites as in `vpp-cloud site add --group`"),
]
_EVERYWHERE: Final = ("0.0.0.0", "::")


class ConfigError(Exception):
    """A configuration that cannot be used: names file, key and remedy in one line."""


class ListenConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where gateways and people reach the coordinator."""

    host: Annotated[str, Meta(min_length=1, description='an address of this machine, e.g. host = "127.0.0.1"')] = (
        "127.0.0.1"
    )
    # What gateways are told; needed where `host` stands for every address of the machine.
    public_host: Annotated[
        str | None,
        Meta(description='the name or address gateways reach it under, e.g. public_host = "vpp.example.org"'),
    ] = None
    enrolment_port: Port = 0
    site_port: Port = 0
    broker_port: Port = 0
    console_port: Port = 0

    @property
    def advertised_host(self) -> str:
        """What gateways are told."""
        return self.public_host or self.host


class TelemetryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What sites are told to measure."""

    interval_ms: Annotated[Literal[100, 1000], Meta(description="100 or 1000, milliseconds between samples")] = 100


class OfferConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A product of the market, the service that delivers it, and the sites that do."""

    product: Annotated[str, Meta(min_length=1, description='the market\'s name for it, e.g. product = "ffr"')]
    service: Annotated[str, Meta(description=f"one of {', '.join(services.shipped())}")]
    group: GroupName


class MarketConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The market the desk trades on."""

    url: Annotated[
        str, Meta(pattern=r"^https?://[^/\s]+", description='its address, e.g. url = "http://127.0.0.1:9000"')
    ]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$", description="three capital letters, ISO 4217")]
    offers: Annotated[
        tuple[OfferConfig, ...],
        Meta(min_length=1, description="at least one table [[market.offers]] with product, service and group"),
    ]


class CoordinatorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Without a [market] nothing is traded."""

    listen: Annotated[ListenConfig, Meta(description="a table [listen]")] = ListenConfig()
    telemetry: Annotated[TelemetryConfig, Meta(description="a table [telemetry]")] = TelemetryConfig()
    market: Annotated[MarketConfig | None, Meta(description="a table [market]")] = None


def load(path: Path) -> CoordinatorConfig:
    """The configuration in the file at `path`. Raises ConfigError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give --config a TOML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}; mend that line") from error
    try:
        config = msgspec.convert(raw, CoordinatorConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error))}") from error
    _check_whole(config, path)
    return config


def _check_whole(config: CoordinatorConfig, path: Path) -> None:
    """What no single key can tell."""
    listen = config.listen
    if listen.host in _EVERYWHERE and listen.public_host is None:
        raise ConfigError(
            f"{path}: $.listen.public_host: is missing, and {listen.host} is no address a gateway could use; give "
            f"{_remedy('$.listen.public_host')}"
        )
    fixed = Counter(
        port for port in (listen.enrolment_port, listen.site_port, listen.broker_port, listen.console_port) if port
    )
    for port, times in fixed.items():
        if times > 1:
            raise ConfigError(f"{path}: $.listen: port {port} is given to {times} servers; each needs its own")
    if config.market is None:
        return
    for number, offer in enumerate(config.market.offers):
        if offer.service not in services.shipped():
            where = f"$.market.offers[{number}].service"
            raise ConfigError(f"{path}: {where}: {offer.service!r} is unknown; give {', '.join(services.shipped())}")
    products = Counter(offer.product for offer in config.market.offers)
    groups = Counter(offer.group for offer in config.market.offers)
    for key, counted in (("product", products), ("group", groups)):
        for value, times in counted.items():
            if times > 1:
                raise ConfigError(
                    f"{path}: $.market.offers[...].{key}: {value!r} is given {times} times; a site's power is sold once"
                )


_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*?)`(?: - at `(?P<path>.*)`)?$")
_MISSING = re.compile(r"Object missing required field `(?P<key>.*?)`(?: - at `(?P<path>.*)`)?$")
_OTHER = re.compile(r"(?P<finding>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)


def _explain(message: str) -> str:
    """msgspec's finding as: key, finding, remedy."""
    if found := _UNKNOWN.match(message):
        key, where = found["key"], found["path"] or "$"
        known = [field.encode_name for field in msgspec.structs.fields(_bare(_annotation(where)))]
        near = difflib.get_close_matches(key, known, n=1)
        return f"{where}.{key}: unknown key; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")
    if found := _MISSING.match(message):
        where = f"{found['path'] or '$'}.{found['key']}"
        return f"{where}: is missing; give {_remedy(where)}"
    found = _OTHER.match(message)
    where = (found and found["path"]) or "$"
    finding = found["finding"] if found else message
    return f"{where}: {finding[:1].lower()}{finding[1:]}; give {_remedy(where)}"


def _remedy(where: str) -> str:
    """The description of the key at a path such as `$.market.offers[0].group`."""
    for meta in getattr(_annotation(where), "__metadata__", ()):
        if isinstance(meta, Meta) and meta.description:
            return meta.description
    return "a value of the right type"


def _annotation(where: str) -> Any:
    kind: Any = CoordinatorConfig
    for name, index in re.findall(r"\.(\w+)|(\[[^\]]*\])", where):
        bare = _bare(kind)
        if index:
            kind = get_args(bare)[0]
        else:
            kind = next(field.type for field in msgspec.structs.fields(bare) if field.encode_name == name)
    return kind


def _bare(kind: Any) -> Any:
    """The type inside Annotated[...] and `... | None`."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    present = [part for part in get_args(kind) if part is not type(None)]
    return present[0] if type(None) in get_args(kind) and len(present) == 1 else kind
