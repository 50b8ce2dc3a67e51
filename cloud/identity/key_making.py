"""The whole hierarchy, made once: root, issuing authority, NATS operator and accounts, and what signs day by day."""

import secrets
import shutil
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.identity import certificates, jwt, key_store, nkey
from cloud.identity.key_store import OnlineKeys, RootCertificate, RootKeys, Stored, TokenPlace
from cloud.identity.nkey import Nkey
from protos.hardware import Token

PREFIX: Final = "murmuration"


def make_keys(
    folder: Path, passphrase: bytes, *, now: datetime, place: TokenPlace | None = None, token: Token | None = None
) -> None:
    """The whole folder or nothing: made beside its place and renamed.

    place and token: where the keys that sign are made, instead of on the disk. The servers' key is on the disk in any
    case, for the broker knows no other place, and so is the root, which is to be taken away.
    """
    maker = KeyMaker(token, now)
    root, operator = certificates.make_key(), Ed25519PrivateKey.generate()
    authority = certificates.make_root(root, number=1, now=now)
    issuing = maker.p256("issuing")
    issuing_certificate = certificates.make_issuing(authority, root, maker.public(issuing), number=1, now=now)
    operator_signer, system = maker.ed25519("operator"), Ed25519PrivateKey.generate()
    account, audit = Ed25519PrivateKey.generate(), maker.ed25519("audit", hardware=False)
    keys = OnlineKeys(
        roots=(RootCertificate(pem(authority)),),
        issuing=issuing,
        issuing_certificate=pem(issuing_certificate),
        operator_jwt=operator_word(operator, maker.ed25519_public(operator_signer), public_of(system), now),
        operator_signer=operator_signer,
        system=public_of(system),
        system_signer=maker.ed25519("system"),
        account=public_of(account),
        account_signer=maker.ed25519("account"),
        devices=maker.ed25519("devices"),
        devices_next=maker.ed25519("devices"),
        backend=maker.ed25519("backend", hardware=False),
        command=maker.ed25519("command"),
        server=maker.p256("server", hardware=False),
        audit=audit,
        token=place,
    )
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    key_store.write_online(fresh, keys, passphrase)
    key_store.write_root(fresh / key_store.ROOT_FILE, root_keys(root, operator), passphrase)
    key_store.write(fresh / key_store.AUTHORITY_FILE, pem(authority).encode())
    key_store.write(fresh / key_store.AUDIT_FILE, maker.ed25519_public(audit).hex().encode() + b"\n")
    fresh.rename(folder)
    key_store.sync_folder(folder.parent)


class KeyMaker:
    """Makes private keys on the disk or, where there is one, in the token."""

    def __init__(self, token: Token | None, now: datetime) -> None:
        self._token = token
        self._now_ms = int(now.timestamp() * 1000)

    def ed25519(self, level: str, *, hardware: bool = True) -> Stored:
        if self._token is not None and hardware:
            name = self._name(level)
            self._token.ed25519(name, make=True)
            return Stored(name, self._now_ms)
        return Stored(self._name(level), self._now_ms, Ed25519PrivateKey.generate().private_bytes_raw())

    def p256(self, level: str, *, hardware: bool = True) -> Stored:
        if self._token is not None and hardware:
            name = self._name(level)
            self._token.p256(name, make=True)
            return Stored(name, self._now_ms)
        return Stored(self._name(level), self._now_ms, der(certificates.make_key()))

    def public(self, stored: Stored) -> ec.EllipticCurvePublicKey:
        """Of a P-256 key that was just made."""
        if not stored.secret:
            assert self._token is not None  # noqa: S101 (it was made there)
            return self._token.p256(stored.name).public_key()
        key = serialization.load_der_private_key(stored.secret, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 (made above)
        return key.public_key()

    def ed25519_public(self, stored: Stored) -> bytes:
        """Raw, of an Ed25519 key that was just made."""
        if not stored.secret:
            assert self._token is not None  # noqa: S101 (it was made there)
            return self._token.ed25519(stored.name).public_key().public_bytes_raw()
        return Ed25519PrivateKey.from_private_bytes(stored.secret).public_key().public_bytes_raw()

    def _name(self, level: str) -> str:
        """Old and new stand side by side in a token."""
        return f"{PREFIX}-{level}-{self._now_ms}-{secrets.token_hex(2)}"


def operator_word(operator: Ed25519PrivateKey, signer: bytes, system: str, now: datetime) -> str:
    """The operator's JWT: names the account that watches the broker, and the key that signs accounts in its stead."""
    return jwt.operator_jwt(
        Nkey(operator, nkey.OPERATOR),
        system,
        [nkey.public_text(signer, nkey.OPERATOR)],
        now_s=int(now.timestamp()),
    )


def root_keys(authority: ec.EllipticCurvePrivateKey, operator: Ed25519PrivateKey) -> RootKeys:
    return RootKeys(der(authority), operator.private_bytes_raw())


def public_of(account: Ed25519PrivateKey) -> str:
    """An account's name. Its private key signs nothing, so nobody keeps it: its signing keys do."""
    return nkey.public_text(account.public_key().public_bytes_raw(), nkey.ACCOUNT)


def pem(certificate: x509.Certificate) -> str:
    return certificates.certificate_pem(certificate).decode("ascii")


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
