"""The owner's default: storage holds the grid's power at zero.

The home's load is what the inverter gives less what the meter exports, whatever else acts on the inverter at that
moment; so this follows the load, not its own effect, and cannot swing up against an inverter's lag.
"""

import math
from dataclasses import dataclass

from edge_agent.control.bounds import Storage, believable_soc
from edge_agent.model.values import Proposal, Snapshot

SMOOTHING_S = 1.0  # a kettle is followed in seconds, the meter's noise is not
STEP_W = 10.0  # a smaller change is not worth a write


@dataclass(frozen=True, slots=True)
class LoadState:
    """The load as followed so far."""

    load_w: float = math.nan  # smoothed, positive when consuming
    wish_w: float = math.nan  # last proposed
    at_s: float = -math.inf  # of the meter reading last used


def propose(state: LoadState, snapshot: Snapshot, storage: Storage) -> tuple[LoadState, Proposal]:
    """The wish of this cycle. Without a good meter or inverter reading there is none."""
    if not storage.present:  # nothing to steer with: the panels give what they give
        return state, Proposal(source="self-consumption", note="no storage")
    grid, inverter = snapshot.grid_power_w, snapshot.inverter_power_w
    if grid.good is None or inverter.good is None:
        return state, Proposal(source="self-consumption", note=f"grid meter is {grid.quality.value}")
    load_w = inverter.value - grid.value
    if math.isnan(state.load_w):
        state = LoadState(load_w, math.nan, grid.at_s)
    elif grid.at_s > state.at_s:
        weight = 1.0 - math.exp(-(grid.at_s - state.at_s) / SMOOTHING_S)
        state = LoadState(state.load_w + weight * (load_w - state.load_w), state.wish_w, grid.at_s)
    wish_w = max(state.load_w, _surplus_w(snapshot, storage))
    if math.isnan(state.wish_w) or abs(wish_w - state.wish_w) >= STEP_W:
        state = LoadState(state.load_w, float(round(wish_w)), state.at_s)
    return state, Proposal(source="self-consumption", power_w=state.wish_w)


def _surplus_w(snapshot: Snapshot, storage: Storage) -> float:
    """Sun that the storage cannot take goes to the grid: curtailing it would help nobody."""
    pv_w = max(0.0, snapshot.pv_power_w.good or 0.0)
    charge = believable_soc(snapshot.soc)
    return pv_w - (storage.charge_limit_w(charge) if charge is not None else 0.0)
