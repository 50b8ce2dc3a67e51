"""Who may log in to the console, and who is."""

from cloud.model.records import LogInSession, LogInToken, User
from cloud.store.audit import AuditLog
from cloud.store.errors import LedgerError


class People(AuditLog):
    """Users, their sessions and one-time links. Secrets are kept as hashes only."""

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
            changed = self._execute(
                "UPDATE users SET password_hash = ? WHERE username = ?", (password_hash, username)
            ).rowcount
            if changed == 0:
                raise LedgerError(f"user {username!r} is unknown")
            self._execute("DELETE FROM log_in_sessions WHERE username = ?", (username,))

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

    def use_log_in_token(self, token_hash: str, now_ms: int) -> User | None:
        """The user whose link it is; None when it is unknown, used before or over. It is used up."""
        with self.transaction():
            token = self.log_in_token(token_hash, now_ms)
            if token is None:
                return None
            self._execute("UPDATE log_in_tokens SET used_ms = ? WHERE token_hash = ?", (now_ms, token_hash))
            return self.user(token.username)
