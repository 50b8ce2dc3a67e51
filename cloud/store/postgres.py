"""The ledger in a PostgreSQL database, shared by processes of several machines."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import psycopg
from psycopg import ClientCursor, sql

from cloud.store.engine import Tables, Values, without_password
from cloud.store.errors import LedgerError, LedgerUnavailable

_WRITER_LOCK: Final = 0x76_70_70  # of pg_advisory_xact_lock: one writing transaction at a time, as in SQLite
_CONNECT_S: Final = 3
_SILENCE_MS: Final = 5_000  # a server that does not even acknowledge for so long is away
_KINDS: Final = {str: 'text COLLATE "C"', int: "bigint", float: "double precision"}
_MARK = re.compile(r"\?|(?<!:):([a-z_][a-z0-9_]*)\b")


class PostgresEngine:
    """A connection that is opened again when it was lost outside of a transaction.

    url: as libpq takes it, postgresql://user@host/database?passfile=FILE. Raises LedgerUnavailable where no server
    answers, LedgerError where it refuses.
    """

    def __init__(self, url: str) -> None:
        self.name = without_password(url)
        self.place = url
        self._url = url
        self._connection = self._open()

    def _open(self) -> psycopg.Connection[Any]:
        try:
            return psycopg.connect(
                self._url,
                autocommit=True,
                cursor_factory=ClientCursor,
                connect_timeout=_CONNECT_S,
                application_name="murmuration",
                tcp_user_timeout=_SILENCE_MS,
                keepalives_idle=_CONNECT_S,
                keepalives_interval=1,
                keepalives_count=_CONNECT_S,
            )
        except psycopg.OperationalError as error:
            raise self._away(error) from error
        except psycopg.Error as error:
            raise LedgerError(f"ledger {self.name}: is no address of a PostgreSQL database ({_line(error)})") from error

    def execute(self, text: str, values: Values = ()) -> psycopg.Cursor[Any]:
        if self._connection.closed and not self.in_transaction:
            self._connection = self._open()
        try:
            return self._connection.execute(_translated(text), values)
        except psycopg.OperationalError as error:
            raise self._away(error) from error

    @property
    def in_transaction(self) -> bool:
        return self._connection.info.transaction_status in (
            psycopg.pq.TransactionStatus.INTRANS,
            psycopg.pq.TransactionStatus.INERROR,
        )

    def begin(self) -> None:
        for retry in (True, False):  # a connection that died while it was idle is noticed at its next use
            try:
                self.execute("BEGIN")
                break
            except LedgerUnavailable:
                if not retry:
                    raise
        self.execute(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")

    def commit(self) -> None:
        self.execute("COMMIT")

    def rollback(self) -> None:
        if not self._connection.closed:
            self.execute("ROLLBACK")

    def tables(self) -> Tables:
        return PostgresTables(self)

    def read_version(self) -> int:
        if self.execute("SELECT to_regclass('schema_version')").fetchone()[0] is None:  # type: ignore[index]
            strange = self.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() LIMIT 1"
            ).fetchone()
            if strange is not None and self.execute("SELECT to_regclass('schema_version')").fetchone() == (None,):
                raise LedgerError(
                    f"ledger {self.name}: the database holds tables of somebody else's ({strange[0]}): use an empty one"
                )
            return 0
        row = self.execute("SELECT version FROM schema_version").fetchone()
        return int(row[0]) if row else 0

    def write_version(self, version: int) -> None:
        self.execute("CREATE TABLE IF NOT EXISTS schema_version (version bigint NOT NULL)")
        self.execute("DELETE FROM schema_version")
        self.execute("INSERT INTO schema_version VALUES (?)", (version,))

    def table_rows(self, table: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        cursor = self._connection.cursor(name=f"rows_of_{table}")  # stays at the server and is read by and by
        cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))
        return [column.name for column in cursor.description or ()], iter(cursor)

    def add_rows(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    def settle_numbers(self) -> None:
        counted = self.execute(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND is_identity = 'YES'"
        ).fetchall()
        for table, column in counted:
            self.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), "  # nosec B608: the database's own names
                f'coalesce(max("{column}"), 0) + 1, false) FROM "{table}"'
            )

    def close(self) -> None:
        self._connection.close()

    def _away(self, error: psycopg.OperationalError) -> LedgerUnavailable:
        return LedgerUnavailable(f"ledger {self.name}: the database does not answer ({_line(error)}): see that it runs")


class PostgresTables:
    """Makes tables as sqlite-utils does, so that one list of migrations serves both."""

    def __init__(self, engine: PostgresEngine) -> None:
        self._engine = engine

    def execute(self, text: str, /) -> Any:
        return self._engine.execute(text)

    def table(self, name: str) -> "_PostgresTable":
        return _PostgresTable(self._engine, name)

    def create_table(
        self,
        name: str,
        columns: dict[str, Any],
        pk: str | tuple[str, ...],
        *,
        not_null: set[str],
        foreign_keys: Sequence[tuple[str, str, str]],
        strict: bool,
    ) -> None:
        """Tables of PostgreSQL are strict. A single whole-numbered key is given by the database where none is told."""
        keys = (pk,) if isinstance(pk, str) else pk
        counted = pk if isinstance(pk, str) and columns[pk] is int else None
        parts = [
            f'"{column}" {_KINDS[kind]}'
            + (" NOT NULL" if column in not_null else "")
            + (" GENERATED BY DEFAULT AS IDENTITY" if column == counted else "")
            for column, kind in columns.items()
        ]
        parts.append(f"PRIMARY KEY ({_quoted(keys)})")
        parts += [
            f'FOREIGN KEY ("{column}") REFERENCES "{table}" ("{target}")' for column, table, target in foreign_keys
        ]
        self._engine.execute(f'CREATE TABLE "{name}" ({", ".join(parts)})')

    def append_only(self, table: str) -> None:
        self._engine.execute(
            f"CREATE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
        )
        self._engine.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            f"EXECUTE FUNCTION {table}_append_only()"
        )


class _PostgresTable:
    def __init__(self, engine: PostgresEngine, name: str) -> None:
        self._engine = engine
        self._name = name

    def add_column(self, name: str, kind: type) -> None:
        self._engine.execute(f'ALTER TABLE "{self._name}" ADD COLUMN "{name}" {_KINDS[kind]}')

    def create_index(self, columns: Sequence[str], *, unique: bool = False) -> None:
        self._engine.execute(f'CREATE {"UNIQUE " if unique else ""}INDEX ON "{self._name}" ({_quoted(columns)})')


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


@lru_cache(maxsize=512)
def _translated(text: str) -> str:
    """`?` and `:name` as psycopg wants them. Our SQL has neither in a literal."""
    return _MARK.sub(lambda mark: f"%({mark[1]})s" if mark[1] else "%s", text.replace("%", "%%"))


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
