"""The journal: everything the site has to say, on the disk before it is sent and until the broker has it.

SQLite in WAL mode with one writer, the sync process. Telemetry commits with synchronous=NORMAL: a killed process loses
nothing, a power cut may lose the last frames. Events and acknowledgements commit with FULL. A commit takes well under a
millisecond, on a slow card tens of them; that is why it happens here and never in the control process.
"""

import contextlib
import enum
import logging
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edge_agent.model.clock import Clock
from edge_agent.sync import database
from edge_agent.sync.state import State
from protos.settings import SettingsError
from protos.vpp.v1.report_pb2 import Event

log = logging.getLogger(__name__)

FILE = "journal.db"
SCHEMA_VERSION = 1
MAX_ROWS = 7 * 24 * 3600  # a week at a frame a second: about 130 MB
RESERVE = 64  # sequence numbers set aside at a time; at most so many are skipped after a power cut

# AUTOINCREMENT: SQLite itself keeps the highest seq ever used, also when the table has been drained.
_SCHEMA = """
CREATE TABLE frame (seq INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);
CREATE TABLE report (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, event_id TEXT NOT NULL UNIQUE,
                     body BLOB NOT NULL);
CREATE TABLE fact (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""

Result = TypeVar("Result")


class JournalError(Exception):
    """Something could not be written (disk full, I/O error); says what."""


class ReportKind(enum.StrEnum):
    """What a report is; decides its subject."""

    EVENT = "evt"
    ACKNOWLEDGEMENT = "ack"


@dataclass(frozen=True, slots=True)
class Report:
    """An event or acknowledgement that waits to be sent."""

    id: int
    kind: ReportKind
    event_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """Book-keeping since the journal was made: created = acknowledged + waiting + dropped."""

    frames_created: int = 0
    frames_acknowledged: int = 0
    bytes_acknowledged: int = 0  # of those frames
    frames_waiting: int = 0
    frames_dropped: int = 0  # for want of room, never sent
    events_waiting: int = 0  # events and acknowledgements
    events_dropped: int = 0


class Journal:
    """The writer's side. All calls are short and synchronous; one process, one thread."""

    def __init__(self, folder: Path, site: str, state: State, clock: Clock, *, max_rows: int = MAX_ROWS) -> None:
        """Opens or makes it. Raises SettingsError if a newer agent wrote it or the folder cannot be written to."""
        self._path = folder / FILE
        self._site = site
        self._state = state
        self._clock = clock
        self._max_rows = max_rows
        self._frames = self._reports = 0
        self._sending_frame = self._sending_report = 0  # highest one handed out for sending: not dropped meanwhile
        self._unwritten = 0  # frames lost to a disk that would not write
        self._full = False
        self._next_seq = 1
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if not database.is_corrupt(error):
                raise SettingsError(
                    f"{self._path}: cannot be opened ({error}); give data_dir space and to the agent's user"
                ) from error
            self._db = self._start_anew(error)

    def close(self) -> None:
        """Closes orderly: the next start trusts the highest sequence number found."""
        with contextlib.suppress(sqlite3.DatabaseError), database.transaction(self._db, full=True):
            database.set_fact(self._db, "boot", "closed")
        self._db.close()

    # --- frames

    @property
    def next_seq(self) -> int:
        """The sequence number the next frame will bear."""
        return self._next_seq

    def start_at(self, first_seq: int) -> None:
        """No frame bears a number below `first_seq` (where a replaced gateway stopped)."""
        self._next_seq = max(self._next_seq, first_seq)

    @property
    def last_sample_ms(self) -> int | None:
        """UTC of the newest sample ever recorded; None before the first."""
        value = database.fact(self._db, "last_sample_ms")
        return None if value is None else int(value)

    def append_frame(self, pack: Callable[[int], bytes], last_sample_ms: int) -> int:
        """Records the frame that `pack` makes of its sequence number; returns that. Raises JournalError."""
        seq = self._next_seq
        body = pack(seq)
        self._next_seq = seq + 1  # also if writing fails: the gap tells the coordinator that a frame is missing

        def write(db: sqlite3.Connection) -> None:
            self._make_room(db)
            db.execute("INSERT INTO frame (seq, body) VALUES (?, ?)", (seq, body))
            database.set_fact(db, "last_sample_ms", last_sample_ms)
            if self._unwritten:
                database.count(db, "frames_dropped", self._unwritten)

        try:
            if seq >= self._state.seq_reserved:
                self._state.reserve_seq(seq + RESERVE)
            self._write(write, full=False)
        except (JournalError, OSError) as error:
            self._unwritten += 1
            raise JournalError(str(error)) from error
        self._unwritten = 0
        self._frames += 1
        self._tell_room()
        return seq

    def oldest_frames(self, limit: int) -> list[tuple[int, bytes]]:
        """(seq, body) of the frames to send next, in order. They stay until acknowledged."""
        rows = self._read(
            lambda db: db.execute("SELECT seq, body FROM frame ORDER BY seq LIMIT ?", (limit,)).fetchall()
        )
        if rows:
            self._sending_frame = rows[-1][0]
        return rows

    def frames_acknowledged(self, first_seq: int, last_seq: int) -> None:
        """The broker has these frames: forgets them. Raises JournalError."""

        def write(db: sqlite3.Connection) -> int:
            gone = db.execute(
                "DELETE FROM frame WHERE seq BETWEEN ? AND ? RETURNING length(body)", (first_seq, last_seq)
            )
            sizes = [size for (size,) in gone]
            database.count(db, "frames_acknowledged", len(sizes))
            database.count(db, "bytes_acknowledged", sum(sizes))
            return len(sizes)

        self._frames -= self._write(write, full=False)
        self._sending_frame = 0

    # --- events and acknowledgements

    def append_report(self, kind: ReportKind, event_id: str, body: bytes) -> bool:
        """Records a report, synced to the disk. False if that event_id is waiting already. Raises JournalError."""

        def write(db: sqlite3.Connection) -> int:
            self._make_room(db)
            row = (kind.value, event_id, body)
            return db.execute("INSERT OR IGNORE INTO report (kind, event_id, body) VALUES (?, ?, ?)", row).rowcount

        added = self._write(write, full=True)
        self._reports += added
        self._tell_room()
        return bool(added)

    def append_event(self, severity: "Event.Severity", code: str, text: str) -> None:
        """Records an event of this process. Raises JournalError."""
        event = Event(
            site=self._site,
            event_id=f"sync-{secrets.token_hex(8)}",
            at_ms=self._clock.utc_ms(),
            severity=severity,
            code=code,
            text=text,
        )
        self.append_report(ReportKind.EVENT, event.event_id, event.SerializeToString())

    def oldest_report(self) -> Report | None:
        """The report to send next. It stays until acknowledged."""
        row = self._read(
            lambda db: db.execute("SELECT id, kind, event_id, body FROM report ORDER BY id LIMIT 1").fetchone()
        )
        if row is None:
            return None
        self._sending_report = row[0]
        return Report(row[0], ReportKind(row[1]), row[2], row[3])

    def report_acknowledged(self, report: Report) -> None:
        """The broker has it: forgets it. Raises JournalError."""
        self._reports -= self._write(
            lambda db: db.execute("DELETE FROM report WHERE id = ?", (report.id,)).rowcount, full=False
        )
        self._sending_report = 0

    # --- room

    def _make_room(self, db: sqlite3.Connection) -> None:
        """Drops what matters least until one more row fits: oldest telemetry, then events, then acknowledgements."""
        excess = self._frames + self._reports + 1 - self._max_rows
        if excess <= 0:
            return
        dropped = db.execute(
            "DELETE FROM frame WHERE seq IN (SELECT seq FROM frame WHERE seq > ? ORDER BY seq LIMIT ?)",
            (self._sending_frame, excess),
        ).rowcount
        self._frames -= dropped
        database.count(db, "frames_dropped", dropped)
        if dropped < excess:
            gone = db.execute(
                "DELETE FROM report WHERE id IN (SELECT id FROM report WHERE id > ? ORDER BY kind DESC, id LIMIT ?)",
                (self._sending_report, excess - dropped),
            ).rowcount
            self._reports -= gone
            database.count(db, "events_dropped", gone)

    def _tell_room(self) -> None:
        """Says once when the journal begins to drop, and is ready to say it again after it has been half empty."""
        rows = self._frames + self._reports
        if not self._full and rows >= self._max_rows:
            self._full = True
            log.error("journal full, dropping the oldest telemetry: file=%s rows=%d", self._path, rows)
            self.append_event(
                Event.SEVERITY_WARNING,
                "journal.full",
                f"the journal holds {rows} rows, its limit: it drops the oldest telemetry until it can send",
            )
        elif self._full and rows < self._max_rows // 2:
            self._full = False
            log.info("journal has room again: file=%s", self._path)

    # --- the file

    def _open(self) -> sqlite3.Connection:
        db = database.connect(self._path, SCHEMA_VERSION, _SCHEMA)
        try:
            self._frames = db.execute("SELECT count(*) FROM frame").fetchone()[0]
            self._reports = db.execute("SELECT count(*) FROM report").fetchone()[0]
            self._next_seq = self._first_free_seq(db)
            with database.transaction(db, full=True):
                database.set_fact(db, "boot", database.boot_id())
        except BaseException:
            db.close()
            raise
        return db

    def _first_free_seq(self, db: sqlite3.Connection) -> int:
        """The lowest number that no frame can have borne.

        What SQLite remembers is exact if the file was closed orderly or the machine has not rebooted since (a killed
        process loses no commit). Otherwise the last commits may be gone, and every number reserved counts as spent.
        """
        row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'frame'").fetchone()
        used = row[0] if row else None
        boot = database.fact(db, "boot")
        if boot is not None and boot in ("closed", database.boot_id()):
            return max(1, (used or 0) + 1)
        return max(1, (used or 0) + 1, self._state.seq_reserved)

    def _start_anew(self, error: Exception) -> sqlite3.Connection:
        """Moves a corrupt journal aside, for a person to look at, and begins an empty one."""
        aside = database.move_aside(self._path, self._clock.utc_ms())
        log.error("journal corrupt, moved aside: file=%s error=%s", aside, error)
        self._sending_frame = self._sending_report = 0
        floor = self._next_seq
        self._db = self._open()
        self._next_seq = max(self._next_seq, floor, self._state.seq_reserved)
        self.append_event(
            Event.SEVERITY_ALARM,
            "journal.corrupt",
            f"the journal was corrupt ({error}) and is kept as {aside.name}; what had not been sent is lost",
        )
        return self._db

    def _write(self, action: Callable[[sqlite3.Connection], Result], *, full: bool) -> Result:
        """Runs `action` in a transaction; on a journal found corrupt, in a new one."""

        def attempt() -> Result:
            frames, reports = self._frames, self._reports
            try:
                with database.transaction(self._db, full=full):
                    return action(self._db)
            except BaseException:
                self._frames, self._reports = frames, reports
                raise

        return self._guarded(attempt)

    def _read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        return self._guarded(lambda: query(self._db))

    def _guarded(self, attempt: Callable[[], Result]) -> Result:
        try:
            try:
                return attempt()
            except sqlite3.DatabaseError as error:
                if not database.is_corrupt(error):
                    raise
                self._db.close()
                self._db = self._start_anew(error)
                return attempt()
        except sqlite3.Error as error:
            raise JournalError(f"{self._path}: {error}") from error


def read_status(data_dir: Path) -> JournalStatus:
    """The journal's book-keeping, from any process at any time; zeros before the first start.

    Raises JournalError if the file cannot be read.
    """
    path = data_dir / FILE
    if not path.exists():
        return JournalStatus()
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=database.BUSY_TIMEOUT_S, isolation_level=None)) as db:
            db.execute("PRAGMA query_only=ON")
            db.execute("BEGIN")  # one picture
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                return JournalStatus()  # being made just now
            waiting = db.execute("SELECT count(*) FROM frame").fetchone()[0]
            reports = db.execute("SELECT count(*) FROM report").fetchone()[0]
            acknowledged = int(database.fact(db, "frames_acknowledged") or 0)
            acknowledged_bytes = int(database.fact(db, "bytes_acknowledged") or 0)
            dropped = int(database.fact(db, "frames_dropped") or 0)
            events_dropped = int(database.fact(db, "events_dropped") or 0)
    except sqlite3.Error as error:
        raise JournalError(f"{path}: {error}") from error
    return JournalStatus(
        frames_created=acknowledged + waiting + dropped,
        frames_acknowledged=acknowledged,
        bytes_acknowledged=acknowledged_bytes,
        frames_waiting=waiting,
        frames_dropped=dropped,
        events_waiting=reports,
        events_dropped=events_dropped,
    )
