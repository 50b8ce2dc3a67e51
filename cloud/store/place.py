"""Where history lives: a folder of this machine, or of an object store that pyarrow speaks to.

A file is whole or not there in both: here it is renamed when it is durable, there it appears with its last byte.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from cloud.store.files import make_folder, sync_folder


@dataclass(frozen=True, slots=True)
class Found:
    """A file. path: relative to the place."""

    path: str
    bytes: int


class Place:
    """A folder. Raises OSError, FileNotFoundError for what is not there."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self.filesystem = filesystem
        self._root = root.rstrip("/")
        self._local = isinstance(filesystem, fs.LocalFileSystem)

    @classmethod
    def at(cls, where: "Path | str | Place") -> "Place":
        """A local folder, an address such as "s3://bucket/folder", or a place as it is."""
        if isinstance(where, Place):
            return where
        if isinstance(where, str) and "://" in where:
            return cls(*fs.FileSystem.from_uri(where))
        return cls(fs.LocalFileSystem(), str(Path(where).absolute()))

    @property
    def local(self) -> bool:
        return self._local

    def folder(self, name: str) -> "Place":
        return Place(self.filesystem, f"{self._root}/{name}")

    def full(self, path: str) -> str:
        """The path as the file system knows it."""
        return f"{self._root}/{path}"

    def __str__(self) -> str:
        return self._root

    def folders(self) -> list[str]:
        """Names of the folders right in it."""
        return [one.base_name for one in self._list("", False) if one.type == fs.FileType.Directory]

    def files(self, folder: str = "") -> list[Found]:
        """Every file below the folder, hidden ones too."""
        return [
            Found(one.path[len(self._root) + 1 :], one.size)
            for one in self._list(folder, True)
            if one.type == fs.FileType.File
        ]

    def _list(self, folder: str, recursive: bool) -> list[Any]:
        base = f"{self._root}/{folder}" if folder else self._root
        try:
            found: list[Any] = self.filesystem.get_file_info(
                fs.FileSelector(base, allow_not_found=True, recursive=recursive)
            )
        except NotADirectoryError:
            return []
        return found

    def open(self, path: str) -> pa.NativeFile:
        return self.filesystem.open_input_file(self.full(path))

    def draft(self, folder: str, name: str) -> Path:
        """A local path to write what is to be in the folder: `finish` or `discard` it. A name begins with a dot."""
        if self._local:
            target = Path(self.full(folder) if folder else self._root)
            make_folder(target)
            return target / f"{name}.{os.getpid()}.tmp"
        handle, path = tempfile.mkstemp(prefix="murmuration-", suffix=".tmp")
        os.close(handle)
        return Path(path)

    def finish(self, draft: Path, path: str) -> None:
        """Puts the written draft at `path`, durably."""
        if self._local:
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
            target = Path(self.full(path))
            draft.replace(target)
            sync_folder(target.parent)
            return
        with draft.open("rb") as file, self._upload(self.full(path)) as upload:
            while piece := file.read(1 << 20):
                upload.write(piece)
        draft.unlink()

    def _upload(self, path: str) -> Any:
        try:
            return self.filesystem.open_output_stream(path)
        except (FileNotFoundError, NotADirectoryError):  # one that has folders, and this is not among them
            self.filesystem.create_dir(path.rsplit("/", 1)[0], recursive=True)
            return self.filesystem.open_output_stream(path)

    @staticmethod
    def discard(draft: Path) -> None:
        draft.unlink(missing_ok=True)

    def remove(self, path: str) -> None:
        """Removes a file; one that is gone already is no error."""
        try:
            self.filesystem.delete_file(self.full(path))
        except FileNotFoundError:
            return
