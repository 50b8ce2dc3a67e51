"""The journal: everything the site has to say, on the disk before it is sent and until the broker has it.

SQLite in WAL mode with one writer, the sync process. Telemetry commits with synchronous=NORMAL: a killed process loses
nothing, a power cut may lose the last frames. Events and acknowledgements commit with FULL. A commit takes well under a
millisecond, on a slow card tens of them; that is why it happens here and never in the control process.
"""

import contextlib
import datetime as dt
import enum
import logging
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from edge_agent.model.clock import Clock
from edge_agent.sync import database
from edge_agent.sync.files import DiskTrouble, is_disk_trouble
from edge_agent.sync.room import Grade, Made, Room
from edge_agent.sync.state import State
from edge_agent.sync.thinning import packed
from protos.settings import SettingsError
from protos.vpp.v1.report_pb2 import Event

log = logging.getLogger(__name__)

FILE = "journal.db"
MAX_BYTES = 512_000_000
RESERVE = 64  # sequence numbers set aside at a time; at most so many are skipped after a power cut

# AUTOINCREMENT: SQLite itself keeps the highest seq ever used, also when the table has been drained.
_SCHEMA = (
    """
CREATE TABLE frame (seq INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);
CREATE TABLE report (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, event_id TEXT NOT NULL UNIQUE,
                     body BLOB NOT NULL);
CREATE TABLE fact (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
""",
    "ALTER TABLE frame ADD COLUMN grade INTEGER NOT NULL DEFAULT 0",
    # Runs of frames that are in frame `seq` now; sent: the broker has it.
    """
CREATE TABLE merged (seq INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
                     sent INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (seq, first)) WITHOUT ROWID""",
)
THINNING_TOLD_FRAMES = 36_000  # ten hours of telemetry: how often thinning that goes on is told again

MERGED_TOLD_RUNS = 1000  # in one event

LAST_SEQ = 2**32  # beyond every sequence number

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
    """Book-keeping since the journal was made: created = acknowledged + waiting + thinned + dropped."""

    frames_created: int = 0
    frames_acknowledged: int = 0
    bytes_acknowledged: int = 0  # of those frames
    frames_waiting: int = 0
    frames_thinned: int = 0  # for want of room: ten of 100 ms samples were merged into one of 1 s samples
    frames_dropped: int = 0  # for want of room, never sent
    events_waiting: int = 0  # events and acknowledgements
    events_dropped: int = 0
    used_bytes: int = 0  # on the disk


class Journal:
    """The writer's side. All calls are short and synchronous; one process, one thread."""

    def __init__(self, folder: Path, site: str, state: State, clock: Clock, *, max_bytes: int = MAX_BYTES) -> None:
        """Opens or makes it, of at most max_bytes on the disk.

        Raises SettingsError if a newer agent wrote it or the folder cannot be written to, DiskTrouble.
        """
        self._path = folder / FILE
        self._site = site
        self._state = state
        self._clock = clock
        self._room = Room(max_bytes)
        self._frames = 0
        self._sending: dict[int, int] = {}  # frames handed out for sending, first to last: they stay as they are
        self._sending_report = 0  # highest one handed out
        self._unwritten = 0  # frames lost to a disk that would not write
        self._given_up = Made()  # of what is not told yet
        self._thinning = self._full = False
        self._merged = False  # there are frames in others' place of which the coordinator is to hear
        self._next_seq = 1
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if is_disk_trouble(error):
                raise DiskTrouble(f"{self._path}: {error}") from error
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

    @property
    def frames_waiting(self) -> int:
        """How many frames are to be sent."""
        return self._frames

    def append_frame(self, pack: Callable[[int], bytes], last_sample_ms: int, *, settles: bool = False) -> int:
        """Records the frame that `pack` makes of its sequence number; returns that. Raises JournalError.

        settles: a service was armed, so it is kept longest.
        """
        seq = self._next_seq
        body = pack(seq)
        self._next_seq = seq + 1  # also if writing fails: the gap tells the coordinator that a frame is missing

        grade = Grade.SETTLEMENT if settles else Grade.FINE

        def write(db: sqlite3.Connection) -> None:
            self._make_room(db)
            db.execute("INSERT INTO frame (seq, body, grade) VALUES (?, ?, ?)", (seq, body, grade))
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

    def oldest_frames(self, limit: int, *, first: int = 0, before: int = LAST_SEQ) -> list[tuple[int, bytes]]:
        """(seq, body) of the frames first <= seq < before to send next, in order. They stay until acknowledged."""
        rows = self._read(
            lambda db: db.execute(
                "SELECT seq, body FROM frame WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?", (first, before, limit)
            ).fetchall()
        )
        if rows:
            self._sending[rows[0][0]] = rows[-1][0]
        return rows

    def frames_acknowledged(self, first_seq: int, last_seq: int) -> None:
        """The broker has these frames: forgets them. Raises JournalError."""

        def write(db: sqlite3.Connection) -> int:
            gone = db.execute(
                "DELETE FROM frame WHERE seq BETWEEN ? AND ? RETURNING length(body)", (first_seq, last_seq)
            )
            sizes = [size for (size,) in gone]
            if self._merged:
                db.execute("UPDATE merged SET sent = 1 WHERE seq BETWEEN ? AND ?", (first_seq, last_seq))
            database.count(db, "frames_acknowledged", len(sizes))
            database.count(db, "bytes_acknowledged", sum(sizes))
            return len(sizes)

        self._frames -= self._write(write, full=False)
        self._sending.pop(first_seq, None)
        if self._merged:
            with contextlib.suppress(JournalError):  # told with the next ones, then
                self._tell_merged()

    # --- events and acknowledgements

    def append_report(self, kind: ReportKind, event_id: str, body: bytes) -> bool:
        """Records a report, synced to the disk. False if that event_id is waiting already. Raises JournalError."""

        def write(db: sqlite3.Connection) -> int:
            self._make_room(db)
            row = (kind.value, event_id, body)
            return db.execute("INSERT OR IGNORE INTO report (kind, event_id, body) VALUES (?, ?, ?)", row).rowcount

        added = self._write(write, full=True)
        self._tell_room()
        return bool(added)

    def append_event(self, severity: "Event.Severity", code: str, text: str) -> None:
        """Records an event of this process. Raises JournalError."""
        event = self._event(severity, code, text)
        self.append_report(ReportKind.EVENT, event.event_id, event.SerializeToString())

    def _event(self, severity: "Event.Severity", code: str, text: str) -> Event:
        return Event(
            site=self._site,
            event_id=f"sync-{secrets.token_hex(8)}",
            at_ms=self._clock.utc_ms(),
            severity=severity,
            code=code,
            text=text,
        )

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
        self._write(lambda db: db.execute("DELETE FROM report WHERE id = ?", (report.id,)).rowcount, full=False)
        self._sending_report = 0

    # --- room

    def _make_room(self, db: sqlite3.Connection) -> None:
        if not self._room.short(db):
            return
        made = self._room.make(db, tuple(self._sending.items()), self._sending_report)
        self._frames -= made.thinned + made.frames_dropped
        self._merged = self._merged or made.thinned > 0
        database.count(db, "frames_thinned", made.thinned)
        database.count(db, "frames_dropped", made.frames_dropped)
        database.count(db, "events_dropped", made.reports_dropped)
        self._given_up.add(made)

    def _tell_room(self) -> None:
        """Says that telemetry is thinned, when it begins and every ten hours of telemetry; and once that it is dropped.

        Ready to say either again after the journal has been half empty.
        """
        given_up = self._given_up
        if given_up.thinned and (not self._thinning or given_up.thinned >= THINNING_TOLD_FRAMES):
            self._thinning, self._given_up = True, Made()
            span = f"{_utc(given_up.thinned_from_ms)} to {_utc(given_up.thinned_to_ms)}"
            log.warning("journal full, telemetry thinned to 1 s samples: file=%s of=%s", self._path, span)
            self.append_event(
                Event.SEVERITY_WARNING,
                "journal.thinned",
                f"the journal is full: telemetry of {span} now has a sample a second, as will what follows it",
            )
        if not self._full and (given_up.frames_dropped or given_up.reports_dropped):
            self._full, self._given_up = True, Made()
            log.error("journal full, dropping what is oldest: file=%s", self._path)
            self.append_event(
                Event.SEVERITY_ALARM,
                "journal.full",
                "the journal is full of telemetry that is thinned already: it drops the oldest until it can send",
            )
        if (self._thinning or self._full) and self._read(self._room.plenty):
            self._thinning = self._full = False
            log.info("journal has room again: file=%s", self._path)

    def _tell_merged(self) -> None:
        """Says which frames never come because the broker has them merged into others, many at a time or all."""

        def tell(db: sqlite3.Connection) -> bool:
            every, sent = map(int, db.execute("SELECT count(*), total(sent) FROM merged").fetchone())
            if not sent or (sent < MERGED_TOLD_RUNS and sent < every):
                return every > 0
            rows = db.execute(
                "SELECT seq, first, last FROM merged WHERE sent ORDER BY first LIMIT ?", (MERGED_TOLD_RUNS,)
            ).fetchall()
            frames = sum(last - first + 1 for _, first, last in rows)
            event = self._event(
                Event.SEVERITY_INFO,
                "telemetry.thinned",
                f"{frames} frames of {rows[0][1]} to {rows[-1][2]} were merged into others of a sample a second",
            )
            event.thinned.extend(packed((first, last) for _, first, last in rows))
            row = (ReportKind.EVENT.value, event.event_id, event.SerializeToString())
            db.execute("INSERT INTO report (kind, event_id, body) VALUES (?, ?, ?)", row)
            db.executemany("DELETE FROM merged WHERE seq = ? AND first = ?", ((seq, first) for seq, first, _ in rows))
            return every > len(rows)

        self._merged = self._write(tell, full=True)

    # --- the file

    def _open(self) -> sqlite3.Connection:
        db = database.connect(self._path, _SCHEMA)
        try:
            self._frames = db.execute("SELECT count(*) FROM frame").fetchone()[0]
            self._merged = db.execute("SELECT 1 FROM merged LIMIT 1").fetchone() is not None
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
        self._sending, self._sending_report = {}, 0
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
            frames, given_up = self._frames, replace(self._given_up)
            try:
                with database.transaction(self._db, full=full):
                    return action(self._db)
            except BaseException:
                self._frames, self._given_up = frames, given_up
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
            thinned = int(database.fact(db, "frames_thinned") or 0)
            dropped = int(database.fact(db, "frames_dropped") or 0)
            events_dropped = int(database.fact(db, "events_dropped") or 0)
    except sqlite3.Error as error:
        raise JournalError(f"{path}: {error}") from error
    return JournalStatus(
        frames_created=acknowledged + waiting + thinned + dropped,
        frames_acknowledged=acknowledged,
        bytes_acknowledged=acknowledged_bytes,
        frames_waiting=waiting,
        frames_thinned=thinned,
        frames_dropped=dropped,
        events_waiting=reports,
        events_dropped=events_dropped,
        used_bytes=sum(file.stat().st_size for file in (path, path.with_name(f"{FILE}-wal")) if file.exists()),
    )


def _utc(ms: int) -> str:
    return f"{dt.datetime.fromtimestamp(ms / 1000, dt.UTC):%Y-%m-%d %H:%M} UTC"
