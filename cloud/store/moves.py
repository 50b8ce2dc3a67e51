"""Moves a ledger from one database to another while processes use it: copied, compared, and only then switched."""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from cloud.model.records import Move
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger
from cloud.store.schema import table_names
from cloud.store.sqlite import BUSY_TIMEOUT_S, SCHEME

_BATCH: Final = 1000
_DIGEST_BITS: Final = 256
# Belongs to a database and not to what it holds.
_LEFT_OUT: Final = frozenset({"moves"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a move came to."""

    rows: int
    tables: int
    pause_s: float  # for which writers waited


@dataclass(frozen=True, slots=True)
class _Sum:
    """Of a table's rows, in whatever order they come."""

    rows: int
    digest: int


def move(source: Ledger, target: Ledger, now_ms: int, check: Callable[[Ledger], Sequence[object]]) -> Moved:
    """Copies all that `source` holds to the empty `target`; whoever has `source` open goes on with `target`.

    Writers wait meanwhile. check: what is wrong with a ledger's audit log, asked of the copy before the switch. Raises
    LedgerError where the copy is not to the last row what the source is; the source then stays what it was.
    """
    tables = [name for name in table_names() if name not in _LEFT_OUT]
    begun_s = time.monotonic()
    with source.transaction():
        with target.transaction():
            if any(target.count_rows(table) for table in tables):
                raise LedgerError(f"ledger {target.name}: is not empty: give an empty database")
            sums = {table: _copy(source, target, table) for table in tables}
            target.settle_numbers()
            for table, expected in sums.items():
                if (found := _summed(target.table_rows(table)[1])) != expected:
                    raise LedgerError(
                        f"ledger {target.name}: table {table} came over as {found.rows} rows, not as the "
                        f"{expected.rows} that {source.name} has, or not the same: nothing was switched"
                    )
            if wrong := check(target):
                raise LedgerError(f"ledger {target.name}: the audit log does not verify there ({wrong[0]})")
        source.mark_moved(Move(number=1, place=target.place, at_ms=now_ms))
    return Moved(rows=sum(one.rows for one in sums.values()), tables=len(tables), pause_s=time.monotonic() - begun_s)


def lead_on(file: Path, target: Ledger) -> None:
    """Whoever opens a file that was left long ago is led to `target` at once, and not by where it was between."""
    if target.place == f"{SCHEME}{file.absolute()}":
        return
    with closing(sqlite3.connect(file, timeout=BUSY_TIMEOUT_S)) as connection, connection:
        connection.execute("UPDATE moves SET place = ?", (target.place,))


def _copy(source: Ledger, target: Ledger, table: str) -> _Sum:
    columns, rows = source.table_rows(table)
    total = _Sum(0, 0)
    while batch := list(islice(rows, _BATCH)):
        target.add_rows(table, columns, batch)
        part = _summed(batch)
        total = _Sum(total.rows + part.rows, (total.digest + part.digest) % (1 << _DIGEST_BITS))
    return total


def _summed(rows: Iterable[tuple[Any, ...]]) -> _Sum:
    count, digest = 0, 0
    for row in rows:
        count += 1
        digest += int.from_bytes(hashlib.sha256(repr(row).encode()).digest())
    return _Sum(count, digest % (1 << _DIGEST_BITS))
