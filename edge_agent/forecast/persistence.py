"""Seasonal persistence: what stood at the same time of the week before stands there again.

What every model is measured against, and what a site has without one. Plain Python: the base installation has no more.
"""

from collections.abc import Iterator, Sequence

from edge_agent.forecast.horizon import DAY, HORIZON

DAYS_BACK = (7, 1, 2, 3, 4, 5, 6, 14)  # the same weekday first, then the nearest day


def persist(history_w: Sequence[float | None]) -> list[float] | None:
    """The HORIZON quarter hours after the history's last one [W]; None where nothing was measured.

    history_w: consecutive quarter hours, the oldest first; None: not measured.
    """
    measured = [value for value in history_w if value is not None]
    if not measured:
        return None
    usual = sum(measured) / len(measured)
    return [next(_earlier(history_w, ahead), usual) for ahead in range(HORIZON)]


def _earlier(history_w: Sequence[float | None], ahead: int) -> Iterator[float]:
    end = len(history_w) + ahead
    for days in DAYS_BACK:
        index = end - days * DAY
        if 0 <= index < len(history_w) and (value := history_w[index]) is not None:
            yield value
