"""Clearing: a hand-computed case, and what must hold whatever is offered."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from hil.market.auction import Bid, clear, rival_ladder

bids = st.lists(
    st.builds(
        Bid,
        offer_id=st.uuids().map(str),
        power_w=st.integers(1, 5_000_000),
        price_per_mw_h=st.integers(0, 20).map(lambda p: Decimal(p) * 50),
    ),
    max_size=12,
    unique_by=lambda bid: bid.offer_id,
)


def bid(name: str, power_w: int, price: str) -> Bid:
    return Bid(offer_id=name, power_w=power_w, price_per_mw_h=Decimal(price))


def test_merit_order_with_the_margin_shared() -> None:
    result = clear([bid("a", 300, "5"), bid("b", 400, "7"), bid("c", 200, "7"), bid("d", 500, "9")], 750)
    # 300 at 5; of the 600 at 7 only 450 are needed: 300 and 150; nobody at 9; all are paid 7.
    assert result.price_per_mw_h == Decimal(7)
    assert result.awarded_w == {"a": 300, "b": 300, "c": 150}


def test_the_odd_watt_goes_to_the_largest_remainder() -> None:
    result = clear([bid("a", 10, "1"), bid("b", 10, "1"), bid("c", 1, "1")], 11)
    # exact shares: 5.238, 5.238, 0.524
    assert result.awarded_w == {"a": 5, "b": 5, "c": 1}


@settings(deadline=None)
@given(bids=bids, demand_w=st.integers(0, 3_000_000))
def test_clearing_buys_the_demand_from_the_cheapest(bids: list[Bid], demand_w: int) -> None:
    result = clear(bids, demand_w)
    by_id = {b.offer_id: b for b in bids}
    assert sum(result.awarded_w.values()) == min(demand_w, sum(b.power_w for b in bids))
    for offer_id, watts in result.awarded_w.items():
        assert 0 < watts <= by_id[offer_id].power_w
        assert by_id[offer_id].price_per_mw_h <= result.price_per_mw_h
    if demand_w:
        for cheaper in (b for b in bids if b.price_per_mw_h < result.price_per_mw_h):
            assert result.awarded_w[cheaper.offer_id] == cheaper.power_w
    assert clear(bids[::-1], demand_w) == result


@settings(deadline=None)
@given(
    recorded=st.integers(0, 100_000).map(lambda cents: Decimal(cents) / 100),
    offered_w=st.integers(1, 399_999),
    discount=st.integers(0, 100),
)
def test_rivals_make_the_recorded_price_the_marginal_one(recorded: Decimal, offered_w: int, discount: int) -> None:
    ours = Bid(offer_id="ours", power_w=offered_w, price_per_mw_h=recorded * discount / 100)
    result = clear([*rival_ladder(1_000_000, recorded), ours], 1_000_000)
    assert result.price_per_mw_h == recorded
    if ours.price_per_mw_h < recorded:
        assert result.awarded_w["ours"] == offered_w


def test_an_offer_above_the_recorded_price_wins_nothing() -> None:
    ours = bid("ours", 5_000, "465.31")
    assert "ours" not in clear([*rival_ladder(1_000_000, Decimal("465.30")), ours], 1_000_000).awarded_w
