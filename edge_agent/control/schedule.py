"""The coordinator's schedule: power for the market time unit it is now."""

from edge_agent.model.intent import Schedule
from edge_agent.model.values import Proposal


def unit_at(schedule: Schedule, now_s: float) -> int | None:
    """Which of its market time units it is now; None before the first and after the last."""
    unit = int((now_s - schedule.start_s) // schedule.mtu_s)
    return unit if 0 <= unit < len(schedule.power_w) else None


def propose(schedule: Schedule, now_s: float) -> Proposal:
    """What the schedule wishes for now; before its first and after its last unit it wishes for nothing."""
    unit = unit_at(schedule, now_s)
    if unit is None:
        return Proposal(source="schedule", note="no market time unit for now")
    return Proposal(source="schedule", power_w=schedule.power_w[unit])
