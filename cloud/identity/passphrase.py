"""Where the passphrase comes from that opens the coordinator's keys.

In order: the file that was named; systemd's credential `vpp-cloud.passphrase`; a file beside the data folder, which is
made with a random passphrase when keys are made and nothing else was given. A copy of the data folder alone (a backup,
a stolen disk of a database server) therefore never opens the keys.
"""

import os
import secrets
import stat
from pathlib import Path
from typing import Final

CREDENTIAL: Final = "vpp-cloud.passphrase"  # LoadCredentialEncrypted= in the unit, `systemd-creds encrypt`
SHORTEST: Final = 12
_RANDOM_BYTES: Final = 32


class PassphraseError(Exception):
    """A passphrase that cannot be had: names the file and the remedy in one line."""


def find(data: Path, given: Path | None, *, make: bool = False) -> bytes:
    """The passphrase of the keys in the data folder. Raises PassphraseError.

    given: a file that was named. make: whether one is made where there is none.
    """
    if given is not None:
        return read(given)
    if folder := os.environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(folder) / CREDENTIAL
        if credential.exists():
            return read(credential)
    beside = beside_of(data)
    if make and not beside.exists():
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_urlsafe(_RANDOM_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    return read(beside)


def beside_of(data: Path) -> Path:
    """The file beside the data folder."""
    return data.absolute().with_name(f"{data.absolute().name}.passphrase")


def read(path: Path) -> bytes:
    """The passphrase in a file, without its end of line. Raises PassphraseError."""
    try:
        found = path.stat()
        text = path.read_bytes().strip(b"\r\n")
    except OSError as error:
        raise PassphraseError(
            f"{path}: the passphrase of the keys cannot be read ({error.strerror}); put it there, or name another file "
            "with --passphrase-file"
        ) from error
    if found.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(found.st_mode) & 0o077:
        raise PassphraseError(f"{path}: others may read the passphrase; run `chmod 600 {path}` as its owner")
    if len(text) < SHORTEST:
        raise PassphraseError(f"{path}: holds {len(text)} characters; a passphrase has at least {SHORTEST}")
    return text
