"""The data folder, which only the agent may read, and one process of it at a time write in."""

import errno
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Final

from protos.settings import SettingsError

_OF_THE_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
_OF_SQLITE: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY})


class DiskTrouble(Exception):
    """The disk does not take what must be kept: no fault of ours, and it may pass. Says where and what."""


def is_disk_trouble(error: BaseException) -> bool:
    """Whether the disk is full, broken or read-only, rather than anything wrong here."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_SQLITE
    return isinstance(error, DiskTrouble) or (isinstance(error, OSError) and error.errno in _OF_THE_DISK)


def private_folder(path: Path) -> Path:
    """`path` as a folder of mode 0700, made if missing. Raises SettingsError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise SettingsError(
            f"data_dir {path}: cannot be made or opened ({error.strerror}); give a folder that the agent's user owns"
        ) from error
    return path


class FolderLock:
    """The right to write in a data folder: one process has it, until `release` or its death."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "sync.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self) -> bool:
        """Whether this process has it now; does not wait."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        os.close(self._file)
