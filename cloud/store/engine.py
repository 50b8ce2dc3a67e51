"""What the ledger needs of a database: SQLite and PostgreSQL alike, so that one SQL and one schema serve both.

SQL is written as SQLite takes it: `?` or `:name` for values, and nothing that PostgreSQL does not know.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from cloud.store.errors import LedgerUnavailable

Values = Mapping[str, Any] | Sequence[Any]
POSTGRES: Final = "postgresql://"  # how the address of a ledger in PostgreSQL begins


class Cursor(Protocol):
    """The part of a DB-API cursor that both drivers share; rows are tuples."""

    @property
    def rowcount(self) -> int: ...

    @property
    def description(self) -> Any: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


class Table(Protocol):
    """Of sqlite-utils' Table what migrations use."""

    def add_column(self, name: str, kind: type, /) -> Any: ...

    def create_index(self, columns: Sequence[str], *, unique: bool = False) -> Any: ...


class Tables(Protocol):
    """Of sqlite-utils' Database what migrations use, and one thing more."""

    def execute(self, text: str, /) -> Any: ...

    def table(self, name: str, /) -> Table: ...

    def create_table(
        self,
        name: str,
        columns: dict[str, Any],
        pk: str | tuple[str, ...],
        *,
        not_null: set[str],
        foreign_keys: Sequence[tuple[str, str, str]],
        strict: bool,
    ) -> Any: ...

    def append_only(self, table: str) -> None:
        """From now on the table refuses changes and deletions.

        Against mistakes. Against a person with the database there are the audit log's chain and signatures.
        """
        ...


class Engine(Protocol):
    """One connection. Not for two threads at once: its owner locks."""

    name: str  # for messages; without a password
    place: str  # a postgresql:// address, or sqlite: and a path

    def execute(self, text: str, values: Values = (), /) -> Cursor:
        """Raises LedgerUnavailable where the database is away."""
        ...

    @property
    def in_transaction(self) -> bool: ...

    def begin(self) -> None:
        """Begins a transaction that writes: from here to its end there is no other one, in whatever process."""
        ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def tables(self) -> Tables:
        """For migrations."""
        ...

    def read_version(self) -> int:
        """Of the schema; 0 for an empty database. Raises LedgerError for a database of somebody else's."""
        ...

    def write_version(self, version: int) -> None: ...

    def table_rows(self, table: str) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """The columns of a table, and its rows as they are read. In a transaction."""
        ...

    def add_rows(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None: ...

    def settle_numbers(self) -> None:
        """After rows came in with numbers that the database did not give: it goes on after the highest."""
        ...

    def close(self) -> None: ...


AWAY: Final = "away"


class AwayEngine:
    """Stands for a database that did not answer when the ledger was opened: it refuses whatever is asked of it."""

    place = AWAY
    in_transaction = False

    def __init__(self, error: LedgerUnavailable) -> None:
        self.name = str(error)

    def _refuse(self, *_: object, **__: object) -> Any:
        raise LedgerUnavailable(self.name)

    execute = begin = commit = tables = read_version = write_version = _refuse
    table_rows = add_rows = settle_numbers = _refuse

    def rollback(self) -> None: ...

    def close(self) -> None: ...


def without_password(url: str) -> str:
    """The address as it may be shown."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", "@", 1)))
