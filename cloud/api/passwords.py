"""Passwords: what will do as one, and argon2's slow check of it."""

import secrets
import threading
from typing import Final

import argon2

PASSWORD_MIN: Final = 12
PASSWORD_MAX: Final = 1024
HASHES_AT_ONCE: Final = 2  # argon2 takes 64 MiB each


class PasswordRefused(Exception):
    """A new password that will not do; the text is for the person who typed it."""


class Passwords:
    """Hashes and verifies; both block for tens of milliseconds."""

    def __init__(self, hasher: argon2.PasswordHasher) -> None:
        self._hasher = hasher
        self._hashing = threading.BoundedSemaphore(HASHES_AT_ONCE)
        # Verified in place of an unknown user's password, so that the answer takes as long.
        self._nobodys_hash = hasher.hash(secrets.token_urlsafe(32))

    def hashed(self, username: str, password: str, repeat: str) -> str:
        """The hash of a new password. Raises PasswordRefused."""
        if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
            raise PasswordRefused(f"Password: at least {PASSWORD_MIN} characters.")
        if password != repeat:
            raise PasswordRefused("The two passwords differ.")
        if password.casefold() in {username.casefold() * n for n in range(1, PASSWORD_MIN + 1)}:
            raise PasswordRefused("Password: not the user name.")
        with self._hashing:
            return self._hasher.hash(password)

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether it is the password; without a hash it takes as long and is not."""
        with self._hashing:
            try:
                return self._hasher.verify(password_hash or self._nobodys_hash, password) and password_hash is not None
            except argon2.exceptions.VerifyMismatchError:
                return False
