"""Keeps the journal inside its bytes: what matters least gives way first, the oldest of it before the newer.

In this order: 100 ms telemetry is thinned to 1 s, thinned telemetry is dropped; then the same with what was measured
while a service was armed, because that is settled; then events; acknowledgements last.
"""

import enum
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge_agent.sync import database
from edge_agent.sync.thinning import FINE_MS, runs, thin
from protos.frame import SAMPLES

CHUNK = (40, 600)  # rows given up together, at least and at most: ten minutes of 100 ms telemetry become one
ROW_BYTES = 200  # of a frame of 100 ms samples, with what SQLite adds
MOST_CHUNKS = 8  # at a time, so that live telemetry waits a moment and not a minute
BESIDE_BYTES = 4_000_000  # of the limit for what SQLite keeps beside the file (its write-ahead log)


class Grade(enum.IntEnum):
    """What a frame is worth when room runs out; part of the file."""

    FINE = 0
    COARSE = 1  # 1 s samples, or nothing more to be gained by thinning
    SETTLEMENT = 2  # measured while a service was armed
    COARSE_SETTLEMENT = 3


@dataclass(slots=True)
class Made:
    """What was given up for room."""

    thinned: int = 0  # frames merged away
    thinned_from_ms: int = 0  # UTC of the first and the last sample thinned
    thinned_to_ms: int = 0
    frames_dropped: int = 0
    reports_dropped: int = 0

    def add(self, more: "Made") -> None:
        self.thinned += more.thinned
        self.thinned_from_ms = self.thinned_from_ms or more.thinned_from_ms
        self.thinned_to_ms = more.thinned_to_ms or self.thinned_to_ms
        self.frames_dropped += more.frames_dropped
        self.reports_dropped += more.reports_dropped


Sending = Iterable[tuple[int, int]]  # first and last seq of what is on its way and must stay as it is


class Room:
    """Makes room inside a transaction of the journal's."""

    def __init__(self, max_bytes: int) -> None:
        """max_bytes: of the file and what SQLite keeps beside it."""
        self._limit = max(max_bytes - BESIDE_BYTES, max_bytes // 4)
        self._step_bytes = self._limit // 100
        self._rows = min(max(self._step_bytes // ROW_BYTES, CHUNK[0]), CHUNK[1])

    def short(self, db: sqlite3.Connection) -> bool:
        return database.used_bytes(db) > self._limit

    def plenty(self, db: sqlite3.Connection) -> bool:
        """Half of it is free."""
        return database.used_bytes(db) < self._limit // 2

    def make(self, db: sqlite3.Connection, sending: Sending, sending_report: int) -> Made:
        """Gives up as much as is needed, in steps of about a hundredth of the room."""
        made = Made()
        enough, rows = self._limit - self._step_bytes, self._rows
        steps: tuple[Callable[[], int], ...] = (
            lambda: _thin(db, Grade.FINE, Grade.COARSE, rows, sending, made),
            lambda: _drop_frames(db, Grade.COARSE, rows, sending, made),
            lambda: _thin(db, Grade.SETTLEMENT, Grade.COARSE_SETTLEMENT, rows, sending, made),
            lambda: _drop_frames(db, Grade.COARSE_SETTLEMENT, rows, sending, made),
            lambda: _drop_reports(db, rows, sending_report, made),
        )
        chunks = 0
        for step in steps:
            while chunks < MOST_CHUNKS and database.used_bytes(db) > enough and step():
                chunks += 1
        return made


def _free(sending: Sending) -> str:
    """SQL: the row is not on its way."""
    return "".join(f" AND seq NOT BETWEEN {first:d} AND {last:d}" for first, last in sending)


def _thin(db: sqlite3.Connection, grade: Grade, thinned: Grade, most: int, sending: Sending, made: Made) -> int:
    """Thins the oldest frames of the grade; how many rows it went through.

    Its newest ten seconds stay as they are: the rest of them may still be to come, or in the next chunk.
    """
    name = f"thinned_to_{grade:d}"  # all of the grade before are gone: not looked for again
    begin = int(database.fact(db, name) or 0)
    rows = db.execute(
        f"SELECT seq, body FROM frame WHERE seq > ? AND grade = ?{_free(sending)} ORDER BY seq LIMIT {most:d}",  # nosec B608: our own text
        (begin, grade),
    ).fetchall()
    joined = list(thin(rows))
    if joined:
        unfinished = joined.pop().replaced[0]
        rows = [row for row in rows if row[0] < unfinished]
    for one in joined:
        db.executemany("DELETE FROM frame WHERE seq = ?", ((seq,) for seq in one.gone))
        db.execute("UPDATE frame SET body = ? WHERE seq = ?", (one.body, one.seq))
        db.executemany(
            "INSERT INTO merged (seq, first, last) VALUES (?, ?, ?)",
            ((one.seq, first, last) for first, last in runs(one.gone)),
        )
        made.thinned += len(one.gone)
        made.thinned_from_ms = made.thinned_from_ms or one.t0_ms
        made.thinned_to_ms = one.t0_ms + FINE_MS * SAMPLES * SAMPLES
    db.executemany("UPDATE frame SET grade = ? WHERE seq = ?", ((thinned, seq) for seq, _ in rows))
    if rows:
        database.set_fact(db, name, rows[0][0] - 1 if sending else rows[-1][0])
    return len(rows)


def _drop_frames(db: sqlite3.Connection, grade: Grade, most: int, sending: Sending, made: Made) -> int:
    gone = db.execute(
        "DELETE FROM frame WHERE seq IN "
        f"(SELECT seq FROM frame WHERE grade = ?{_free(sending)} ORDER BY seq LIMIT {most:d}) RETURNING seq",  # nosec B608: our own text
        (grade,),
    ).fetchall()
    db.executemany("DELETE FROM merged WHERE seq = ?", gone)  # what was merged into them is lost with them
    made.frames_dropped += len(gone)
    return len(gone)


def _drop_reports(db: sqlite3.Connection, most: int, sending: int, made: Made) -> int:
    gone = db.execute(
        f"DELETE FROM report WHERE id IN (SELECT id FROM report WHERE id > ? ORDER BY kind DESC, id LIMIT {most:d})",  # nosec B608
        (sending,),
    ).rowcount
    made.reports_dropped += gone
    return gone
