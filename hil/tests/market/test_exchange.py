"""Sessions in time: refusals, replacement, partial awards; recorded prices at the right instants."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from hil.market.exchange import Exchange, Refused, Session
from hil.market.recorded import OutsideRecording, RecordedPrices

T0 = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
BEGIN = T0.replace(minute=0, second=0)  # of the quarter hour in which the rig started: the recorded hour's beginning
SECOND = timedelta(seconds=1)


def opened(exchange: Exchange) -> Session:
    return exchange.open_session(T0 + 10 * SECOND, T0 + 20 * SECOND, T0 + 260 * SECOND, T0)


@pytest.fixture(scope="module")
def prices() -> RecordedPrices:
    return RecordedPrices(T0)


def test_recorded_prices_stand_at_the_scenario_hour(prices: RecordedPrices) -> None:
    hour = timedelta(hours=1)
    assert [row.price for row in prices.reserve(BEGIN, BEGIN + hour)] == [Decimal("465.3")]
    assert [row.price for row in prices.reserve(BEGIN - hour, BEGIN)] == [Decimal("10.79")]
    # CityLearn: 0.22 from 14:00, 0.54 from 15:00 to 20:00 local
    day = prices.tariff(BEGIN, BEGIN + 7 * hour)
    assert [row.price for row in day] == [Decimal("0.22"), *[Decimal("0.54")] * 5, Decimal("0.22")]
    assert day[0].start == BEGIN
    assert len(prices.tariff(BEGIN + 59 * timedelta(minutes=1), BEGIN + 61 * timedelta(minutes=1))) == 2
    with pytest.raises(OutsideRecording, match="recorded from"):
        prices.tariff(T0, T0 + timedelta(days=30))


def test_reserve_prices_of_running_hours_are_not_told(prices: RecordedPrices) -> None:
    hour = timedelta(hours=1)
    rows = prices.reserve_before(BEGIN - 2 * hour, BEGIN + 2 * hour, BEGIN + timedelta(minutes=30))
    assert [row.price for row in rows] == [Decimal("8.43"), Decimal("10.79")]


@pytest.mark.parametrize(
    ("product", "participant", "power_w", "price", "status", "reason"),
    [
        pytest.param("afrr", "us", 1000, "1.00", 422, "not traded here", id="bad product"),
        pytest.param("ffr", "us", -5, "1.00", 422, "at least 1 W", id="negative power"),
        pytest.param("ffr", "us", 0, "1.00", 422, "at least 1 W", id="no power"),
        pytest.param("ffr", "us", 1000, "-1.00", 422, "not negative", id="negative price"),
        pytest.param("ffr", "us", 1000, "1.005", 422, "two decimals", id="a tenth of a cent"),
        pytest.param("ffr", "us", 1000, "NaN", 422, "decimal string", id="not a number"),
        pytest.param("ffr", "us", 1000, "1e3", 422, "decimal string", id="exponent"),
        pytest.param("ffr", "us", 1000, "10000.01", 422, "at most", id="beyond the price limit"),
        pytest.param("ffr", "not us", 1000, "1.00", 422, "participant", id="participant with a space"),
    ],
)
def test_refusals(
    prices: RecordedPrices, product: str, participant: str, power_w: int, price: str, status: int, reason: str
) -> None:
    exchange = Exchange(prices)
    session = opened(exchange)
    with pytest.raises(Refused, match=reason) as caught:
        exchange.place(session.session_id, product, participant, power_w, price, T0)
    assert caught.value.status == status
    assert session.offers == {}


def test_gate_closure_is_the_end_of_offers_and_the_beginning_of_awards(prices: RecordedPrices) -> None:
    exchange = Exchange(prices)
    session = opened(exchange)
    before, closure = T0 + 9.999 * SECOND, T0 + 10 * SECOND
    offer = exchange.place(session.session_id, "ffr", "us", 18_000, "1.50", before)
    with pytest.raises(Refused, match="clears at") as early:
        exchange.awards(session.session_id, "us", before)
    assert early.value.status == 409
    with pytest.raises(Refused, match="gate closed") as late:
        exchange.place(session.session_id, "ffr", "us", 18_000, "1.50", closure)
    assert late.value.status == 409
    (award,) = exchange.awards(session.session_id, "us", closure)
    assert (award.offer_id, award.power_w, award.clearing_price_per_mw_h) == (
        offer.offer_id,
        18_000,
        Decimal("465.3"),
    )
    assert exchange.awards(session.session_id, "somebody-else", closure) == []
    assert [session.state(T0 + s * SECOND) for s in (9, 10, 259, 260)] == ["open", "cleared", "cleared", "closed"]


def test_a_second_offer_replaces_the_first(prices: RecordedPrices) -> None:
    exchange = Exchange(prices)
    session = opened(exchange)
    first = exchange.place(session.session_id, "droop", "us", 5_000, "1.00", T0)
    second = exchange.place(session.session_id, "droop", "us", 4_000, "2.00", T0)
    assert first.offer_id == second.offer_id
    (award,) = exchange.awards(session.session_id, "us", T0 + 10 * SECOND)
    assert award.power_w == 4_000


def test_an_offer_at_the_margin_is_awarded_in_part(prices: RecordedPrices) -> None:
    exchange = Exchange(prices, demand_w=10_000)
    session = opened(exchange)
    exchange.place(session.session_id, "ffr", "us", 10_000, "465.30", T0)
    (award,) = exchange.awards(session.session_id, "us", T0 + 10 * SECOND)
    # 3 x 2000 below; the remaining 4000 are shared with a rival of 10 000 at the same price
    assert award.power_w == 2_000


@pytest.mark.parametrize(
    ("closure_s", "start_s", "end_s"),
    [
        pytest.param(-1, 20, 30, id="gate closed before it opened"),
        pytest.param(10, 5, 30, id="delivery before closure"),
        pytest.param(10, 20, 20, id="no delivery"),
    ],
)
def test_sessions_out_of_order_are_refused(prices: RecordedPrices, closure_s: int, start_s: int, end_s: int) -> None:
    with pytest.raises(Refused, match="in order"):
        Exchange(prices).open_session(T0 + closure_s * SECOND, T0 + start_s * SECOND, T0 + end_s * SECOND, T0)
