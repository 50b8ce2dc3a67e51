"""From the history of a delivery period to an award's settlement. No I/O."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from cloud.dispatch.reserve_mode import seconds_left
from cloud.dispatch.verification import verify
from cloud.markets.settlement import Delivery, Statement, settle
from cloud.model.records import AwardRecord, AwardShare, Description, PlanRecord, Settlement, SettlementLine
from protos.services import Service

Array = npt.NDArray[np.float64]


def baseline_w(plan: PlanRecord, site: str, t_ms: npt.NDArray[np.int64]) -> Array:
    """What the site was scheduled to do at each instant [W]; NaN outside the plan. Raises KeyError for a stranger."""
    power = {planned.site: planned.inverter_power_w for planned in plan.sites}[site]
    unit = (t_ms - plan.start_ms) // (plan.mtu_s * 1000)
    inside = (unit >= 0) & (unit < len(power))
    return np.where(inside, np.asarray(power, dtype=np.float64)[np.clip(unit, 0, len(power) - 1)], np.nan)


def left_s(service: Service, told: Description, contracted_w: float, soc: Array) -> Array:
    """What the site's storage had left at each sample, in seconds of the contracted power."""
    return seconds_left(
        soc,
        soc_min=told.soc_min,
        soc_max=told.soc_max,
        capacity_wh=told.storage_capacity_wh,
        contracted_w=contracted_w,
        directions=service.directions,
    )


def judge(
    service: Service,
    plan: PlanRecord,
    shares: Sequence[AwardShare],
    told: Mapping[str, Description],
    t_ms: npt.NDArray[np.int64],
    interval_ms: int,
    power_w: Mapping[str, Array],
    frequency_hz: Mapping[str, Array],
    soc: Mapping[str, Array],
) -> list[Delivery]:
    """What each site did in the delivery period, from what it measured on the grid `t_ms`, and what stands there."""
    deliveries = []
    for share in shares:
        verdict = verify(
            service,
            contracted_w=share.contracted_w,
            rated_power_w=told[share.site].rated_power_w,
            baseline_w=baseline_w(plan, share.site, t_ms),
            power_w=power_w[share.site],
            frequency_hz=frequency_hz[share.site],
            dt_s=interval_ms / 1000,
            left_s=left_s(service, told[share.site], share.contracted_w, soc[share.site]),
        )
        deliveries.append(
            Delivery(
                site=share.site,
                contracted_w=share.contracted_w,
                error=verdict.error,
                samples=verdict.samples,
                samples_missing=verdict.samples_missing,
                energy_wh=verdict.energy_wh,
            )
        )
    return deliveries


def settlement_of(
    award: AwardRecord, service: Service, deliveries: Sequence[Delivery], energy_price_per_kwh: Decimal, now_ms: int
) -> tuple[Settlement, list[SettlementLine]]:
    """The award's settlement as the ledger keeps it."""
    statement: Statement = settle(
        deliveries,
        performance=service.performance,
        delivery_ms=award.delivery_end_ms - award.delivery_start_ms,
        clearing_price_per_mw_h=award.clearing_price_per_mw_h,
        energy_price_per_kwh=energy_price_per_kwh,
    )
    settlement = Settlement(
        award_id=award.award_id,
        settled_ms=now_ms,
        currency=award.currency,
        capacity_amount=statement.capacity_amount,
        energy_amount=statement.energy_amount,
        total_amount=statement.total_amount,
    )
    lines = [
        SettlementLine(
            award_id=award.award_id,
            site=line.site,
            contracted_w=line.contracted_w,
            capacity_wh=line.capacity_wh,
            performance_error=line.performance_error,
            performance_factor=line.performance_factor,
            delivered=line.delivered,
            samples=line.samples,
            samples_missing=line.samples_missing,
            energy_wh=line.energy_wh,
            capacity_amount=line.capacity_amount,
            energy_amount=line.energy_amount,
            total_amount=line.total_amount,
        )
        for line in statement.lines
    ]
    return settlement, lines
