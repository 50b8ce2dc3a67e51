"""One SQLite file with one writer: opening and checking it, transactions, and telling damage from mere trouble."""

import contextlib
import datetime as dt
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from protos.settings import SettingsError

BUSY_TIMEOUT_S = 5.0
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


class Corrupt(sqlite3.DatabaseError):
    """SQLite's own check found the file damaged."""


def connect(path: Path, schema: Sequence[str]) -> sqlite3.Connection:
    """Opens the file for writing (mode 0600, WAL); checks that it is sound.

    schema: script i brings version i to i + 1; those that the file lacks are run.

    Raises SettingsError if a newer agent wrote it, sqlite3.DatabaseError (see is_corrupt) where it cannot be used.
    """
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        path.chmod(0o600)
        db.execute("PRAGMA page_size=1024")  # a commit of one frame writes 1.9 kB to the flash instead of 4.8
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA journal_size_limit=1048576")
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found > len(schema):
            raise SettingsError(
                f"{path}: was written by a newer agent (schema {found}, this one knows {len(schema)}); install that "
                "version again or give another data_dir"
            )
        if found < len(schema):
            with transaction(db, full=True):
                for statement in (statement for script in schema[found:] for statement in script.split(";\n")):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={len(schema)}")
        finding = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if finding != "ok":
            raise Corrupt(finding)
    except BaseException:
        db.close()
        raise
    return db


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, *, full: bool) -> Iterator[None]:
    """Commits at the end, or nothing. full: on the disk before it returns; else a power cut may undo it."""
    db.execute(f"PRAGMA synchronous={'FULL' if full else 'NORMAL'}")
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.DatabaseError):  # SQLite may have rolled back by itself
            db.execute("ROLLBACK")
        raise


def is_corrupt(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is damaged, rather than busy, full or out of reach."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, Corrupt) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def move_aside(path: Path, utc_ms: int) -> Path:
    """Renames the closed file, with what SQLite keeps beside it, to the name returned; removes the one before it."""
    for earlier in path.parent.glob(f"{path.name}.corrupt-*"):
        earlier.unlink(missing_ok=True)
    stamp = dt.datetime.fromtimestamp(utc_ms / 1000, dt.UTC).strftime("%Y%m%dT%H%M%S")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}-{secrets.token_hex(2)}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    return aside


def used_bytes(db: sqlite3.Connection) -> int:
    """What the file's pages in use come to, as the open transaction sees it. Freed pages are used again."""
    pages, free, size = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def boot_id() -> str:
    """Names this run of the machine; a fresh name where the system has none, so that nothing is taken for granted."""
    try:
        return BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return secrets.token_hex(16)


def fact(db: sqlite3.Connection, name: str) -> str | int | None:
    """A value of the table `fact`; None if it was never set."""
    row = db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
    value: str | int | None = row[0] if row else None
    return value


def set_fact(db: sqlite3.Connection, name: str, value: str | int) -> None:
    db.execute("INSERT INTO fact VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value))


def count(db: sqlite3.Connection, name: str, more: int) -> None:
    """Adds to a counter in the table `fact`."""
    if more:
        db.execute(
            "INSERT INTO fact VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, more),
        )
