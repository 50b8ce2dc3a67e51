"""Times of day where the site stands, for people; everything else is UTC."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def is_zone(name: str) -> bool:
    """Whether this machine knows a time zone of this name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def next_at(time_of_day: str, zone: str, utc_ms: int) -> int:
    """UTC [ms] of the next instant after `utc_ms` at which clocks in that zone show "HH:MM".

    A time that summer time leaves out comes as late as the clocks jump; of one that comes twice, the first counts.
    """
    here = ZoneInfo(zone)
    now = datetime.fromtimestamp(utc_ms / 1e3, tz=UTC)
    wanted = time.fromisoformat(time_of_day)
    day = now.astimezone(here).date()
    for later in (0, 1, 2):
        at = datetime.combine(day + timedelta(days=later), wanted, tzinfo=here).astimezone(UTC)
        if at > now:
            break
    return round(at.timestamp() * 1e3)


def shown(utc_ms: int, zone: str) -> str:
    """ "HH:MM" there."""
    return datetime.fromtimestamp(utc_ms / 1e3, tz=UTC).astimezone(ZoneInfo(zone)).strftime("%H:%M")
