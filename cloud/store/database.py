"""One SQLite file, shared by threads and processes, brought to the current schema when it is opened."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import sqlite_utils

from cloud.store.errors import LedgerError
from cloud.store.rows import Record, from_row, to_row
from cloud.store.schema import MIGRATIONS

BUSY_TIMEOUT_S = 10.0
Migration = Callable[[sqlite_utils.Database], None]


_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_IOERR: "check its disk",
    sqlite3.SQLITE_READONLY: "let the coordinator's user write it and its folder",
    sqlite3.SQLITE_CANTOPEN: "let the coordinator's user write it and its folder",
    sqlite3.SQLITE_BUSY: "stop the program that holds it",
}


def _remedy(error: sqlite3.Error) -> str:
    """What mends it: a file that is damaged needs its backup, nothing else does."""
    primary_code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return _REMEDIES.get(primary_code, "restore it from a backup")


class LedgerFile:
    """The connection, its lock and transactions; what the ledger's parts stand on.

    WAL, so that readers of other processes never wait for a writer; synchronous FULL, so that what a call returned
    from survives a power cut. Raises LedgerError for a file of a newer version, a file that is no ledger, or a
    folder that cannot be written.
    """

    def __init__(self, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"ledger {path}: cannot be opened ({error}): check folder and permissions") from error
        self._connection.row_factory = sqlite3.Row
        try:
            self._migrate(migrations)
        except sqlite3.Error as error:
            self._connection.close()
            raise LedgerError(f"ledger {path}: cannot be used ({error}): {_remedy(error)}") from error
        except BaseException:
            self._connection.close()
            raise

    def _migrate(self, migrations: Sequence[Migration]) -> None:
        execute = self._connection.execute
        known = len(migrations)
        version = int(execute("PRAGMA user_version").fetchone()[0])
        if version > known:
            raise LedgerError(
                f"ledger {self.path}: written by a newer version (schema {version}, this one knows {known}): "
                "use that version or another data folder"
            )
        # Read again after the tables: another process may be making this very ledger.
        if version == 0 and self._has_tables() and execute("PRAGMA user_version").fetchone()[0] == 0:
            raise LedgerError(f"ledger {self.path}: an SQLite file, but not a ledger: use another data folder")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA foreign_keys = ON")
        if version == known:
            return
        database = sqlite_utils.Database(self._connection, execute_plugins=False)
        with self.transaction():
            version = int(execute("PRAGMA user_version").fetchone()[0])  # another process may have been first
            for migration in migrations[version:]:
                migration(database)
            execute(f"PRAGMA user_version = {max(version, known)}")

    def _has_tables(self) -> bool:
        return self._connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchone() is not None

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All calls inside take effect together, or none. Other threads and writing processes wait."""
        with self._lock:
            if self._connection.in_transaction:  # a part of a bigger one
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise

    def _execute(self, sql: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> sqlite3.Cursor:
        with self._lock:
            return self._connection.execute(sql, values)

    def _all(self, cls: type[Record], sql: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> list[Record]:
        with self._lock:
            return [from_row(cls, row) for row in self._connection.execute(sql, values)]

    def _one(self, cls: type[Record], sql: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> Record | None:
        with self._lock:
            row = self._connection.execute(sql, values).fetchone()
        return None if row is None else from_row(cls, row)

    def _insert(self, table: str, record: Any) -> None:
        row = to_row(record)
        self._execute(f"INSERT INTO {table} {_values(row)}", row)

    def _put(self, table: str, key: str, record: Any) -> None:
        """Inserts, or updates the row of the same key."""
        row = to_row(record)
        updates = ", ".join(f'"{name}" = excluded."{name}"' for name in row if name != key)
        self._execute(f"INSERT INTO {table} {_values(row)} ON CONFLICT ({key}) DO UPDATE SET {updates}", row)


def _values(row: Mapping[str, Any]) -> str:
    names, marks = ", ".join(f'"{name}"' for name in row), ", ".join(f":{name}" for name in row)
    return f"({names}) VALUES ({marks})"
