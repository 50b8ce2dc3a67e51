"""The coordinator's configuration: one TOML file, read once at the start, refused whole if any of it is wrong."""

import ipaddress
from collections import Counter
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from protos import services, settings
from protos.settings import SettingsError

Port = Annotated[int, Meta(ge=0, le=65535, description="a TCP port, or 0 for a free one that is then kept")]
GroupName = Annotated[
    str,
    Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="a group of sites as in `vpp-cloud site add --group`"),
]
_EVERYWHERE: Final = ("0.0.0.0", "::")  # nosec B104: compared, not bound


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


class ConsoleConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may use the console."""

    # Roles are in force without a second factor. Else whoever has none may look, and nothing more.
    insecure_password_only: Annotated[bool, Meta(description="true or false")] = False
    # Without TLS: passwords and sessions travel as they are. Refused where others than this machine could listen.
    insecure_loopback_only: Annotated[bool, Meta(description="true or false")] = False


class OfferConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A product of the market, the service that delivers it, and the sites that do."""

    product: Annotated[str, Meta(min_length=1, description='the market\'s name for it, e.g. product = "ffr"')]
    service: Annotated[
        str, Meta(description=f"one of {', '.join(services.shipped())}, or a .toml file beside this one")
    ]
    group: GroupName


class MarketConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The market the desk trades on."""

    url: Annotated[
        str, Meta(pattern=r"^https?://[^/\s]+", description='its address, e.g. url = "http://127.0.0.1:9000"')
    ]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$", description="three capital letters, ISO 4217")]
    # What homes pay and get for energy; else the market's own prices.
    tariff: Annotated[
        Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")] | None,
        Meta(description="of the ledger, as in `vpp-cloud tariff import`"),
    ] = None
    offers: Annotated[
        tuple[OfferConfig, ...],
        Meta(min_length=1, description="at least one table [[market.offers]] with product, service and group"),
    ]


class MessagingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker: this process's own, or a cluster of them."""

    urls: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^tls://[^/\s]+:\d+$")], ...],
        Meta(description='every node of the cluster, e.g. urls = ["tls://nats-1.example.org:4222"]'),
    ] = ()
    # What one worker reads is a stream: a divisor of the 64 partitions, which may grow and never shrink.
    telemetry_streams: Annotated[
        Literal[1, 2, 4, 8, 16, 32, 64], Meta(description="how many streams share the 64 partitions, a power of two")
    ] = 1
    replicas: Annotated[Literal[1, 3, 5], Meta(description="of every stream, on as many nodes of the cluster")] = 1


class BrokerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes the role broker a node of a cluster. All nodes have the same keys."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]*$", description='this node\'s, e.g. name = "nats-1"')]
    cluster_port: Annotated[int, Meta(ge=1, le=65535, description="where the other nodes reach this one")]
    routes: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[^/\s]+:\d+$")], ...],
        Meta(min_length=1, description='the other nodes, e.g. routes = ["nats-2.example.org:6222"]'),
    ]


class LedgerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The database of registry, intents, trades and audit; SQLite in the data folder unless told."""

    url: Annotated[
        Annotated[str, Meta(pattern=r"^postgresql://")] | None,
        Meta(description='e.g. url = "postgresql://vpp@db.example.org/ledger?passfile=/etc/murmuration/pgpass"'),
    ] = None


class ObserveConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the process tells how it is."""

    host: Annotated[str, Meta(min_length=1, description="where /metrics, /healthz and /readyz answer")] = "127.0.0.1"
    port: Port | None = None  # None: it does not listen
    logs: Annotated[Literal["text", "json"], Meta(description='"text", or "json" for a JSON object a line')] = "text"
    traces_url: Annotated[
        Annotated[str, Meta(pattern=r"^https?://")] | None,
        Meta(description='an OTLP collector, e.g. traces_url = "http://127.0.0.1:4318/v1/traces"'),
    ] = None


Days = Annotated[int, Meta(ge=1, description="whole days, e.g. raw_days = 30; without it for ever")]


class HistoryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where telemetry is kept, in the data folder unless told; and how long, for ever unless told."""

    path: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description='a folder that every process sees, or an address, e.g. path = "s3://bucket/history"'),
    ] = None
    raw_days: Days | None = None  # samples
    minute_days: Days | None = None  # sums by the minute
    quarter_days: Days | None = None  # sums by the quarter hour


class AreaLimitsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far one grid connection area is moved without a second person."""

    step_w: Annotated[float, Meta(gt=0, description="watts at once")] = 10e6
    ramp_w_per_min: Annotated[float, Meta(gt=0, description="watts in any minute, one way")] = 20e6
    direction_changes_per_hour: Annotated[int, Meta(ge=1, description="1 or more")] = 60


class AreaConfig(AreaLimitsConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A grid connection area: whose sites hang on one feeder, substation or zone."""

    name: GroupName
    groups: Annotated[tuple[GroupName, ...], Meta(min_length=1, description="the groups whose sites are in it")]


class FleetGuardConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What waits until a second person grants it (`vpp-cloud approve`); these limits themselves, once they are set."""

    # An installation of one person: whoever asks may grant it himself.
    single_operator: Annotated[bool, Meta(description="true or false")] = False
    # Of all sites that no area names.
    elsewhere: Annotated[AreaLimitsConfig, Meta(description="a table [fleet_guard.elsewhere]")] = AreaLimitsConfig()
    areas: Annotated[tuple[AreaConfig, ...], Meta(description="tables [[fleet_guard.areas]]")] = ()


class CoordinatorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Without a [market] nothing is traded."""

    listen: Annotated[ListenConfig, Meta(description="a table [listen]")] = ListenConfig()
    telemetry: Annotated[TelemetryConfig, Meta(description="a table [telemetry]")] = TelemetryConfig()
    messaging: Annotated[MessagingConfig, Meta(description="a table [messaging]")] = MessagingConfig()
    broker: Annotated[BrokerConfig | None, Meta(description="a table [broker]")] = None
    ledger: Annotated[LedgerConfig, Meta(description="a table [ledger]")] = LedgerConfig()
    observe: Annotated[ObserveConfig, Meta(description="a table [observe]")] = ObserveConfig()
    history: Annotated[HistoryConfig, Meta(description="a table [history]")] = HistoryConfig()
    console: Annotated[ConsoleConfig, Meta(description="a table [console]")] = ConsoleConfig()
    fleet_guard: Annotated[FleetGuardConfig, Meta(description="a table [fleet_guard]")] = FleetGuardConfig()
    market: Annotated[MarketConfig | None, Meta(description="a table [market]")] = None


def without_tls(config: CoordinatorConfig, source: str) -> CoordinatorConfig:
    """The configuration with the console in plain HTTP. SettingsError where it would be reached from elsewhere.

    source: what asks for it, for the error.
    """
    host = config.listen.host
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise SettingsError(
            f"{source}: is refused on {host}: passwords would cross a network as they are; leave it out, or set "
            'listen.host = "127.0.0.1"'
        )
    return replace(config, console=replace(config.console, insecure_loopback_only=True))


def load(path: Path) -> CoordinatorConfig:
    """The configuration in the file at `path`. Raises SettingsError."""
    config = settings.read(path, CoordinatorConfig)
    _check_whole(config, path)
    if config.market is None:
        return config
    offers = tuple(_with_service(offer, number, path) for number, offer in enumerate(config.market.offers))
    return replace(config, market=replace(config.market, offers=offers))


def _with_service(offer: OfferConfig, number: int, path: Path) -> OfferConfig:
    """The offer, with a service that can be loaded from anywhere."""
    reference = str(path.absolute().parent / offer.service) if offer.service.endswith(".toml") else offer.service
    try:
        services.load(reference)
    except services.ServiceError as error:
        raise SettingsError(f"{path}: $.market.offers[{number}].service: {error}") from error
    return replace(offer, service=reference)


def _check_whole(config: CoordinatorConfig, path: Path) -> None:
    """What no single key can tell."""
    listen = config.listen
    if listen.host in _EVERYWHERE and listen.public_host is None:
        raise SettingsError(
            f"{path}: $.listen.public_host: is missing, and {listen.host} is no address a gateway could use; give "
            f"{settings.remedy('$.listen.public_host', CoordinatorConfig)}"
        )
    fixed = Counter(
        port for port in (listen.enrolment_port, listen.site_port, listen.broker_port, listen.console_port) if port
    )
    for port, times in fixed.items():
        if times > 1:
            raise SettingsError(f"{path}: $.listen: port {port} is given to {times} servers; each needs its own")
    named = Counter(area.name for area in config.fleet_guard.areas)
    grouped = Counter(group for area in config.fleet_guard.areas for group in area.groups)
    for key, found in (("name", named), ("groups", grouped)):
        for value, times in found.items():
            if times > 1:
                raise SettingsError(f"{path}: $.fleet_guard.areas[...].{key}: {value!r} is given {times} times")
    if config.console.insecure_loopback_only:
        without_tls(config, f"{path}: $.console.insecure_loopback_only")
    if config.market is None:
        return
    products = Counter(offer.product for offer in config.market.offers)
    groups = Counter(offer.group for offer in config.market.offers)
    for key, counted in (("product", products), ("group", groups)):
        for value, times in counted.items():
            if times > 1:
                raise SettingsError(
                    f"{path}: $.market.offers[...].{key}: {value!r} is given {times} times; a site's power is sold once"
                )
