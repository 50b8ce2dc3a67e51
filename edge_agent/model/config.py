"""The agent's configuration: one TOML file, read once at the start, refused whole if any of it is wrong.

`load(path)` gives an AgentConfig whose paths are absolute (they are written relative to the file). Every key's
allowed values stand in its annotation, and the same text is the remedy that a refusal prints.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, structs

from edge_agent.model import local_time
from protos import settings
from protos.settings import SettingsError

SiteName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="1 to 63 of a-z 0-9 _ -, as in `vpp-cloud site add`, in quotes",
    ),
]
Share = Annotated[float, Meta(ge=0.0, le=1.0, description="a share of the storage's capacity, 0 to 1")]


_AtLeast0 = Annotated[float, Meta(ge=0.0, le=1e7)]
_AtLeast1 = Annotated[float, Meta(ge=1.0, le=1e7)]
_AtLeast24 = Annotated[float, Meta(ge=24.0, le=1e7)]
_LineVoltage = Annotated[float, Meta(ge=50.0, le=1000.0)]
LEAST_COMFORT_K = 2.0  # between its ends; with less a heater only chatters
LEAST_USED = 0.05  # of the storage between its limits; with less there is nothing to steer


class TokenConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A PKCS#11 token (TPM, secure element) that makes and keeps the key of the gateway's certificate."""

    module: Annotated[
        str, Meta(pattern="^/", description='the library, e.g. module = "/usr/lib/softhsm/libsofthsm2.so"')
    ]
    label: Annotated[str, Meta(min_length=1, description='the token\'s label, e.g. label = "gateway"')]
    pin_file: Annotated[str, Meta(pattern="^/", description='a file with its PIN, e.g. pin_file = "/etc/vpp/pin"')]


class CoordinatorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the site gets to its coordinator."""

    # Written by `vpp-cloud site add`; needed until the agent has enrolled.
    claim_file: Annotated[
        Path, Meta(description='the file that `vpp-cloud site add` wrote, e.g. claim_file = "home-01.claim.toml"')
    ]
    # Without it the key lies in a file of the agent's own.
    token: Annotated[TokenConfig | None, Meta(description="a table with module, label and pin_file")] = None
    # The coordinator may then let this agent speak, and write, to other addresses of the owner's network.
    remote_addresses: Annotated[bool, Meta(description="true or false")] = False


class GuardConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far what the coordinator sends may move this site; not meant: the answer to the grid's frequency."""

    ramp_percent_per_s: Annotated[
        float, Meta(ge=0.1, le=10_000.0, description="percent of the rated power a second, 0.1 to 10000")
    ] = 20.0
    direction_changes_per_hour: Annotated[int, Meta(ge=2, le=3600, description="2 to 3600")] = 20
    # Of regulation signals, up and down together. PJM's RegA, as recorded, moves 6 times its power in its busiest hour.
    regulation_mileage_per_hour: Annotated[
        float, Meta(ge=1.0, le=1e6, description="times the rated power, 1 to 1000000")
    ] = 60.0
    # A cycle is the storage's capacity once in and once out.
    cycles_per_day: Annotated[float, Meta(ge=0.1, le=100.0, description="0.1 to 100")] = 3.0
    # Each change begins a moment later that no other site knows, so that a fleet does not step at once.
    start_spread_s: Annotated[float, Meta(ge=0.0, le=300.0, description="seconds at most, 0 to 300")] = 10.0


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
    # The owner's limits: nothing but the device's own protection overrides them, frequency response neither.
    backup_reserve: Share = 0.0  # of the storage, kept for outages
    # While the coordinator cannot be reached, also what the house is expected to need beyond its sun within so long.
    backup_hours: Annotated[float, Meta(ge=0.0, le=24.0, description="hours, 0 to 24")] = 0.0
    export_limit_w: Annotated[_AtLeast0 | None, Meta(description="watts at the grid meter, 0 to 10000000")] = None
    import_limit_w: Annotated[_AtLeast0 | None, Meta(description="watts at the grid meter, 0 to 10000000")] = None
    ramp_w_per_s: Annotated[_AtLeast1 | None, Meta(description="watts a second, 1 to 10000000")] = None
    guard: Annotated[GuardConfig, Meta(description="a table [control.guard]")] = GuardConfig()
    # For a device that keeps setpoints in flash memory: changes of them a day. Frequency response is not held up.
    writes_per_day: Annotated[_AtLeast24 | None, Meta(description="setpoints a day, 24 to 10000000")] = None
    # Line to neutral; below half of it a line is dead. Left out: below 50 V, or as the device itself knows.
    nominal_voltage_v: Annotated[_LineVoltage | None, Meta(description="volts, 50 to 1000")] = None

    # Restarts the machine where cycles stop coming, e.g. "/dev/watchdog". Left out: systemd's alone.
    hardware_watchdog: Annotated[Path | None, Meta(description='a device, e.g. "/dev/watchdog"')] = None

    @property
    def soc_floor(self) -> float:
        """State of charge below which the agent does not discharge."""
        return max(self.soc_min, self.backup_reserve)


class JournalConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the site keeps on its disk until the coordinator has it."""

    # Of 100 ms telemetry 512 MB hold about four weeks; then the oldest is thinned to 1 s, then dropped.
    max_mb: Annotated[int, Meta(ge=16, le=1_000_000, description="megabytes on the disk, 16 to 1000000")] = 512
    drain_frames_per_s: Annotated[
        float, Meta(ge=10.0, le=10_000.0, description="frames (of about 160 bytes) sent a second, 10 to 10000")
    ] = 500.0  # after an outage; live telemetry is sent beside it


class UpdateConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the agent's own updates are believed and tried, under `vpp-agent supervise`."""

    # Left out: the coordinator's command keys. Given: nothing that another key signed is installed here.
    public_keys: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")], ...],
        Meta(description="raw Ed25519 public keys, 64 hex digits each, in quotes"),
    ] = ()
    # Until a new version must control and have reached the coordinator.
    trial_s: Annotated[float, Meta(ge=10.0, le=86_400.0, description="seconds, 10 to 86400")] = 300.0


class ForecastConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The site's own forecast of its load and sun."""

    # Beside at the end of each quarter hour. A run takes about half a second of a core, on a Raspberry Pi 4 two.
    every_s: Annotated[float, Meta(ge=1.0, le=3600.0, description="seconds, 1 to 3600")] = 900.0


class StatusPageConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page in the browser that says what the site does now and why. It asks nobody who he is."""

    port: Annotated[int, Meta(ge=1, le=65535, description="TCP port, 1 to 65535, e.g. port = 8480")]
    host: Annotated[str, Meta(min_length=1, description="address to listen on; only this gateway: 127.0.0.1")] = (
        "127.0.0.1"
    )


Curve = Annotated[tuple[tuple[float, float], ...], Meta(min_length=2, max_length=20)]


class LocalDroopConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frequency droop that the inverter itself answers by, for a link too slow for this agent to do it.

    Defaults are those of IEEE 1547-2018, table 24: a droop of 0.05 is full power for 5 % of the nominal frequency.
    """

    deadband_over_hz: Annotated[float, Meta(ge=0.0, le=5.0, description="hertz above nominal, 0 to 5")] = 0.036
    deadband_under_hz: Annotated[float, Meta(ge=0.0, le=5.0, description="hertz below nominal, 0 to 5")] = 0.036
    droop_over: Annotated[float, Meta(ge=0.005, le=0.5, description="per unit, 0.005 to 0.5")] = 0.05
    droop_under: Annotated[float, Meta(ge=0.005, le=0.5, description="per unit, 0.005 to 0.5")] = 0.05
    response_s: Annotated[float, Meta(ge=0.0, le=60.0, description="seconds, 0 to 60")] = 5.0


MODBUS_PORT = 502
Parity = Literal["none", "even", "odd"]


@dataclass(frozen=True, slots=True)
class SerialSettings:
    """How a serial line is spoken; the same for all devices on it."""

    baudrate: int = 9600  # bits a second
    parity: Parity = "none"
    stop_bits: int = 1

    def __str__(self) -> str:
        return f"{self.baudrate} baud, parity {self.parity}, {self.stop_bits} stop bit(s)"


NotEmpty = Annotated[str, Meta(min_length=1)]
Watts = Annotated[float, Meta(gt=0, le=1e9)]


class NameplateConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ratings for a device that does not tell them in its registers."""

    rated_power_w: Annotated[Watts | None, Meta(description="watts, a magnitude")] = None  # AC
    max_charge_w: Annotated[Watts | None, Meta(description="watts, a magnitude")] = None
    max_discharge_w: Annotated[Watts | None, Meta(description="watts, a magnitude")] = None
    storage_capacity_wh: Annotated[Annotated[float, Meta(gt=0, le=1e10)] | None, Meta(description="watt-hours")] = None


Amperes = Annotated[float, Meta(ge=6.0, le=80.0, description="amperes a phase, 6 to 80")]
TimeOfDay = Annotated[
    str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description='a time of day in quotes, e.g. ready_by = "07:00"')
]
_Seconds = Annotated[float, Meta(ge=0.0, le=86_400.0)]
_Celsius = Annotated[float, Meta(ge=-30.0, le=95.0)]


class EvChargerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A vehicle's charger: how it is wired, and when its owner wants to leave."""

    max_current_a: Amperes  # of its fuse; never more, whatever the charger itself would allow
    phases: Annotated[int, Meta(ge=1, le=3, description="on which the vehicle charges, 1 to 3")]
    voltage_v: Annotated[float, Meta(ge=100.0, le=300.0, description="volts, line to neutral, 100 to 300")] = 230.0
    # What it charges with once nobody steers it any more, where it has a fail-safe of its own.
    fallback_current_a: Amperes = 6.0
    # Both or none. None: it charges whenever a vehicle stands there, unless a price or a setpoint says otherwise.
    ready_by: TimeOfDay | None = None
    energy_wh: Annotated[
        Annotated[float, Meta(ge=100.0, le=200_000.0)] | None,
        Meta(description="watt-hours into the vehicle from plugging in to ready_by, 100 to 200000"),
    ] = None
    min_run_s: Annotated[_Seconds, Meta(description="seconds it charges at least once it began, 0 to 86400")] = 300.0
    min_off_s: Annotated[_Seconds, Meta(description="seconds it rests at least once it ended, 0 to 86400")] = 300.0


class FlexibleLoadConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load that can wait (water heater, heat pump), and what its owner puts up with."""

    power_w: Annotated[Watts, Meta(description="watts that it draws when it runs, a magnitude")]
    # A relay that makes it run, or one that locks it (a utility's lock, SG Ready state 1).
    relay: Annotated[Literal["runs", "locks"], Meta(description='what switching it on does: "runs" or "locks"')] = (
        "runs"
    )
    min_run_s: Annotated[_Seconds, Meta(description="seconds it runs at least, 0 to 86400")] = 600.0
    min_off_s: Annotated[_Seconds, Meta(description="seconds it rests at least, 0 to 86400")] = 600.0
    max_off_s: Annotated[
        Annotated[float, Meta(ge=60.0, le=86_400.0)] | None,
        Meta(description="seconds it is kept from running at most, 60 to 86400"),
    ] = None
    # Both or none, for a device that tells a temperature. Outside of them no price matters.
    comfort_min_c: Annotated[_Celsius | None, Meta(description="degrees Celsius, -30 to 95")] = None
    comfort_max_c: Annotated[_Celsius | None, Meta(description="degrees Celsius, -30 to 95")] = None


class DeviceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device behind the gateway."""

    name: Annotated[str, Meta(min_length=1, max_length=63, description='a name for people, e.g. name = "hybrid"')]
    driver: Annotated[
        Literal["sunspec", "profile"],
        Meta(description='"sunspec", or "profile" for a device whose registers a profile describes'),
    ]
    # With driver = "profile": one that is shipped, or a file of one's own (relative to this file).
    profile: Annotated[
        NotEmpty | None, Meta(description='e.g. profile = "huawei-sun2000", or a path that ends in .toml')
    ] = None
    # One of host (Modbus TCP) and serial (Modbus RTU).
    host: Annotated[NotEmpty | None, Meta(description='address of the device, e.g. host = "192.168.1.20"')] = None
    port: Annotated[int, Meta(ge=1, le=65535, description="TCP port, 1 to 65535; Modbus' own is 502")] = MODBUS_PORT
    serial: Annotated[NotEmpty | None, Meta(description='a serial port, e.g. serial = "/dev/ttyUSB0"')] = None
    baudrate: Annotated[
        Annotated[int, Meta(ge=1200, le=1_000_000)] | None, Meta(description="bits a second, 1200 to 1000000")
    ] = None
    parity: Annotated[Parity | None, Meta(description='"none", "even" or "odd"')] = None
    stop_bits: Annotated[Literal[1, 2] | None, Meta(description="1 or 2")] = None
    unit_id: Annotated[int, Meta(ge=0, le=255, description="Modbus unit, 0 to 255")] = 1
    # Of one Modbus transaction; sized from the device's own response time, well below a second.
    timeout_s: Annotated[float, Meta(ge=0.02, le=5.0, description="seconds, 0.02 to 5")] = 0.25
    read_only: Annotated[bool, Meta(description="true or false")] = False
    # Whose frequency is acted upon first; of one priority as in this file, an inverter before its meter.
    frequency_priority: Annotated[int, Meta(ge=0, le=9, description="1 (best) to 9, or 0: never used")] = 5
    # A meter for frequency: neither the grid meter nor steered, whatever else it can do.
    frequency_only: Annotated[bool, Meta(description="true or false")] = False
    nameplate: Annotated[
        NameplateConfig | None, Meta(description="a table [devices.nameplate] with ratings the device does not tell")
    ] = None
    # What the profile describes decides which of them it may have; see the tables' own keys.
    ev_charger: Annotated[
        EvChargerConfig | None, Meta(description="a table [devices.ev_charger] with max_current_a and phases")
    ] = None
    flexible_load: Annotated[
        FlexibleLoadConfig | None, Meta(description="a table [devices.flexible_load] with power_w")
    ] = None
    # SunSpec does not fix the sign of a meter's power.
    meter_positive: Annotated[
        Literal["export", "import"],
        Meta(description='what the meter\'s positive power means: "export" (towards the grid) or "import"'),
    ] = "export"
    # Functions of the inverter itself, written to it when it is opened and watched from then on. Left out: not touched.
    local_droop: Annotated[LocalDroopConfig | None, Meta(description="a table [devices.local_droop]")] = None
    # % of nominal voltage, % of rated reactive power; positive injects
    volt_var: Annotated[
        Curve | None, Meta(description="2 to 20 points in percent, e.g. [[92, 44], [98, 0], [102, 0], [108, -44]]")
    ] = None
    # % of nominal voltage, % of rated power
    volt_watt: Annotated[Curve | None, Meta(description="2 to 20 points in percent, e.g. [[106, 100], [110, 0]]")] = (
        None
    )
    # % of rated power, % of rated reactive power; positive injects
    watt_var: Annotated[Curve | None, Meta(description="2 to 20 points in percent, e.g. [[50, 0], [100, -44]]")] = None

    @property
    def where(self) -> str:
        """The device's address, for people."""
        return self.serial if self.serial is not None else f"{self.host}:{self.port}"

    @property
    def serial_settings(self) -> SerialSettings:
        """How its serial line is spoken."""
        usual = SerialSettings()
        return SerialSettings(
            baudrate=self.baudrate or usual.baudrate,
            parity=self.parity or usual.parity,
            stop_bits=self.stop_bits or usual.stop_bits,
        )


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    site: SiteName
    # Of the site; for times of day.
    time_zone: Annotated[
        NotEmpty | None, Meta(description='a name of the IANA database, e.g. time_zone = "Europe/Berlin"')
    ] = None
    # Journal, keys and statistics; one agent each.
    data_dir: Annotated[Path, Meta(description='a folder for journal and keys, e.g. data_dir = "home-01"')]
    coordinator: Annotated[CoordinatorConfig, Meta(description='a table [coordinator] with claim_file = "..."')]
    control: Annotated[ControlConfig, Meta(description="a table [control]")] = ControlConfig()
    journal: Annotated[JournalConfig, Meta(description="a table [journal]")] = JournalConfig()
    forecast: Annotated[ForecastConfig, Meta(description="a table [forecast]")] = ForecastConfig()
    update: Annotated[UpdateConfig, Meta(description="a table [update]")] = UpdateConfig()
    # Left out: no page.
    status_page: Annotated[StatusPageConfig | None, Meta(description="a table [status_page] with port")] = None
    devices: Annotated[
        tuple[DeviceConfig, ...],
        Meta(min_length=1, description="at least one table [[devices]] with name, driver, and host or serial"),
    ]


def load(path: Path) -> AgentConfig:
    """The configuration in the file at `path`. Raises SettingsError."""
    path = path.absolute()

    def resolve(kind: type, value: object) -> Path:
        if kind is not Path or not isinstance(value, str) or not value:
            raise ValueError("Expected a path in quotes")
        return path.parent / value

    config = settings.read(path, AgentConfig, dec_hook=resolve)
    config = structs.replace(config, devices=tuple(_own_profile(device, path) for device in config.devices))
    check_whole(config, str(path))
    return config


def check_whole(config: AgentConfig, path: str) -> None:
    """What no key shows by itself. path: whose text it is, for a refusal. Raises SettingsError."""
    control = config.control
    if control.soc_min >= control.soc_max:
        raise SettingsError(
            f"{path}: $.control.soc_min: {control.soc_min} is not below soc_max {control.soc_max}; lower one or raise "
            "the other"
        )
    if control.soc_max - control.soc_floor < LEAST_USED - 1e-9:
        key = "backup_reserve" if control.backup_reserve > control.soc_min else "soc_min"
        raise SettingsError(
            f"{path}: $.control.{key}: {control.soc_floor} leaves less than {LEAST_USED} of the storage below soc_max "
            f"{control.soc_max}; lower one or raise the other"
        )
    zone = config.time_zone
    if zone is not None and not local_time.is_zone(zone):
        raise SettingsError(
            f'{path}: $.time_zone: {zone!r} is not known here; give a name like "Europe/Berlin", and install tzdata '
            "where the machine has no time zones"
        )
    for index, device in enumerate(config.devices):
        if finding := _misplaced(device) or _not_kept(device, zone):
            raise SettingsError(f"{path}: $.devices[{index}].{finding}")
    for key in ("name", "host"):
        of = (lambda d: d.name) if key == "name" else (lambda d: f"{d.where} unit {d.unit_id}")
        twice = [value for value, count in Counter(map(of, config.devices)).items() if count > 1]
        if twice:
            raise SettingsError(f"{path}: $.devices[...].{key}: {twice[0]} is given twice; each device needs its own")
    lines: dict[str, DeviceConfig] = {}
    for index, device in enumerate(config.devices):
        first = lines.setdefault(device.where, device)
        if device.serial is not None and device.serial_settings != first.serial_settings:
            raise SettingsError(
                f"{path}: $.devices[{index}].baudrate: {device.where} is spoken with {first.serial_settings} by "
                f"{first.name}, and with {device.serial_settings} here; give all devices of one line the same"
            )


def _own_profile(device: DeviceConfig, path: Path) -> DeviceConfig:
    """The device with the path of a profile of one's own made absolute."""
    if device.profile is None or not device.profile.endswith(".toml"):
        return device
    return structs.replace(device, profile=str(path.parent / device.profile))


def _misplaced(device: DeviceConfig) -> str | None:
    """A key that is missing, or has no meaning beside the others: key, finding, remedy."""
    if device.host is None and device.serial is None:
        return 'host: is missing; give host = "192.168.1.20" (Modbus TCP) or serial = "/dev/ttyUSB0" (Modbus RTU)'
    if device.host is not None and device.serial is not None:
        return "serial: is given beside host; leave out the one that the device does not hang on"
    if device.serial is not None and device.port != MODBUS_PORT:
        return "port: means nothing on a serial line; leave it out"
    for key in ("baudrate", "parity", "stop_bits"):
        if device.serial is None and getattr(device, key) is not None:
            return f"{key}: means nothing without a serial line; leave it out, or give serial instead of host"
    if device.driver == "profile" and device.profile is None:
        return 'profile: is missing; driver = "profile" needs one, e.g. profile = "huawei-sun2000"'
    if device.frequency_only and not device.frequency_priority:
        return "frequency_only: means nothing with frequency_priority = 0; leave out one of the two"
    for key in ("profile", "nameplate", "ev_charger", "flexible_load"):
        if device.driver != "profile" and getattr(device, key) is not None:
            return f'{key}: means nothing with driver = "{device.driver}"; leave it out, or give driver = "profile"'
    for key in ("local_droop", "volt_var", "volt_watt", "watt_var"):
        if device.driver != "sunspec" and getattr(device, key) is not None:
            return f'{key}: means nothing with driver = "{device.driver}"; leave it out'
    if device.driver != "sunspec" and device.meter_positive != "export":
        return f'meter_positive: means nothing with driver = "{device.driver}", whose file has signs; leave it out'
    return None


def _not_kept(device: DeviceConfig, zone: str | None) -> str | None:
    """An owner's wish that nobody could keep: key, finding, remedy."""
    car, load = device.ev_charger, device.flexible_load
    if car is not None:
        if (car.ready_by is None) != (car.energy_wh is None):
            missing = "ready_by" if car.ready_by is None else "energy_wh"
            return f'ev_charger.{missing}: is missing; give both ready_by = "07:00" and energy_wh = 12000, or none'
        if car.ready_by is not None and zone is None:
            return 'ev_charger.ready_by: is a local time; give time_zone = "Europe/Berlin" at the top of the file'
        if car.fallback_current_a > car.max_current_a:
            return (
                f"ev_charger.fallback_current_a: {car.fallback_current_a:g} is above max_current_a "
                f"{car.max_current_a:g}; lower it"
            )
    if load is not None:
        low_c, high_c = load.comfort_min_c, load.comfort_max_c
        if (low_c is None) != (high_c is None):
            missing = "comfort_min_c" if low_c is None else "comfort_max_c"
            return f"flexible_load.{missing}: is missing; give both comfort_min_c and comfort_max_c, or none"
        if low_c is not None and high_c is not None and high_c - low_c < LEAST_COMFORT_K:
            return (
                f"flexible_load.comfort_max_c: {high_c:g} is not {LEAST_COMFORT_K:g} K above comfort_min_c {low_c:g}; "
                "raise it or lower the other"
            )
        if load.max_off_s is not None and load.max_off_s < load.min_off_s:
            return (
                f"flexible_load.max_off_s: {load.max_off_s:g} is below min_off_s {load.min_off_s:g}; raise it or lower "
                "the other"
            )
    return None
