"""Times of day, over the days on which the clocks change (2026: 29 March, 25 October)."""

from datetime import UTC, datetime

import pytest

from edge_agent.model.local_time import next_at, shown

ZONE = "Europe/Berlin"


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1e3)


@pytest.mark.parametrize(
    ("time_of_day", "now", "then"),
    [
        pytest.param("07:00", "2026-01-10T20:00", "2026-01-11T06:00", id="tomorrow morning, in winter"),
        pytest.param("07:00", "2026-07-10T04:59", "2026-07-10T05:00", id="in a minute, in summer"),
        pytest.param("07:00", "2026-07-10T05:00", "2026-07-11T05:00", id="just now: tomorrow"),
        pytest.param("07:00", "2026-03-28T22:00", "2026-03-29T05:00", id="the night that is an hour shorter"),
        pytest.param("07:00", "2026-10-24T22:30", "2026-10-25T06:00", id="the night that is an hour longer"),
        pytest.param("02:30", "2026-03-28T22:00", "2026-03-29T01:30", id="a time that is left out"),
        pytest.param("02:30", "2026-10-24T22:30", "2026-10-25T00:30", id="a time that comes twice: the first"),
    ],
)
def test_the_next_time_that_clocks_show_it(time_of_day: str, now: str, then: str) -> None:
    assert next_at(time_of_day, ZONE, ms(now)) == ms(then)


def test_shown_again() -> None:
    assert shown(ms("2026-07-10T05:00"), ZONE) == "07:00"
