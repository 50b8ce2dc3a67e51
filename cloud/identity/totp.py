"""The second factor: time-based one-time passwords (RFC 6238), as authenticator apps make them."""

import base64
import secrets
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor import InvalidToken
from cryptography.hazmat.primitives.twofactor.totp import TOTP

STEP_S: Final = 30
DIGITS: Final = 6
ISSUER: Final = "Murmuration"
_SECRET_BYTES: Final = 20  # RFC 4226, section 4: 160 bits are recommended
_SKEW_STEPS: Final = 1  # RFC 6238, section 5.2: one step of network and typing delay


def new_secret() -> bytes:
    return secrets.token_bytes(_SECRET_BYTES)


def typed(secret: bytes) -> str:
    """The secret for whoever types it into an app: base 32, in fours."""
    text = base64.b32encode(secret).decode()
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4))


def provisioning_uri(secret: bytes, username: str) -> str:
    """What an authenticator app reads from the QR code ("otpauth://totp/...")."""
    return _totp(secret).get_provisioning_uri(username, ISSUER)


def matching_step(secret: bytes, code: str, *, at_s: float, after_step: int | None) -> int | None:
    """The time step whose code this is; None where it is none of now's.

    at_s: UTC [s since 1970]. after_step: of the last code that was taken: each is good once (RFC 6238, section 5.2).
    """
    digits = code.replace(" ", "")
    if len(digits) != DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    totp, now_step = _totp(secret), int(at_s // STEP_S)
    for step in range(now_step - _SKEW_STEPS, now_step + _SKEW_STEPS + 1):
        try:
            totp.verify(digits.encode(), step * STEP_S)
        except InvalidToken:
            continue
        return step if after_step is None or step > after_step else None
    return None


def _totp(secret: bytes) -> TOTP:
    return TOTP(secret, DIGITS, SHA1(), STEP_S, enforce_key_length=False)  # nosec B303: what the apps know
