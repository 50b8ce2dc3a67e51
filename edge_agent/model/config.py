"""The agent's configuration: one TOML file, read once at the start, refused whole if any of it is wrong.

`load(path)` gives an AgentConfig whose paths are absolute (they are written relative to the file). Every key's
allowed values stand in its annotation, and the same text is the remedy that a refusal prints.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

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
    """The configuration in the file at `path`. Raises SettingsError."""
    path = path.absolute()

    def resolve(kind: type, value: object) -> Path:
        if kind is not Path or not isinstance(value, str) or not value:
            raise ValueError("Expected a path in quotes")
        return path.parent / value

    config = settings.read(path, AgentConfig, dec_hook=resolve)
    _check_whole(config, path)
    return config


def _check_whole(config: AgentConfig, path: Path) -> None:
    control = config.control
    if control.soc_min >= control.soc_max:
        raise SettingsError(
            f"{path}: $.control.soc_min: {control.soc_min} is not below soc_max {control.soc_max}; lower one or raise "
            "the other"
        )
    for key in ("name", "host"):
        of = (lambda d: d.name) if key == "name" else (lambda d: f"{d.host}:{d.port} unit {d.unit_id}")
        twice = [value for value, count in Counter(map(of, config.devices)).items() if count > 1]
        if twice:
            raise SettingsError(f"{path}: $.devices[...].{key}: {twice[0]} is given twice; each device needs its own")
