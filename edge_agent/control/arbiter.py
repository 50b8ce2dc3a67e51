"""Merges what the controllers propose into one setpoint: narrow, then prefer.

Proposals come from the strongest to the weakest. Each may hold power back from those below it and narrow their
bounds; the strongest that has a wish makes the baseline, inside what those above it left. Offsets (frequency response)
are granted out of the room that is left at their place and added to the baseline, so that what a proposal is granted
depends on nothing below it, and the sum never leaves what the inverter can hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.model.values import PowerBounds, Proposal, Setpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What became of the proposals."""

    setpoint: Setpoint
    baseline_w: float
    offset_w: float  # granted, of all of them
    granted_w: tuple[float, ...]  # of each proposal's offset
    room: PowerBounds  # what was left for the baseline


def merge(proposals: Sequence[Proposal], bounds: PowerBounds, *, expires_s: float) -> Merged | None:
    """One setpoint, its provenance in `source`; None where nobody wishes for anything."""
    room = bounds
    baseline_w: float | None = None
    level_w = 0.0  # the baseline and what was granted below it
    granted: list[float] = []
    sources: list[str] = []
    for proposal in proposals:
        if proposal.power_w is not None and baseline_w is None:
            baseline_w = level_w = room.clip(proposal.power_w)
            sources.insert(0, proposal.source)
        if baseline_w is None:
            room, offset_w = _held_back(room, proposal)
        else:
            lowest_w, highest_w = min(0.0, room.lower_w - level_w), max(0.0, room.upper_w - level_w)
            offset_w = max(lowest_w, min(highest_w, proposal.offset_w))
            level_w += offset_w
            room = _narrowed(
                room, proposal.reserve_down_w + min(0.0, offset_w), proposal.reserve_up_w - max(0.0, offset_w)
            )
        granted.append(offset_w)
        if offset_w:
            sources.append(proposal.source)
        if proposal.bounds is not None:
            room = room.narrowed(proposal.bounds)
    if not sources:
        return None
    if baseline_w is None:
        baseline_w = room.clip(0.0)
    total_w = sum(granted)
    setpoint = Setpoint(power_w=bounds.clip(baseline_w + total_w), source="+".join(sources), expires_s=expires_s)
    return Merged(setpoint=setpoint, baseline_w=baseline_w, offset_w=total_w, granted_w=tuple(granted), room=room)


def left(proposals: Sequence[Proposal], bounds: PowerBounds) -> PowerBounds:
    """What these proposals leave to a baseline below them; what they prefer themselves does not count."""
    room = bounds
    for proposal in proposals:
        room, _ = _held_back(room, proposal)
        if proposal.bounds is not None:
            room = room.narrowed(proposal.bounds)
    return room


def _held_back(room: PowerBounds, proposal: Proposal) -> tuple[PowerBounds, float]:
    """The room without what a proposal holds back and is granted, and its grant [W]: it can still give way."""
    width_w = room.upper_w - room.lower_w
    offset_w = max(-width_w, min(width_w, proposal.offset_w))
    return _without(room, proposal, offset_w), offset_w


def _without(room: PowerBounds, proposal: Proposal, granted_w: float) -> PowerBounds:
    """The room for a baseline, less what a proposal holds back, and no less than it was granted."""
    up_w, down_w = max(0.0, granted_w), max(0.0, -granted_w)
    room = PowerBounds(lower_w=min(room.lower_w + down_w, room.upper_w), upper_w=max(room.upper_w - up_w, room.lower_w))
    return _narrowed(room, proposal.reserve_down_w - down_w, proposal.reserve_up_w - up_w)


def _narrowed(room: PowerBounds, lower_by_w: float, upper_by_w: float) -> PowerBounds:
    """The room narrowed at its ends; where that leaves none, the point that is fairest to both."""
    lower_w, upper_w = room.lower_w + max(0.0, lower_by_w), room.upper_w - max(0.0, upper_by_w)
    if lower_w <= upper_w:
        return PowerBounds(lower_w=lower_w, upper_w=upper_w)
    middle_w = room.clip((lower_w + upper_w) / 2)
    return PowerBounds(lower_w=middle_w, upper_w=middle_w)
