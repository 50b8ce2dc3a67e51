"""What `vpp-cloud history` asks: measurements of sites or groups, and what was refused, for people and for files."""

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from cloud.commands.registry import CommandError
from cloud.data_folder import DataFolder
from cloud.model.telemetry import FLEXIBLE_POINTS, POINTS
from cloud.store.history import History
from cloud.store.ledger import Ledger
from cloud.store.rejected import read as read_rejected

MOST_ROWS: Final = 1000  # shown to a person
_RESOLUTION: Final = re.compile(r"(\d+)(m|h|d)")
_UNIT_MS: Final = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is wanted. Raises CommandError in `parse`."""

    sites: tuple[str, ...]
    groups: tuple[str, ...]
    from_ms: int
    to_ms: int
    points: tuple[str, ...]
    resolution_ms: int | None  # None: samples as they were measured
    summed: bool

    @classmethod
    def parse(cls, given: argparse.Namespace) -> "Question":
        points = tuple(given.point or POINTS)
        for point in points:
            if point not in POINTS + FLEXIBLE_POINTS:
                raise CommandError(f"--point {point!r}: one of {', '.join(POINTS + FLEXIBLE_POINTS)}")
        if len({point in POINTS for point in points}) > 1:
            raise CommandError(f"--point: {', '.join(FLEXIBLE_POINTS)} lie apart; ask for them without others")
        from_ms, to_ms = _instant("--from", given.from_), _instant("--to", given.to)
        if from_ms >= to_ms:
            raise CommandError("--from is not before --to")
        resolution_ms = None if given.resolution == "raw" else _resolution_ms(given.resolution)
        if resolution_ms is None and given.sum:
            raise CommandError("--sum with --resolution raw: sites do not measure at the same instants; give e.g. 1m")
        return cls(
            sites=tuple(given.site or ()),
            groups=tuple(given.group or ()),
            from_ms=from_ms,
            to_ms=to_ms,
            points=points,
            resolution_ms=resolution_ms,
            summed=given.sum,
        )


def answer(data: DataFolder, where: str | None, question: Question) -> Iterator[pa.Table]:
    """Tables with the site's name and UTC instants. Raises CommandError, HistoryError, LedgerError."""
    names = _names(data, question.sites, question.groups)
    if question.sites or question.groups:
        slots = list(names)
        if not slots:
            raise CommandError(f"no site is in {', '.join(question.groups)}: see vpp-cloud site list")
    else:
        slots = None
    history = _history(data, where)
    if question.resolution_ms is None:
        batches, time = history.samples(slots, question.from_ms, question.to_ms, question.points), "t_ms"
    else:
        batches, time = (
            history.series(
                slots,
                question.from_ms,
                question.to_ms,
                question.points,
                resolution_ms=question.resolution_ms,
                summed=question.summed,
            ),
            "start_ms",
        )
    for batch in batches:
        table = pa.table(batch)
        instant = pc.cast(table.column(time), pa.timestamp("ms", "UTC"))
        table = table.set_column(table.schema.get_field_index(time), time.replace("_ms", "_utc"), instant)
        if "slot" in table.schema.names:
            site = pa.array([names.get(slot, f"slot {slot}") for slot in table.column("slot").to_pylist()])
            table = table.set_column(table.schema.get_field_index("slot"), "site", site)
        yield table


def export(data: DataFolder, where: str | None, question: Question, file: Path) -> str:
    """Writes the answer as it comes; what to tell the person. Raises CommandError and what `answer` raises."""
    writers: dict[str, Callable[[Path, pa.Schema], pa_csv.CSVWriter | pq.ParquetWriter]] = {
        ".csv": pa_csv.CSVWriter,
        ".parquet": pq.ParquetWriter,
    }
    if file.suffix not in writers:
        raise CommandError(f"{file}: give a name that ends in .csv or .parquet")
    rows = 0
    writer = None
    try:
        for table in answer(data, where, question):
            if writer is None:
                writer = writers[file.suffix](file, table.schema)
            writer.write_table(table)
            rows += len(table)
    except OSError as error:
        raise CommandError(f"{file}: cannot be written ({error}); give another") from error
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise CommandError("the history has nothing of the kind: nothing is written")
    return f"{rows} rows in {file}"


def show(data: DataFolder, where: str | None, question: Question) -> list[tuple[str, ...]]:
    """Rows to print, the first being the head. Raises CommandError where there are too many, and as `answer`."""
    rows: list[tuple[str, ...]] = []
    for table in answer(data, where, question):
        if not rows:
            rows.append(tuple(table.schema.names))
        if len(rows) + len(table) > MOST_ROWS:
            raise CommandError(f"more than {MOST_ROWS} rows: give fewer sites or points, or `history export`")
        rows += [tuple(_cell(value) for value in row.values()) for row in table.to_pylist()]
    return rows


def frames(data: DataFolder, where: str | None, sites: Sequence[str], groups: Sequence[str]) -> list[tuple[str, ...]]:
    """Rows to print, the first being the head: the book-keeping of each site's frames. Raises as `answer` does."""
    data.check()
    with Ledger(data.ledger) as ledger:
        thinned = ledger.thinned_by_slot()
    names = _names(data, sites, groups)
    rows: list[tuple[str, ...]] = [("site", "stored", "missing", "thinned", "twice", "first", "last")]
    for slot, count in _history(data, where).counts(thinned).items():
        if slot in names:
            numbers = (count.distinct, count.missing, count.thinned, count.duplicate, count.first_seq, count.last_seq)
            rows.append((names[slot], *map(str, numbers)))
    return rows


def rejected(data: DataFolder, where: str | None) -> list[str]:
    """JSON lines: first the counts of each part, then what is kept. Raises HistoryError."""
    books = read_rejected(_history(data, where).place)
    lines = [msgspec.json.encode({"part": part, "counts": book.counts}).decode() for part, book in books.items()]
    for part, book in books.items():
        lines += [
            msgspec.json.encode({"part": part, **msgspec.to_builtins(one, builtin_types=(bytes,))}).decode()
            for one in book.kept
        ]
    return lines


def _names(data: DataFolder, wanted: Sequence[str], groups: Sequence[str]) -> dict[int, str]:
    """By slot: the sites asked for, or all."""
    data.check()
    with Ledger(data.ledger) as ledger:
        if not wanted and not groups:
            return {slot: site for rows in ledger.slots_from(0, 65_536) for site, slot, _ in rows}
        sites = ledger.sites()
    known = {site.site for site in sites}
    for name in wanted:
        if name not in known:
            raise CommandError(f"site {name!r} is unknown: see vpp-cloud site list")
    return {site.slot: site.site for site in sites if site.site in wanted or set(groups).intersection(site.groups)}


def _history(data: DataFolder, where: str | None) -> History:
    return History(where if where is not None else data.history)


def _instant(option: str, text: str) -> int:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"{option} {text!r}: no time; give e.g. 2026-11-28T12:00") from error
    return int((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp() * 1000)


def _resolution_ms(text: str) -> int:
    match = _RESOLUTION.fullmatch(text)
    if match is None or not int(match[1]):
        raise CommandError(f"--resolution {text!r}: give raw, or e.g. 1m, 15m, 1h, 1d")
    return int(match[1]) * _UNIT_MS[match[2]]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
