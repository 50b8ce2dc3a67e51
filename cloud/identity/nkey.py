"""Ed25519 keys in NATS' own text form ("nkeys"): made, read, signed with, and checked when a stranger sends one."""

import base64
import binascii
import os
from typing import Final, Protocol, cast

import nkeys

OPERATOR: Final[int] = nkeys.PREFIX_BYTE_OPERATOR
ACCOUNT: Final[int] = nkeys.PREFIX_BYTE_ACCOUNT
USER: Final[int] = nkeys.PREFIX_BYTE_USER

_PUBLIC_KEY_LENGTH: Final = 56  # base32 of prefix, 32 bytes of key and CRC-16


class Nkey(Protocol):
    """A key pair of the nkeys library, as far as it is used here."""

    @property
    def public_key(self) -> bytes: ...
    @property
    def seed(self) -> bytes: ...
    def sign(self, data: bytes, /) -> bytes: ...


def make_seed(prefix: int) -> bytes:
    """A fresh random seed of the kind `prefix` (OPERATOR, ACCOUNT or USER)."""
    return cast(bytes, nkeys.encode_seed(os.urandom(32), prefix))


def from_seed(seed: bytes, prefix: int) -> Nkey:
    """The key pair of a seed. ValueError if it does not parse or is of another kind."""
    try:
        found, _ = nkeys.decode_seed(seed)
        pair = cast(Nkey, nkeys.from_seed(seed))
    except (nkeys.NkeysError, binascii.Error, ValueError) as error:
        raise ValueError("not a seed of an nkey") from error
    if found != prefix:
        raise ValueError("a seed of another kind of nkey")
    return pair


def public(pair: Nkey) -> str:
    """The public key as text, "U…", "A…" or "O…"."""
    return pair.public_key.decode("ascii")


def check_user_public_key(text: str) -> str:
    """`text` itself; ValueError if it is not the public key of a NATS user (form, kind and checksum)."""
    try:
        raw = base64.b32decode(text) if len(text) == _PUBLIC_KEY_LENGTH else b""
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 35 or raw[0] != USER or nkeys.crc16(bytearray(raw[:33])) != int.from_bytes(raw[33:], "little"):
        raise ValueError("NATS public key: give the 56 characters of a user nkey, beginning with U")
    return text
