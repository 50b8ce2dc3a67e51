"""What is taken of a market's answer: an award as it was offered, or none."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from cloud.config import MarketConfig, OfferConfig
from cloud.fleet.state import FleetState
from cloud.markets.client import Award, MarketClient
from cloud.markets.office import Office, Passed
from cloud.markets.selling import collect_awards
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
