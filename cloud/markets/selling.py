"""A session up to its awards: prices, plans, one offer a product, and what the market bought of it."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from cloud.config import OfferConfig
from cloud.markets import client
from cloud.markets.bidding import FleetOffer, HomeReserve, fleet_offer, share_award
from cloud.markets.client import MarketRefused
from cloud.markets.office import Office, Passed, utc, window_of
from cloud.markets.planning import UNITS, PlannedSite, Prices, Window, plan_offer, plan_record
from cloud.markets.prices import expected_reserve_price, unit_prices
from cloud.markets.products import Product
from cloud.markets.products import load as load_product
from cloud.markets.roster import Member, offer_of
from cloud.model.records import AwardRecord, AwardShare, MarketSession, OfferRecord, SessionStage, Severity
from protos import services

CLEARED_WITHIN_MS = 30_000  # after gate closure
PAST_PRICES = timedelta(days=1)


async def make_offers(office: Office, session: MarketSession) -> MarketSession:
    """SEEN -> OFFERED. Raises Passed, MarketRefused, PriceGap, ProductError."""
    window = window_of(session)
    products = {offer.product: load_product(offer.product) for offer in office.config.offers}
    prices = await office.patiently(lambda: market_prices(office, window, products), session.gate_closure_ms)
    roster = await office.roll(window)
    for site, reason in roster.left_out.items():
        text = f"left out of the offer: {reason}"
        await office.tell(session, "desk.site-left-out", text, Severity.WARNING, site=site)
    planned, reserves = await asyncio.to_thread(_plan, roster.members, window, prices, products)
    offers = [
        (config, offer)
        for config in office.config.offers
        if (offer := fleet_offer(products[config.product], reserves[config.product], window.delivery_h))
    ]
    held = {site: watts for _, offer in offers for site, watts in offer.homes.items()}
    plan = plan_record(f"{session.session_id}-offer", office.utc_ms(), window, planned, held)
    session = replace(session, plan_id=plan.plan_id)
    await asyncio.to_thread(office.ledger.put_plan, plan)
    await asyncio.to_thread(office.ledger.put_market_session, session)
    await office.tell(session, "desk.planned", f"{len(planned)} homes planned, {len(roster.left_out)} left out")
    placed = [await _place(office, session, config, offer) for config, offer in offers]
    if not any(placed):
        raise Passed("nothing was offered: " + ("the market refused" if placed else "no reserve worth an offer"))
    return replace(session, stage=SessionStage.OFFERED)


async def market_prices(office: Office, window: Window, products: dict[str, Product]) -> dict[str, Prices]:
    """What plans are made with, by product. Raises MarketRefused, MarketUnavailable, PriceGap."""
    tariff = await office.tariff(window.start_ms, window.end_ms)
    bought, sold = unit_prices(tariff, window.start_ms, window.mtu_s, UNITS)
    now, result = utc(office.utc_ms()), {}
    for product in products:
        past = await office.market.reserve_prices(product, now - PAST_PRICES, now)
        result[product] = Prices(import_price=bought, export_price=sold, reserve=expected_reserve_price(past))
    return result


async def collect_awards(office: Office, session: MarketSession) -> MarketSession:
    """OFFERED -> AWARDED. Raises Passed, MarketRefused."""
    await office.until(session.gate_closure_ms)
    bought = await office.patiently(
        lambda: office.market.awards(session.session_id),
        session.delivery_end_ms,
        refused_until_ms=session.gate_closure_ms + CLEARED_WITHIN_MS,
    )
    offers = {offer.offer_id: offer for offer in await asyncio.to_thread(office.ledger.offers, session.session_id)}
    homes = await asyncio.to_thread(_offered_homes, office, session)
    won = 0
    for award in bought:
        offer = offers.get(award.offer_id)
        if offer is None or _not_as_offered(award, offer):
            text = f"{award.product}: not what was offered, so not taken: {award}"
            await office.tell(session, "desk.award-disputed", text, Severity.ALARM, about=award.product)
            continue
        await asyncio.to_thread(_keep_award, office, session, offer, award, homes[offer.product])
        won += 1
        text = f"{award.product}: {award.power_w} of {offer.power_w} W awarded at {award.clearing_price_per_mw_h}"
        await office.tell(session, "desk.awarded", f"{text} {offer.currency}/MW/h", about=award.product)
    if not won:
        raise Passed("nothing was awarded")
    return replace(session, stage=SessionStage.AWARDED)


def _plan(
    members: tuple[Member, ...], window: Window, prices: dict[str, Prices], products: dict[str, Product]
) -> tuple[list[PlannedSite], dict[str, list[HomeReserve]]]:
    planned: list[PlannedSite] = []
    reserves: dict[str, list[HomeReserve]] = {product: [] for product in products}
    for member in members:
        product, service = member.offer.product, services.load(member.offer.service)
        site, reserve = plan_offer(member.state, window, prices[product], service, products[product])
        planned.append(site)
        reserves[product].append(reserve)
    return planned, reserves


async def _place(office: Office, session: MarketSession, config: OfferConfig, offer: FleetOffer) -> bool:
    """Whether the market took the offer."""
    product = offer.product
    try:
        offer_id = await office.patiently(
            lambda: office.market.offer(session.session_id, product, offer.power_w, offer.price_per_mw_h),
            session.gate_closure_ms,
        )
    except (MarketRefused, Passed) as error:
        await office.tell(session, "desk.offer-refused", f"{product}: {error}", Severity.ALARM, about=product)
        return False
    record = OfferRecord(
        offer_id=offer_id,
        session_id=session.session_id,
        product=product,
        service_id=services.load(config.service).id,
        group=config.group,
        power_w=offer.power_w,
        price_per_mw_h=offer.price_per_mw_h,
        currency=office.config.currency,
        created_ms=office.utc_ms(),
    )
    await asyncio.to_thread(office.ledger.put_offer, record)
    text = f"{product}: offered {offer.power_w} W of {len(offer.homes)} homes at {offer.price_per_mw_h}"
    await office.tell(session, "desk.offered", f"{text} {office.config.currency}/MW/h", about=product)
    return True


def _offered_homes(office: Office, session: MarketSession) -> dict[str, dict[str, int]]:
    """By product: what each home stood for in the offer, as the plan behind it says."""
    sold_as = {site.site: offer_of(site, office.config.offers) for site in office.ledger.sites()}
    homes: dict[str, dict[str, int]] = {offer.product: {} for offer in office.config.offers}
    for planned in office.plan_of(session).sites:
        config = sold_as.get(planned.site)
        if config is not None and (watts := max(planned.reserve_w)) > 0:
            homes[config.product][planned.site] = watts
    return homes


def _not_as_offered(award: client.Award, offer: OfferRecord) -> bool:
    return not 0 < award.power_w <= offer.power_w or award.clearing_price_per_mw_h < offer.price_per_mw_h


def _keep_award(
    office: Office, session: MarketSession, offer: OfferRecord, bought: client.Award, homes: dict[str, int]
) -> None:
    reference = next(config.service for config in office.config.offers if config.product == offer.product)
    award = AwardRecord(
        award_id=offer.offer_id,
        session_id=session.session_id,
        offer_id=offer.offer_id,
        product=offer.product,
        service_id=offer.service_id,
        service_toml=services.text(reference),
        group=offer.group,
        power_w=bought.power_w,
        clearing_price_per_mw_h=bought.clearing_price_per_mw_h,
        currency=offer.currency,
        delivery_start_ms=session.delivery_start_ms,
        delivery_end_ms=session.delivery_end_ms,
    )
    shares = share_award(homes, bought.power_w).items()
    office.ledger.put_award(
        award, [AwardShare(award_id=award.award_id, site=site, contracted_w=watts) for site, watts in shares]
    )
