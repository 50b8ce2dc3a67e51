"""The agent's data folder: its own, writable, and used by one agent at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from google.protobuf.message import DecodeError

from edge_agent.model.files import CREDENTIALS_FILE
from protos.settings import SettingsError
from protos.vpp.v1 import site_pb2

CONTROL_LOCK = "control.lock"


class _Credentials(msgspec.Struct):
    credentials: bytes  # vpp.v1.Credentials


def enrolled_as(folder: Path) -> str | None:
    """The site that the folder has credentials of; None before enrolment, or where nobody can tell."""
    try:
        stored = msgspec.json.decode((folder / CREDENTIALS_FILE).read_bytes(), type=_Credentials)
        return site_pb2.Credentials.FromString(stored.credentials).site
    except (OSError, msgspec.MsgspecError, DecodeError):
        return None


@contextlib.contextmanager
def held(folder: Path, config_file: Path) -> Iterator[None]:
    """The folder, made if missing, for this process alone while the block runs. Raises SettingsError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / CONTROL_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(
            f"{config_file}: $.data_dir: {folder} cannot be written ({error.strerror}); give a folder that the agent's "
            "user owns"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(
                f"{config_file}: $.data_dir: another agent runs on {folder}; stop it, or give this one a folder of its "
                "own"
            ) from error
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())  # whom to ask, for who finds it locked
        yield
    finally:
        os.close(lock)
