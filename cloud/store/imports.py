"""A site's past from a CSV file: utc_start, interval_s, load_wh, pv_wh; consecutive, without gaps."""

import csv
import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from cloud.store.errors import HistoryError
from cloud.store.history import History
from cloud.store.quarters import QUARTER_MS, QuarterHours

HEADER: Final = ["utc_start", "interval_s", "load_wh", "pv_wh"]
MAX_INTERVAL_S: Final = 3600
MAX_INTERVAL_WH: Final = 1e9  # beyond any site, inside what 64 bits of thousandths hold in sum
_QUARTER_S: Final = QUARTER_MS // 1000


def import_csv(history: History, site_slot: int, path: Path) -> int:
    """Reads the file into the site's quarter hours; how many rows it had.

    An interval is a quarter hour, a part that divides it, or a whole number of them up to
    an hour, whose energy is then spread evenly. Consumption and generation are both unsigned.
    Raises HistoryError, naming file and row, and keeps nothing of a file with an error.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            quarters, rows = _read(file, str(path))
    except OSError as error:
        raise HistoryError(f"{path}: cannot be read ({error.strerror}); name a CSV file that is there") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise HistoryError(f"{path}: cannot be read as a CSV file ({error})") from error
    history.import_quarters(site_slot, quarters)
    return rows


def _read(lines: Iterable[str], name: str) -> tuple[QuarterHours, int]:
    reader = csv.reader(lines)
    header = next(reader, [])
    if header != HEADER:
        raise HistoryError(
            f"{name}, row 1: the header must be {','.join(HEADER)}, found {','.join(header) or 'nothing'}"
        )
    first_ms = next_ms = 0
    rows = 0
    energy: dict[int, tuple[float, float]] = {}  # by beginning of the quarter hour
    for fields in reader:
        where = f"{name}, row {reader.line_num}"
        if not fields:
            continue
        start_ms, interval_ms, load_wh, pv_wh = _row(fields, where)
        if rows == 0:
            first_ms = next_ms = start_ms
        if start_ms < next_ms:
            raise HistoryError(f"{where}: overlaps the row before, which ends {_iso(next_ms)}: leave one of them out")
        if start_ms > next_ms:
            raise HistoryError(
                f"{where}: a gap after the row before, which ends {_iso(next_ms)}: fill it or cut the file"
            )
        _spread(energy, start_ms, interval_ms, load_wh, pv_wh)
        next_ms = start_ms + interval_ms
        rows += 1
    if rows == 0:
        raise HistoryError(f"{name}: has no rows under its header")
    if first_ms % QUARTER_MS or next_ms % QUARTER_MS:
        raise HistoryError(f"{name}: from {_iso(first_ms)} to {_iso(next_ms)}: begin and end it on a quarter hour")
    start_ms_of = np.array(sorted(energy), dtype=np.int64)
    values = np.array([energy[int(start)] for start in start_ms_of])
    return QuarterHours(start_ms_of, values[:, 0], values[:, 1], np.ones(len(start_ms_of))), rows


def _row(fields: list[str], where: str) -> tuple[int, int, float, float]:
    if len(fields) != len(HEADER):
        raise HistoryError(f"{where}: {len(HEADER)} fields expected, found {len(fields)}")
    try:
        start = dt.datetime.fromisoformat(fields[0])
    except ValueError as error:
        raise HistoryError(f"{where}: utc_start {fields[0]!r} is not an ISO 8601 instant") from error
    if start.utcoffset() is None:
        raise HistoryError(f"{where}: utc_start {fields[0]!r} has no time zone: write it with Z")
    try:
        interval_s = int(fields[1])
    except ValueError as error:
        raise HistoryError(f"{where}: interval_s {fields[1]!r} is not a whole number of seconds") from error
    fits = 0 < interval_s <= MAX_INTERVAL_S and (_QUARTER_S % interval_s == 0 or interval_s % _QUARTER_S == 0)
    if not fits:
        raise HistoryError(f"{where}: interval_s {interval_s}: a quarter hour, a part or a multiple, up to 3600")
    start_ms = round(start.timestamp() * 1000)
    grid_ms = min(interval_s * 1000, QUARTER_MS)
    if start_ms % grid_ms:
        raise HistoryError(f"{where}: utc_start {fields[0]!r} is not a multiple of its interval")
    return start_ms, interval_s * 1000, _energy(fields[2], "load_wh", where), _energy(fields[3], "pv_wh", where)


def _energy(text: str, name: str, where: str) -> float:
    try:
        energy_wh = float(text)
    except ValueError as error:
        raise HistoryError(f"{where}: {name} {text!r} is not a number") from error
    if not 0 <= energy_wh <= MAX_INTERVAL_WH:  # refuses nan, too
        raise HistoryError(f"{where}: {name} {text!r}: energy is unsigned, from 0 to {MAX_INTERVAL_WH:g}")
    return energy_wh


def _spread(
    energy: dict[int, tuple[float, float]], start_ms: int, interval_ms: int, load_wh: float, pv_wh: float
) -> None:
    """Adds an interval to the quarter hour it lies in, or evenly to those it is made of."""
    first = start_ms // QUARTER_MS * QUARTER_MS
    parts = max(1, interval_ms // QUARTER_MS)
    for quarter_ms in range(first, first + parts * QUARTER_MS, QUARTER_MS):
        known_load_wh, known_pv_wh = energy.get(quarter_ms, (0.0, 0.0))
        energy[quarter_ms] = known_load_wh + load_wh / parts, known_pv_wh + pv_wh / parts


def _iso(utc_ms: int) -> str:
    return dt.datetime.fromtimestamp(utc_ms / 1000, dt.UTC).isoformat().replace("+00:00", "Z")
