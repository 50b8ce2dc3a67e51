"""One power for this site alone: a test run, an operator's override."""

from edge_agent.model.intent import PowerSetpoint
from edge_agent.model.values import Proposal


def propose(setpoint: PowerSetpoint) -> Proposal:
    """The setpoint's power, with the reason that goes with it."""
    return Proposal(source="setpoint", power_w=setpoint.power_w, note=setpoint.reason)
