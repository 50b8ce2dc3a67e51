"""Who may use the console: first log-in by a one-time link, passwords, sessions. No HTTP in here."""

import datetime as dt
import hashlib
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import argon2

from cloud.api.lockout import Lockout
from cloud.model.audit import Detail
from cloud.model.records import LogInSession
from cloud.store.ledger import Ledger

FIRST_USER: Final = "operator"
FIRST_LINK_LIFETIME: Final = dt.timedelta(hours=24)
SESSION_LIFETIME: Final = dt.timedelta(hours=12)  # one shift
USERNAME_MOST: Final = 64
PASSWORD_MIN: Final = 12
PASSWORD_MAX: Final = 1024
LOCKOUT_WINDOW_S: Final = 900.0
ACCOUNT_FAILURES: Final = 10
ADDRESS_FAILURES: Final = 20
HASHES_AT_ONCE: Final = 2  # argon2 takes 64 MiB each

_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class AccessRefused(Exception):
    """A log-in that was refused; the text is for the person at the page."""


class LockedOut(AccessRefused):
    """Too many failures."""

    def __init__(self, locked_for_s: float) -> None:
        minutes = max(1, round(locked_for_s / 60))
        super().__init__(f"Too many failed attempts. Try again in {minutes} min.")
        self.locked_for_s = locked_for_s


class LinkSpent(AccessRefused):
    """A one-time link that gives no access (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSession:
    """A session that was just opened."""

    secret: str  # the cookie's value; kept nowhere
    username: str


def secret_hash(secret: str) -> str:
    """SHA-256, hex: what the ledger keeps of a random secret of 256 bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def utc_ms(now: dt.datetime) -> int:
    return round(now.timestamp() * 1000)


def somebody_can_log_in(ledger: Ledger) -> bool:
    return any(user.password_hash is not None for user in ledger.users())


def first_log_in_link(ledger: Ledger, base_url: str, now: dt.datetime) -> str | None:
    """A fresh one-time link to set the first user's name and password; None once somebody can log in.

    base_url: "http://host:port". The ledger keeps the link's hash only; it runs out after FIRST_LINK_LIFETIME.
    """
    token = secrets.token_urlsafe(32)
    with ledger.transaction():
        if somebody_can_log_in(ledger):
            return None
        if ledger.user(FIRST_USER) is None:
            ledger.add_user(FIRST_USER, ("operator",), password_hash=None, now_ms=utc_ms(now))
        ledger.add_log_in_token(
            secret_hash(token), FIRST_USER, expires_ms=utc_ms(now + FIRST_LINK_LIFETIME), now_ms=utc_ms(now)
        )
    return f"{base_url.rstrip('/')}/welcome/{token}"


class Access:
    """Log-ins and sessions. Methods block (argon2 takes tens of milliseconds): call them in a thread."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        now: Callable[[], dt.datetime],
        monotonic_s: Callable[[], float],
        hasher: argon2.PasswordHasher,
    ) -> None:
        self._ledger = ledger
        self._now = now
        self._hasher = hasher
        self._hashing = threading.BoundedSemaphore(HASHES_AT_ONCE)
        self._locking = threading.Lock()
        self._accounts = Lockout(failures=ACCOUNT_FAILURES, window_s=LOCKOUT_WINDOW_S, monotonic_s=monotonic_s)
        self._addresses = Lockout(failures=ADDRESS_FAILURES, window_s=LOCKOUT_WINDOW_S, monotonic_s=monotonic_s)
        # Verified in place of an unknown user's password, so that the answer takes as long.
        self._nobodys_hash = hasher.hash(secrets.token_urlsafe(32))

    def welcome_open(self) -> bool:
        """Whether the first log-in is still to come."""
        return not somebody_can_log_in(self._ledger)

    def check_link(self, token: str) -> None:
        """Raises LinkSpent unless `finish_first_log_in` would take the link."""
        if not self.welcome_open():
            raise LinkSpent("This link was used already.")
        if self._ledger.log_in_token(secret_hash(token), utc_ms(self._now())) is None:
            raise LinkSpent("This link is unknown or out of time. Restart `vpp-cloud run` for a new one.")

    def finish_first_log_in(self, token: str, username: str, password: str, repeat: str, address: str) -> OpenedSession:
        """Sets the first user's name and password and logs in. Uses the link up.

        Raises LinkSpent for a link that is unknown, used, or out of time; AccessRefused for a name or password that
        will not do, which leaves the link as it is.
        """
        self.check_link(token)
        if not _USERNAME.fullmatch(username):
            raise AccessRefused("User name: 1 to 64 of letters, digits and . _ @ -, beginning with a letter or digit.")
        if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
            raise AccessRefused(f"Password: at least {PASSWORD_MIN} characters.")
        if password != repeat:
            raise AccessRefused("The two passwords differ.")
        if password.casefold() in {username.casefold() * n for n in range(1, PASSWORD_MIN + 1)}:
            raise AccessRefused("Password: not the user name.")
        with self._hashing:
            password_hash = self._hasher.hash(password)
        now_ms = utc_ms(self._now())
        with self._ledger.transaction():
            self.check_link(token)  # again: another form may have been quicker
            invited = self._ledger.use_log_in_token(secret_hash(token), now_ms)
            assert invited is not None, "a link is its user's"  # noqa: S101
            if username == invited.username:
                self._ledger.set_password(username, password_hash)
            else:
                self._ledger.add_user(username, invited.roles, password_hash=password_hash, now_ms=now_ms)
            return self._open_session(username, address)

    def log_in(self, username: str, password: str, address: str) -> OpenedSession:
        """Raises LockedOut, or AccessRefused when name and password do not match.

        Every attempt that was looked at is in the audit log; one that was locked out costs nothing and leaves nothing,
        or a flood of them would fill the log.
        """
        with self._locking:
            locked_for_s = max(self._accounts.locked_for_s(username), self._addresses.locked_for_s(address))
            if locked_for_s > 0:
                raise LockedOut(locked_for_s)
            # Counted before the slow check, so that attempts side by side do not slip through.
            self._accounts.failed(username)
            self._addresses.failed(address)
        user = self._ledger.user(username)
        known_hash = None if user is None else user.password_hash
        if not self._verify(known_hash or self._nobodys_hash, password) or known_hash is None:
            locked = self._accounts.locked_for_s(username) > 0 or self._addresses.locked_for_s(address) > 0
            self._audit("log-in.failed", f"address:{address}", username[:USERNAME_MOST], locked=locked)
            raise AccessRefused("User name and password do not match.")
        with self._locking:
            self._accounts.succeeded(username)
            self._addresses.succeeded(address)
        return self._open_session(username, address)

    def session(self, secret: str | None) -> LogInSession | None:
        """The session of a cookie's value, unless it is over."""
        if not secret:
            return None
        return self._ledger.log_in_session(secret_hash(secret), utc_ms(self._now()))

    def session_valid(self, session_hash: str) -> bool:
        return self._ledger.log_in_session(session_hash, utc_ms(self._now())) is not None

    def log_out(self, session_hash: str) -> None:
        with self._ledger.transaction():
            session = self._ledger.log_in_session(session_hash, utc_ms(self._now()))
            if session is not None:
                self._ledger.end_log_in_session(session_hash)
                self._audit("log-out", f"user:{session.username}", session.username)

    def _open_session(self, username: str, address: str) -> OpenedSession:
        secret = secrets.token_urlsafe(32)
        now = self._now()
        session = LogInSession(
            session_hash=secret_hash(secret),
            username=username,
            created_ms=utc_ms(now),
            expires_ms=utc_ms(now + SESSION_LIFETIME),
        )
        with self._ledger.transaction():
            self._ledger.add_log_in_session(session)
            self._audit("log-in", f"user:{username}", username, address=address)
        return OpenedSession(secret=secret, username=username)

    def _audit(self, action: str, actor: str, subject: str, **detail: Detail) -> None:
        self._ledger.audit(action, actor=actor, subject=subject, at_ms=utc_ms(self._now()), **detail)

    def _verify(self, password_hash: str, password: str) -> bool:
        with self._hashing:
            try:
                return self._hasher.verify(password_hash, password)
            except argon2.exceptions.VerifyMismatchError:
                return False
