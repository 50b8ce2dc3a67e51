"""The owner's limits of comfort, as bounds that nothing but a device's own protection overrides.

A vehicle that would not be ready by its time any more has to charge, and a tank that is colder than the owner wants has
to heat, whatever a price, a plan or a service asks; a tank as hot as allowed may not. As the strongest proposal for its
device such a limit binds everything below, so that nobody sells what the owner keeps.
"""

import math

from edge_agent.model.devices import ChargerReading, FlexiblePlate, LoadReading
from edge_agent.model.values import PowerBounds, Proposal

SOURCE = "owner"
HEAD_START_S = 300.0  # charging that must begin begins this much early: a vehicle may take less than it is offered
HYSTERESIS = 0.05  # of comfort: a tank at its end does not chatter


def device_bounds(plate: FlexiblePlate) -> PowerBounds:
    """What a charger or a load can hold at all."""
    return PowerBounds(lower_w=-plate.max_draw_w, upper_w=plate.max_feed_w)


def ready_by(plate: FlexiblePlate, reading: ChargerReading, *, charges_w: float | None = None) -> Proposal:
    """A vehicle's limits now: it may wait as long as it can still be ready in time, and feeds only what it can spare.

    Without a vehicle nothing may be asked of the charger. Where its need or its time is not known it charges, as it
    would by itself: an owner who finds it full is not the worse for it. charges_w: what it really charges with at the
    most, a magnitude; None: what the plate says.
    """
    if reading.plugged is False:
        return Proposal(source=SOURCE, bounds=PowerBounds(lower_w=0.0, upper_w=0.0), note="no vehicle")
    must = PowerBounds(lower_w=-plate.max_draw_w, upper_w=-plate.max_draw_w)
    needed_wh, ready_in_s = reading.needed_wh.good, reading.ready_in_s.good
    if needed_wh is None or ready_in_s is None:
        return Proposal(source=SOURCE, bounds=must, note="what the vehicle needs is not known: it charges")
    if needed_wh <= 0:
        feed_w = plate.max_feed_w if needed_wh < 0 else 0.0
        return Proposal(source=SOURCE, bounds=PowerBounds(lower_w=-plate.max_draw_w, upper_w=feed_w))
    if takes_s(needed_wh, charges_w if charges_w is not None else plate.max_draw_w) + HEAD_START_S >= ready_in_s:
        return Proposal(source=SOURCE, bounds=must, note="it charges now, or it is not ready in time")
    return Proposal(source=SOURCE, bounds=PowerBounds(lower_w=-plate.max_draw_w, upper_w=0.0))


def as_it_likes(plate: FlexiblePlate, reading: ChargerReading) -> Proposal:
    """The limits of a vehicle whose owner wants it ready at no time: none, while it is there."""
    if reading.plugged is False:
        return Proposal(source=SOURCE, bounds=PowerBounds(lower_w=0.0, upper_w=0.0), note="no vehicle")
    return Proposal(source=SOURCE, bounds=PowerBounds(lower_w=-plate.max_draw_w, upper_w=0.0))


def takes_s(needed_wh: float, charges_w: float) -> float:
    """How long charging takes [s]."""
    return needed_wh * 3600.0 / charges_w if charges_w > 0 else math.inf


def comfort(plate: FlexiblePlate, reading: LoadReading, *, forced: bool) -> tuple[bool, Proposal]:
    """A load's limits now, and whether it has to draw: from below its comfort until a little above its lower end.

    forced: what it said the cycle before. Where its level is not known its own thermostat has to do: nothing is asked.
    """
    level = reading.level.good
    if level is None:
        return False, Proposal(source=SOURCE, bounds=PowerBounds(lower_w=0.0, upper_w=0.0), note="level is not known")
    forced = level <= 0.0 or (forced and level < HYSTERESIS)
    if forced:
        must = PowerBounds(lower_w=-plate.max_draw_w, upper_w=-plate.max_draw_w)
        return True, Proposal(source=SOURCE, bounds=must, note="below the owner's comfort")
    if level >= 1.0:
        return False, Proposal(source=SOURCE, bounds=PowerBounds(lower_w=0.0, upper_w=0.0), note="as full as allowed")
    return False, Proposal(source=SOURCE, bounds=PowerBounds(lower_w=-plate.max_draw_w, upper_w=0.0))
