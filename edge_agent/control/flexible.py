"""What a charger or a flexible load may do now, and would do at each price.

The owner's limits come first, the strongest of them first: what is full or has nobody there does not draw; what wears
itself out rests; what would not be ready, or is below comfort, draws; what has just begun goes on. Within them a price
has its way, and where nobody asks for anything the device does as it would by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_agent.control import owner, running, stay, supply
from edge_agent.control.running import Run, Times
from edge_agent.control.stay import Stay, Wants
from edge_agent.control.supply import PriceBand
from edge_agent.model.devices import ChargerReading, FlexiblePlate, LoadReading
from edge_agent.model.supply import SupplyFunction
from edge_agent.model.values import PowerBounds, Proposal

HALF = 0.5  # how urgent energy is that nobody says anything about


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is remembered from reading to reading."""

    run: Run | None = None
    stay: Stay | None = None  # of a charger
    forced: bool = False  # of a load: it is below comfort


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a device may do, and would."""

    limits: tuple[Proposal, ...]  # the strongest first
    default_w: float  # where nobody asks for anything
    ready_in_s: float | None  # until when what energy costs matters to it
    at_prices: Callable[[PriceBand | None], SupplyFunction]
    needed_wh: float | None = None  # of a vehicle

    @property
    def bounds(self) -> PowerBounds:
        """What all of its limits leave."""
        room = self.limits[0].bounds
        assert room is not None  # noqa: S101  (the first is the owner's, and has always some)
        for limit in self.limits[1:]:
            room = room.narrowed(limit.bounds) if limit.bounds is not None else room
        return room

    @property
    def reason(self) -> str:
        """The owner's, in words; empty where none binds."""
        return next((limit.note for limit in self.limits if limit.note), "")


def charger(
    state: State,
    reading: ChargerReading,
    plate: FlexiblePlate,
    times: Times,
    wants: Wants | None,
    *,
    room_w: float,
    told_w: float | None,
    told_for_s: float,
    now_s: float,
    utc_ms: int,
) -> tuple[State, Outlook]:
    """A charger's state after a reading, and its outlook.

    wants: of a vehicle that comes now; None: its owner wants it ready at no time. room_w: what the grid connection
    leaves it at the most [W], a magnitude. told_w, told_for_s: as of `stay.follow`.
    """
    at = state.stay or Stay(at_s=now_s)
    at = stay.follow(at, reading, wants, most_w=plate.max_draw_w, told_w=told_w, told_for_s=told_for_s, now_s=now_s)
    run = running.follow(state.run, reading.power_w.good or 0.0, plate, now_s)
    reading = stay.completed(reading, at, utc_ms)
    needed_wh, ready_in_s = reading.needed_wh.good, reading.ready_in_s.good
    charges_w = min(plate.max_draw_w * at.share, room_w)
    knows = needed_wh is not None and ready_in_s is not None
    if knows or (at.wants is not None and at.plugged):
        kept = owner.ready_by(plate, reading, charges_w=charges_w)
    else:
        kept = owner.as_it_likes(plate, reading)
    must = kept.bounds is not None and kept.bounds.upper_w < 0
    limits = [kept]
    if not must and (resting := running.rests(run, times, now_s)) is not None:
        limits.append(resting)
    if not must and reading.plugged and (going := running.goes_on(run, times, plate, now_s)) is not None:
        limits.append(going)

    def at_prices(band: PriceBand | None) -> SupplyFunction:
        if reading.plugged is False:
            return SupplyFunction.constant(0.0)
        if needed_wh is not None and ready_in_s is not None:
            return supply.vehicle(
                needed_wh=needed_wh,
                ready_in_s=max(1.0, ready_in_s),
                max_charge_w=plate.max_draw_w,
                band=band,
                max_discharge_w=plate.max_feed_w,
            )
        if band is None:
            return SupplyFunction.constant(-plate.max_draw_w)
        return SupplyFunction.step(band.at(HALF), -plate.max_draw_w, 0.0)

    outlook = Outlook(
        limits=tuple(limits),
        default_w=at_prices(None).power_w(0),
        ready_in_s=ready_in_s,
        at_prices=at_prices,
        needed_wh=needed_wh,
    )
    return replace(state, run=run, stay=at), outlook


def load(
    state: State, reading: LoadReading, plate: FlexiblePlate, times: Times, *, has_level: bool, now_s: float
) -> tuple[State, Outlook]:
    """A load's state after a reading, and its outlook. has_level: it is one that tells how full its store is."""
    run = running.follow(state.run, reading.power_w.good or 0.0, plate, now_s)
    level = reading.level.good
    forced = False
    whole = PowerBounds(lower_w=-plate.max_draw_w, upper_w=0.0)
    kept = Proposal(source=owner.SOURCE, bounds=whole)
    if has_level:
        forced, kept = owner.comfort(plate, reading, forced=state.forced)
    limits = [Proposal(source=owner.SOURCE, bounds=whole)]
    resting = running.rests(run, times, now_s)
    if kept.bounds is not None and kept.bounds.lower_w == 0.0:
        limits.append(kept)  # full, or nobody knows: its own thermostat has to do
    if resting is not None:
        limits.append(resting)
    if forced:
        limits.append(kept)
    if (going := running.goes_on(run, times, plate, now_s)) is not None:
        limits.append(going)

    def at_prices(band: PriceBand | None) -> SupplyFunction:
        if level is not None and has_level:
            return supply.thermal_load(level=level, max_power_w=plate.max_draw_w, band=band)
        if band is None:
            return SupplyFunction.constant(-plate.max_draw_w)
        return SupplyFunction.step(band.at(HALF), -plate.max_draw_w, 0.0)

    outlook = Outlook(limits=tuple(limits), default_w=at_prices(None).power_w(0), ready_in_s=None, at_prices=at_prices)
    return replace(state, run=run, forced=forced), outlook
