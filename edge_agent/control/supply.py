"""What a site would do at each price: battery, sun, vehicle and flexible load as supply functions that add.

A price is worth acting upon where it differs from what the energy is worth here: energy in the storage by the schedule
(`Schedule.stored_value_ticks`), a vehicle's or a tank's by how urgently it is needed.
"""

import math
from dataclasses import dataclass, replace

from edge_agent.control.bounds import Storage, believable_soc
from edge_agent.control.schedule import unit_at
from edge_agent.model.intent import Schedule
from edge_agent.model.supply import SupplyFunction, total
from edge_agent.model.values import PowerBounds, Snapshot

# Into the storage and out of it, with the inverter, and what passing energy through wears off it: what the coordinator
# plans with, so that a site follows a price as it would have been planned at it.
IN_EFFICIENCY = 0.95
OUT_EFFICIENCY = 0.9
WEAR_TICKS = 500  # each way: 0.01 currency/kWh there and back
SUN_STANDS_S = 900.0  # for which curtailed panels are taken for what they gave before
CURTAILED_PU = 0.02  # of the rating: nearer than this to what they are told, panels are curtailed
ROUND_TRIP = IN_EFFICIENCY * OUT_EFFICIENCY


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBand:
    """Between which prices energy is expected to be had until it is needed [0.01 currency/MWh]."""

    low_ticks: int
    high_ticks: int

    def at(self, urgency: float) -> int:
        """The price up to which something so urgent (0..1) is bought."""
        return math.floor(self.low_ticks + max(0.0, min(1.0, urgency)) * (self.high_ticks - self.low_ticks))


def battery(*, stored_value_ticks: int, charge_limit_w: float, discharge_limit_w: float) -> SupplyFunction:
    """Charges below what the energy is worth once it is in, discharges above what it is worth once it is out.

    Between the two, which a round trip's losses and wear part, it rests. Limits are magnitudes [W].
    """
    buy = round(stored_value_ticks * IN_EFFICIENCY - WEAR_TICKS)
    sell = round(stored_value_ticks / OUT_EFFICIENCY + WEAR_TICKS)
    buy, sell = min(buy, sell), max(buy, sell)
    return total(
        (SupplyFunction.step(buy, -charge_limit_w, 0.0), SupplyFunction.step(sell, 0.0, discharge_limit_w)),
    )


def sun(power_w: float) -> SupplyFunction:
    """All of it from a price of nothing upwards, none of it where one would have to pay."""
    return SupplyFunction(((-1, 0.0), (0, power_w)))


def vehicle(
    *,
    needed_wh: float,
    ready_in_s: float,
    max_charge_w: float,
    band: PriceBand | None,
    max_discharge_w: float = 0.0,
) -> SupplyFunction:
    """Buys up to a price that rises as the time left shrinks to what charging takes; from there on at every price.

    needed_wh: at the charger until it is ready, below 0 where it has more than it needs, which it sells where a round
    trip pays. band: None: nobody knows what energy will cost, so it charges at once. Powers are magnitudes.
    """
    if needed_wh > 0:
        takes_s = needed_wh * 3600.0 / max_charge_w
        if band is None or takes_s >= ready_in_s:
            return SupplyFunction.constant(-max_charge_w)
        return SupplyFunction.step(band.at(takes_s / ready_in_s), -max_charge_w, 0.0)
    if band is None or needed_wh == 0.0 or max_discharge_w == 0.0:
        return SupplyFunction.constant(0.0)
    return SupplyFunction.step(math.ceil(max(band.high_ticks, band.high_ticks / ROUND_TRIP)), 0.0, max_discharge_w)


def thermal_load(*, level: float, max_power_w: float, band: PriceBand | None) -> SupplyFunction:
    """Buys up to a price that falls as its store fills.

    level: how full within its comfort, 0 at the least and 1 at the most the owner wants; outside of these the price
    does not matter. band: None: nobody knows what energy will cost, so it fills up to the half. Power is a magnitude.
    """
    if level >= 1.0:
        return SupplyFunction.constant(0.0)
    if level <= 0.0 or (band is None and level < 0.5):
        return SupplyFunction.constant(-max_power_w)
    if band is None:
        return SupplyFunction.constant(0.0)
    return SupplyFunction.step(band.at(1.0 - level), -max_power_w, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SunState:
    """What the panels of an inverter without storage could give, as far as anybody can know."""

    power_w: float = 0.0
    seen_s: float = -math.inf  # when they last gave all they had


def follow_sun(state: SunState, snapshot: Snapshot, storage: Storage, told_w: float | None) -> SunState:
    """The state after this cycle.

    Panels that give less than they are allowed give all they have. Curtailed ones are taken for what they gave before,
    for so long as the sun stands about where it stood, and after that for what they give: nobody is promised more.
    told_w: what the inverter was told last [W]; None: its own default.
    """
    if storage.present:
        return state
    power_w = snapshot.inverter_power_w.good
    if power_w is None:
        return state if snapshot.at_s - state.seen_s < SUN_STANDS_S else SunState(seen_s=state.seen_s)
    power_w = max(0.0, power_w)
    if told_w is None or power_w < told_w - CURTAILED_PU * storage.nameplate.rated_power_w:
        return SunState(power_w=power_w, seen_s=snapshot.at_s)
    if snapshot.at_s - state.seen_s >= SUN_STANDS_S:
        return replace(state, power_w=power_w)
    return replace(state, power_w=max(power_w, state.power_w))


def site(
    storage: Storage,
    snapshot: Snapshot,
    schedule: Schedule | None,
    room: PowerBounds,
) -> SupplyFunction | None:
    """The inverter's function within the room that services leave it; None where its charge is not known.

    A storage whose energy the schedule puts no value on does what is planned at every price. An inverter without
    storage is asked for all that its rating allows: nobody knows what curtailed panels could give (see `follow_sun`).
    """
    if not storage.present:
        inverter = sun(max(0.0, room.upper_w))
    else:
        charge = believable_soc(snapshot.soc)
        if charge is None:
            return None
        pv_w = max(0.0, snapshot.pv_power_w.good or 0.0)
        unit = unit_at(schedule, snapshot.at_s) if schedule is not None else None
        if schedule is None or unit is None or not schedule.stored_value_ticks:
            planned_w = schedule.power_w[unit] if schedule is not None and unit is not None else pv_w
            cells = SupplyFunction.constant(planned_w - pv_w)
        else:
            cells = battery(
                stored_value_ticks=schedule.stored_value_ticks[unit],
                charge_limit_w=storage.charge_limit_w(charge),
                discharge_limit_w=storage.discharge_limit_w(charge),
            )
        inverter = total((sun(pv_w), cells))
    return inverter.clipped(room).shortened()


def band_until(schedule: Schedule | None, now_s: float, until_s: float) -> PriceBand | None:
    """What the schedule takes energy to be worth between now and then; None where it does not say."""
    if schedule is None or not schedule.stored_value_ticks:
        return None
    first = unit_at(schedule, now_s)
    if first is None:
        return None
    after = math.ceil((until_s - schedule.start_s) / schedule.mtu_s)
    values = schedule.stored_value_ticks[first : max(first + 1, after)]
    return PriceBand(low_ticks=min(values), high_ticks=max(values))
