"""How often a device's setpoint may be changed: some keep it in flash memory, which wears out. Pure.

A budget refills evenly and is never more than an hour's worth. What it does not cover keeps the last power; what must
not wait (frequency response, a power the device may not hold any longer) is written all the same, and owed.
"""

from dataclasses import dataclass, replace

_DAY_S = 86_400.0
_HOURS = 24.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBudget:
    """Changes that a device may still be given."""

    per_day: float
    left: float  # below 0: owed
    at_s: float  # monotonic, of `left`


def full(per_day: float, now_s: float) -> WriteBudget:
    """The budget of a device that was just found."""
    return WriteBudget(per_day=per_day, left=per_day / _HOURS, at_s=now_s)


def spend(budget: WriteBudget, *, urgent: bool, now_s: float) -> tuple[WriteBudget, bool]:
    """The budget after a change of the setpoint was wanted, and whether it may be written."""
    refilled = budget.left + max(0.0, now_s - budget.at_s) * budget.per_day / _DAY_S
    left = min(budget.per_day / _HOURS, refilled)
    if urgent:
        # No more than a day's worth is owed: a long frequency event does not hold the schedule up for ever.
        return replace(budget, left=max(-budget.per_day, left - 1.0), at_s=now_s), True
    if left < 1.0:
        return replace(budget, left=left, at_s=now_s), False
    return replace(budget, left=left - 1.0, at_s=now_s), True
