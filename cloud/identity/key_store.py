"""What the keys folder holds, and how: one sealed file of the keys that `run` needs, one of the root, public files.

The sealed file is replaced whole, so a rotation is there or not there, never half.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from cloud.identity import vault

ONLINE_FILE: Final = "online.sealed"
ROOT_FILE: Final = "root.sealed"
AUTHORITY_FILE: Final = "ca.pem"  # what gateways trust, public
SERVER_FILE: Final = "server.pem"  # the servers' certificate and its chain, public
AUDIT_FILE: Final = "audit.pub"  # hex, public
_LOCK_FILE: Final = "lock"
_TAKEN_UP_WITHIN_S: Final = 30.0  # who looks every second, on a machine that is overloaded
_LOOK_S: Final = 0.05
_ONLINE: Final = "murmuration online keys"
ROOT_PURPOSE: Final = "murmuration root keys"


class KeyringError(Exception):
    """Keys that cannot be used as they lie there: names file and remedy in one line."""


class Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A private key, the name under which a token holds it, or the public half of one that is not here."""

    name: str
    made_ms: int
    secret: bytes = b""  # raw Ed25519, or PKCS#8 DER of P-256; empty: in the token, or not here
    public: str = ""  # of a key that is not here: hex, raw or as SubjectPublicKeyInfo in DER


class Former(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is left of a key that was replaced: its public half, accepted until it is retired."""

    public: str  # hex of a raw key, or a certificate's PEM
    replaced_ms: int


class RootCertificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A root, and the word of the one before for it: who trusts that one only, trusts this one by it."""

    certificate: str
    cross: str = ""
    replaced_ms: int = 0


class CommandRotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command key's signature under the one that follows it."""

    public_key: bytes
    previous_key_id: bytes
    signature: bytes


class TokenPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the keys are that are not on the disk."""

    module: str
    label: str


class OnlineKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of the sealed file. Lists begin with the newest."""

    roots: tuple[RootCertificate, ...]
    issuing: Stored
    issuing_certificate: str
    issuing_former: tuple[Former, ...] = ()
    operator_jwt: str
    operator_signer: Stored
    system: str
    system_signer: Stored
    account: str
    account_signer: Stored
    account_former: tuple[Former, ...] = ()
    devices: Stored
    devices_next: Stored  # the brokers accept it already, so that a rotation needs no word with them first
    devices_former: tuple[Former, ...] = ()
    backend: Stored
    command: Stored
    command_next: Stored | None = None  # handed out, and signs when it is taken into use
    command_former: tuple[Former, ...] = ()
    command_rotations: tuple[CommandRotation, ...] = ()
    server: Stored
    audit: Stored
    token: TokenPlace | None = None
    roles: tuple[str, ...] = ()  # that this share is for; none: it is the whole
    login: str = ""  # of a share: to the broker, signed by a key that is not here


class RootKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the root's sealed file: needed to rotate the issuing authority and the root itself, not to run."""

    authority: bytes  # PKCS#8 DER of P-256
    operator: bytes  # raw Ed25519, the NATS operator


Content = TypeVar("Content", OnlineKeys, RootKeys)


def read_online(folder: Path, passphrase: bytes) -> OnlineKeys:
    """Raises KeyringError."""
    return _unsealed(folder / ONLINE_FILE, passphrase, _ONLINE, OnlineKeys)


def hold_online(folder: Path) -> int:
    """A descriptor of the file of online keys as it is now. Open, it keeps the keys that the file names in their token.

    Raises KeyringError.
    """
    path = folder / ONLINE_FILE
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise KeyringError(f"{path}: is missing; restore it from a backup") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # replaced meanwhile


def wait_until_left(descriptor: int) -> None:
    """Until nobody else holds that file of online keys, which was replaced; not for ever: a process may hang."""
    deadline = time.monotonic() + _TAKEN_UP_WITHIN_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOOK_S)
        else:
            return


def write_online(folder: Path, keys: OnlineKeys, passphrase: bytes) -> None:
    write(folder / ONLINE_FILE, vault.seal(msgspec.json.encode(keys), passphrase, _ONLINE))


def read_root(path: Path, passphrase: bytes) -> RootKeys:
    """Raises KeyringError."""
    return _unsealed(path, passphrase, ROOT_PURPOSE, RootKeys)


def write_root(path: Path, keys: RootKeys, passphrase: bytes) -> None:
    write(path, vault.seal(msgspec.json.encode(keys), passphrase, ROOT_PURPOSE))


def _unsealed(path: Path, passphrase: bytes, purpose: str, kind: type[Content]) -> Content:
    try:
        return msgspec.json.decode(vault.unseal(read(path), passphrase, purpose), type=kind)
    except vault.VaultError as error:
        raise KeyringError(f"{path}: {error}; give its passphrase, or restore the file from a backup") from error
    except msgspec.DecodeError as error:
        raise KeyringError(f"{path}: was written by another version ({error}); use that one") from error


def check_modes(folder: Path) -> None:
    """KeyringError if anybody else may read the folder or a file in it."""
    if not folder.is_dir():
        raise KeyringError(f"{folder}: is not a folder; move it away")
    for path in (folder, *sorted(folder.iterdir())):
        found = path.stat()
        if found.st_uid != os.geteuid():
            raise KeyringError(f"{path}: belongs to another user; run as that user, or chown it")
        if mode := stat.S_IMODE(found.st_mode) & 0o077:
            wanted = "700" if path.is_dir() else "600"
            raise KeyringError(f"{path}: others may use it (mode bits {mode:03o}); run `chmod {wanted} {path}`")


def read(path: Path) -> bytes:
    """Raises KeyringError."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise KeyringError(f"{path}: is missing; restore it from a backup") from error
    except OSError as error:
        raise KeyringError(f"{path}: cannot be read ({error.strerror})") from error


def write(path: Path, data: bytes) -> None:
    """The file whole or not at all, for its owner only."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone with the folder: two commands that rotate would undo each other."""
    descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
