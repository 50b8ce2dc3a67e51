"""Who may use the console and its API: log-ins, sessions, tokens. No HTTP in here."""

import datetime as dt
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cloud.api.accounts import USERNAME_MOST, AccountRefused, check_username, second_factor_purpose, secret_hash, utc_ms
from cloud.api.lockout import Lockout
from cloud.api.passwords import PasswordRefused, Passwords
from cloud.identity import totp
from cloud.identity.sealing import Sealer
from cloud.model.access import Permission, Principal, permissions
from cloud.model.audit import Detail
from cloud.model.records import LogInSession, LogInToken, User
from cloud.store.ledger import Ledger

FIRST_USER: Final = "admin"
FIRST_LINK_LIFETIME: Final = dt.timedelta(hours=24)
SESSION_LIFETIME: Final = dt.timedelta(hours=12)  # one shift
LOCKOUT_WINDOW_S: Final = 900.0
ACCOUNT_FAILURES: Final = 10
ADDRESS_FAILURES: Final = 20
TOKEN_USED_MS: Final = 60_000  # how exactly a token's last use is kept
REFUSALS_TOLD_S: Final = 60.0  # between two entries of the same refusal


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """Whose link it is. The first user of all may choose another name."""

    username: str
    first: bool


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
            ledger.add_user(FIRST_USER, ("admin",), password_hash=None, now_ms=utc_ms(now))
        ledger.add_log_in_token(
            secret_hash(token), FIRST_USER, expires_ms=utc_ms(now + FIRST_LINK_LIFETIME), now_ms=utc_ms(now)
        )
    return welcome_link(base_url, token)


def welcome_link(base_url: str, token: str) -> str:
    return f"{base_url.rstrip('/')}/welcome/{token}"


class Access:
    """Log-ins, sessions and tokens. Methods block (argon2 takes tens of milliseconds): call them in a thread.

    allow_password_only: roles are in force without a second factor. Else such a person may look, and nothing more.
    """

    def __init__(
        self,
        ledger: Ledger,
        sealer: Sealer,
        passwords: Passwords,
        *,
        now: Callable[[], dt.datetime],
        monotonic_s: Callable[[], float],
        allow_password_only: bool = False,
    ) -> None:
        self._ledger = ledger
        self._sealer = sealer
        self._passwords = passwords
        self._now = now
        self._monotonic_s = monotonic_s
        self._allow_password_only = allow_password_only
        self._locking = threading.Lock()
        self._accounts = Lockout(failures=ACCOUNT_FAILURES, window_s=LOCKOUT_WINDOW_S, monotonic_s=monotonic_s)
        self._addresses = Lockout(failures=ADDRESS_FAILURES, window_s=LOCKOUT_WINDOW_S, monotonic_s=monotonic_s)
        self._refusal_told_s: dict[tuple[str, str], float] = {}

    def nobody_yet(self) -> bool:
        """Whether the first log-in is still to come."""
        return not somebody_can_log_in(self._ledger)

    def invitation(self, token: str) -> Invitation:
        """Whose link it is. Raises LinkSpent unless `accept` would take it."""
        return self._invitation(token)[0]

    def accept(self, token: str, username: str, password: str, repeat: str, address: str) -> OpenedSession:
        """Sets the password of a link's user and logs in. Uses the link up, and every other one of the user.

        Raises LinkSpent for a link that is unknown, used, or out of time; AccessRefused for a name or password that
        will not do, which leaves the link as it is.
        """
        invited, _ = self._invitation(token)
        username = username if invited.first else invited.username
        try:
            check_username(username)
            password_hash = self._passwords.hashed(username, password, repeat)
        except (AccountRefused, PasswordRefused) as refusal:
            raise AccessRefused(str(refusal)) from refusal
        now_ms = utc_ms(self._now())
        with self._ledger.transaction():
            _, link = self._invitation(token)  # again: another form may have been quicker
            user = self._ledger.user(link.username)
            assert user is not None, "a link is its user's"  # noqa: S101
            if username == user.username:
                self._ledger.set_password(username, password_hash)
            else:
                self._ledger.add_user(username, user.roles, password_hash=password_hash, now_ms=now_ms)
                self._ledger.set_disabled(user.username, now_ms)
            self._ledger.use_log_in_tokens(user.username, now_ms)
            self._audit("account.password", f"user:{username}", username, address=address)
            return self._open_session(username, address)

    def log_in(self, username: str, password: str, code: str, address: str) -> OpenedSession:
        """Raises LockedOut, or AccessRefused when name, password and the second factor's code do not match.

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
        user = self._ledger.user(username) if username.isprintable() else None  # PostgreSQL takes no zero in a text
        matches = self._passwords.verify(None if user is None else user.password_hash, password)
        if not matches or user is None or user.disabled_ms is not None or not self._second_factor(user, code):
            locked = self._accounts.locked_for_s(username) > 0 or self._addresses.locked_for_s(address) > 0
            shown = "".join(filter(str.isprintable, username[:USERNAME_MOST]))
            self._audit("log-in.failed", f"address:{address}", shown, locked=locked)
            raise AccessRefused("User name, password and code do not match.")
        with self._locking:
            self._accounts.succeeded(username)
            self._addresses.succeeded(address)
        return self._open_session(username, address)

    def change_password(self, username: str, old: str, new: str, repeat: str, address: str) -> OpenedSession:
        """Ends all sessions of the person, and opens one. Raises LockedOut, AccessRefused."""
        with self._locking:
            if (locked_for_s := self._accounts.locked_for_s(username)) > 0:
                raise LockedOut(locked_for_s)
            self._accounts.failed(username)
        user = self._ledger.user(username)
        if user is None or not self._passwords.verify(user.password_hash, old):
            raise AccessRefused("The old password does not match.")
        try:
            password_hash = self._passwords.hashed(username, new, repeat)
        except PasswordRefused as refusal:
            raise AccessRefused(str(refusal)) from refusal
        with self._locking:
            self._accounts.succeeded(username)
        with self._ledger.transaction():
            self._ledger.set_password(username, password_hash)
            self._audit("account.password", f"user:{username}", username, address=address)
            return self._open_session(username, address)

    def principal(self, secret: str | None) -> Principal | None:
        """Whose session a cookie's value is, with the roles they have now; None when it is over."""
        if not secret:
            return None
        session = self._ledger.log_in_session(secret_hash(secret), utc_ms(self._now()))
        user = None if session is None else self._ledger.user(session.username)
        if user is None or user.disabled_ms is not None:
            return None
        held = permissions(user.roles)
        missing = not user.second_factor and not self._allow_password_only and held != {Permission.VIEW}
        return Principal(
            actor=f"user:{user.username}",
            name=user.username,
            permissions=held & {Permission.VIEW} if missing else held,
            session=session,
            second_factor_missing=missing,
        )

    def program(self, token: str, address: str) -> Principal | None:
        """Whose token it is. Raises LockedOut for an address that guessed too often."""
        with self._locking:
            if (locked_for_s := self._addresses.locked_for_s(address)) > 0:
                raise LockedOut(locked_for_s)
        now_ms = utc_ms(self._now())
        found = self._ledger.api_token(secret_hash(token), now_ms)
        if found is None:
            with self._locking:
                self._addresses.failed(address)
            return None
        if found.used_ms is None or found.used_ms <= now_ms - TOKEN_USED_MS:
            self._ledger.api_token_used(found.token_hash, now_ms)
        scopes = frozenset(map(Permission, found.scopes))
        return Principal(actor=f"token:{found.name}", name=found.name, permissions=scopes)

    def refused(self, principal: Principal, permission: Permission, what: str) -> None:
        """Keeps in the audit log that somebody asked for what they may not; the same again within a minute once."""
        mark = (principal.actor, permission.value)
        now_s = self._monotonic_s()
        with self._locking:
            if now_s - self._refusal_told_s.get(mark, float("-inf")) < REFUSALS_TOLD_S:
                return
            self._refusal_told_s[mark] = now_s
        self._audit("access.refused", principal.actor, what[:200], needs=permission.value)

    def session_valid(self, session_hash: str) -> bool:
        return self._ledger.log_in_session(session_hash, utc_ms(self._now())) is not None

    def log_out(self, session_hash: str) -> None:
        with self._ledger.transaction():
            session = self._ledger.log_in_session(session_hash, utc_ms(self._now()))
            if session is not None:
                self._ledger.end_log_in_session(session_hash)
                self._audit("log-out", f"user:{session.username}", session.username)

    def _invitation(self, token: str) -> tuple[Invitation, LogInToken]:
        link = self._ledger.log_in_token(secret_hash(token), utc_ms(self._now()))
        if link is None:
            remedy = "Restart `vpp-cloud run` for a new one" if self.nobody_yet() else "Ask an administrator for one"
            raise LinkSpent(f"This link is unknown, used or out of time. {remedy}.")
        user = self._ledger.user(link.username)
        first = user is not None and user.username == FIRST_USER and user.password_hash is None and self.nobody_yet()
        return Invitation(username=link.username, first=first), link

    def _second_factor(self, user: User, code: str) -> bool:
        """Whether it is a code of the person's app, which is used up by this; true where there is none to ask for."""
        if not user.second_factor or user.totp_secret is None:
            return True
        secret = self._sealer.open(user.totp_secret, second_factor_purpose(user.username))
        step = totp.matching_step(secret, code, at_s=self._now().timestamp(), after_step=user.totp_last_step)
        return step is not None and self._ledger.take_second_factor(user.username, step)

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
