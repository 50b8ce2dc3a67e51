"""What may be published as an update: files that are what their kind says, seen before anything is signed."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from protos import firmware_image, model_file
from protos.firmware_image import ImageError
from protos.model_file import ModelFileError

_AGENT = "edge_agent/cli.py"


class NoUpdate(ValueError):
    """A file that its kind of update cannot be; one line with the remedy."""


def check(kind: str, files: Sequence[Path], *, name: str, board: str, version: Sequence[int]) -> None:
    """Raises NoUpdate, and OSError where a file cannot be read."""
    if kind == "agent":
        _check_wheels(files)
        return
    if len(files) != 1:
        raise NoUpdate(f"{len(files)} files: a {kind} is one; give that")
    [path] = files
    if kind == "model":
        _check_model(path, name)
    else:
        _check_firmware(path, name, board, version)


def _check_wheels(files: Sequence[Path]) -> None:
    members: set[str] = set()
    for path in files:
        try:
            with zipfile.ZipFile(path) as wheel:
                found = set(wheel.namelist())
        except zipfile.BadZipFile as error:
            raise NoUpdate(f"{path}: is no wheel ({error}); give --kind, or a wheel as `pip wheel` makes it") from error
        if not any(member.endswith(".dist-info/METADATA") for member in found):
            raise NoUpdate(
                f"{path}: is an archive but no wheel: it has no .dist-info; give one as `pip wheel` makes it"
            )
        members |= found
    if _AGENT not in members:
        raise NoUpdate(f"{', '.join(map(str, files))}: no agent is in it ({_AGENT} is missing); give its wheel too")


def _check_model(path: Path, name: str) -> None:
    if path.suffix != ".onnx":
        raise NoUpdate(f"{path}: a model's name ends in .onnx; rename it, or give another file")
    if name not in model_file.NAMES:
        raise NoUpdate(f"--name {name}: agents run no such model; give one of {', '.join(model_file.NAMES)}")
    try:
        model_file.check(path.read_bytes(), name)
    except ModelFileError as error:
        raise NoUpdate(f"{path}: {error}; give one as `vpp-hil train` writes it") from error


def _check_firmware(path: Path, name: str, board: str, version: Sequence[int]) -> None:
    try:
        found = firmware_image.unpack(path.read_bytes())[0]
    except ImageError as error:
        raise NoUpdate(f"{path}: {error}; give an image as `vpp-agent firmware pack` writes it") from error
    for key, wanted in (("name", name), ("board", board), ("version", list(version))):
        if found[key] != wanted:
            told, asked = (".".join(map(str, v)) if key == "version" else v for v in (found[key], wanted))
            raise NoUpdate(f"{path}: its {key} is {told}; give --{key} {told} instead of {asked or 'nothing'}")
