"""What the site itself keeps of its past for its own forecast: load and sun of each quarter hour, five weeks long.

The journal forgets what the coordinator has; this stays. A file that is lost or damaged costs the forecast its past,
and nothing else.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.forecast.horizon import DAY, STEP_S
from edge_agent.sync import database
from protos.settings import SettingsError
from protos.vpp.v1.local_pb2 import SnapshotReport

log = logging.getLogger(__name__)

FILE = "quarters.db"
KEPT = 40 * DAY  # the newest; by number, so that a clock that leaps into another year takes nothing with it
LEAST_SECONDS = STEP_S // 2  # of a quarter hour must have been seen
_SCHEMA = ("CREATE TABLE quarter (start_s INTEGER PRIMARY KEY, load_w REAL, sun_w REAL)",)

Quarter = tuple[float | None, float | None]  # mean load and sun [W], magnitudes; None: not measured


@dataclass(slots=True)
class _Mean:
    total: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count >= LEAST_SECONDS else None


@dataclass(slots=True)
class _Open:
    start_s: int
    load: _Mean = field(default_factory=_Mean)
    sun: _Mean = field(default_factory=_Mean)


class Quarters:
    """The writer's side; one process."""

    def __init__(self, folder: Path, utc_ms: int) -> None:
        """utc_ms: now, to name a damaged file by. Where the disk does not do, the past is kept in memory."""
        self._path = folder / FILE
        self._open: _Open | None = None
        self._second = 0
        self._failed = False
        try:
            self._db = self._connect(utc_ms)
        except (sqlite3.Error, OSError, SettingsError) as error:
            log.error("the site's past is kept in memory only: file=%s error=%s", self._path, error)
            self._db = sqlite3.connect(":memory:", isolation_level=None)
            for statement in _SCHEMA:
                self._db.execute(statement)

    def _connect(self, utc_ms: int) -> sqlite3.Connection:
        try:
            return database.connect(self._path, _SCHEMA)
        except sqlite3.DatabaseError as error:
            if not database.is_corrupt(error):
                raise
            log.error("the site's past is damaged, moved aside: file=%s", database.move_aside(self._path, utc_ms))
            return database.connect(self._path, _SCHEMA)

    def close(self) -> None:
        self._db.close()

    def add(self, snapshot: SnapshotReport) -> bool:
        """Takes one snapshot a second; whether a quarter hour has ended by it."""
        second = snapshot.at_ms // 1000
        if second == self._second:
            return False
        self._second = second
        start_s = second - second % STEP_S
        ended = False
        if self._open is None or self._open.start_s != start_s:
            ended = self._close()
            self._open = _Open(start_s)
        if snapshot.HasField("grid_power_w") and snapshot.HasField("inverter_power_w"):
            self._open.load.add(max(0.0, snapshot.inverter_power_w - snapshot.grid_power_w))
        if snapshot.HasField("pv_power_w"):
            self._open.sun.add(max(0.0, snapshot.pv_power_w))
        return ended

    def put(self, start_s: int, quarter: Quarter) -> None:
        """Keeps what a quarter hour was. Raises sqlite3.Error."""
        with database.transaction(self._db, full=False):
            self._db.execute("INSERT OR REPLACE INTO quarter VALUES (?, ?, ?)", (start_s, *quarter))
            self._db.execute(
                "DELETE FROM quarter WHERE start_s <= "
                "(SELECT start_s FROM quarter ORDER BY start_s DESC LIMIT 1 OFFSET ?)",
                (KEPT,),
            )

    def past(self, end_s: int, count: int) -> list[Quarter]:
        """The `count` quarter hours before `end_s` [UTC s, whole quarter hours], the oldest first.

        Holes where the file cannot be read.
        """
        first_s = end_s - count * STEP_S
        found: dict[int, Quarter] = {}
        try:
            rows = self._db.execute("SELECT * FROM quarter WHERE start_s >= ? AND start_s < ?", (first_s, end_s))
            found = {start_s: (load_w, sun_w) for start_s, load_w, sun_w in rows}
        except sqlite3.Error as error:
            log.error("the site's past cannot be read: file=%s error=%s", self._path, error)
        return [found.get(start_s, (None, None)) for start_s in range(first_s, end_s, STEP_S)]

    def _close(self) -> bool:
        done = self._open
        if done is None or (done.load.value is None and done.sun.value is None):
            return False
        try:
            self.put(done.start_s, (done.load.value, done.sun.value))
            self._failed = False
        except sqlite3.Error as error:
            if not self._failed:
                log.error("the site's past is not kept: file=%s error=%s", self._path, error)
            self._failed = True
            return False
        return True


def write(folder: Path, quarters: Mapping[int, Quarter]) -> None:
    """Gives an agent that does not run a past: quarter hours by their beginning [UTC s]. Raises sqlite3.Error."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.closing(database.connect(folder / FILE, _SCHEMA)) as db, database.transaction(db, full=False):
        db.executemany("INSERT OR REPLACE INTO quarter VALUES (?, ?, ?)", ((s, *q) for s, q in quarters.items()))
