"""What keeps the history small and quick: sums of what is new, joins of small files, an end for what is old.

Nothing here changes what a question is answered with. For the one process that writes a part.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Final

import pyarrow as pa

from cloud.store import rollups
from cloud.store.rollups import MINUTE_MS, QUARTER_MS
from cloud.store.segments import DAY_MS, MOST_JOINED, Position, Segment, Segments

FANOUT: Final = 32  # so many small neighbours become one at once
SMALL_BYTES: Final = 8 * 1024 * 1024
LATENESS_MS: Final = 10 * MINUTE_MS  # after which a span is closed: what comes later is the exception
_LARGE: Final = -1
_MOST_SUMMED: Final = 32  # segments at a time: each that is read takes a megabyte
_GIVE_BACK_EVERY: Final = 16  # tables
_QUARTERS_AFTER: Final = 15  # segments of minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Days that a tier is kept; None: for ever."""

    raw_days: int | None = None
    minute_days: int | None = None
    quarter_days: int | None = None


FOR_EVER: Final = Retention()
Stopping = Callable[[], bool]


class _Stopped(Exception):
    """Whoever began it wants to end: what was being written is thrown away, and done again another time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What an upkeep did."""

    summed: int  # segments
    joins: int
    removed: int  # segments that were too old

    def __add__(self, other: "Done") -> "Done":
        return Done(
            summed=self.summed + other.summed, joins=self.joins + other.joins, removed=self.removed + other.removed
        )


def covered(segments: Sequence[Segment]) -> dict[int, tuple[int, int]]:
    """By part: epoch and last sequence up to which the tier has everything."""
    reached: dict[int, tuple[int, int]] = {}
    for segment in segments:
        if not segment.late:
            reached[segment.part] = max(reached.get(segment.part, (-1, -1)), segment.order)
    return reached


def run(
    raw: Segments,
    minutes: Segments,
    quarters: Segments,
    part: int,
    now_ms: int,
    retention: Retention,
    stopping: Stopping,
    committed: tuple[int, int] | None = None,
) -> Done:
    """committed: epoch and sequence up to which the samples count; None: as far as they say themselves."""
    try:
        return _run(raw, minutes, quarters, part, now_ms, retention, stopping, committed)
    except _Stopped:
        return Done(summed=0, joins=0, removed=0)


def _run(
    raw: Segments,
    minutes: Segments,
    quarters: Segments,
    part: int,
    now_ms: int,
    retention: Retention,
    stopping: Stopping,
    committed: tuple[int, int] | None,
) -> Done:
    summed = _sum_up(raw, minutes, part, MINUTE_MS, stopping, committed)
    waiting = _waiting(minutes, quarters, part)
    if len(waiting) >= _QUARTERS_AFTER or (waiting and now_ms - waiting[0].newest_ms >= QUARTER_MS):
        summed += _sum_up(minutes, quarters, part, QUARTER_MS, stopping)
    # A file never reaches across what the next tier has: the rest could not be told from it.
    joins = _join(raw, part, now_ms, _reached(minutes, part), stopping)
    joins += _join(minutes, part, now_ms, _reached(quarters, part), stopping)
    joins += _join(quarters, part, now_ms, _reached(quarters, part), stopping)
    removed = _expire(raw, part, now_ms, retention.raw_days, _reached(minutes, part))
    removed += _expire(minutes, part, now_ms, retention.minute_days, _reached(quarters, part))
    removed += _expire(quarters, part, now_ms, retention.quarter_days, _reached(quarters, part))
    return Done(summed=summed, joins=joins, removed=removed)


def _reached(tier: Segments, part: int) -> tuple[int, int]:
    return covered(tier.find(part)[0]).get(part, (-1, -1))


def _waiting(source: Segments, target: Segments, part: int, committed: tuple[int, int] | None = None) -> list[Segment]:
    """Committed segments of the source that the target does not have."""
    reached = _reached(target, part)
    found, _ = source.find(part)
    own = covered(found).get(part, (-1, -1))
    committed = own if committed is None else min(own, committed)
    return [segment for segment in found if reached < segment.order <= committed]


def _sum_up(
    source: Segments,
    target: Segments,
    part: int,
    bucket_ms: int,
    stopping: Stopping,
    committed: tuple[int, int] | None = None,
) -> int:
    """Adds to the target what it does not have, one life of the stream after the other; how many segments that were."""
    summed = 0
    while waiting := _waiting(source, target, part, committed):
        some = [segment for segment in waiting if segment.epoch == waiting[0].epoch]
        some.sort(key=lambda segment: segment.last)
        if len(some) > _MOST_SUMMED:  # what was committed at once stays together
            last = some[_MOST_SUMMED - 1].last
            some = [segment for segment in some if segment.last <= last]
        newest = max((segment for segment in some if not segment.late), key=lambda segment: segment.last)
        footer, _ = source.footer(newest)
        position = Position(footer.epoch, footer.stream_created_ns, newest.last)
        first = min(segment.first for segment in some)
        target.write(part, position, first, _sums(_until(stopping, source.rows(some)), source, bucket_ms))
        _give_back_memory()
        summed += len(some)
    return summed


def _sums(rows: Iterator[pa.Table], source: Segments, bucket_ms: int) -> Iterator[pa.Table]:
    convert = partial(rollups.added if "start_ms" in source.tier.schema.names else rollups.partial, bucket_ms=bucket_ms)
    for table in rows:
        yield convert(table)


def _until(stopping: Stopping, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    for number, table in enumerate(tables):
        if stopping():
            raise _Stopped
        if not number % _GIVE_BACK_EVERY:
            _give_back_memory()
        yield table


def _join(tier: Segments, part: int, now_ms: int, reached: tuple[int, int], stopping: Stopping) -> int:
    joins = 0
    while group := _to_join(tier, part, now_ms, reached):
        tier.join(group, _until(stopping, tier.rows(group)))
        _give_back_memory()
        joins += 1
    return joins


def _give_back_memory() -> None:
    """Arrow's pool keeps what it once had, a hundred megabytes here; the process that this runs in has other needs."""
    pa.default_memory_pool().release_unused()


def _to_join(tier: Segments, part: int, now_ms: int, reached: tuple[int, int]) -> list[Segment]:
    """Neighbours of one span that should be one file, or none."""
    spans: dict[tuple[int, int], list[Segment]] = defaultdict(list)
    for segment in tier.find(part)[0]:
        if segment.order <= reached:
            spans[segment.epoch, segment.oldest_ms // tier.tier.span_ms].append(segment)
    for (_, span), segments in spans.items():
        for level, alike in groupby(segments, key=lambda one: one.level if one.bytes < SMALL_BYTES else _LARGE):
            group = list(alike)
            if level != _LARGE and len(group) >= FANOUT:
                return group[:FANOUT]
        if now_ms >= (span + 1) * tier.tier.span_ms + LATENESS_MS and len(segments) > 1:
            # One that came late is not worth to write a large hour again: late ones are joined among themselves.
            largest = max(range(len(segments)), key=lambda index: segments[index].bytes)
            rest = segments[largest + 1 :]
            if sum(segment.bytes for segment in segments) - segments[largest].bytes >= segments[largest].bytes // 8:
                return segments[:MOST_JOINED]
            if len(rest) > 1 and largest == 0:
                return rest[:MOST_JOINED]
    return []


def _expire(tier: Segments, part: int, now_ms: int, days: int | None, reached: tuple[int, int]) -> int:
    """Lets go what is too old and summed up. Never the last position: the next start would read all again."""
    if days is None:
        return 0
    found, _ = tier.find(part)
    position = covered(found).get(part)
    removed = 0
    for segment in found:
        holds_position = segment.order == position and not segment.late
        if segment.newest_ms < now_ms - days * DAY_MS and segment.order <= reached and not holds_position:
            tier.place.remove(segment.path)
            removed += 1
    return removed
