"""Keys replaced while everything runs: a new key beside the old one, both accepted, the old one retired later.

A coordinator that runs takes up each step within a second (`Keyring.refresh`), gateways with their next credentials,
which they ask for daily.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import asdict, replace

from cloud.identity import certificates, key_store
from cloud.identity.key_making import KeyMaker, operator_word, pem, root_keys
from cloud.identity.key_store import (
    CommandRotation,
    Former,
    KeyringError,
    OnlineKeys,
    RootCertificate,
    RootKeys,
    Stored,
)
from cloud.identity.keyring import ed25519_of, open_token, p256_of
from cloud.identity.signing import key_id, rotation_bytes
from protos.hardware import Token


class Level(StrEnum):
    """What can be rotated by itself."""

    ROOT = "root"
    ISSUING = "issuing"
    ACCOUNT = "account"
    DEVICES = "devices"
    COMMAND = "command"
    SERVER = "server"


# How long after a rotation some gateway, back from an outage, may still know the old key only.
SETTLES: Final = {
    Level.ROOT: timedelta(days=45),
    Level.ISSUING: timedelta(days=45),
    Level.ACCOUNT: timedelta(minutes=1),
    Level.DEVICES: timedelta(hours=24),
    Level.COMMAND: timedelta(hours=24),
    Level.SERVER: timedelta(0),
}
LOSES: Final = {
    Level.ROOT: "gateways that have not been in contact since trust the old root only and must enrol anew",
    Level.ISSUING: "gateways whose certificate is of the old authority must enrol anew",
    Level.ACCOUNT: "connections of the coordinator's other processes are cut and come back",
    Level.DEVICES: "gateways with old broker credentials are cut, and come back with new ones by their certificate",
    Level.COMMAND: "gateways that have not asked for credentials since refuse commands until they have",
    Level.SERVER: "",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A level as `vpp-cloud keys show` tells of it."""

    level: Level
    name: str
    made_ms: int
    former: int  # old keys that are still accepted
    due_ms: int | None  # when they may be retired without anybody losing contact
    where: str  # "disk" or "token"


class Rotation:
    """One command's work on a keys folder. Each call is there whole when it returns, or not at all."""

    def __init__(self, folder: Path, passphrase: bytes, now: datetime) -> None:
        """Raises KeyringError."""
        key_store.check_modes(folder)
        self._folder = folder
        self._passphrase = passphrase
        self._now = now
        self._now_ms = int(now.timestamp() * 1000)

    @property
    def root_file(self) -> Path:
        return self._folder / key_store.ROOT_FILE

    def standing(self) -> list[Standing]:
        """Every level."""
        keys = key_store.read_online(self._folder, self._passphrase)
        of_root = [root.replaced_ms for root in keys.roots[1:]]
        rows: list[tuple[Level, Stored, Sequence[int]]] = [
            (Level.ISSUING, keys.issuing, _times(keys.issuing_former)),
            (Level.ACCOUNT, keys.account_signer, _times(keys.account_former)),
            (Level.DEVICES, keys.devices, _times(keys.devices_former)),
            (
                Level.COMMAND,
                keys.command,
                [keys.command_next.made_ms] if keys.command_next else _times(keys.command_former),
            ),
            (Level.SERVER, keys.server, ()),
        ]
        root = x509.load_pem_x509_certificate(keys.roots[0].certificate.encode())
        made_ms = int((root.not_valid_before_utc + certificates.BACKDATE).timestamp() * 1000)
        name = root.subject.rfc4514_string().removeprefix("CN=")
        where = "disk" if self.root_file.exists() else "exported"
        found = [Standing(Level.ROOT, name, made_ms, len(of_root), _due(Level.ROOT, of_root), where)]
        for level, stored, times in rows:
            where = "not here" if stored.public else "disk" if stored.secret else "token"
            found.append(Standing(level, stored.name, stored.made_ms, len(times), _due(level, times), where))
        return found

    def export_root(self, path: Path, root_passphrase: bytes) -> None:
        """Writes the root's keys to a file under a passphrase of their own, and takes them from this machine.

        Raises KeyringError.
        """
        with key_store.locked(self._folder):
            if not self.root_file.exists():
                raise KeyringError(f"{self.root_file}: is not here; the root was exported before")
            if path.exists():
                raise KeyringError(f"{path}: exists; give another file")
            root = key_store.read_root(self.root_file, self._passphrase)
            try:
                key_store.write_root(path, root, root_passphrase)
                if key_store.read_root(path, root_passphrase) != root:
                    raise KeyringError(f"{path}: does not read as it was written; the root stays here")
            except OSError as error:
                raise KeyringError(f"{path}: cannot be written ({error.strerror}); the root stays here") from error
            _wipe(self.root_file)

    def _whole(self) -> OnlineKeys:
        """Raises KeyringError for a role's share."""
        keys = key_store.read_online(self._folder, self._passphrase)
        if keys.roles:
            raise KeyringError(f"{self._folder}: has a role's keys only; rotate where all keys are, and export again")
        return keys

    def read_root(self, path: Path | None, root_passphrase: bytes | None) -> RootKeys:
        """The root's keys, from the file they were exported to or from this machine. Raises KeyringError."""
        if path is not None and root_passphrase is not None:
            return key_store.read_root(path, root_passphrase)
        if self.root_file.exists():
            return key_store.read_root(self.root_file, self._passphrase)
        raise KeyringError(
            f"{self.root_file}: the root is not on this machine; give the file it was exported to with --root"
        )

    def rotate(
        self, level: Level, *, root: RootKeys | None = None, keep_root: Callable[[RootKeys], None] | None = None
    ) -> None:
        """A new key of that level beside the old one.

        root: needed for `root` and `issuing`. keep_root: puts a new root's keys away, before they are trusted; by
        default on this machine. Raises KeyringError.
        """
        with key_store.locked(self._folder):
            keys = self._whole()
            token = open_token(keys, self._passphrase)
            before = keys
            try:
                maker = KeyMaker(token, self._now)
                if level is Level.COMMAND and keys.command_next is not None:
                    raise KeyringError("a new command key is handed out already; `vpp-cloud keys retire command` first")
                match level:
                    case Level.ROOT | Level.ISSUING:
                        if root is None:
                            raise KeyringError(f"{level}: needs the root's keys; give --root")
                        _check_root(keys, root, self._folder)
                        if level is Level.ROOT:
                            keys, root = self._new_root(keys, root, maker)
                            (keep_root or self._keep_root)(root)
                        keys = self._new_issuing(keys, root, maker)
                    case Level.ACCOUNT:
                        old = Former(_public(keys.account_signer, token), self._now_ms)
                        keys = replace(
                            keys, account_signer=maker.ed25519("account"), account_former=(old, *keys.account_former)
                        )
                    case Level.DEVICES:
                        old = Former(_public(keys.devices, token), self._now_ms)
                        keys = replace(
                            keys,
                            devices=keys.devices_next,
                            devices_next=maker.ed25519("devices"),
                            devices_former=(old, *keys.devices_former),
                        )
                    case Level.COMMAND:
                        keys = self._next_command(keys, token, maker)
                    case Level.SERVER:
                        keys = replace(keys, server=maker.p256("server", hardware=False))
                self._replace(before, keys, token)
            finally:
                if token is not None:
                    token.close()

    def retire(self, level: Level, *, now: bool = False) -> int:
        """Old keys of that level are accepted no longer; how many they were.

        Raises KeyringError while some gateway may still need them, unless it is to be `now`.
        """
        standing = next(one for one in self.standing() if one.level is level)
        if not now and standing.due_ms is not None and standing.due_ms > self._now_ms:
            due = datetime.fromtimestamp(standing.due_ms / 1000, UTC)
            raise KeyringError(f"{level}: {LOSES[level]}; wait until {due:%Y-%m-%d %H:%M} UTC, or give --now")
        with key_store.locked(self._folder):
            keys = self._whole()
            token = open_token(keys, self._passphrase)
            try:
                retired = _RETIRED[level](keys, token, self._now_ms)
                if level is Level.COMMAND and now:
                    retired = replace(retired, command_former=())
                self._replace(keys, retired, token)
            finally:
                if token is not None:
                    token.close()
        return standing.former

    def _new_root(self, keys: OnlineKeys, old: RootKeys, maker: KeyMaker) -> tuple[OnlineKeys, RootKeys]:
        """A root that the old one vouches for, and a new NATS operator."""
        old_certificate = x509.load_pem_x509_certificate(keys.roots[0].certificate.encode())
        key, operator = certificates.make_key(), Ed25519PrivateKey.generate()
        certificate = certificates.make_root(key, number=certificates.number_of(old_certificate) + 1, now=self._now)
        cross = certificates.cross_sign(certificate, old_certificate, _authority(old), now=self._now)
        signer, system = maker.ed25519("operator"), maker.ed25519("system")
        former = tuple(replace(root, replaced_ms=root.replaced_ms or self._now_ms) for root in keys.roots)
        changed = replace(
            keys,
            roots=(RootCertificate(pem(certificate), pem(cross)), *former),
            operator_jwt=operator_word(operator, maker.ed25519_public(signer), keys.system, self._now),
            operator_signer=signer,
            system_signer=system,
        )
        return changed, root_keys(key, operator)

    def _new_issuing(self, keys: OnlineKeys, root: RootKeys, maker: KeyMaker) -> OnlineKeys:
        above = x509.load_pem_x509_certificate(keys.roots[0].certificate.encode())
        before = x509.load_pem_x509_certificate(keys.issuing_certificate.encode())
        issuing = maker.p256("issuing")
        certificate = certificates.make_issuing(
            above, _authority(root), maker.public(issuing), number=certificates.number_of(before) + 1, now=self._now
        )
        former = (Former(keys.issuing_certificate, self._now_ms), *keys.issuing_former)
        return replace(keys, issuing=issuing, issuing_certificate=pem(certificate), issuing_former=former)

    def _next_command(self, keys: OnlineKeys, token: Token | None, maker: KeyMaker) -> OnlineKeys:
        fresh, current = maker.ed25519("command"), ed25519_of(keys.command, token)
        raw = maker.ed25519_public(fresh)
        word = CommandRotation(raw, key_id(current.public_key().public_bytes_raw()), current.sign(rotation_bytes(raw)))
        return replace(keys, command_next=fresh, command_rotations=(*keys.command_rotations, word))

    def _keep_root(self, root: RootKeys) -> None:
        key_store.write_root(self.root_file, root, self._passphrase)

    def _replace(self, before: OnlineKeys, after: OnlineKeys, token: Token | None) -> None:
        """Private keys that nothing needs any more leave the token, as they left the file.

        Not before the processes that run have taken the new ones up: until then they sign with the old.
        """
        if token is None:
            self._write(after)
            return
        replaced = key_store.hold_online(self._folder)
        try:
            self._write(after)
            held = [{key.name for key in _stored(keys) if not key.secret} for keys in (before, after)]
            if gone := held[0] - held[1]:
                key_store.wait_until_left(replaced)
            for name in gone:
                token.remove(name)
        finally:
            os.close(replaced)

    def _write(self, keys: OnlineKeys) -> None:
        bundle = "".join(root.certificate for root in keys.roots)
        key_store.write(self._folder / key_store.AUTHORITY_FILE, bundle.encode())
        key_store.write_online(self._folder, keys, self._passphrase)


def _retire_root(keys: OnlineKeys, _: Token | None, __: int) -> OnlineKeys:
    return replace(keys, roots=(RootCertificate(keys.roots[0].certificate),), issuing_former=())


def _retire_command(keys: OnlineKeys, token: Token | None, now_ms: int) -> OnlineKeys:
    """The new key signs from now on; the old one's last words are still believed until the next rotation's end."""
    if keys.command_next is None:
        return replace(keys, command_former=())
    old = Former(_public(keys.command, token), now_ms)
    return replace(keys, command=keys.command_next, command_next=None, command_former=(old,))


_RETIRED: Final[dict[Level, Callable[[OnlineKeys, Token | None, int], OnlineKeys]]] = {
    Level.ROOT: _retire_root,
    Level.ISSUING: lambda keys, _, __: replace(keys, issuing_former=()),
    Level.ACCOUNT: lambda keys, _, __: replace(keys, account_former=()),
    Level.DEVICES: lambda keys, _, __: replace(keys, devices_former=()),
    Level.COMMAND: _retire_command,
    Level.SERVER: lambda keys, _, __: keys,
}


def _stored(keys: OnlineKeys) -> list[Stored]:
    return [value for value in asdict(keys).values() if isinstance(value, Stored)]


def _times(former: Sequence[Former]) -> list[int]:
    return [key.replaced_ms for key in former]


def _due(level: Level, replaced_ms: Sequence[int]) -> int | None:
    return max(replaced_ms) + SETTLES[level] // timedelta(milliseconds=1) if replaced_ms else None


def _public(stored: Stored, token: Token | None) -> str:
    return ed25519_of(stored, token).public_key().public_bytes_raw().hex()


def _authority(root: RootKeys) -> ec.EllipticCurvePrivateKey:
    return p256_of(Stored("root", 0, root.authority), None)


def _check_root(keys: OnlineKeys, root: RootKeys, folder: Path) -> None:
    certificate = x509.load_pem_x509_certificate(keys.roots[0].certificate.encode())
    if _authority(root).public_key() != certificate.public_key():
        raise KeyringError(f"{folder}: the root that was given is not the one of these keys; give the newest export")


def _wipe(path: Path) -> None:
    """Overwritten, then removed: as much as a file system with copies of its own allows."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\0" * size)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    key_store.sync_folder(path.parent)
