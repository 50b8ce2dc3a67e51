"""The coordinator's schedule: power for the market time unit it is now."""

from edge_agent.model.intent import Schedule
from edge_agent.model.values import Proposal


def propose(schedule: Schedule, now_s: float) -> Proposal:
    """What the schedule wishes for now; before its first and after its last unit it wishes for nothing."""
    unit = int((now_s - schedule.start_s) // schedule.mtu_s)
    if not 0 <= unit < len(schedule.power_w):
        return Proposal(source="schedule", note="no market time unit for now")
    return Proposal(source="schedule", power_w=schedule.power_w[unit])
