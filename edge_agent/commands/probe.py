"""What stands at an address, in words, and the configuration that would use it. Nothing is ever written."""

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import structs

from edge_agent.commands import line_speed
from edge_agent.commands.addresses import USUAL_UNITS, as_profile, connected, parse_units
from edge_agent.drivers import SerialLines, open_device
from edge_agent.drivers.identification import Match, identify, is_fragile, survey
from edge_agent.drivers.opening import profile_of
from edge_agent.drivers.profile import Profile
from edge_agent.drivers.profile_loading import load, shipped
from edge_agent.model.config import MODBUS_PORT, DeviceConfig, EvChargerConfig, FlexibleLoadConfig, SerialSettings
from edge_agent.model.devices import Device, DeviceFault, DeviceRejected, DeviceTimeout
from edge_agent.model.values import Nameplate, Sample

_CONTROL_MODELS = (704, 123, 124)  # by which power is set: IEEE 1547 generation, and the one before it
_CANNOT_CONNECT = "cannot connect"
_FRAGILE = (
    "says in holding register 43 that it is an off-grid inverter of Growatt's: these restart when registers from 30000 "
    "on are read, so it was asked nothing else; no profile knows it"
)
_UNITS = {
    "power_w": "W", "pv_power_w": "W", "frequency_hz": "Hz", "voltage_v": "V", "soc": "of 1", "session_wh": "Wh",
    "level": "of comfort",
}  # fmt: skip


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
    next: tuple[str, ...] = ()  # what the installer can do


async def probe(addresses: Iterable[DeviceConfig], units: Iterable[int] | None = None) -> list[Found | Nothing]:
    """Asks units at every address, one after the other; a host that does not connect is asked once.

    units: which. None: the usual ones, and where nothing is found there, those where the makers of profiles' devices
    put them. A device without SunSpec is known by what its profile says of it, where no profile was given. A serial
    line where nobody answers is spoken at other speeds as well.
    """
    lines, results = SerialLines(), list[Found | Nothing]()
    profiles = {name: load(name) for name in shipped()}
    for address in addresses:
        usual = parse_units(USUAL_UNITS) if units is None else list(units)
        tried = await _at(address, usual, lines, profiles)
        found = _different(result for result in tried if isinstance(result, Found))
        line = address
        if address.serial is not None and not _unconnected(tried) and not any(map(_answered, tried)):
            line = await line_speed.spoken(address, usual, lines) or address
        if line != address:
            tried = await _at(line, usual, lines, profiles)
            found = _different(result for result in tried if isinstance(result, Found))
        if not found and units is None and address.profile is None and not _unconnected(tried):
            makers = {unit for profile in profiles.values() for unit in _units_of(profile)} - set(usual)
            tried += await _at(line, sorted(makers), lines, profiles)
            found = _different(result for result in tried if isinstance(result, Found))
        if line.serial is not None and not _unconnected(tried) and not any(map(_answered, tried)):
            tried = [Nothing(address, *_silent_line(usual))]
        # What answered says most of why it is not known.
        results += found or sorted(tried, key=lambda result: not _answered(result))[:1]
    return results


async def _at(
    address: DeviceConfig, units: Iterable[int], lines: SerialLines, profiles: dict[str, Profile]
) -> list[Found | Nothing]:
    tried: list[Found | Nothing] = []
    for unit_id in units:
        tried.append(await _ask(structs.replace(address, unit_id=unit_id), lines, profiles))
        if _unconnected(tried):
            break
    return tried


async def _ask(config: DeviceConfig, lines: SerialLines, profiles: dict[str, Profile]) -> Found | Nothing:
    """One unit: SunSpec, or the profile it was given; else what profiles know of it."""
    try:
        if config.profile is None:
            async with connected(config, lines) as connection:
                if await is_fragile(connection):
                    return Nothing(config, _FRAGILE)
        found = await _open(config, lines)
    except (DeviceFault, DeviceTimeout) as error:
        if config.profile is not None or _CANNOT_CONNECT in str(error):
            return Nothing(config, str(error))
        no_sunspec = str(error)
    else:
        makers = [
            f"the profile {name} is for this maker's devices too"
            for name, profile in profiles.items()
            if config.profile is None and profile.nameplate.manufacturer == found.nameplate.manufacturer
        ]
        return Found(config, found.nameplate, (*found.words, *makers))
    try:
        async with connected(config, lines) as connection:
            matches = await identify(connection, profiles)
            answering = await survey(connection) if not matches else []
    except DeviceTimeout:
        return Nothing(config, no_sunspec)
    if not matches:
        return Nothing(config, no_sunspec, tuple(_advice(config, answering)))
    return await _recognised(config, lines, matches)


async def _recognised(config: DeviceConfig, lines: SerialLines, matches: list[Match]) -> Found | Nothing:
    """A device that profiles know; the words say how surely."""
    best, *others = matches
    surely = (
        "for certain" if best.sure else "perhaps: these numbers could be its; compare what it reads with its display"
    )
    words = (
        f"no SunSpec; taken for {best.profile.title} (profile {best.name}), {surely}",
        f"known by: {best.seen}",
        *(f"profile {other.name} fits as well, by: {other.seen}" for other in others),
    )
    try:
        found = await _open(as_profile(config, best.name), lines)
    except (DeviceFault, DeviceTimeout) as error:
        return Nothing(config, f"{words[0]}, but {error}", (words[1],))
    return Found(found.config, found.nameplate, (*words, *found.words))


async def _open(config: DeviceConfig, lines: SerialLines) -> Found:
    """Raises DeviceFault, DeviceTimeout."""
    device = await open_device(_untouched(config), lines=lines)
    try:
        return Found(config, device.nameplate, tuple([line async for line in _describe(device, config)]))
    finally:
        await device.close()


def _advice(config: DeviceConfig, answering: Iterable[str]) -> Iterator[str]:
    """What to do about a device that no profile knows."""
    tables = "; ".join(answering)
    yield f"it answers Modbus as unit {config.unit_id}: " + (
        f"{tables} of those tried" if tables else "by refusals only"
    )
    yield "if it can speak SunSpec, enable that in its menu, and probe again"
    yield f"if you know what it is: probe again with --profile, one of {', '.join(shipped())}, or a file of your own"
    yield (
        f"for a profile of your own, with its maker's register list: vpp-agent dump {_typed(config)} --unit-id "
        f"{config.unit_id} --registers holding:0-99 shows what it answers; the profiles that ship are the examples"
    )


def _typed(config: DeviceConfig) -> str:
    """The address as one types it."""
    if config.serial is not None:
        return config.serial
    host = f"[{config.host}]" if ":" in (config.host or "") else config.host
    return f"{host}:{config.port}"


def _answered(result: Found | Nothing) -> bool:
    return isinstance(result, Found) or bool(result.next) or result.why == _FRAGILE


def _silent_line(units: Iterable[int]) -> tuple[str, tuple[str, ...]]:
    speeds = "; ".join(str(settings) for settings in (SerialSettings(), *line_speed.OTHERS))
    return (
        f"nothing is heard of unit {', '.join(map(str, units))} at {speeds}",
        (
            "look whether the device is on and Modbus is enabled in its menu, swap A and B, and terminate the line",
            "if its menu tells another unit, give it with --unit-ids; if another speed, set it to one of these",
        ),
    )


def _unconnected(tried: list[Found | Nothing]) -> bool:
    return bool(tried) and isinstance(tried[-1], Nothing) and _CANNOT_CONNECT in tried[-1].why


def _units_of(profile: Profile) -> tuple[int, ...]:
    return profile.identification.unit_ids if profile.identification is not None else ()


def _different(results: Iterable[Found]) -> list[Found]:
    """Without a device that answers as several units: it tells the same serial number."""
    found: list[Found] = []
    for result in results:
        plate = result.nameplate
        if not plate.serial or all(plate != other.nameplate for other in found):
            found.append(result)
    return found


async def probe_configured(devices: Iterable[DeviceConfig]) -> list[Found | Nothing]:
    """The devices of a configuration as it has them. Raises DeviceFault for one that cannot be used so."""
    lines, results = SerialLines(), list[Found | Nothing]()
    for config in devices:
        try:
            results.append(await _open(config, lines))
        except DeviceTimeout as error:
            results.append(Nothing(config, str(error)))
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
        if device.charger is not None:
            charger = await device.charger.read_charger()
            readings.append(("charger", charger))
            yield f"{'a vehicle is' if charger.plugged else 'no vehicle is'} plugged in"
        if device.load is not None:
            readings.append(("load", await device.load.read_load()))
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
    if device.charger is not None:
        drawn = device.charger.plate
        parts.append(f"a vehicle's charger of {drawn.least_draw_w:.0f} to {drawn.max_draw_w:.0f} W")
    if device.load is not None:
        parts.append(f"a load of {device.load.plate.max_draw_w:.0f} W that can wait")
    if device.switch is not None:
        parts.append("a switch")
    yield f"{plate.manufacturer} {plate.model}, serial {plate.serial or 'not told'}: {', '.join(parts)}"
    if device.inverter is not None or device.charger is not None or device.load is not None:
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
            parts.append("".join(f"# {line}\n" for line in (f"{config.where}: {result.why}", *result.next)))
            continue
        name = _name(result.nameplate.model, names)
        names.append(name)
        where = (
            f'serial = "{config.serial}"\n' + _line(config.serial_settings)
            if config.serial is not None
            else f'host = "{config.host}"\n' + (f"port = {config.port}\n" if config.port != MODBUS_PORT else "")
        )
        driver = "sunspec" if config.profile is None else f'profile"\nprofile = "{config.profile}'
        said = "".join(f"# {line}\n" for line in result.words)
        parts.append(
            f'{said}[[devices]]\nname = "{name}"\ndriver = "{driver}"\n{where}unit_id = {config.unit_id}\n'
            f"read_only = true  # remove this line to let the agent set its power\n"
        )
        parts[-1] += "".join(
            f"[devices.{table}]  # assumed: set it as the device is installed\n{_assignments(given)}"
            for table in ("ev_charger", "flexible_load")
            if (given := getattr(config, table)) is not None
        )
    return "\n".join([head, *parts])


def _assignments(given: EvChargerConfig | FlexibleLoadConfig) -> str:
    """What differs from a table's defaults, as TOML."""
    return "".join(
        f"{name} = {msgspec.json.encode(value).decode()}\n"
        for name, value in msgspec.to_builtins(given).items()
        if value is not None and value != getattr(type(given), name, None)
    )


def _line(settings: SerialSettings) -> str:
    """How the line is spoken, as TOML, where that is not as usual."""
    usual = SerialSettings()
    return "".join(
        f"{key} = {msgspec.json.encode(value).decode()}\n"
        for key in ("baudrate", "parity", "stop_bits")
        if (value := getattr(settings, key)) != getattr(usual, key)
    )


def _name(model: str, taken: list[str]) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "device"
    return next(name for i in range(1, 1000) if (name := plain if i == 1 else f"{plain}-{i}") not in taken)
