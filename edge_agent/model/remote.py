"""The owner's configuration and what the coordinator set beyond it, as one: or why the two do not go together."""

from typing import Final

from msgspec import structs

from edge_agent.model.config import AgentConfig, ControlConfig, DeviceConfig, check_whole
from protos import settings
from protos.remote import RemoteControl, RemoteDevice, RemoteSettings, given
from protos.settings import SettingsError

# Which way is tighter. Where the owner's file sets no limit, any is.
_ONLY_LOWER: Final = ("soc_max", "export_limit_w", "import_limit_w", "ramp_w_per_s", "writes_per_day")
_ONLY_HIGHER: Final = ("soc_min", "backup_reserve")
_ADDRESS: Final = ("host", "port", "unit_id")


def merged(owners: AgentConfig, toml: str, name: str) -> AgentConfig:
    """The configuration to run by. name: of the text, for refusals. Raises SettingsError.

    It passes the same checks as the owner's file, tightens limits and never loosens one, and changes the address of a
    device only where the owner's file says `remote_addresses = true`.
    """
    wanted = settings.parse(toml, name, RemoteSettings)
    control = _tightened(owners.control, wanted.control, name)
    devices = {device.name: device for device in owners.devices}
    for index, device in enumerate(wanted.devices):
        where = f"{name}: $.devices[{index}]"
        if device.name not in devices:
            raise SettingsError(f"{where}.name: {device.name!r} is none of this site's: {', '.join(devices)}")
        allowed = owners.coordinator.remote_addresses
        devices[device.name] = _addressed(devices[device.name], device, where, allowed=allowed)
    config = structs.replace(owners, control=control, devices=tuple(devices.values()))
    check_whole(config, name)
    return config


def changes(before: AgentConfig, after: AgentConfig) -> list[str]:
    """What differs, in words."""
    told = [
        f"{key} {_word(getattr(before.control, key))} -> {_word(getattr(after.control, key))}"
        for key in ControlConfig.__struct_fields__
        if getattr(before.control, key) != getattr(after.control, key)
    ]
    for old, new in zip(before.devices, after.devices, strict=True):
        told += [
            f"{old.name} {key} {_word(getattr(old, key))} -> {_word(getattr(new, key))}"
            for key in DeviceConfig.__struct_fields__
            if getattr(old, key) != getattr(new, key)
        ]
    return told


def _tightened(owners: ControlConfig, wanted: RemoteControl, name: str) -> ControlConfig:
    values = given(wanted)
    for key, value in values.items():
        limit = getattr(owners, key)
        if key in _ONLY_LOWER and limit is not None and value > limit:
            raise SettingsError(f"{name}: $.control.{key}: {value:g} is above the owner's {limit:g}; give at most that")
        if key in _ONLY_HIGHER and value < limit:
            raise SettingsError(
                f"{name}: $.control.{key}: {value:g} is below the owner's {limit:g}; give at least that"
            )
    return structs.replace(owners, **values)


def _addressed(device: DeviceConfig, wanted: RemoteDevice, where: str, *, allowed: bool) -> DeviceConfig:
    values = given(wanted)
    moved = [key for key in _ADDRESS if values.get(key, getattr(device, key)) != getattr(device, key)]
    if moved and not allowed:
        raise SettingsError(
            f"{where}.{moved[0]}: addresses are the owner's; [coordinator] remote_addresses = true allows it"
        )
    if "host" in values and device.serial is not None:
        raise SettingsError(f"{where}.host: {device.name} hangs on {device.serial}; leave it out")
    return structs.replace(device, **values)


def _word(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
