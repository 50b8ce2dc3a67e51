"""Merges what the controllers propose into one setpoint: narrow, then prefer.

Proposals come from the strongest to the weakest. Each may hold power back from those below it and narrow their
bounds; the strongest that has a wish makes the baseline, inside what those above it left. Offsets (frequency response)
are added to the baseline, and the sum never leaves what the inverter can hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.model.values import PowerBounds, Proposal, Setpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What became of the proposals."""

    setpoint: Setpoint
    baseline_w: float
    offset_w: float
    room: PowerBounds  # what was left for the baseline


def merge(proposals: Sequence[Proposal], bounds: PowerBounds, *, expires_s: float) -> Merged | None:
    """One setpoint, its provenance in `source`; None where nobody wishes for anything."""
    room = bounds
    baseline: Proposal | None = None
    baseline_w = offset_w = 0.0
    sources: list[str] = []
    for proposal in proposals:
        if proposal.power_w is not None and baseline is None:
            baseline, baseline_w = proposal, room.clip(proposal.power_w)
        if proposal.offset_w:
            offset_w += proposal.offset_w
            sources.append(proposal.source)
        room = _without(room, proposal)
        if proposal.bounds is not None:
            room = room.narrowed(proposal.bounds)
    if baseline is None and not sources:
        return None
    if baseline is None:
        baseline_w = room.clip(0.0)
    else:
        sources.insert(0, baseline.source)
    setpoint = Setpoint(power_w=bounds.clip(baseline_w + offset_w), source="+".join(sources), expires_s=expires_s)
    return Merged(setpoint=setpoint, baseline_w=baseline_w, offset_w=offset_w, room=room)


def _without(room: PowerBounds, proposal: Proposal) -> PowerBounds:
    """The room less what a proposal holds back; where that leaves none, the point that is fairest to both ends."""
    lower_w = room.lower_w + proposal.reserve_down_w
    upper_w = room.upper_w - proposal.reserve_up_w
    if lower_w <= upper_w:
        return PowerBounds(lower_w=lower_w, upper_w=upper_w)
    middle_w = room.clip((lower_w + upper_w) / 2)
    return PowerBounds(lower_w=middle_w, upper_w=middle_w)
