"""What is taken of a market's answer: an award as it was offered, or none."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from cloud.config import MarketConfig, OfferConfig
from cloud.fleet.state import FleetState
from cloud.markets.client import Award, MarketClient
from cloud.markets.office import Office, Passed
from cloud.markets.prices import PriceGap, energy_price, unit_prices
from cloud.markets.selling import collect_awards
from cloud.model.assets import LedgerTariff, TariffRate
from cloud.model.records import MarketSession, OfferRecord, PlanRecord, SessionStage, Severity, SitePlan
from cloud.store.history import History
from cloud.store.ledger import Ledger

NOW_MS = 1_800_000_000_000
SESSION = MarketSession(
    session_id="s1",
    gate_closure_ms=NOW_MS - 1,
    delivery_start_ms=NOW_MS + 60_000,
    delivery_end_ms=NOW_MS + 120_000,
    stage=SessionStage.OFFERED,
    plan_id="p1",
)
AS_OFFERED = Award(offer_id="o1", product="ffr", power_w=3_000, clearing_price_per_mw_h=Decimal("5.00"))


class Answering(MarketClient):
    """A market that bought this and nothing else."""

    def __init__(self, award: Award) -> None:
        super().__init__("http://127.0.0.1", "us")
        self._award = award

    async def awards(self, session_id: str) -> list[Award]:
        return [self._award]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.add_site("home-01", ("fast",), NOW_MS)
        ledger.put_plan(
            PlanRecord(
                plan_id="p1",
                created_ms=NOW_MS,
                start_ms=NOW_MS,
                mtu_s=900,
                sites=(
                    SitePlan(
                        site="home-01",
                        inverter_power_w=(0,),
                        load_w=(0.0,),
                        pv_w=(0.0,),
                        soc=(0.5, 0.5),
                        reserve_w=(3_000,),
                    ),
                ),
            )
        )
        ledger.put_market_session(SESSION)
        ledger.put_offer(
            OfferRecord(
                offer_id="o1",
                session_id="s1",
                product="ffr",
                service_id="ercot-ffr",
                group="fast",
                power_w=3_000,
                price_per_mw_h=Decimal("5.00"),
                currency="USD",
                created_ms=NOW_MS,
            )
        )
        yield ledger


def office(ledger: Ledger, award: Award, folder: Path) -> Office:
    return Office(
        config=MarketConfig(
            url="http://127.0.0.1",
            currency="USD",
            offers=(OfferConfig(product="ffr", service="ercot-ffr", group="fast"),),
        ),
        ledger=ledger,
        history=History(folder / "history"),
        fleet=FleetState(),
        sender=cast(Any, None),  # nothing is sent before the plan
        market=Answering(award),
        utc_ms=lambda: NOW_MS,
    )


async def test_an_award_as_offered_is_taken(ledger: Ledger, tmp_path: Path) -> None:
    session = await collect_awards(office(ledger, AS_OFFERED, tmp_path), SESSION)
    assert session.stage is SessionStage.AWARDED
    (award,) = ledger.awards("s1")
    assert (award.power_w, award.clearing_price_per_mw_h) == (3_000, Decimal("5.00"))
    assert [(s.site, s.contracted_w) for s in ledger.award_shares(award.award_id)] == [("home-01", 3_000)]


@pytest.mark.parametrize(
    "award",
    [
        pytest.param({"power_w": 3_001}, id="more than was offered"),
        pytest.param({"power_w": 0}, id="nothing"),
        pytest.param({"clearing_price_per_mw_h": Decimal("4.99")}, id="cheaper than was offered"),
        pytest.param({"offer_id": "o2"}, id="what was not offered"),
    ],
)
async def test_an_award_that_is_not_as_offered_arms_nobody(
    ledger: Ledger, tmp_path: Path, award: dict[str, Any]
) -> None:
    given = {name: getattr(AS_OFFERED, name) for name in AS_OFFERED.__struct_fields__} | award
    with pytest.raises(Passed, match="nothing was awarded"):
        await collect_awards(office(ledger, Award(**given), tmp_path), SESSION)
    assert ledger.awards("s1") == []
    (event,) = ledger.events()
    assert (event.code, event.severity) == ("desk.award-disputed", Severity.ALARM)


async def test_energy_is_priced_by_the_ledgers_tariff_where_one_is_named(ledger: Ledger, tmp_path: Path) -> None:
    """Half an hour at 0.30 and half at 0.10 is 0.20 for the hour; the market is not asked."""
    desk, half_ms = office(ledger, AS_OFFERED, tmp_path), 1_800_000
    desk = replace(desk, config=structs.replace(desk.config, tariff="retail"))
    with pytest.raises(PriceGap, match="'retail' is not in the ledger: give it by `vpp-cloud tariff import`"):
        await desk.tariff(NOW_MS, NOW_MS + 2 * half_ms)
    kept = LedgerTariff(name="retail", currency="USD", interval_ms=half_ms, created_ms=NOW_MS)
    rates = [
        TariffRate(tariff="retail", start_ms=NOW_MS + number * half_ms, import_price=price, export_price=price / 2)
        for number, price in enumerate((Decimal("0.30"), Decimal("0.10")))
    ]
    ledger.import_tariff(kept, rates, "eve")
    tariff = await desk.tariff(NOW_MS, NOW_MS + 2 * half_ms)
    assert energy_price(tariff, NOW_MS, NOW_MS + 2 * half_ms) == Decimal("0.10")
    bought, sold = unit_prices(tariff, NOW_MS, 3600, 1)
    assert (bought.tolist(), sold.tolist()) == ([pytest.approx(0.2)], [pytest.approx(0.1)])
    with pytest.raises(PriceGap, match="no tariff for all"):
        energy_price(tariff, NOW_MS, NOW_MS + 3 * half_ms)
    other = replace(desk, config=structs.replace(desk.config, currency="EUR"))
    with pytest.raises(PriceGap, match="is in USD, the market in EUR"):
        await other.tariff(NOW_MS, NOW_MS + half_ms)
