"""The ledger in one SQLite file, shared by threads and processes of one machine."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import sqlite_utils

from cloud.store.engine import Tables, Values
from cloud.store.errors import LedgerError

SCHEME: Final = "sqlite:"
BUSY_TIMEOUT_S: Final = 60.0  # a writer waits so long for another one; a ledger that moves takes a while
_AGAIN_S: Final = 0.05

_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_IOERR: "check its disk",
    sqlite3.SQLITE_READONLY: "let the coordinator's user write it and its folder",
    sqlite3.SQLITE_CANTOPEN: "let the coordinator's user write it and its folder",
    sqlite3.SQLITE_BUSY: "stop the program that holds it",
}


class SqliteEngine:
    """WAL, so that readers of other processes never wait for a writer; synchronous FULL, so that what a call returned
    from survives a power cut. Raises LedgerError for a folder that cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.place = f"{SCHEME}{path.absolute()}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"ledger {path}: cannot be opened ({error}): check folder and permissions") from error
        try:
            self.read_version()  # before anything is written to a file that may be somebody else's
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            self.close()
            raise self.unusable(error) from error
        except LedgerError:
            self.close()
            raise

    def execute(self, sql: str, values: Values = ()) -> sqlite3.Cursor:
        return self._connection.execute(sql, values)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def begin(self) -> None:
        self._patiently("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        self._connection.rollback()

    def tables(self) -> Tables:
        return cast(Tables, SqliteTables(self._connection, execute_plugins=False))  # a table() of more arguments

    def read_version(self) -> int:
        version = self._user_version()
        # Read again after the tables: another process may be making this very ledger.
        if version == 0 and self._has_tables() and self._user_version() == 0:
            raise LedgerError(f"ledger {self.name}: an SQLite file, but not a ledger: use another data folder")
        return version

    def write_version(self, version: int) -> None:
        self._connection.execute(f"PRAGMA user_version = {version}")

    def table_rows(self, table: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        cursor = self._connection.execute(f'SELECT * FROM "{table}"')  # nosec B608: our own name
        return [column[0] for column in cursor.description], iter(cursor)

    def add_rows(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        names, marks = ", ".join(f'"{name}"' for name in columns), ", ".join("?" for _ in columns)
        statement = f'INSERT INTO "{table}" ({names}) VALUES ({marks})'  # nosec B608: our own names
        self._connection.executemany(statement, rows)

    def settle_numbers(self) -> None:
        """SQLite goes on after the highest by itself."""

    def close(self) -> None:
        self._connection.close()

    def unusable(self, error: sqlite3.Error) -> LedgerError:
        """What to tell, with what mends it: a file that is damaged needs its backup, nothing else does."""
        primary_code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        remedy = _REMEDIES.get(primary_code, "restore it from a backup")
        return LedgerError(f"ledger {self.name}: cannot be used ({error}): {remedy}")

    def _patiently(self, sql: str) -> sqlite3.Cursor:
        """Waits, as for another writer, where another process is just making the file's WAL anew.

        SQLite itself gives up on that after a few tries ("locking protocol").
        """
        until_s = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                return self._connection.execute(sql)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_PROTOCOL or time.monotonic() >= until_s:
                    raise
            time.sleep(_AGAIN_S)

    def _user_version(self) -> int:
        return int(self._patiently("PRAGMA user_version").fetchone()[0])

    def _has_tables(self) -> bool:
        return self._connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchone() is not None


class SqliteTables(sqlite_utils.Database):
    """sqlite-utils, and what it has no word for."""

    def append_only(self, table: str) -> None:
        for act in ("UPDATE", "DELETE"):
            self.execute(
                f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
                f"BEGIN SELECT raise(ABORT, '{table} is append-only'); END"
            )
