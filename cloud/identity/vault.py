"""Secrets in a file that only a passphrase opens: scrypt (RFC 7914) and AES-256-GCM, bound to what the file is for."""

import secrets
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SALT_BYTES: Final = 16
_COST: Final = 1 << 15  # 32 MiB and about 0.1 s for each guess
_MOST_COST: Final = 1 << 20


class VaultError(ValueError):
    """What was sealed cannot be opened: another passphrase, or it was altered."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    purpose: str
    scrypt_n: int
    salt: bytes
    nonce: bytes
    sealed: bytes


def seal(secret: bytes, passphrase: bytes, purpose: str) -> bytes:
    """A JSON text that opens for the same passphrase and purpose only."""
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(_key(passphrase, salt, _COST)).encrypt(nonce, secret, purpose.encode())
    return msgspec.json.encode(_File(purpose=purpose, scrypt_n=_COST, salt=salt, nonce=nonce, sealed=sealed)) + b"\n"


def unseal(text: bytes, passphrase: bytes, purpose: str) -> bytes:
    """Raises VaultError."""
    try:
        file = msgspec.json.decode(text, type=_File)
    except msgspec.DecodeError as error:
        raise VaultError("is damaged, or was never sealed") from error
    if file.purpose != purpose or not 1 < file.scrypt_n <= _MOST_COST or file.scrypt_n & (file.scrypt_n - 1):
        raise VaultError(f"holds {file.purpose!r}, not {purpose!r}, or is damaged")
    try:
        key = _key(passphrase, file.salt, file.scrypt_n)
        return AESGCM(key).decrypt(file.nonce, file.sealed, purpose.encode())
    except (InvalidTag, ValueError) as error:
        raise VaultError("does not open with this passphrase, or was altered") from error


def _key(passphrase: bytes, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=_KEY_BYTES, n=cost, r=8, p=1).derive(passphrase)
