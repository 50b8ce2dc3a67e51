"""Firmware for microcontrollers: packed and signed where it is made, set up and installed where it runs."""

import importlib
import struct
import zlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edge_agent.drivers import SerialLines, open_device
from edge_agent.model.clock import Clock
from edge_agent.model.config import AgentConfig
from edge_agent.model.devices import DeviceFault, DeviceTimeout
from edge_agent.runtime.firmware_update import UpdateFailed, update_firmware
from protos import firmware_image, manifest

LOADER: Final = ("main", "slots", "store")  # stay on the board as they are: what undoes a bad update


class FirmwareCommandError(Exception):
    """What was asked for cannot be done; says what to mend."""


def pack(
    key_file: Path,
    folder: Path | None,
    *,
    name: str,
    board: str,
    version: str,
    minimum_version: str,
    issued_ms: int,
) -> tuple[bytes, str]:
    """A signed image, and the public key (64 hex digits) that goes into the `update_key` of a node's settings.

    folder: of modules, .py or compiled; None: this version's own sources. Raises FirmwareCommandError.
    """
    key = _key(key_file)
    modules = {path: data for path, data in _modules(folder).items() if path.split(".")[0] not in LOADER}
    try:
        described = firmware_image.described(
            modules,
            name=name,
            board=board,
            version=_version(version),
            minimum_version=_version(minimum_version),
            issued_ms=issued_ms,
        )
    except manifest.ManifestError as error:
        raise FirmwareCommandError(str(error)) from error
    image = firmware_image.pack(described, key.sign(manifest.CONTEXT + described), modules)
    return image, key.public_key().public_bytes_raw().hex()


def settings_record(text: str) -> bytes:
    """Settings of a node (JSON, over the defaults of `firmware/settings.py`) as its flash holds them: `settings.0`.

    Raises FirmwareCommandError.
    """
    own = importlib.import_module("edge_agent.firmware.settings")
    try:
        own.load(text)
    except own.SettingsError as error:
        raise FirmwareCommandError(str(error)) from error
    return record(text.encode())


def record(content: bytes) -> bytes:
    """The first copy of a record, as `firmware/store.py` reads it."""
    head = struct.pack("<4sII", b"MUR1", 1, len(content))
    return head + struct.pack("<I", zlib.crc32(head)) + content + struct.pack("<I", zlib.crc32(content))


def _modules(folder: Path | None) -> dict[str, bytes]:
    if folder is not None:
        try:
            return {each.name: each.read_bytes() for each in folder.iterdir() if each.suffix in (".py", ".mpy")}
        except OSError as error:
            raise FirmwareCommandError(f"{folder}: {error.strerror}") from error
    sources = [p for p in (files("edge_agent") / "firmware").iterdir() if p.name.endswith(".py")]
    sources.append(files("protos") / "manifest.py")
    return {source.name: source.read_bytes() for source in sources}


def _key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FirmwareCommandError(f"{path}: no private key in PEM without a password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise FirmwareCommandError(f"{path}: no Ed25519 key; make one: openssl genpkey -algorithm ed25519 -out {path}")
    return key


def _version(text: str) -> tuple[int, int, int]:
    try:
        major, minor, patch = (int(part) for part in text.split("."))
    except ValueError:
        raise FirmwareCommandError(f"{text}: a version is MAJOR.MINOR.PATCH") from None
    return major, minor, patch


async def install(
    config: AgentConfig, device_name: str, image: bytes, clock: Clock, say: Callable[[str], None]
) -> None:
    """Installs an image in a device of a configuration; the agent must not be running. Raises FirmwareCommandError."""
    chosen = next((each for each in config.devices if each.name == device_name), None)
    if chosen is None:
        there = ", ".join(each.name for each in config.devices) or "none"
        raise FirmwareCommandError(f"no device {device_name} in the configuration, which has {there}")
    try:
        device = await open_device(chosen, clock, lines=SerialLines())
    except (DeviceFault, DeviceTimeout) as error:
        raise FirmwareCommandError(f"{error}; a running agent keeps the line to itself: stop it first") from error
    try:
        if device.microcontroller is None:
            raise FirmwareCommandError(f"device {device_name} does not run our firmware, or is read_only")
        say(f"{device_name}: {device.nameplate.model} takes {len(image)} bytes; this takes a minute or two")
        version = await update_firmware(device.microcontroller, image, clock=clock)
        say(f"{device_name}: firmware {'.'.join(map(str, version))} runs and is confirmed")
    except (UpdateFailed, firmware_image.ImageError) as error:
        raise FirmwareCommandError(f"{device_name}: {error}") from error
    finally:
        await device.close()
