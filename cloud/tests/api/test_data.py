"""The JSON API, against what the ledger was told."""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from cloud.api.testing import World
from cloud.model.records import (
    AwardRecord,
    AwardShare,
    EventRecord,
    MarketSession,
    OfferRecord,
    SessionStage,
    Settlement,
    SettlementLine,
    Severity,
)
from protos import services


@pytest.fixture
def events(world: World) -> None:
    for number, severity in enumerate((Severity.INFO, Severity.WARNING, Severity.ALARM, Severity.INFO), start=1):
        site = "home-01" if number % 2 else None
        world.ledger.add_event(
            EventRecord(
                site=site, event_id=str(number), at_ms=1_000, severity=severity, code="c", text=f"event {number}"
            )
        )


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        pytest.param({}, [1, 2, 3, 4], id="all"),
        pytest.param({"limit": 2}, [3, 4], id="the last two"),
        pytest.param({"after": 1, "limit": 2}, [2, 3], id="the two after the first"),
        pytest.param({"least": "warning"}, [2, 3], id="serious ones"),
        pytest.param({"site": "home-01"}, [1, 3], id="of a site"),
    ],
)
async def test_events(operator: httpx.AsyncClient, query: dict[str, str], numbers: list[int]) -> None:
    answer = (await operator.get("/api/v1/events", params=query)).json()
    assert [event["text"] for event in answer] == [f"event {number}" for number in numbers]
    assert all(event["at"] == "1970-01-01T00:00:01Z" for event in answer)


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "many"}, {"least": "dire"}, {"after": "-1"}])
async def test_a_query_that_makes_no_sense_is_refused_by_name(
    operator: httpx.AsyncClient, query: dict[str, str]
) -> None:
    answer = await operator.get("/api/v1/events", params=query)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", *query]


async def test_settlements_are_to_the_cent(world: World, operator: httpx.AsyncClient) -> None:
    world.add_site("home-01", "fast")
    ledger = world.ledger
    ledger.put_market_session(
        MarketSession(
            session_id="s1", gate_closure_ms=0, delivery_start_ms=1, delivery_end_ms=2, stage=SessionStage.AWARDED
        )
    )
    shared: dict[str, Any] = {
        "session_id": "s1",
        "product": "ffr",
        "service_id": "ercot-ffr",
        "group": "fast",
        "currency": "USD",
    }
    ledger.put_offer(OfferRecord(offer_id="o1", power_w=3_000, price_per_mw_h=Decimal("9.50"), created_ms=0, **shared))
    award = AwardRecord(
        award_id="a1",
        offer_id="o1",
        service_toml=services.text("ercot-ffr"),
        power_w=3_000,
        clearing_price_per_mw_h=Decimal("11.20"),
        delivery_start_ms=1,
        delivery_end_ms=2,
        **shared,
    )
    ledger.put_award(award, [AwardShare(award_id="a1", site="home-01", contracted_w=3_000)])
    amounts = {
        "capacity_amount": Decimal("0.10"),
        "energy_amount": Decimal("-0.03"),
        "total_amount": Decimal("0.07"),
    }
    line = SettlementLine(
        award_id="a1",
        site="home-01",
        contracted_w=3_000,
        capacity_wh=3_000,
        performance_error=0.012,
        performance_factor=Decimal("1"),
        delivered=True,
        samples=36_000,
        samples_missing=0,
        energy_wh=120,
        **amounts,
    )
    assert ledger.add_settlement(Settlement(award_id="a1", settled_ms=2_000, currency="USD", **amounts), [line])
    (settlement,) = (await operator.get("/api/v1/settlements")).json()
    assert settlement["settled_at"] == "1970-01-01T00:00:02Z"
    assert (settlement["capacity_amount"], settlement["energy_amount"]) == ("0.10", "-0.03")
    assert settlement["lines"][0]["total_amount"] == settlement["total_amount"] == "0.07"
    assert settlement["lines"][0]["delivered"] is True


async def test_openapi_tells_of_the_api_and_nothing_else(operator: httpx.AsyncClient) -> None:
    paths = (await operator.get("/api/v1/openapi.json")).json()["paths"]
    looks = {"health", "sites", "events", "settlements", "dispatch", "regulations/{regulation_id}"}
    acts = {"activations", "activations/{activation_id}/end", "setpoints", "stop"}
    told = {path.removeprefix("/api/v1/"): set(methods) for path, methods in paths.items()}
    assert told == {name: {"get"} for name in looks} | {name: {"post"} for name in acts}
    assert all("401" in call["responses"] for methods in paths.values() for call in methods.values())
