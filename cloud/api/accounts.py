"""Accounts, roles, second factors and tokens of programs: what an administrator, or a person, changes about them."""

import datetime as dt
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from cloud.identity import totp
from cloud.identity.sealing import Sealer
from cloud.model.access import Permission, check_roles, check_scopes, permissions
from cloud.model.audit import Detail
from cloud.model.records import ApiToken, User
from cloud.store.ledger import Ledger

LINK_LIFETIME: Final = dt.timedelta(hours=24)
TOKEN_DAYS_MOST: Final = 366
TOKEN_PREFIX: Final = "vppt_"  # so that a scanner of leaked secrets can know one
USERNAME_MOST: Final = 64

_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_TOKEN_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class AccountRefused(Exception):
    """A change that was refused; the text is for the person who asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecondFactor:
    """What an authenticator app is given; in force once a first code was typed."""

    uri: str
    typed: str


def secret_hash(secret: str) -> str:
    """SHA-256, hex: what the ledger keeps of a random secret of 256 bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def utc_ms(now: dt.datetime) -> int:
    return round(now.timestamp() * 1000)


def second_factor_purpose(username: str) -> str:
    return f"second factor of {username}"


class Accounts:
    """Changes accounts; each change is in the audit log under whoever asked for it (`by`, as the log has it)."""

    def __init__(self, ledger: Ledger, sealer: Sealer, *, now: Callable[[], dt.datetime]) -> None:
        self._ledger = ledger
        self._sealer = sealer
        self._now = now

    def invite(self, username: str, roles: Iterable[str], by: str) -> str:
        """A new user's one-time token, to choose a password with. Raises AccountRefused."""
        check_username(username)
        checked = _or_refused(check_roles, roles)
        with self._ledger.transaction():
            if self._ledger.user(username) is not None:
                raise AccountRefused(f"{username} exists already.")
            self._ledger.add_user(username, checked, password_hash=None, now_ms=self._now_ms())
            self._audit("account.added", username, by, roles=", ".join(checked))
            return self._new_link(username)

    def new_link(self, username: str, by: str) -> str:
        """A further one-time token: a link was lost, or a password forgotten. Raises AccountRefused."""
        with self._ledger.transaction():
            if self._user(username).disabled_ms is not None:
                raise AccountRefused(f"{username} is disabled: enable the account first.")
            self._audit("account.link", username, by)
            return self._new_link(username)

    def set_roles(self, username: str, roles: Iterable[str], by: str) -> None:
        """Takes effect with the person's next request. Raises AccountRefused."""
        checked = _or_refused(check_roles, roles)
        with self._ledger.transaction():
            before = self._user(username).roles
            if Permission.PEOPLE not in permissions(checked):
                self._not_the_last(username)
            self._ledger.set_roles(username, checked)
            self._audit("account.roles", username, by, roles=", ".join(checked), before=", ".join(before))

    def disable(self, username: str, by: str) -> None:
        """Ends the sessions and links of a user and lets in no more. Raises AccountRefused."""
        with self._ledger.transaction():
            self._user(username)
            self._not_the_last(username)
            self._ledger.set_disabled(username, self._now_ms())
            self._audit("account.disabled", username, by)

    def enable(self, username: str, by: str) -> None:
        """Raises AccountRefused."""
        with self._ledger.transaction():
            self._user(username)
            self._ledger.set_disabled(username, None)
            self._audit("account.enabled", username, by)

    def has_second_factor(self, username: str) -> bool:
        return self._user(username).second_factor

    def new_second_factor(self, username: str) -> NewSecondFactor:
        """A fresh secret, which `confirm_second_factor` puts in force. Raises AccountRefused where one is in force."""
        secret = totp.new_secret()
        with self._ledger.transaction():
            if self._user(username).second_factor:
                raise AccountRefused("A second factor is in force: an administrator can take it away.")
            sealed = self._sealer.seal(secret, second_factor_purpose(username))
            self._ledger.set_second_factor(username, sealed, confirmed_ms=None)
        return NewSecondFactor(uri=totp.provisioning_uri(secret, username), typed=totp.typed(secret))

    def confirm_second_factor(self, username: str, code: str) -> None:
        """Puts the fresh secret in force by a first code. Raises AccountRefused."""
        with self._ledger.transaction():
            user = self._user(username)
            if user.totp_secret is None or user.second_factor:
                raise AccountRefused("There is no new second factor to confirm: begin anew.")
            secret = self._sealer.open(user.totp_secret, second_factor_purpose(username))
            step = totp.matching_step(secret, code, at_s=self._now().timestamp(), after_step=None)
            if step is None:
                raise AccountRefused("The code does not match: check the clocks of the phone and of this machine.")
            self._ledger.set_second_factor(username, user.totp_secret, confirmed_ms=self._now_ms())
            self._ledger.take_second_factor(username, step)
            self._audit("account.second-factor", username, f"user:{username}")

    def remove_second_factor(self, username: str, by: str) -> None:
        """For a person who lost the app; ends their sessions. Raises AccountRefused."""
        with self._ledger.transaction():
            self._user(username)
            self._ledger.set_second_factor(username, None, confirmed_ms=None)
            self._ledger.end_log_in_sessions(username)
            self._audit("account.second-factor-removed", username, by)

    def add_token(self, name: str, scopes: Iterable[str], days: int, by: str) -> str:
        """A program's token; it is shown this once and kept as a hash. Raises AccountRefused."""
        if not _TOKEN_NAME.fullmatch(name):
            raise AccountRefused("Token name: 1 to 63 of a-z 0-9 _ -, beginning with a letter or digit.")
        if not 1 <= days <= TOKEN_DAYS_MOST:
            raise AccountRefused(f"Token lifetime: 1 to {TOKEN_DAYS_MOST} days.")
        checked = _or_refused(check_scopes, scopes)
        secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
        now = self._now()
        token = ApiToken(
            token_hash=secret_hash(secret),
            name=name,
            scopes=checked,
            created_by=by,
            created_ms=utc_ms(now),
            expires_ms=utc_ms(now + dt.timedelta(days=days)),
        )
        with self._ledger.transaction():
            if any(known.name == name for known in self._ledger.api_tokens()):
                raise AccountRefused(f"Token {name} exists already: choose another name.")
            self._ledger.add_api_token(token)
            self._audit("token.added", name, by, scopes=", ".join(checked), days=days)
        return secret

    def revoke_token(self, name: str, by: str) -> None:
        """Raises AccountRefused for one that is unknown or revoked."""
        with self._ledger.transaction():
            if not any(known.name == name and known.revoked_ms is None for known in self._ledger.api_tokens()):
                raise AccountRefused(f"Token {name} is unknown or revoked.")
            self._ledger.revoke_api_token(name, self._now_ms())
            self._audit("token.revoked", name, by)

    def _new_link(self, username: str) -> str:
        token = secrets.token_urlsafe(32)
        now = self._now()
        self._ledger.add_log_in_token(
            secret_hash(token), username, expires_ms=utc_ms(now + LINK_LIFETIME), now_ms=utc_ms(now)
        )
        return token

    def _user(self, username: str) -> User:
        user = self._ledger.user(username)
        if user is None:
            raise AccountRefused(f"There is no user {username[:USERNAME_MOST]}.")
        return user

    def _not_the_last(self, username: str) -> None:
        """Raises AccountRefused where nobody else could mend it afterwards."""
        others = (
            user
            for user in self._ledger.users()
            if user.username != username and user.disabled_ms is None and user.password_hash is not None
        )
        if Permission.PEOPLE in permissions(self._user(username).roles) and not any(
            Permission.PEOPLE in permissions(user.roles) for user in others
        ):
            raise AccountRefused(f"{username} is the last administrator who can log in: make another one first.")

    def _audit(self, action: str, subject: str, by: str, **detail: Detail) -> None:
        self._ledger.audit(action, actor=by, subject=subject, at_ms=self._now_ms(), **detail)

    def _now_ms(self) -> int:
        return utc_ms(self._now())


def check_username(username: str) -> None:
    """Raises AccountRefused."""
    if not _USERNAME.fullmatch(username):
        raise AccountRefused("User name: 1 to 64 of letters, digits and . _ @ -, beginning with a letter or digit.")


def _or_refused(check: Callable[[Iterable[str]], tuple[str, ...]], names: Iterable[str]) -> tuple[str, ...]:
    try:
        return check(names)
    except ValueError as error:
        raise AccountRefused(f"{error}.") from error
