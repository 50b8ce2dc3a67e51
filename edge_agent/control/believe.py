"""Which frequency measurements may be acted upon: one that cannot be true never moves power.

A device on a dead or disturbed line goes on "measuring" (47 Hz falling to 40 Hz was recorded in the Iberian blackout),
and a register read half way through an update holds anything. What no grid runs at is refused, and a jump that no
grid makes is believed only when the next reading confirms it.
"""

import math
from dataclasses import dataclass, replace

from edge_agent.model.values import Quality, Sample

LOWEST_HZ = 40.0
HIGHEST_HZ = 70.0
JUMP_HZ = 0.5  # believed at once; 10 Hz/s at 20 readings a second
JUMP_HZ_PER_S = 10.0  # after a gap between readings


@dataclass(frozen=True, slots=True)
class Belief:
    """The last believed reading, and the last one that is waiting to be confirmed."""

    believed: Sample | None = None
    doubted: Sample | None = None


def believe(belief: Belief, sample: Sample) -> tuple[Belief, Sample]:
    """The sample, of bad quality where it must not be acted upon, and what to remember for the next one."""
    hz = sample.good
    if hz is None:
        return belief, sample
    if not (math.isfinite(hz) and LOWEST_HZ <= hz <= HIGHEST_HZ):
        return belief, replace(sample, quality=Quality.BAD)
    if belief.believed is not None and _could_follow(belief.believed, sample):
        return Belief(believed=sample), sample
    doubted = belief.doubted
    if doubted is not None and sample.at_s > doubted.at_s and _could_follow(doubted, sample):
        return Belief(believed=sample), sample
    if doubted is None or sample.at_s > doubted.at_s:
        belief = Belief(believed=belief.believed, doubted=sample)
    return belief, replace(sample, quality=Quality.BAD)


def _could_follow(earlier: Sample, sample: Sample) -> bool:
    """Whether a grid could have gone from one reading to the other."""
    return abs(sample.value - earlier.value) <= max(JUMP_HZ, JUMP_HZ_PER_S * (sample.at_s - earlier.at_s))
