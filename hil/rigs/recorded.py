"""One mapping between this run's wall clock and the recording's local time, used by every part of the rig.

The scenario's recorded start lies at the beginning of the quarter-hour in which the rig started, so quarter-hours of
the run are quarter-hours of the recording and a recorded hour never begins inside one.
"""

import argparse
from datetime import UTC, datetime, timedelta

from hil.plant.household import local_ms
from hil.rigs.scenario import load

_DEFAULT_SCENARIO = "underfrequency"


class RecordedTime:
    """Wall UTC <-> recorded local time (naive, as recorded)."""

    def __init__(self, start_utc: datetime, recorded_start: datetime | None = None) -> None:
        """`start_utc`: when the rig started; `recorded_start`: what the recording's clock then showed.

        Without one, that of the scenario `underfrequency`. Raises ValueError for a naive start_utc.
        """
        if start_utc.tzinfo is None:
            raise ValueError(f"start_utc {start_utc.isoformat()} has no time zone: give one, such as +00:00")
        start_utc = start_utc.astimezone(UTC)
        self.start_utc = start_utc.replace(minute=start_utc.minute // 15 * 15, second=0, microsecond=0)
        self.recorded_start = recorded_start or load(_DEFAULT_SCENARIO).recorded.start

    def recorded(self, utc: datetime) -> datetime:
        """What the recording's clock shows at a wall instant."""
        return self.recorded_start + (utc.astimezone(UTC) - self.start_utc)

    def utc(self, recorded: datetime) -> datetime:
        """The wall instant at which the recording's clock shows a local time."""
        return self.start_utc + (recorded - self.recorded_start)

    def offset_ms(self, *, days_earlier: int = 0) -> float:
        """What to add to a wall instant [UTC ms] for the recording's axis of `hil.plant.household.local_ms`."""
        earlier = self.recorded_start - timedelta(days=days_earlier)
        return local_ms(earlier) - self.start_utc.timestamp() * 1000.0


def instant(text: str) -> datetime:
    """A command line's ISO 8601 instant. Raises argparse.ArgumentTypeError."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if parsed.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone: give one, as in 2026-01-01T12:00:00Z")
    return parsed.astimezone(UTC)
