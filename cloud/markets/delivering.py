"""A session from its awards to the money: the final plan, armed sites, and the settlement of what they did."""

import asyncio
from dataclasses import replace
from decimal import Decimal

import numpy as np

from cloud.markets import arming
from cloud.markets.office import Office, window_of
from cloud.markets.planning import PlannedSite, Prices, Window, plan_award, plan_record
from cloud.markets.prices import energy_price
from cloud.markets.products import load as load_product
from cloud.markets.roster import Roster
from cloud.markets.selling import market_prices
from cloud.markets.settling import judge, settlement_of
from cloud.model.records import (
    AwardRecord,
    AwardShare,
    AwardState,
    MarketSession,
    PlanRecord,
    SessionStage,
    Settlement,
    SettlementLine,
    Severity,
)
from protos import services

TELEMETRY_WITHIN_MS = 120_000
"""After the end of delivery; what has not arrived by then counts as not measured."""
LAST_SAMPLES_MS = 2_000  # enough for one sample at either telemetry interval
RETRY_S = 1.0
STILL_DRAINING_MS = 10_000  # since a home's gaps grew smaller: what is missing now stays missing
POINTS = ("inverter_power_w", "frequency_hz", "soc")


async def arm(office: Office, session: MarketSession) -> MarketSession:
    """AWARDED -> ARMED: plan, schedule and service for each home. Raises Passed, MarketRefused, PriceGap."""
    awards = await asyncio.to_thread(_awards, office, session)
    plan = await asyncio.to_thread(office.ledger.plan, f"{session.session_id}-final")
    if plan is None:  # else a desk that stopped while it told the sites has left it behind
        plan = await _final_plan(office, session, awards)
        await asyncio.to_thread(office.ledger.put_plan, plan)
    session = replace(session, plan_id=plan.plan_id)
    await asyncio.to_thread(office.ledger.put_market_session, session)
    for award, shares in awards:
        untold = await arming.arm(office.sender, award, shares, plan, office.utc_ms())
        for site, reason in untold.items():
            await office.tell(session, "desk.site-not-told", f"{award.product}: {reason}", Severity.ALARM, site=site)
        if award.state is AwardState.AWARDED:
            await asyncio.to_thread(office.ledger.set_award_state, award.award_id, AwardState.ARMED)
        text = f"{award.product}: schedule and service sent to {len(shares) - len(untold)} of {len(shares)} homes"
        await office.tell(session, "desk.armed", text, about=award.product)
    return replace(session, stage=SessionStage.ARMED)


async def settle(office: Office, session: MarketSession) -> MarketSession:
    """ARMED -> SETTLED. Raises Passed, MarketRefused, PriceGap, and HistoryError where history cannot be read."""
    awards = await asyncio.to_thread(_awards, office, session)
    for award, shares in awards:
        await _watch(office, session, award, shares)
    await office.until(session.delivery_end_ms)
    await _await_telemetry(office, session, awards)
    tariff = await office.patiently(
        lambda: office.tariff(session.delivery_start_ms, session.delivery_end_ms),
        session.delivery_end_ms + TELEMETRY_WITHIN_MS * 10,
    )
    price = energy_price(tariff, session.delivery_start_ms, session.delivery_end_ms)
    plan = await asyncio.to_thread(office.plan_of, session)
    for award, shares in awards:
        settlement, lines = await asyncio.to_thread(_settlement, office, award, shares, plan, price)
        await asyncio.to_thread(office.ledger.add_settlement, settlement, lines)
        met = sum(line.delivered for line in lines)
        text = f"{award.product}: {met} of {len(lines)} homes delivered within limits; {settlement.total_amount}"
        await office.tell(session, "desk.settled", f"{text} {settlement.currency}", about=award.product)
    return replace(session, stage=SessionStage.SETTLED)


def _awards(office: Office, session: MarketSession) -> list[tuple[AwardRecord, list[AwardShare]]]:
    awards = office.ledger.awards(session.session_id)
    return [(award, office.ledger.award_shares(award.award_id)) for award in awards]


async def _final_plan(
    office: Office, session: MarketSession, awards: list[tuple[AwardRecord, list[AwardShare]]]
) -> PlanRecord:
    """Every awarded home planned anew with its award held in any case.

    A home that has gone silent since the offer keeps the plan it had: its intents wait for it at the broker.
    """
    window = window_of(session)
    contracted = {share.site: share.contracted_w for _, shares in awards for share in shares}
    products = {award.product: load_product(award.product) for award, _ in awards}
    prices = await office.patiently(lambda: market_prices(office, window, products), session.delivery_end_ms)
    roster = await office.roll(window)
    planned = await asyncio.to_thread(_plan, awards, roster, window, prices)
    for site in planned:
        if (short_w := site.plan.shortfall_w) > 0:
            text = f"can hold {site.plan.reserve_w:.0f} W of its award: {short_w:.0f} W short"
            await office.tell(session, "desk.award-short", text, Severity.WARNING, site=site.site)
    record = plan_record(f"{session.session_id}-final", office.utc_ms(), window, planned, contracted)
    reached = {site.site for site in planned}
    before = await asyncio.to_thread(office.plan_of, session)
    kept = []
    for site_plan in before.sites:
        if site_plan.site in contracted and site_plan.site not in reached:
            watts = contracted[site_plan.site]
            kept.append(replace(site_plan, reserve_w=tuple(watts if held else 0 for held in site_plan.reserve_w)))
            text = f"keeps the plan of the offer: {roster.left_out[site_plan.site]}"
            await office.tell(session, "desk.site-not-replanned", text, Severity.WARNING, site=site_plan.site)
    return replace(record, sites=(*record.sites, *kept))


def _plan(
    awards: list[tuple[AwardRecord, list[AwardShare]]], roster: Roster, window: Window, prices: dict[str, Prices]
) -> list[PlannedSite]:
    present = {member.state.site: member.state for member in roster.members}
    return [
        plan_award(
            present[share.site],
            window,
            prices[award.product],
            services.parse(award.service_toml),
            load_product(award.product),
            share.contracted_w,
        )
        for award, shares in awards
        for share in shares
        if share.site in present
    ]


async def _watch(office: Office, session: MarketSession, award: AwardRecord, shares: list[AwardShare]) -> None:
    """Waits until every home says that its service is in force, or reports who does not."""
    deadline_ms = min(award.delivery_start_ms + arming.ACTIVE_WITHIN_MS, award.delivery_end_ms)
    while True:
        limit = 4 * len(shares) + 1000  # of every site, and what came since
        intents = await asyncio.to_thread(office.ledger.intents, kind="service", limit=limit)
        missing = arming.not_active(award, shares, intents)
        if not missing:
            await office.tell(
                session, "desk.active", f"{award.product}: all {len(shares)} homes armed", about=award.product
            )
            return
        if office.utc_ms() >= deadline_ms:
            break
        await asyncio.sleep(RETRY_S)
    if office.utc_ms() < award.delivery_end_ms:  # a desk started after the delivery could only say that it is over
        for site, reason in missing.items():
            text = f"{award.product}: not armed: {reason}"
            await office.tell(session, "desk.site-not-armed", text, Severity.ALARM, site=site)


async def _await_telemetry(
    office: Office, session: MarketSession, awards: list[tuple[AwardRecord, list[AwardShare]]]
) -> None:
    """Waits for the last samples of the delivery from every awarded home; reports who stays silent.

    A home that was cut off sends what it measures at once and what had waited beside it, in order: while fewer and
    fewer of its frames are missing, the rest is on its way.
    """
    names = sorted({share.site for _, shares in awards for share in shares})
    slots = await asyncio.to_thread(lambda: {s.site: s.slot for s in office.ledger.sites() if s.site in names})
    end_ms, deadline_ms = session.delivery_end_ms, session.delivery_end_ms + TELEMETRY_WITHIN_MS
    gaps, filled_ms = dict.fromkeys(names, 0), office.utc_ms()
    while True:
        wanted = [slots[name] for name in names]
        last = await asyncio.to_thread(office.history.read, wanted, end_ms - LAST_SAMPLES_MS, end_ms, POINTS[:1])
        newest = last.columns[POINTS[0]][:, -1]
        silent = [name for name, value in zip(names, newest, strict=True) if not np.isfinite(value)]
        now_ms, before = office.utc_ms(), gaps
        missing = office.fleet.gaps
        gaps = {name: int(missing[slots[name]]) if slots[name] < len(missing) else 0 for name in names}
        if any(gaps[name] < before[name] for name in names):
            filled_ms = now_ms
        draining = any(gaps.values()) and now_ms < filled_ms + STILL_DRAINING_MS
        if not (silent or draining) or now_ms >= deadline_ms:
            break
        await asyncio.sleep(RETRY_S)
    for name in silent:
        text = "telemetry of the delivery is not complete: what is missing counts against it"
        await office.tell(session, "desk.telemetry-missing", text, Severity.WARNING, site=name)


def _settlement(
    office: Office, award: AwardRecord, shares: list[AwardShare], plan: PlanRecord, price: Decimal
) -> tuple[Settlement, list[SettlementLine]]:
    sites = {site.site: site for site in office.ledger.sites()}
    names = [share.site for share in shares]
    slots = [sites[name].slot for name in names]
    measured = office.history.read(slots, award.delivery_start_ms, award.delivery_end_ms, POINTS)
    power, frequency, soc = (dict(zip(names, measured.columns[point], strict=True)) for point in POINTS)
    told = {name: description for name in names if (description := sites[name].description) is not None}
    service = services.parse(award.service_toml)
    deliveries = judge(service, plan, shares, told, measured.t_ms, measured.interval_ms, power, frequency, soc)
    return settlement_of(award, service, deliveries, price, office.utc_ms())
