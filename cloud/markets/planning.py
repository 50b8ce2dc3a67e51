"""From a site's past and present to its plan: forecast, linear programme, whole watts. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud.forecast.persistence import persist
from cloud.markets.bidding import HomeReserve
from cloud.markets.products import Product, contract_limit_w
from cloud.model.records import Description, PlanRecord, SitePlan
from cloud.optimise.problem import Horizon, Plan, ReserveTerms, Storage
from cloud.optimise.schedule import Problem, opportunity_cost, solve
from protos.services import Service

Array = npt.NDArray[np.float64]

MTU_S = 900
UNITS = 96  # a day
HISTORY_DAYS = 14
UNITS_PER_DAY = 86_400 // MTU_S


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteState:
    """What a site's plan is made from."""

    site: str
    description: Description
    soc: float  # now, 0..1
    load_wh: Array  # per unit, the HISTORY_DAYS up to the plan's first unit; NaN where not known
    pv_wh: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The plan's units and the delivery period inside them; instants in UTC ms."""

    start_ms: int
    delivery_start_ms: int
    delivery_end_ms: int

    @classmethod
    def around(cls, delivery_start_ms: int, delivery_end_ms: int) -> "Window":
        """A day of units from the one in which delivery begins."""
        start_ms = delivery_start_ms // (MTU_S * 1000) * MTU_S * 1000
        return cls(start_ms=start_ms, delivery_start_ms=delivery_start_ms, delivery_end_ms=delivery_end_ms)

    @property
    def mtu_s(self) -> int:
        return MTU_S

    @property
    def delivery_h(self) -> float:
        return (self.delivery_end_ms - self.delivery_start_ms) / 3_600_000

    @property
    def end_ms(self) -> int:
        return self.start_ms + UNITS * MTU_S * 1000

    def delivery_units(self) -> npt.NDArray[np.bool_]:
        begin = self.start_ms + np.arange(UNITS) * MTU_S * 1000
        return (begin < self.delivery_end_ms) & (begin + MTU_S * 1000 > self.delivery_start_ms)


TICKS_PER_KWH = 100_000
"""A tick is 0.01 currency/MWh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Per unit [currency/kWh], and what reserve is expected to clear at [currency per MW and hour]."""

    import_price: Array
    export_price: Array
    reserve: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSite:
    """A site's solved plan with what it was made from."""

    site: str
    horizon: Horizon
    units: npt.NDArray[np.bool_]
    plan: Plan

    def record(self, reserve_w: int) -> SitePlan:
        """As the ledger keeps it, `reserve_w` whole watts held in the delivery period's units."""
        values = self.plan.stored_value_per_kwh
        return SitePlan(
            site=self.site,
            inverter_power_w=tuple(round(power) for power in self.plan.inverter_power_w.tolist()),
            load_w=tuple(self.horizon.load_w.tolist()),
            pv_w=tuple(self.horizon.pv_w.tolist()),
            soc=tuple(self.plan.soc.tolist()),
            reserve_w=tuple(reserve_w if unit else 0 for unit in self.units.tolist()),
            stored_value_ticks=tuple(round(TICKS_PER_KWH * value) for value in values) if values is not None else (),
        )


def problem_of(
    state: SiteState, window: Window, prices: Prices, service: Service, product: Product, awarded_w: int | None
) -> Problem:
    """The site's linear programme; awarded_w None: reserve is to be found. Raises ForecastError, ValueError."""
    told = state.description
    upward, downward = service.directions
    per_wh = 3600 / MTU_S
    storage = Storage(
        rated_power_w=told.rated_power_w,
        max_charge_w=told.max_charge_w,
        max_discharge_w=told.max_discharge_w,
        capacity_wh=told.storage_capacity_wh,
        soc_min=told.soc_min,
        soc_max=told.soc_max,
    )
    return Problem(
        storage=storage,
        soc=state.soc,
        horizon=Horizon(
            mtu_s=MTU_S,
            load_w=persist(state.load_wh, UNITS, UNITS_PER_DAY).energy_wh * per_wh,
            pv_w=persist(state.pv_wh, UNITS, UNITS_PER_DAY).energy_wh * per_wh,
            import_price=prices.import_price,
            export_price=prices.export_price,
            # What is left over goes into the home or the grid some other day, at an average price.
            terminal_value=float(np.mean(prices.export_price)) * storage.discharge_efficiency,
        ),
        reserve=ReserveTerms(
            units=window.delivery_units(),
            sustain_s=max(product.sustain_s, service.sustain_s),
            upward=upward,
            downward=downward,
            limit_w=contract_limit_w(product, service, told.rated_power_w),
            delivery_h=window.delivery_h,
            price_per_mw_h=prices.reserve,
            awarded_w=awarded_w,
        ),
    )


def plan_offer(
    state: SiteState, window: Window, prices: Prices, service: Service, product: Product
) -> tuple[PlannedSite, HomeReserve]:
    """The site's plan with as much reserve as pays, and what holding that much costs. Raises as problem_of."""
    problem = problem_of(state, window, prices, service, product, None)
    plan = solve(problem)
    reserve_w = int(plan.reserve_w + 1e-3)  # whole watts, downward; a milliwatt is the solver's noise
    cost = opportunity_cost(problem, reserve_w) if reserve_w else 0.0
    planned = PlannedSite(site=state.site, horizon=problem.horizon, units=window.delivery_units(), plan=plan)
    return planned, HomeReserve(site=state.site, reserve_w=reserve_w, cost=cost)


def plan_award(
    state: SiteState, window: Window, prices: Prices, service: Service, product: Product, awarded_w: int
) -> PlannedSite:
    """The site's plan with the award held in any case. Raises as problem_of."""
    problem = problem_of(state, window, prices, service, product, awarded_w)
    return PlannedSite(site=state.site, horizon=problem.horizon, units=window.delivery_units(), plan=solve(problem))


def plan_record(
    plan_id: str, created_ms: int, window: Window, sites: Sequence[PlannedSite], reserve_w: Mapping[str, int]
) -> PlanRecord:
    """The plans of several sites as one record of the ledger."""
    return PlanRecord(
        plan_id=plan_id,
        created_ms=created_ms,
        start_ms=window.start_ms,
        mtu_s=MTU_S,
        sites=tuple(planned.record(reserve_w.get(planned.site, 0)) for planned in sites),
    )
