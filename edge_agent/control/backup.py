"""What is kept of the storage for an outage of the grid, by what the house is expected to need.

Only while the coordinator cannot be reached: a network that is gone is often the grid's first sign. It binds the
owner's default alone; what was promised to the coordinator goes on to its end.
"""

from collections.abc import Sequence

from edge_agent.control.bounds import Storage
from edge_agent.control.energy import DISCHARGE_EFFICIENCY
from edge_agent.model.config import LEAST_USED
from edge_agent.model.forecast import Expectation


def kept_soc(storage: Storage, expected: Expectation, *, now_ms: float, hours: float) -> float | None:
    """Lowest state of charge from which the storage alone would bring the house through the next hours.

    It covers the largest sum of load beyond sun from now to any moment of them; sun beyond load fills it again, before
    what comes later. Between the owner's own lower limit and a little below the upper one. None where the expectation
    does not reach so far, or says nothing of the load.
    """
    stretches = list(expected.stretches(now_ms, hours))
    if not stretches or not storage.present or stretches[-1][0] >= len(expected.load_w):
        return None
    needed_wh = most_wh = 0.0
    for index, seconds in stretches:
        needed_wh += (expected.load_w[index] - _at(expected.sun_w, index)) * seconds / 3600.0
        most_wh = max(most_wh, needed_wh)
    share = most_wh / DISCHARGE_EFFICIENCY / storage.nameplate.storage_capacity_wh
    return min(storage.soc_min + share, storage.soc_max - LEAST_USED)


def _at(powers_w: Sequence[float], index: int) -> float:
    """Sun of which nothing is known counts as none."""
    return powers_w[index] if index < len(powers_w) else 0.0
