"""Offers and the sharing of awards: hand-computed, and exact in whole watts."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.markets.apportion import apportion, pro_rata
from cloud.markets.bidding import HomeReserve, fleet_offer, share_award
from cloud.markets.products import ProductError, contract_limit_w, load, parse
from protos import services

FFR = load("ffr")


def test_the_offer_is_the_sum_at_the_average_cost() -> None:
    homes = [
        HomeReserve(site="a", reserve_w=3_000, cost=0.0),
        HomeReserve(site="b", reserve_w=2_000, cost=0.010),
        HomeReserve(site="c", reserve_w=0, cost=5.0),
    ]
    offer = fleet_offer(FFR, homes, delivery_h=0.25)
    assert offer is not None
    assert offer.power_w == 5_000
    assert offer.homes == {"a": 3_000, "b": 2_000}
    assert offer.price_per_mw_h == Decimal("8.00")  # 0.01 / (0.005 MW x 0.25 h)


def test_the_price_is_rounded_up_to_the_cent() -> None:
    offer = fleet_offer(FFR, [HomeReserve(site="a", reserve_w=3_000, cost=0.0100001)], delivery_h=1.0)
    assert offer is not None
    assert offer.price_per_mw_h == Decimal("3.34")  # 3.33336...


def test_solver_noise_costs_nothing() -> None:
    offer = fleet_offer(FFR, [HomeReserve(site="a", reserve_w=3_000, cost=3e-12)], delivery_h=0.1)
    assert offer is not None
    assert offer.price_per_mw_h == Decimal("0.00")


def test_below_the_products_smallest_nothing_is_offered() -> None:
    assert fleet_offer(FFR, [HomeReserve(site="a", reserve_w=99, cost=0.0)], delivery_h=1.0) is None
    assert fleet_offer(FFR, [], delivery_h=1.0) is None
    with pytest.raises(ValueError, match="twice"):
        fleet_offer(FFR, [HomeReserve(site="a", reserve_w=99, cost=0.0)] * 2, delivery_h=1.0)


def test_a_smaller_award_is_shared_pro_rata() -> None:
    # exact: 500.50, 333.67 and 166.83
    assert share_award({"a": 3_000, "b": 2_000, "c": 1_000}, 1_001) == {"a": 500, "b": 334, "c": 167}
    assert share_award({"a": 3_000, "b": 1}, 1) == {"a": 1}
    with pytest.raises(ValueError, match="more than was offered"):
        share_award({"a": 10}, 11)


@settings(deadline=None)
@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 10**7), max_size=20), st.data())
def test_shares_are_whole_exact_and_within_the_offer(offered: dict[str, int], data: st.DataObject) -> None:
    awarded = data.draw(st.integers(0, sum(offered.values())))
    shares = share_award(offered, awarded)
    assert sum(shares.values()) == awarded
    assert all(0 < watts <= offered[site] for site, watts in shares.items())
    assert share_award(dict(reversed(offered.items())), awarded) == shares
    for site, watts in offered.items():
        if awarded:
            assert abs(shares.get(site, 0) - Fraction(awarded * watts, sum(offered.values()))) < 1


def test_apportioning_refuses_a_total_that_is_not_the_sum() -> None:
    assert apportion({"a": Fraction(1, 2), "b": Fraction(1, 2)}, 1) == {"a": 1, "b": 0}
    assert apportion({"a": Fraction(-1, 2), "b": Fraction(-1, 2)}, -1) == {"a": 0, "b": -1}
    with pytest.raises(ValueError, match="does not round"):
        apportion({"a": Fraction(1, 2)}, 2)
    with pytest.raises(ValueError, match="cannot share"):
        pro_rata({}, 1)


def test_what_may_be_contracted() -> None:
    droop, fast = services.load("ieee1547-droop"), services.load("ercot-ffr")
    assert contract_limit_w(FFR, fast, 5_000) == pytest.approx(3_000)
    # 5 % droop from a deadband of 0.036 Hz: at 0.5 Hz (0.5 - 0.036) / (60 x 0.05) of the rating
    assert contract_limit_w(load("droop"), droop, 5_000) == pytest.approx(5_000 * 0.464 / 3)


def test_products_are_checked() -> None:
    with pytest.raises(ProductError, match="one of droop, ffr"):
        load("afrr")
    with pytest.raises(ProductError, match="sustain_s"):
        parse(
            'id = "x"\ntitle = "x"\nsustain_s = 0\nminimum_w = 1\nlargest_share_of_rating = 1\ndesign_deviation_hz = 1'
        )
