"""Energy that armed services need: kept from the baseline, and brought back where it is short.

A promise of P watts for a duration needs P x duration at the AC terminals, more than that out of the cells and, in the
other direction, room for it. The baseline below may use what is beyond that. Where the storage is short of it (the
service has delivered, the sun did not come) the baseline is moved by a power that the service's own tolerance
hides: recovering never spoils a delivery. A service that rests between its deliveries waits for that; one that always
moves would wait for ever, and recovers while it moves by less than half of what was contracted.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from edge_agent.control.bounds import TAPER, Storage, believable_soc, ramp
from edge_agent.control.frequency_response import Phase, ResponseLaw, ResponseState, law
from edge_agent.model.intent import ArmService
from edge_agent.model.values import PowerBounds, Proposal, Snapshot

# From the cells to the AC terminals, a low figure, and from there to the cells, a high one: a device says neither.
DISCHARGE_EFFICIENCY = 0.9
CHARGE_EFFICIENCY = 1.0
RECOVERY = 0.8  # of the service's tolerance; the rest is for the inverter's own inaccuracy
# Between the owner's limits and those a coordinator plans with: what is planned up to there is kept to the watt.
PLAN_MARGIN = 2 * TAPER
QUIET_PU = 0.01  # a response smaller than this is none
CALM_PU = 0.5  # of a service that always moves: from here on all its accuracy is for the delivery

SOURCE = "energy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What services need of the storage at the AC terminals."""

    up_wh: float = 0.0  # to give
    down_wh: float = 0.0  # to take
    recovery_w: float = 0.0  # by which the baseline may be moved now

    @property
    def any(self) -> bool:
        return self.up_wh > 0 or self.down_wh > 0


def needed(services: Iterable[tuple[ArmService, ResponseLaw, ResponseState]], now_s: float) -> Need:
    """What all of them need from now on."""
    up_wh = down_wh = recovery_w = 0.0
    quiet = True
    for arm, answer, state in services:
        wh = arm.contracted_w * _due_s(arm, answer, state, now_s) / 3600.0
        up, down = answer.direction
        up_wh += wh if up else 0.0
        down_wh += wh if down else 0.0
        recovery_w += RECOVERY * arm.service.performance.tolerance_pu * arm.contracted_w if wh else 0.0
        quiet = quiet and abs(state.share) < (CALM_PU if arm.service.always_moves else QUIET_PU)
    return Need(up_wh=up_wh, down_wh=down_wh, recovery_w=recovery_w if quiet else 0.0)


def _due_s(arm: ArmService, answer: ResponseLaw, state: ResponseState, now_s: float) -> float:
    """For how long full power may still be asked for [s]. What is recovering will be ready again."""
    if state.recalled or state.phase is Phase.ENDED:
        return 0.0
    trigger = arm.service.trigger
    if trigger is not None and state.phase in (Phase.RELEASING, Phase.RECOVERING):
        return arm.service.timing.full_delivery_s + trigger.hold_s
    return answer.hold_left_s(state, now_s)


def range_needed(storage: Storage, need: Need) -> tuple[float, float]:
    """Lowest and highest state of charge from which all of it can be delivered at full power."""
    capacity_wh = storage.nameplate.storage_capacity_wh
    lowest = storage.soc_min + TAPER + need.up_wh / DISCHARGE_EFFICIENCY / capacity_wh
    highest = storage.soc_max - TAPER - need.down_wh * CHARGE_EFFICIENCY / capacity_wh
    return lowest, highest


def misfit(storage: Storage, arm: ArmService, *, swing_w: float) -> str:
    """Why a service can never be delivered whole by this storage, however it is charged; empty where it can.

    swing_w: between the least and the most that the inverter may ever do [W].
    """
    rated_w = storage.nameplate.rated_power_w
    answer = law(arm.service, contracted_w=arm.contracted_w, rated_power_w=rated_w)
    held_w = arm.contracted_w * sum(answer.direction)
    if held_w > swing_w:
        return f"{arm.service.id} needs {held_w:.0f} W of room, and the limits here leave {swing_w:.0f} W"
    need = needed([(arm, answer, answer.start(0.0))], 0.0)
    lowest, highest = range_needed(storage, need)
    if need.any and lowest > highest:
        has_wh = (storage.soc_max - storage.soc_min) * storage.nameplate.storage_capacity_wh
        return (
            f"{arm.service.id} needs {need.up_wh:.0f} Wh to give and room for {need.down_wh:.0f} Wh, more than the "
            f"{has_wh:.0f} Wh between the limits of charge hold"
        )
    return ""


def propose(storage: Storage, snapshot: Snapshot, need: Need) -> Proposal:
    """Bounds for every baseline below, under which what is needed stays, or comes back."""
    charge = believable_soc(snapshot.soc)
    if charge is None or not storage.present or not need.any:
        return Proposal(source=SOURCE)
    pv_w = max(0.0, snapshot.pv_power_w.good or 0.0)
    lowest, highest = range_needed(storage, need)
    upper_w, lower_w, note = math.inf, -math.inf, ""
    if need.up_wh > 0 and charge < lowest + TAPER:
        spare_w = storage.nameplate.max_discharge_w * ramp((charge - lowest) / TAPER)
        short_w = need.recovery_w * ramp((lowest - charge) / TAPER)
        upper_w = pv_w + spare_w - short_w
    if need.down_wh > 0 and charge > highest - TAPER:
        spare_w = storage.nameplate.max_charge_w * ramp((highest - charge) / TAPER)
        short_w = need.recovery_w * ramp((charge - highest) / TAPER)
        lower_w = pv_w - spare_w + short_w
    if lower_w > upper_w:  # it cannot hold both: it rests where both are short by the same
        lower_w = upper_w = pv_w
    if charge < lowest and need.up_wh > 0:
        note = f"{charge:.1%} charged, {lowest:.1%} are needed"
    elif charge > highest and need.down_wh > 0:
        note = f"{charge:.1%} charged, {highest:.1%} at most leave room"
    return Proposal(source=SOURCE, bounds=PowerBounds(lower_w=lower_w, upper_w=upper_w), note=note)
