"""The coordinator's keys, opened: what signs, what is accepted, and what follows a rotation while everything runs.

Made whole on first use and never in part: keys that are gone are a refusal, not a reason to make others, because every
gateway that ever enrolled trusts the old ones. README.md has the hierarchy, lifetimes and how to rotate.
"""

import os
import weakref
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.identity import certificates, key_store, nkey
from cloud.identity.absent import AbsentKey, refuse
from cloud.identity.audit import AuditSigner
from cloud.identity.key_making import make_keys
from cloud.identity.key_store import KeyringError, OnlineKeys, Stored
from cloud.identity.nkey import Nkey
from cloud.identity.signing import CommandSigner
from protos.hardware import Token, TokenError

_ED25519_BYTES: Final = 32
_RENEW_BEFORE: Final = timedelta(days=60)


class Keyring:
    """Every key that `run` needs. `refresh` takes up what a command rotated meanwhile; `version` counts that."""

    def __init__(self, folder: Path, passphrase: bytes, hosts: Sequence[str] | None, now: datetime) -> None:
        """Raises KeyringError."""
        self._folder = folder
        self._passphrase = passphrase
        self._hosts = None if hosts is None else tuple(hosts)
        self._token: Token | None = None
        held = key_store.hold_online(folder)
        self._let_go = weakref.finalize(self, os.close, held)
        self._mark = _mark(os.fstat(held))
        self.version = 0
        self.server_certificate_file: Final = folder / key_store.SERVER_FILE
        self.authority_file: Final = folder / key_store.AUTHORITY_FILE
        self._take(now)
        self.signer: Final = CommandSigner(
            self._ed25519(self.keys.command), (bytes.fromhex(key.public) for key in self.keys.command_former)
        )
        self.audit: Final = AuditSigner(self._ed25519(self.keys.audit))
        if self.audit.public_key != read_audit_public_key(folder):
            raise KeyringError(f"{folder}: {key_store.AUDIT_FILE} is not the audit key's; restore it from a backup")

    def refresh(self, now: datetime) -> bool:
        """Whether keys were rotated since they were read; they are in use when it returns. Raises KeyringError."""
        path = self._folder / key_store.ONLINE_FILE
        try:
            if _mark(path.stat()) == self._mark:
                return False
        except OSError as error:
            raise KeyringError(f"{path}: is missing; restore it from a backup") from error
        held = key_store.hold_online(self._folder)
        try:
            self._take(now)
            command = self._ed25519(self.keys.command)
        except BaseException:
            os.close(held)
            raise
        if command.public_key().public_bytes_raw() != self.signer.public_key:
            self.signer.use(command)
        self._mark = _mark(os.fstat(held))
        self.version += 1
        self._let_go()  # what was replaced may be destroyed from here on
        self._let_go = weakref.finalize(self, os.close, held)
        return True

    def _take(self, now: datetime) -> None:
        keys = key_store.read_online(self._folder, self._passphrase)
        if keys.token is not None and self._token is None:
            self._token = open_token(keys, self._passphrase)
        self.keys: OnlineKeys = keys
        self.operator_signer = Nkey(self._ed25519(keys.operator_signer), nkey.OPERATOR)
        self.system_signer = Nkey(self._ed25519(keys.system_signer), nkey.ACCOUNT)
        self.account_signer = Nkey(self._ed25519(keys.account_signer), nkey.ACCOUNT)
        self.devices = Nkey(self._ed25519(keys.devices), nkey.ACCOUNT)
        self.backend = Nkey(self._ed25519(keys.backend), nkey.USER)
        self.authority = x509.load_pem_x509_certificate(keys.issuing_certificate.encode())
        if not keys.issuing.public and self.authority.public_key() != self.authority_key.public_key():
            raise KeyringError(f"{self._folder}: the issuing key is not its certificate's; restore a backup")
        if self._hosts is not None and not keys.server.public:
            self._refresh_server(self._hosts, now)

    @property
    def authority_key(self) -> ec.EllipticCurvePrivateKey:
        """Raises KeyringError where it is not here."""
        return self._p256(self.keys.issuing)

    def check_roles(self, roles: Iterable[str]) -> None:
        """Raises KeyringError for a role that this share of the keys is not for."""
        if self.keys.roles and (missing := [role for role in roles if role not in self.keys.roles]):
            raise KeyringError(
                f"{self._folder}: has the keys of {', '.join(self.keys.roles)} and not of {', '.join(missing)}; "
                f"export them with `vpp-cloud keys export --role {missing[0]}` where all keys are"
            )

    def public_half(self, stored: Stored) -> str:
        """Hex: a raw Ed25519 key, or SubjectPublicKeyInfo of a P-256 one. Raises KeyringError."""
        if stored not in (self.keys.issuing, self.keys.server):
            return self._ed25519(stored).public_key().public_bytes_raw().hex()
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._p256(stored).public_key().public_bytes(serialization.Encoding.DER, spki).hex()

    @property
    def account(self) -> str:
        """The account of sites and coordinator."""
        return self.keys.account

    @property
    def account_signers(self) -> list[str]:
        """Whose signature makes a user of the account with full rights."""
        former = [nkey.public_text(bytes.fromhex(key.public), nkey.ACCOUNT) for key in self.keys.account_former]
        return [self.account_signer.public, *former]

    @property
    def device_signers(self) -> list[str]:
        """Whose signature makes a user with a site's rights."""
        former = [nkey.public_text(bytes.fromhex(key.public), nkey.ACCOUNT) for key in self.keys.devices_former]
        following = Nkey(self._ed25519(self.keys.devices_next), nkey.ACCOUNT)
        return [self.devices.public, following.public, *former]

    @property
    def authority_pem(self) -> bytes:
        """The certificates by which agents know the coordinator's servers: every root that is not retired."""
        return "".join(root.certificate for root in self.keys.roots).encode()

    @property
    def client_trust_pem(self) -> bytes:
        """The authorities whose certificates a site may come with."""
        former = "".join(authority.public for authority in self.keys.issuing_former)
        return (self.keys.issuing_certificate + former).encode()

    @property
    def server_pem(self) -> bytes:
        """The servers' certificate and its chain."""
        return key_store.read(self.server_certificate_file)

    @property
    def server_key_pem(self) -> bytes:
        return certificates.key_pem(self._p256(self.keys.server))

    @property
    def command_keys(self) -> list[bytes]:
        """Raw public keys whose signature an intent may bear, the one that signs first."""
        after = (
            [self._ed25519(self.keys.command_next).public_key().public_bytes_raw()] if self.keys.command_next else []
        )
        return [self.signer.public_key, *after, *(bytes.fromhex(key.public) for key in self.keys.command_former)]

    def is_current(self, certificate: x509.Certificate) -> bool:
        """Whether the present issuing authority issued it, rather than one that is being retired."""
        try:
            certificate.verify_directly_issued_by(self.authority)
        except Exception:  # of name, kind or signature: another authority's
            return False
        return True

    def _ed25519(self, stored: Stored) -> Ed25519PrivateKey:
        return ed25519_of(stored, self._token)

    def _p256(self, stored: Stored) -> ec.EllipticCurvePrivateKey:
        return p256_of(stored, self._token)

    def server_chain(self, hosts: Collection[str], now: datetime) -> bytes:
        """The servers' certificate for these names, made now, and its chain. Raises KeyringError."""
        public_key = self._p256(self.keys.server).public_key()
        issued = certificates.make_server_certificate(
            self.authority, self.authority_key, public_key, list(hosts), now=now
        )
        return certificates.certificate_pem(issued) + self._chain.encode()

    @property
    def _chain(self) -> str:
        return self.keys.issuing_certificate + "".join(root.cross for root in self.keys.roots)

    def _check_server(self, hosts: Sequence[str], now: datetime) -> None:
        """Of who cannot issue another one. Raises KeyringError."""
        certificate = x509.load_pem_x509_certificate(self.server_pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if missing := [host for host in hosts if certificates.general_names([host])[0] not in list(names)]:
            raise KeyringError(
                f"{self.server_certificate_file}: is not for {', '.join(missing)}; export the keys again with "
                f"`vpp-cloud keys export --host {missing[0]}`"
            )
        if now > certificate.not_valid_after_utc:
            raise KeyringError(
                f"{self.server_certificate_file}: has run out; export it again with `vpp-cloud keys export`"
            )

    def _refresh_server(self, hosts: Sequence[str], now: datetime) -> None:
        """Issue the servers' certificate anew when there is none, it no longer fits, or it will soon run out."""
        if self.keys.issuing.public:
            self._check_server(hosts, now)
            return
        public_key = self._p256(self.keys.server).public_key()
        chain = self._chain
        path = self.server_certificate_file
        if path.exists():
            try:
                text = path.read_text()
                current = x509.load_pem_x509_certificate(text.encode())
                names = current.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                usage = current.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
                fits = list(names) == certificates.general_names(hosts) and current.public_key() == public_key
                fits = fits and tuple(usage) == certificates.SERVER_USAGE
                if fits and text.endswith("\n" + chain) and now < current.not_valid_after_utc - _RENEW_BEFORE:
                    return
            except (ValueError, x509.ExtensionNotFound):
                pass
        key_store.write(path, self.server_chain(hosts, now))


def open_keyring(folder: Path, hosts: Sequence[str] | None, *, now: datetime, passphrase: bytes) -> Keyring:
    """The keys in `folder`, made if the folder is not there; the servers' certificate fits `hosts` afterwards.

    hosts: None where no server is to be run: its certificate stays as it is.
    Raises KeyringError: others may read it, a file is missing or damaged, the passphrase is another one.
    """
    if not folder.exists():
        make_keys(folder, passphrase, now=now)
    key_store.check_modes(folder)
    if (folder / "ca.key").exists():
        raise KeyringError(f"{folder}: was made before keys were sealed; use a fresh data folder and enrol again")
    return Keyring(folder, passphrase, hosts, now)


def _mark(found: os.stat_result) -> tuple[int, int]:
    return found.st_ino, found.st_mtime_ns


def open_token(keys: OnlineKeys, passphrase: bytes) -> Token | None:
    """The token that holds the keys, logged in to: its PIN is the passphrase. Raises KeyringError."""
    if keys.token is None:
        return None
    try:
        return Token(Path(keys.token.module), keys.token.label, passphrase.decode())
    except TokenError as error:
        raise KeyringError(str(error)) from error


def ed25519_of(stored: Stored, token: Token | None) -> Ed25519PrivateKey:
    """Raises KeyringError."""
    if stored.public:
        return AbsentKey(stored)
    try:
        if stored.secret:
            return Ed25519PrivateKey.from_private_bytes(stored.secret)
        return _in(token, stored).ed25519(stored.name)
    except (ValueError, TokenError) as error:
        raise KeyringError(f"key {stored.name}: {error}") from error


def p256_of(stored: Stored, token: Token | None) -> ec.EllipticCurvePrivateKey:
    """Raises KeyringError."""
    if stored.public:
        refuse(stored)
    try:
        if not stored.secret:
            return _in(token, stored).p256(stored.name)
        key = serialization.load_der_private_key(stored.secret, None)
    except (ValueError, TokenError) as error:
        raise KeyringError(f"key {stored.name}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyringError(f"key {stored.name}: is of the wrong kind; restore the folder from a backup")
    return key


def _in(token: Token | None, stored: Stored) -> Token:
    if token is None:
        raise KeyringError(f"key {stored.name}: lies in a token that is not named; restore the folder from a backup")
    return token


def read_authority_pem(folder: Path) -> bytes:
    """The public certificates alone, for a claim file. Raises KeyringError."""
    return key_store.read(folder / key_store.AUTHORITY_FILE)


def read_audit_public_key(folder: Path) -> bytes:
    """The raw public key by which the audit log is verified. Raises KeyringError."""
    path = folder / key_store.AUDIT_FILE
    try:
        raw = bytes.fromhex(key_store.read(path).strip().decode("ascii"))
    except ValueError:
        raw = b""
    if len(raw) != _ED25519_BYTES:
        raise KeyringError(f"{path}: holds no key; restore it from a backup")
    return raw
