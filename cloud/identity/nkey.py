"""Ed25519 keys in NATS' own text form ("nkeys"): made, read, signed with, and checked when a stranger sends one.

The text form is the nkeys library's; signing is OpenSSL's, because the library does it in Python.
"""

import base64
import binascii
import os
from typing import Final, cast

import nkeys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

OPERATOR: Final[int] = nkeys.PREFIX_BYTE_OPERATOR
ACCOUNT: Final[int] = nkeys.PREFIX_BYTE_ACCOUNT
USER: Final[int] = nkeys.PREFIX_BYTE_USER

_PUBLIC_KEY_LENGTH: Final = 56  # base32 of prefix, 32 bytes of key and CRC-16


class Nkey:
    """A key pair of one kind: OPERATOR, ACCOUNT or USER. The private key may lie in a token."""

    def __init__(self, key: Ed25519PrivateKey, prefix: int) -> None:
        self._key = key
        self._prefix = prefix
        self.public: Final = public_text(key.public_key().public_bytes_raw(), prefix)

    @property
    def seed(self) -> bytes:
        """The private key as NATS clients read it; ValueError for a key that does not leave its token."""
        return cast(bytes, nkeys.encode_seed(self._key.private_bytes_raw(), self._prefix))

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)


def make_seed(prefix: int) -> bytes:
    """A fresh random seed of the kind `prefix` (OPERATOR, ACCOUNT or USER)."""
    return cast(bytes, nkeys.encode_seed(os.urandom(32), prefix))


def from_seed(seed: bytes, prefix: int) -> Nkey:
    """The key pair of a seed. ValueError if it does not parse or is of another kind."""
    try:
        found, raw = nkeys.decode_seed(seed)
    except (nkeys.NkeysError, binascii.Error, ValueError) as error:
        raise ValueError("not a seed of an nkey") from error
    if found != prefix:
        raise ValueError("a seed of another kind of nkey")
    return Nkey(Ed25519PrivateKey.from_private_bytes(bytes(raw[:32])), prefix)


def public_text(raw: bytes, prefix: int) -> str:
    """A raw public key as text, "U…", "A…" or "O…"."""
    body = bytes([prefix]) + raw
    return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).rstrip(b"=").decode("ascii")


def check_user_public_key(text: str) -> str:
    """`text` itself; ValueError if it is not the public key of a NATS user (form, kind and checksum)."""
    try:
        raw = base64.b32decode(text) if len(text) == _PUBLIC_KEY_LENGTH else b""
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 35 or raw[0] != USER or binascii.crc_hqx(raw[:33], 0) != int.from_bytes(raw[33:], "little"):
        raise ValueError("NATS public key: give the 56 characters of a user nkey, beginning with U")
    return text
