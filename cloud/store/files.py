"""Files that are whole or not there, also after a power cut."""

import os
from collections.abc import Callable
from pathlib import Path


def make_folder(folder: Path) -> None:
    """The folder and its parents, each durably entered in its own parent."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def commit(path: Path, write: Callable[[Path], None]) -> None:
    """`write`s a file under another name and renames it to `path`: after a crash there is all of it or nothing."""
    make_folder(path.parent)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(unfinished)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
