"""What stands at an address, in words, and the configuration that would use it. Nothing is ever written."""

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from edge_agent.drivers import SerialLines, open_device
from edge_agent.drivers.opening import profile_of
from edge_agent.model.config import MODBUS_PORT, DeviceConfig
from edge_agent.model.devices import Device, DeviceFault, DeviceRejected, DeviceTimeout
from edge_agent.model.values import Nameplate, Sample

_CONTROL_MODELS = (704, 123, 124)  # by which power is set: IEEE 1547 generation, and the one before it
_UNITS = {"power_w": "W", "pv_power_w": "W", "frequency_hz": "Hz", "voltage_v": "V", "soc": "of 1"}


@dataclass(frozen=True, slots=True)
class Found:
    """A device that answered as one."""

    config: DeviceConfig
    nameplate: Nameplate
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Nothing:
    """An address where nothing usable was found, and why."""

    config: DeviceConfig
    why: str


async def probe(addresses: Iterable[DeviceConfig], units: Iterable[int]) -> list[Found | Nothing]:
    """Asks every unit at every address, one after the other; a host that does not connect is asked once."""
    lines, results = SerialLines(), list[Found | Nothing]()
    for address in addresses:
        tried: list[Found | Nothing] = []
        for unit_id in units:
            config = structs.replace(address, unit_id=unit_id)
            try:
                device = await open_device(config, lines=lines)
            except (DeviceFault, DeviceTimeout) as error:
                tried.append(Nothing(config, str(error)))
                if "cannot connect" in str(error):
                    break
                continue
            try:
                tried.append(Found(config, device.nameplate, tuple([line async for line in _describe(device, config)])))
            finally:
                await device.close()
        found = [result for result in tried if isinstance(result, Found)]
        results += found or tried[:1]
    return results


async def probe_configured(devices: Iterable[DeviceConfig]) -> list[Found | Nothing]:
    """The devices of a configuration as it has them. Raises DeviceFault for one that cannot be used so."""
    lines, results = SerialLines(), list[Found | Nothing]()
    for config in devices:
        try:
            device = await open_device(_untouched(config), lines=lines)
        except DeviceTimeout as error:
            results.append(Nothing(config, str(error)))
            continue
        try:
            results.append(Found(config, device.nameplate, tuple([line async for line in _describe(device, config)])))
        finally:
            await device.close()
    return results


def _untouched(config: DeviceConfig) -> DeviceConfig:
    """Without the functions that opening a device would put in force in it."""
    return structs.replace(config, local_droop=None, volt_var=None, volt_watt=None, watt_var=None)


def silent(results: Iterable[Found | Nothing]) -> list[str]:
    """Why nothing was found, for each address of which that is so."""
    return [result.why for result in results if isinstance(result, Nothing)]


def in_words(results: Iterable[Found | Nothing]) -> str:
    """What was found."""
    return "\n".join(
        "\n  ".join((f"{result.config.name}: {result.words[0]}", *result.words[1:]))
        for result in results
        if isinstance(result, Found)
    )


async def _describe(device: Device, config: DeviceConfig) -> AsyncIterator[str]:
    """Lines about an open device."""
    for line in describe(device, config):
        yield line
    readings: list[tuple[str, Any]] = []
    try:
        if device.inverter is not None:
            readings.append(("inverter", await device.inverter.read_inverter()))
        if device.meter is not None:
            readings.append(("meter", await device.meter.read_meter()))
        if device.switch is not None:
            yield f"the switch is {'on' if await device.switch.read_switch() else 'off'}"
    except (DeviceTimeout, DeviceRejected) as error:
        yield f"it could not be read: {error}"
    for what, reading in readings:
        values = ", ".join(
            f"{name} {sample.good:g} {_UNITS.get(name, '')}".rstrip()
            for name in reading.__slots__
            if isinstance(sample := getattr(reading, name), Sample) and sample.good is not None
        )
        yield f"the {what} reads now: {values or 'nothing that can be used'}"


def describe(device: Device, config: DeviceConfig) -> Iterator[str]:
    """What a device is and could do, in words, also where it is configured read-only."""
    plate = device.nameplate
    parts = []
    if device.inverter is not None:
        parts.append(f"an inverter of {plate.rated_power_w:.0f} W" if plate.rated_power_w else "an inverter")
    if plate.storage_capacity_wh:
        parts.append(f"storage of {plate.storage_capacity_wh:.0f} Wh")
    if device.meter is not None:
        parts.append("a meter")
    if device.switch is not None:
        parts.append("a switch")
    yield f"{plate.manufacturer} {plate.model}, serial {plate.serial or 'not told'}: {', '.join(parts)}"
    if device.inverter is not None:
        profile = profile_of(config)
        settable = any(model in plate.sunspec_models for model in _CONTROL_MODELS)
        settable |= device.control is not None or (profile is not None and profile.control is not None)
        yield "its power can be set" if settable else "its power can only be read, not set"
    if plate.sunspec_models:
        yield f"SunSpec models {', '.join(map(str, plate.sunspec_models))}"
    yield from (f"finding: {finding}" for finding in device.findings)


def as_configuration(results: Iterable[Found | Nothing], site: str) -> str:
    """An agent's configuration that uses what was found; what was found stands in its comments."""
    head = (
        f'site = "{site}"  # as in `vpp-cloud site add`\ndata_dir = "{site}"\n\n'
        f'[coordinator]\nclaim_file = "{site}.claim.toml"\n'
    )
    names: list[str] = []
    parts = []
    for result in results:
        config = result.config
        if isinstance(result, Nothing):
            parts.append(f"# {config.where}: {result.why}\n")
            continue
        name = _name(result.nameplate.model, names)
        names.append(name)
        where = (
            f'serial = "{config.serial}"\n'
            if config.serial is not None
            else f'host = "{config.host}"\n' + (f"port = {config.port}\n" if config.port != MODBUS_PORT else "")
        )
        driver = "sunspec" if config.profile is None else f'profile"\nprofile = "{config.profile}'
        said = "".join(f"# {line}\n" for line in result.words)
        parts.append(
            f'{said}[[devices]]\nname = "{name}"\ndriver = "{driver}"\n{where}unit_id = {config.unit_id}\n'
            f"read_only = true  # remove this line to let the agent set its power\n"
        )
    return "\n".join([head, *parts])


def _name(model: str, taken: list[str]) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "device"
    return next(name for i in range(1, 1000) if (name := plain if i == 1 else f"{plain}-{i}") not in taken)
