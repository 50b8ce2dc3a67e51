"""Who may log in to the console, who is, and which programs may call."""

import msgspec

from cloud.model.records import ApiToken, LogInSession, LogInToken, User
from cloud.store.audit import AuditLog
from cloud.store.errors import LedgerError


class People(AuditLog):
    """Users, their sessions and one-time links, tokens of programs. Secrets are kept as hashes, or sealed."""

    def add_user(self, username: str, roles: tuple[str, ...], *, password_hash: str | None, now_ms: int) -> User:
        """Raises LedgerError when the name is taken."""
        user = User(username=username, password_hash=password_hash, roles=roles, created_ms=now_ms)
        with self.transaction():
            if self.user(username) is not None:
                raise LedgerError(f"user {username!r} exists already: choose another name")
            self._insert("users", user)
        return user

    def user(self, username: str) -> User | None:
        return self._one(User, "SELECT * FROM users WHERE username = ?", (username,))

    def users(self) -> list[User]:
        return self._all(User, "SELECT * FROM users ORDER BY username")

    def set_password(self, username: str, password_hash: str) -> None:
        """Raises LedgerError for an unknown user. Ends all sessions of the user."""
        with self.transaction():
            self._change_user("UPDATE users SET password_hash = ? WHERE username = ?", (password_hash, username))
            self.end_log_in_sessions(username)

    def set_roles(self, username: str, roles: tuple[str, ...]) -> None:
        """Raises LedgerError for an unknown user."""
        self._change_user(
            "UPDATE users SET roles = ? WHERE username = ?", (msgspec.json.encode(roles).decode(), username)
        )

    def set_disabled(self, username: str, disabled_ms: int | None) -> None:
        """Shuts a user out, ending all sessions and links; None lets in again. LedgerError for an unknown user."""
        with self.transaction():
            self._change_user("UPDATE users SET disabled_ms = ? WHERE username = ?", (disabled_ms, username))
            if disabled_ms is not None:
                self.end_log_in_sessions(username)
                self.use_log_in_tokens(username, disabled_ms)

    def set_second_factor(self, username: str, sealed: str | None, *, confirmed_ms: int | None) -> None:
        """Keeps the sealed secret of one-time passwords; None takes it away. LedgerError for an unknown user."""
        self._change_user(
            "UPDATE users SET totp_secret = ?, totp_confirmed_ms = ?, totp_last_step = NULL WHERE username = ?",
            (sealed, confirmed_ms, username),
        )

    def take_second_factor(self, username: str, step: int) -> bool:
        """Marks a time step's code as used; False where it, or a later one, was used before."""
        return (
            self._execute(
                "UPDATE users SET totp_last_step = ? WHERE username = ? AND coalesce(totp_last_step, -1) < ?",
                (step, username, step),
            ).rowcount
            == 1
        )

    def _change_user(self, sql: str, values: tuple[object, ...]) -> None:
        if self._execute(sql, values).rowcount == 0:
            raise LedgerError(f"user {values[-1]!r} is unknown")

    def add_log_in_session(self, session: LogInSession) -> None:
        """Keeps the session and forgets those that are over."""
        with self.transaction():
            self._execute("DELETE FROM log_in_sessions WHERE expires_ms <= ?", (session.created_ms,))
            self._insert("log_in_sessions", session)

    def log_in_session(self, session_hash: str, now_ms: int) -> LogInSession | None:
        """The session, unless it is unknown or over."""
        return self._one(
            LogInSession,
            "SELECT * FROM log_in_sessions WHERE session_hash = ? AND expires_ms > ?",
            (session_hash, now_ms),
        )

    def end_log_in_sessions(self, username: str) -> None:
        self._execute("DELETE FROM log_in_sessions WHERE username = ?", (username,))

    def end_log_in_session(self, session_hash: str) -> None:
        self._execute("DELETE FROM log_in_sessions WHERE session_hash = ?", (session_hash,))

    def add_log_in_token(self, token_hash: str, username: str, *, expires_ms: int, now_ms: int) -> None:
        """A one-time link for the user. Raises LedgerError for an unknown user."""
        with self.transaction():
            if self.user(username) is None:
                raise LedgerError(f"user {username!r} is unknown")
            token = LogInToken(token_hash=token_hash, username=username, created_ms=now_ms, expires_ms=expires_ms)
            self._insert("log_in_tokens", token)

    def log_in_token(self, token_hash: str, now_ms: int) -> LogInToken | None:
        """The link; None when it is unknown, used before or over."""
        return self._one(
            LogInToken,
            "SELECT * FROM log_in_tokens WHERE token_hash = ? AND used_ms IS NULL AND expires_ms > ?",
            (token_hash, now_ms),
        )

    def use_log_in_tokens(self, username: str, now_ms: int) -> None:
        """Uses up every link of the user."""
        self._execute("UPDATE log_in_tokens SET used_ms = ? WHERE username = ? AND used_ms IS NULL", (now_ms, username))

    def add_api_token(self, token: ApiToken) -> None:
        """Raises LedgerError when the name is taken, also by one that is over."""
        with self.transaction():
            if self._one(ApiToken, "SELECT * FROM api_tokens WHERE name = ?", (token.name,)) is not None:
                raise LedgerError(f"token {token.name!r} exists already: choose another name")
            self._insert("api_tokens", token)

    def api_token(self, token_hash: str, now_ms: int) -> ApiToken | None:
        """The token; None when it is unknown, revoked or over."""
        return self._one(
            ApiToken,
            "SELECT * FROM api_tokens WHERE token_hash = ? AND revoked_ms IS NULL AND expires_ms > ?",
            (token_hash, now_ms),
        )

    def api_tokens(self) -> list[ApiToken]:
        return self._all(ApiToken, "SELECT * FROM api_tokens ORDER BY name")

    def api_token_used(self, token_hash: str, now_ms: int) -> None:
        self._execute("UPDATE api_tokens SET used_ms = ? WHERE token_hash = ?", (now_ms, token_hash))

    def revoke_api_token(self, name: str, now_ms: int) -> None:
        """Raises LedgerError for an unknown name, or one that is revoked."""
        changed = self._execute(
            "UPDATE api_tokens SET revoked_ms = ? WHERE name = ? AND revoked_ms IS NULL", (now_ms, name)
        ).rowcount
        if changed == 0:
            raise LedgerError(f"token {name!r} is unknown or revoked")
