"""The coordinator's data folder: what lies where, whose version it is, and that one coordinator uses it at a time."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloud.identity import passphrase
from cloud.store.ledger import LEDGER_FILE

VERSION: Final = 1


class DataFolderError(Exception):
    """A data folder that cannot be used: names it, the finding and the remedy in one line."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths of a coordinator's data folder."""

    path: Path
    passphrase_file: Path | None = None  # of the keys, where it was named

    def passphrase(self, *, make: bool = False) -> bytes:
        """What opens the keys; made where there are none yet. Raises DataFolderError."""
        try:
            return passphrase.find(self.path, self.passphrase_file, make=make and not self.keys.exists())
        except passphrase.PassphraseError as error:
            raise DataFolderError(str(error)) from error

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def ledger(self) -> Path:
        return self.path / LEDGER_FILE

    @property
    def history(self) -> Path:
        return self.path / "history"

    @property
    def broker(self) -> Path:
        return self.path / "broker"

    @property
    def updates(self) -> Path:
        """Files of published updates, each under its SHA-256."""
        return self.path / "updates"

    @property
    def ports(self) -> Path:
        return self.path / "ports.json"

    @property
    def addresses(self) -> Path:
        """Where gateways reach this coordinator, also while it does not run: `vpp-cloud site add` needs it."""
        return self.path / "addresses.json"

    @property
    def run(self) -> Path:
        """There while the coordinator serves: process ids and addresses."""
        return self.run_of(())

    def run_of(self, roles: Iterable[str]) -> Path:
        """The same of a process that has some of the roles only."""
        return self.path / f"{'-'.join(('run', *roles))}.json"

    @property
    def version(self) -> Path:
        return self.path / "version"

    def check(self) -> None:
        """DataFolderError unless a coordinator of this version or an older one made the folder."""
        try:
            text = self.version.read_text().strip()
        except FileNotFoundError as error:
            raise DataFolderError(
                f"{self.path}: is not a coordinator's data folder; start `vpp-cloud run --data {self.path}` first"
            ) from error
        except OSError as error:
            raise DataFolderError(f"{self.path}: cannot be read ({error.strerror}); check its permissions") from error
        if not text.isascii() or not text.isdigit():
            raise DataFolderError(f"{self.version}: holds no version but {text[:20]!r}; restore it from a backup")
        if int(text) > VERSION:
            raise DataFolderError(
                f"{self.path}: was written by a newer version (data {text}, this one knows {VERSION}); "
                "use that version, or another folder"
            )

    @contextmanager
    def owned(self, duties: Iterable[str] = ("all",)) -> Iterator[None]:
        """Make the folder where there is none, check it, and be the one process that has these duties on it.

        Raises DataFolderError.
        """
        with ExitStack() as held:
            try:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                with _locked(self.path / "lock", wait=True):
                    if not self.version.exists():
                        if any(not entry.name.startswith("lock") for entry in self.path.iterdir()):
                            raise DataFolderError(
                                f"{self.path}: is neither empty nor a coordinator's; use another folder"
                            )
                        write_atomically(self.version, f"{VERSION}\n")
                    for duty in duties:
                        held.enter_context(_locked(self.path / f"lock.{duty}", wait=False))
            except BlockingIOError as error:
                raise DataFolderError(
                    f"{self.path}: another coordinator runs on it; stop that one, or use another folder"
                ) from error
            except OSError as error:
                raise DataFolderError(f"{self.path}: cannot be used ({error.strerror}); check --data") from error
            self.check()
            yield


@contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Holds a lock file. Raises BlockingIOError where somebody else does and it is not to be waited for, OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file whole or not at all."""
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(0o600)
    os.replace(fresh, path)
