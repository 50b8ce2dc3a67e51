"""One database, shared by threads and processes, brought to the current schema when it is opened."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from opentelemetry import trace

from cloud.model.records import Move
from cloud.store.engine import POSTGRES, AwayEngine, Cursor, Engine, Tables, Values
from cloud.store.errors import LedgerError, LedgerUnavailable
from cloud.store.rows import Record, from_row, to_row
from cloud.store.schema import MIGRATIONS
from cloud.store.sqlite import SCHEME as SQLITE
from cloud.store.sqlite import SqliteEngine

log = logging.getLogger(__name__)

_TRACER: Final = trace.get_tracer("murmuration")

_LOOK_S: Final = 1.0  # so old may be what a process reads of a ledger that was moved

Migration = Callable[[Tables], None]


class LedgerDatabase:
    """The connection, its lock and transactions; what the ledger's parts stand on.

    where: an SQLite file, or the address of a PostgreSQL database. One that was moved is followed to where it is now,
    also by those who had it open. Raises LedgerError for a ledger of a newer version, a database that is no ledger, or
    one that cannot be used; LedgerUnavailable, also later, where a server is away.

    later: a server that is away when the ledger is opened is looked for again at every use.
    """

    def __init__(self, where: Path | str, migrations: Sequence[Migration] = MIGRATIONS, *, later: bool = False) -> None:
        self._lock = threading.RLock()
        self._migrations = migrations
        self._migrated = False
        self._looked_s = time.monotonic()
        self._where = where
        try:
            self._engine = self._open(where)
        except LedgerUnavailable as error:
            if not later:
                raise
            self._engine = AwayEngine(error)

    def _open(self, where: Path | str) -> Engine:
        """The engine of where the ledger is now, at the current schema."""
        self._engine = open_engine(where)
        try:
            self._migrated = False
            self._migrate(self._migrations)
            self._migrated = True
            moved = self._moved_to()
        except sqlite3.Error as error:
            self._engine.close()
            assert isinstance(self._engine, SqliteEngine), "its errors are its own"  # noqa: S101
            raise self._engine.unusable(error) from error
        except BaseException:
            self._engine.close()
            raise
        if moved is None:
            return self._engine
        self._engine.close()
        return self._open(moved)

    def _moved_to(self) -> Path | str | None:
        if len(self._migrations) < len(MIGRATIONS):  # of a time before ledgers moved
            return None
        row = self._engine.execute("SELECT place FROM moves").fetchone()
        if row is None:
            return None
        return Path(row[0].removeprefix(SQLITE)) if row[0].startswith(SQLITE) else str(row[0])

    def _follow(self) -> None:
        """To where the ledger was moved meanwhile, if it was."""
        self._looked_s = time.monotonic()
        if (place := self._moved_to()) is not None:
            before = self._engine
            try:
                self._engine = self._open(place)
            except BaseException:
                self._engine = before  # to try again from
                raise
            before.close()
            log.info("ledger %s was moved and is %s now", before.name, self.name)

    def _reach(self) -> None:
        """Opens it now where it was away so far."""
        away = self._engine
        if isinstance(away, AwayEngine):
            try:
                self._engine = self._open(self._where)
            except BaseException:
                self._engine = away
                raise

    def _migrate(self, migrations: Sequence[Migration]) -> None:
        engine, known = self._engine, len(migrations)
        version = engine.read_version()
        if version > known:
            raise LedgerError(
                f"ledger {engine.name}: written by a newer version (schema {version}, this one knows {known}): "
                "use that version or another ledger"
            )
        if version == known:
            return
        tables = engine.tables()
        with self.transaction():
            version = engine.read_version()  # another process may have been first
            for migration in migrations[version:]:
                migration(tables)
            engine.write_version(max(version, known))

    @property
    def name(self) -> str:
        """Where it is, for messages."""
        return self._engine.name

    @property
    def place(self) -> str:
        """Where it is, for who opens it: a postgresql:// address, or sqlite: and a path."""
        return self._engine.place

    def count_rows(self, table: str) -> int:
        return int(self._execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])

    def table_rows(self, table: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """Columns and rows as the database has them. To be called in a transaction."""
        return self._engine.table_rows(table)

    def add_rows(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows as another database had them. To be called in a transaction."""
        self._engine.add_rows(table, columns, rows)

    def settle_numbers(self) -> None:
        """After `add_rows`: numbers that the database gives go on after the highest."""
        self._engine.settle_numbers()

    def mark_moved(self, move: Move) -> None:
        """From now on whoever opens this ledger, or has it open, goes on there."""
        self._insert("moves", move)

    def close(self) -> None:
        with self._lock:
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All calls inside take effect together, or none. Other threads and writing processes wait."""
        with self._lock:
            if self._engine.in_transaction:  # a part of a bigger one
                yield
                return
            with _TRACER.start_as_current_span("ledger.transaction"):
                self._begin()
                try:
                    yield
                    self._engine.commit()
                except BaseException:
                    self._engine.rollback()
                    raise

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """To be called in a transaction: what is inside takes effect with it, or, where it raises, not at all."""
        self._engine.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            self._engine.execute("ROLLBACK TO SAVEPOINT part")
            raise
        finally:
            self._engine.execute("RELEASE SAVEPOINT part")

    def _begin(self) -> None:
        """Begins a transaction where the ledger is: the mark of a move was left in one."""
        self._reach()
        while True:
            self._engine.begin()
            if not self._migrated or self._moved_to() is None:
                return
            self._engine.rollback()
            self._follow()

    def _execute(self, sql: str, values: Values = ()) -> Cursor:
        """A statement that changes something is a transaction of its own, or a part of the one it is in."""
        with self._lock:
            if sql.startswith("SELECT"):
                self._reach()
                if not self._engine.in_transaction and time.monotonic() - self._looked_s > _LOOK_S:
                    self._follow()
                return self._engine.execute(sql, values)
            with self.transaction():
                return self._engine.execute(sql, values)

    def _all(self, cls: type[Record], sql: str, values: Values = ()) -> list[Record]:
        with self._lock:
            found = self._execute(sql, values)
            names = [column[0] for column in found.description]
            return [from_row(cls, dict(zip(names, row, strict=True))) for row in found.fetchall()]

    def _one(self, cls: type[Record], sql: str, values: Values = ()) -> Record | None:
        found = self._all(cls, sql, values)
        return found[0] if found else None

    def _insert(self, table: str, record: Any) -> None:
        row = to_row(record)
        self._execute(f"INSERT INTO {table} {_values(row)}", row)

    def _put(self, table: str, key: str, record: Any) -> None:
        """Inserts, or updates the row of the same key."""
        row = to_row(record)
        updates = ", ".join(f'"{name}" = excluded."{name}"' for name in row if name != key)
        self._execute(f"INSERT INTO {table} {_values(row)} ON CONFLICT ({key}) DO UPDATE SET {updates}", row)


def open_engine(where: Path | str) -> Engine:
    """Raises LedgerError, LedgerUnavailable."""
    if isinstance(where, Path):
        return SqliteEngine(where)
    if not where.startswith(POSTGRES):
        raise LedgerError(f"ledger {where!r}: give {POSTGRES}USER@HOST/DATABASE")
    try:
        from cloud.store.postgres import PostgresEngine  # an extra: who has SQLite does without
    except ModuleNotFoundError as error:
        raise LedgerError(f"{error.name} is missing; install it: pip install 'murmuration-vpp[scale]'") from error
    return PostgresEngine(where)


def _values(row: Mapping[str, Any]) -> str:
    names, marks = ", ".join(f'"{name}"' for name in row), ", ".join(f":{name}" for name in row)
    return f"({names}) VALUES ({marks})"
