"""Claim tokens: the one-time right to enrol as a site. The ledger keeps a token's hash, never the token."""

import base64
import hashlib
import secrets
from datetime import timedelta
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.model.records import Site
from cloud.store.audit import COORDINATOR
from cloud.store.ledger import Ledger

_TOKEN_BYTES: Final = 20  # 160 bits: not guessed, and 32 characters without padding
LONGEST_LIFETIME: Final = timedelta(days=90)


def issue_claim(ledger: Ledger, site: str, *, now_ms: int, lifetime: timedelta, actor: str = COORDINATOR) -> str:
    """A new token for a site in the registry. actor: who issues it, for the audit log.

    Raises LedgerError for an unknown site, ValueError for the lifetime.
    """
    if not timedelta(0) < lifetime <= LONGEST_LIFETIME:
        raise ValueError(f"a claim lives for more than nothing and at most {LONGEST_LIFETIME.days} days")
    token = base64.b32encode(secrets.token_bytes(_TOKEN_BYTES)).decode().lower()
    expires_ms = now_ms + lifetime // timedelta(milliseconds=1)
    ledger.add_claim(token_hash(token), site, expires_ms=expires_ms, now_ms=now_ms, actor=actor)
    return token


def redeem_claim(
    ledger: Ledger,
    token: str,
    keys: str,
    nats_public_key: str,
    *,
    now_ms: int,
    gateway_key: str | None = None,
    request: bytes = b"",
) -> Site:
    """The site the token enrols; the token is used up, in one transaction. Raises ClaimError.

    keys: `keys_fingerprint` of who redeems. The same keys are answered again, because their answer may have been lost.
    gateway_key: `key_fingerprint` of the certificate's key. request: its bytes, which are answered once.
    """
    mark = hashlib.sha256(request).hexdigest() if request else ""
    return ledger.use_claim(token_hash(token), keys, now_ms, nats_public_key, gateway_key=gateway_key, request=mark)


def keys_fingerprint(public_key: ec.EllipticCurvePublicKey, nats_public_key: str) -> str:
    """SHA-256, hex, of the two keys that a gateway enrols with. A request's own bytes differ each time it is signed."""
    return hashlib.sha256(_der(public_key) + nats_public_key.encode("ascii")).hexdigest()


def key_fingerprint(public_key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256, hex, by which a site's certificate is known to be its own, whoever signed it."""
    return hashlib.sha256(_der(public_key)).hexdigest()


def _der(public_key: ec.EllipticCurvePublicKey) -> bytes:
    return public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def token_hash(token: str) -> str:
    """SHA-256, hex. A plain hash will do: the token is random, not chosen by a person."""
    return hashlib.sha256(token.strip().lower().encode()).hexdigest()
