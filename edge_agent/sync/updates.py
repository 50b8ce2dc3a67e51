"""Updates: fetched through the coordinator, verified, staged. Nothing is unpacked that is not signed, or too old.

A manifest is believed when a command key of the coordinator, or a key of the site's own configuration, has signed it.
Its files go to `updates/files/<sha256>`, wherever a download broke off before, and are used once size and hash are
right. An agent's wheels are unpacked into a slot that the launcher tries; a model is tried here (`models.py`); a
firmware lies complete in `updates/firmware/<name>/<digest>/`, with `current` pointing at the newest, from where control
carries it to its microcontrollers and says what came of it.
"""

import asyncio
import contextlib
import hashlib
import logging
import lzma
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import msgspec

from edge_agent.model import update
from edge_agent.model.files import write_private
from edge_agent.model.update import Slots, Staged
from edge_agent.sync.coordinator import Refused, Unreachable
from edge_agent.sync.intents import CommandKeys
from edge_agent.sync.models import SUFFIX, CannotTry, ModelSlots, TryModel
from protos import firmware_image, model_file
from protos import manifest as manifests
from protos.firmware_image import ImageError
from protos.manifest import ManifestError
from protos.model_file import ModelFileError
from protos.vpp.v1.site_pb2 import SignedManifest, UpdateStatus

log = logging.getLogger(__name__)

FLOORS_FILE = "floors.json"
LARGEST_UNPACKED_BYTES = 256 << 20
MOST_UNPACKED_FILES = 20_000
_AGAIN_S = 30.0
# What zipfile and its decompressors raise for an archive that is damaged, encrypted or of a kind they do not know.
_NO_WHEEL = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, struct.error)

_STATES = {
    "switched": UpdateStatus.STATE_SWITCHED,
    "healthy": UpdateStatus.STATE_HEALTHY,
    "rolled-back": UpdateStatus.STATE_ROLLED_BACK,
}


class Fetch(Protocol):
    """Writes what is missing of a file to the end of `path`. Raises Unreachable, Refused, OSError."""

    def __call__(self, sha256: str, path: Path, size: int) -> Awaitable[None]: ...


class UpdateRefused(Exception):
    """An update that is not installed, and never will be as it is."""


class Updater:
    """Keeps the data folder's updates as the coordinator wants them."""

    def __init__(self, data_dir: Path, fetch: Fetch, changed: Callable[[], None], try_model: TryModel) -> None:
        """
        Args:
            changed: called when `statuses` would tell something new.
            try_model: why a model's file is not to be used; empty where it is.
        """
        self._folder = data_dir / update.FOLDER
        self._fetch = fetch
        self._changed = changed
        self._try_model = try_model
        self._models = {name: ModelSlots(self._folder / "model" / name) for name in model_file.NAMES}
        self._delivered: dict[str, UpdateStatus] = {}  # firmware, by name
        self._statuses: dict[tuple[str, str], UpdateStatus] = {}
        self._agent_digest = ""
        self._wanted: list[SignedManifest] = []
        self._due = asyncio.Event()
        self.keys = CommandKeys(())

    def want(self, wanted: Iterable[SignedManifest]) -> None:
        """What the coordinator asked for last."""
        fresh = list(wanted)
        if fresh != self._wanted:
            self._wanted = fresh
            self._due.set()

    def deliver(self, statuses: Iterable[UpdateStatus]) -> None:
        """What control says that became of the firmware which is staged."""
        self._delivered = {status.name: status for status in statuses}

    def statuses(self) -> list[UpdateStatus]:
        """How far each update has come."""
        told = dict(self._statuses)
        for name, delivered in self._delivered.items():
            staged = told.get(("firmware", name))
            if staged is not None and (staged.version, staged.state) == (delivered.version, UpdateStatus.STATE_STAGED):
                told["firmware", name] = delivered
        outcome = self._outcome()
        if outcome is not None and (agent := told.get(("agent", update.AGENT))) is not None:
            known = UpdateStatus()
            known.CopyFrom(agent)
            known.state, known.reason = outcome
            told["agent", update.AGENT] = known
        return list(told.values())

    async def run(self) -> None:
        """Works for ever."""
        before: list[UpdateStatus] = []
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S):
                    await self._due.wait()
            self._due.clear()
            for signed in self._wanted:
                await self._take(signed)
            if (now := self.statuses()) != before:
                before = now
                self._changed()

    async def _take(self, signed: SignedManifest) -> None:
        text = manifests.CONTEXT + signed.manifest
        if reason := self.keys.verify(text, signature=signed.signature, key_id=signed.key_id):
            log.warning("update refused: %s", reason)
            self._statuses["?", "?"] = UpdateStatus(state=UpdateStatus.STATE_REFUSED, reason=reason)
            return
        try:
            wanted = manifests.decode(signed.manifest)
        except ManifestError as error:
            self._statuses["?", "?"] = UpdateStatus(state=UpdateStatus.STATE_REFUSED, reason=str(error))
            return
        digest = hashlib.sha256(signed.manifest).hexdigest()
        key = (str(wanted["kind"]), str(wanted["name"]))
        status = UpdateStatus(kind=key[0], name=key[1], version=version_text(wanted["version"]))
        status.state = UpdateStatus.STATE_FETCHING
        if key[0] == "agent" and digest != self._agent_digest:
            self._agent_digest = ""  # what became of the version before says nothing of this one
        known = self._statuses.get(key)
        if known is None or known.version != status.version:
            self._statuses[key] = status
            self._changed()
        try:
            self._check_floor(key, wanted)
            await self._stage(key, wanted, digest)
            status.state = UpdateStatus.STATE_STAGED
            if key[0] == "model":
                await self._switch_model(status, digest)
        except UpdateRefused as error:
            log.warning("update refused: %s %s %s: %s", *key, status.version, error)
            status.state, status.reason = UpdateStatus.STATE_REFUSED, str(error)
        except (Unreachable, Refused, OSError) as error:
            log.warning("update waits: %s %s %s: %s", *key, status.version, error)
            status.reason = str(error)
        self._statuses[key] = status

    async def _switch_model(self, status: UpdateStatus, digest: str) -> None:
        slots = self._models[status.name]
        if slots.outcome(digest) is None:
            trial = UpdateStatus()
            trial.CopyFrom(status)
            trial.state = UpdateStatus.STATE_SWITCHED
            self._statuses["model", status.name] = trial
            self._changed()
            try:
                await slots.switch(Staged(version=status.version, digest=digest), self._try_model)
            except CannotTry as error:
                raise UpdateRefused(str(error)) from error
        if (outcome := slots.outcome(digest)) is not None:
            status.state, status.reason = _STATES[outcome.state], outcome.reason

    def _check_floor(self, key: tuple[str, str], wanted: dict[str, Any]) -> None:
        """Refuses what is below a minimum that was ever signed; keeps a new one. Raises UpdateRefused, OSError."""
        path, name = self._folder / FLOORS_FILE, "/".join(key)
        try:
            floors = update.read(path, dict[str, list[int]]) or {}
        except ValueError as error:
            raise UpdateRefused(f"what may be installed cannot be read: {error}") from error
        floor = floors.get(name, [0, 0, 0])
        if wanted["version"] < floor:
            raise UpdateRefused(f"version {version_text(wanted['version'])} is below the minimum {version_text(floor)}")
        if wanted["minimum_version"] > floor:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_private(path, msgspec.json.encode({**floors, name: wanted["minimum_version"]}))

    async def _stage(self, key: tuple[str, str], wanted: dict[str, Any], digest: str) -> None:
        agent = key[0] == "agent"
        if agent and key[1] != update.AGENT:
            raise UpdateRefused(f"this agent's name is {update.AGENT}")
        if key[0] == "model":
            if (slots := self._models.get(key[1])) is None:
                raise UpdateRefused(f"this agent runs no model {key[1]}; it runs {', '.join(self._models)}")
            if slots.outcome(digest) is not None:
                return  # it is in use, or was given up and is gone
        place = self._folder / update.SLOTS_FOLDER if agent else self._folder / key[0] / key[1]
        if not (place / digest).is_dir():
            files = {entry["path"]: await self._file(entry) for entry in wanted["files"]}
            if key[0] == "firmware":
                await asyncio.to_thread(_check_firmware, wanted, files)
            elif key[0] == "model":
                await asyncio.to_thread(_check_model, key[1], files)
            fresh = place / f"{digest}.new"
            await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700, parents=True)
            await asyncio.to_thread(unpack if agent else _copy, files, fresh)
            fresh.rename(place / digest)
            for path in files.values():
                path.unlink(missing_ok=True)
        if agent:
            self._agent_digest = digest
            staged = Staged(version=version_text(wanted["version"]), digest=digest)
            if update.read(self._folder / update.STAGED_FILE, Staged) != staged:
                write_private(self._folder / update.STAGED_FILE, msgspec.json.encode(staged))
                self._forget(place, digest)
        elif key[0] == "firmware":
            link = place / "current.new"
            link.unlink(missing_ok=True)
            link.symlink_to(digest)
            link.replace(place / "current")

    def _forget(self, place: Path, digest: str) -> None:
        """Removes slots that nobody needs any more."""
        slots = self._slots()
        for slot in place.iterdir():
            if slot.name not in (digest, slots.good, slots.trial):
                shutil.rmtree(slot, ignore_errors=True)

    async def _file(self, entry: dict[str, Any]) -> Path:
        """The file, complete and verified. Raises Unreachable, Refused, OSError, UpdateRefused."""
        path = self._folder / "files" / str(entry["sha256"])
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        there = path.stat().st_size if path.exists() else 0
        if there > entry["size"]:
            path.unlink()
            there = 0
        if there < entry["size"] or not path.exists():
            await self._fetch(entry["sha256"], path, entry["size"])
        found = await asyncio.to_thread(_digest, path)
        if path.stat().st_size != entry["size"] or found != entry["sha256"]:
            path.unlink()
            raise OSError(f"{entry['path']} came damaged; it is fetched again")
        return path

    def _slots(self) -> Slots:
        try:
            return update.read(self._folder / update.SLOTS_FILE, Slots) or Slots()
        except ValueError:
            return Slots()

    def _outcome(self) -> "tuple[UpdateStatus.State, str] | None":
        outcome = self._slots().outcomes.get(self._agent_digest)
        return (_STATES[outcome.state], outcome.reason) if outcome is not None else None


def version_text(version: Iterable[int]) -> str:
    return ".".join(map(str, version))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_firmware(wanted: dict[str, Any], files: dict[str, Path]) -> None:
    """Raises UpdateRefused unless it is one image, of what the update says."""
    if len(files) != 1:
        raise UpdateRefused(f"{len(files)} files: a firmware is one image")
    [(name, path)] = files.items()
    try:
        image = firmware_image.unpack(path.read_bytes())[0]
    except ImageError as error:
        raise UpdateRefused(f"{name}: {error}") from error
    for field in ("name", "board", "version"):
        if image[field] != wanted[field]:
            raise UpdateRefused(f"{name}: its {field} is {image[field]}, and the update's is {wanted[field]}")


def _check_model(name: str, files: dict[str, Path]) -> None:
    """Raises UpdateRefused unless it is one model, for what the update says."""
    if len(files) != 1 or not next(iter(files)).endswith(SUFFIX):
        raise UpdateRefused(f"a model is one file that ends in {SUFFIX}")
    [(file_name, path)] = files.items()
    try:
        model_file.check(path.read_bytes(), name)
    except ModelFileError as error:
        raise UpdateRefused(f"{file_name}: {error}") from error


def _copy(files: dict[str, Path], place: Path) -> None:
    for name, path in files.items():
        target = place / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        _sync(target)


def unpack(files: dict[str, Path], place: Path) -> None:
    """Wheels side by side. Raises UpdateRefused for what is none, or would be written elsewhere."""
    left_bytes, left_files = LARGEST_UNPACKED_BYTES, MOST_UNPACKED_FILES
    for name, path in files.items():
        try:
            with zipfile.ZipFile(path) as wheel:
                for member in wheel.infolist():
                    if member.filename.endswith("/"):
                        continue
                    parts = PurePosixPath(member.filename).parts
                    if not parts or ".." in parts or member.filename.startswith("/") or "\\" in member.filename:
                        raise UpdateRefused(f"{name}: {member.filename!r} leads out of its slot")
                    left_bytes, left_files = left_bytes - member.file_size, left_files - 1
                    if left_bytes < 0 or left_files < 0:
                        raise UpdateRefused(f"{name}: more than an agent unpacks to")
                    target = place.joinpath(*parts)
                    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    with wheel.open(member) as source, target.open("wb") as file:
                        shutil.copyfileobj(source, file)
        except _NO_WHEEL as error:
            raise UpdateRefused(f"{name}: is no wheel ({error})") from error
    if not (place / "edge_agent" / "cli.py").is_file():
        raise UpdateRefused("no edge_agent in it")
    os.sync()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
