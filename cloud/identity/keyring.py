"""The coordinator's keys, in one folder that only its own account may read.

Made whole on first use and never in part: a key that is gone is a refusal, not a reason to make another, because every
gateway that ever enrolled trusts the old one.
"""

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.identity import certificates, nkey
from cloud.identity.audit import AuditSigner
from cloud.identity.nkey import Nkey
from cloud.identity.signing import CommandSigner

_NKEYS: Final = {
    "operator.nk": nkey.OPERATOR,
    "system.nk": nkey.ACCOUNT,
    "account.nk": nkey.ACCOUNT,
    "devices.nk": nkey.ACCOUNT,
    "backend.nk": nkey.USER,
}
_COMMAND_KEY: Final = "command.key"
_AUDIT_KEY: Final = "audit.key"
_AUDIT_PUBLIC: Final = "audit.pub"
_AUTHORITY_KEY: Final = "ca.key"
_AUTHORITY: Final = "ca.pem"
_SERVER_KEY: Final = "server.key"
_SERVER: Final = "server.pem"
_ED25519_BYTES: Final = 32
_RENEW_BEFORE: Final = timedelta(days=60)


class KeyringError(Exception):
    """Keys that cannot be used as they lie there: names file and remedy in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """Every secret of the coordinator, opened."""

    operator: Nkey
    system: Nkey  # the broker's own account
    account: Nkey  # the account of sites and coordinator
    devices: Nkey  # signs sites' credentials, with a site's rights only
    backend: Nkey  # the coordinator as a user of its broker
    signer: CommandSigner
    audit: AuditSigner
    authority_key: ec.EllipticCurvePrivateKey
    authority: x509.Certificate
    authority_file: Path
    server_key_file: Path
    server_certificate_file: Path

    @property
    def authority_pem(self) -> bytes:
        """The certificate by which agents know the coordinator's servers."""
        return certificates.certificate_pem(self.authority)


def open_keyring(folder: Path, hosts: Sequence[str] | None, *, now: datetime) -> Keyring:
    """The keys in `folder`, made if the folder is not there; the server's certificate fits `hosts` afterwards.

    hosts: None where no server is to be run: its certificate stays as it is.
    Raises KeyringError: others may read it, a file is missing or damaged.
    """
    if not folder.exists():
        _make(folder, now)
    _check_modes(folder)
    if not (folder / _AUDIT_KEY).exists() and not (folder / _AUDIT_PUBLIC).exists():
        _make_audit_key(folder)  # a folder of before the audit log
    try:
        pairs = {name: nkey.from_seed(_read(folder / name).strip(), kind) for name, kind in _NKEYS.items()}
        command_key = serialization.load_pem_private_key(_read(folder / _COMMAND_KEY), None)
        audit_key = serialization.load_pem_private_key(_read(folder / _AUDIT_KEY), None)
        audit_public = _read(folder / _AUDIT_PUBLIC)
        authority_key = serialization.load_pem_private_key(_read(folder / _AUTHORITY_KEY), None)
        authority = x509.load_pem_x509_certificate(_read(folder / _AUTHORITY))
        server_key = serialization.load_pem_private_key(_read(folder / _SERVER_KEY), None)
    except (ValueError, TypeError) as error:
        raise KeyringError(f"{folder}: a key is damaged ({error}); restore the folder from a backup") from error
    if (
        not isinstance(command_key, Ed25519PrivateKey)
        or not isinstance(audit_key, Ed25519PrivateKey)
        or audit_key.public_key().public_bytes_raw().hex().encode("ascii") != audit_public.strip()
        or not isinstance(authority_key, ec.EllipticCurvePrivateKey)
        or not isinstance(server_key, ec.EllipticCurvePrivateKey)
        or authority.public_key() != authority_key.public_key()
    ):
        raise KeyringError(f"{folder}: a key is of the wrong kind; restore the folder from a backup")
    if hosts is not None:
        _refresh_server(folder, authority, authority_key, server_key.public_key(), hosts, now)
    return Keyring(
        operator=pairs["operator.nk"],
        system=pairs["system.nk"],
        account=pairs["account.nk"],
        devices=pairs["devices.nk"],
        backend=pairs["backend.nk"],
        signer=CommandSigner(command_key),
        audit=AuditSigner(audit_key),
        authority_key=authority_key,
        authority=authority,
        authority_file=folder / _AUTHORITY,
        server_key_file=folder / _SERVER_KEY,
        server_certificate_file=folder / _SERVER,
    )


def read_authority_pem(folder: Path) -> bytes:
    """The public certificate alone, for a claim file. Raises KeyringError."""
    return _read(folder / _AUTHORITY)


def read_audit_public_key(folder: Path) -> bytes:
    """The raw public key by which the audit log is verified. Raises KeyringError."""
    text = _read(folder / _AUDIT_PUBLIC).strip()
    try:
        raw = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raw = b""
    if len(raw) != _ED25519_BYTES:
        raise KeyringError(f"{folder / _AUDIT_PUBLIC}: holds no key; restore it from a backup")
    return raw


def _make(folder: Path, now: datetime) -> None:
    """The whole folder or nothing: made beside its place and renamed."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    for name, kind in _NKEYS.items():
        _write(fresh / name, nkey.make_seed(kind) + b"\n")
    _write(fresh / _COMMAND_KEY, _ed25519_pem(Ed25519PrivateKey.generate()))
    _make_audit_key(fresh)
    authority_key = certificates.make_key()
    _write(fresh / _AUTHORITY_KEY, certificates.key_pem(authority_key))
    authority = certificates.make_authority(authority_key, now=now)
    _write(fresh / _AUTHORITY, certificates.certificate_pem(authority))
    _write(fresh / _SERVER_KEY, certificates.key_pem(certificates.make_key()))
    fresh.rename(folder)
    _sync_folder(folder.parent)


def _make_audit_key(folder: Path) -> None:
    key = Ed25519PrivateKey.generate()
    _write(folder / _AUDIT_KEY, _ed25519_pem(key))
    _write(folder / _AUDIT_PUBLIC, key.public_key().public_bytes_raw().hex().encode("ascii") + b"\n")


def _ed25519_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _refresh_server(
    folder: Path,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
    hosts: Sequence[str],
    now: datetime,
) -> None:
    """Issue the server's certificate anew when there is none, it fits other hosts, or it will soon run out."""
    path = folder / _SERVER
    if path.exists():
        try:
            current = x509.load_pem_x509_certificate(path.read_bytes())
            names = current.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            fits = list(names) == certificates.general_names(hosts) and current.public_key() == public_key
            if fits and now < current.not_valid_after_utc - _RENEW_BEFORE:
                return
        except (ValueError, x509.ExtensionNotFound):
            path.unlink()
    issued = certificates.make_server_certificate(authority, authority_key, public_key, hosts, now=now)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    _write(fresh, certificates.certificate_pem(issued))
    fresh.replace(path)


def _check_modes(folder: Path) -> None:
    if not folder.is_dir():
        raise KeyringError(f"{folder}: is not a folder; move it away")
    for path in (folder, *sorted(folder.iterdir())):
        found = path.stat()
        if found.st_uid != os.geteuid():
            raise KeyringError(f"{path}: belongs to another user; run as that user, or chown it")
        if mode := stat.S_IMODE(found.st_mode) & 0o077:
            wanted = "700" if path.is_dir() else "600"
            raise KeyringError(f"{path}: others may use it (mode bits {mode:03o}); run `chmod {wanted} {path}`")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise KeyringError(f"{path}: is missing; restore it from a backup") from error
    except OSError as error:
        raise KeyringError(f"{path}: cannot be read ({error.strerror})") from error


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
