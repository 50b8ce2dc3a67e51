"""Settlement against sums done by hand, and what must hold to the cent whatever was delivered."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.markets.settlement import Delivery, performance_factor, settle
from protos.services import Performance

PERFORMANCE = Performance(delay_s=0.25, tolerance_pu=0.05, full_payment_error=0.03, no_payment_error=0.07)
HOUR_MS = 3_600_000


def delivery(site: str, contracted_w: int, error: float = 0.0, energy_wh: int = 0, missing: int = 0) -> Delivery:
    return Delivery(
        site=site, contracted_w=contracted_w, error=error, samples=1_000, samples_missing=missing, energy_wh=energy_wh
    )


@pytest.mark.parametrize(
    ("error", "missing", "factor"),
    [
        pytest.param(0.0, 0, "1", id="perfect"),
        pytest.param(0.03, 0, "1", id="the last error that is paid in full"),
        pytest.param(0.05, 0, "0.5", id="half way down"),
        pytest.param(0.06, 0, "0.25", id="three quarters down"),
        pytest.param(0.07, 0, "0", id="the first that is paid nothing"),
        pytest.param(0.9, 0, "0", id="far beyond"),
        pytest.param(0.0, 200, "0.8", id="a fifth not measured"),
        pytest.param(0.05, 200, "0.4", id="both"),
        pytest.param(0.0, 1_000, "0", id="nothing measured"),
        pytest.param(float("nan"), 0, "0", id="no judgement"),
    ],
)
def test_performance_factor(error: float, missing: int, factor: str) -> None:
    assert performance_factor(error, 1_000, missing, PERFORMANCE) == Decimal(factor)


def test_by_hand() -> None:
    statement = settle(
        [
            delivery("home-02", 2_500, error=0.05, energy_wh=400),
            delivery("home-01", 3_000, energy_wh=750),
            delivery("home-03", 3_000, error=0.08, energy_wh=-20),
        ],
        performance=PERFORMANCE,
        delivery_ms=4 * HOUR_MS,
        clearing_price_per_mw_h=Decimal("465.30"),
        energy_price_per_kwh=Decimal("0.54"),
    )
    # capacity: 0.003 MW x 4 h x 465.30 = 5.5836; 0.0025 x 4 x 465.30 x 0.5 = 2.3265; nothing: 7.9101 in all
    # energy: 0.405; 0.216; -0.0108: 0.6102 in all
    assert [line.site for line in statement.lines] == ["home-01", "home-02", "home-03"]
    assert [line.capacity_amount for line in statement.lines] == [Decimal("5.58"), Decimal("2.33"), Decimal("0.00")]
    assert statement.capacity_amount == Decimal("7.91")
    # floors 0.40, 0.21 and -0.02 sum to 0.59; the two cents left go to -0.0108 (0.92 of a cent up) and 0.216 (0.6)
    assert [line.energy_amount for line in statement.lines] == [Decimal("0.40"), Decimal("0.22"), Decimal("-0.01")]
    assert statement.energy_amount == Decimal("0.61")
    assert statement.total_amount == Decimal("8.52")
    assert [line.capacity_wh for line in statement.lines] == [12_000, 10_000, 12_000]
    assert [line.delivered for line in statement.lines] == [True, False, False]


def test_equal_homes_differ_by_a_cent_at_most_and_always_the_same_one() -> None:
    statement = settle(
        [delivery(site, 1_000) for site in ("c", "a", "b")],
        performance=PERFORMANCE,
        delivery_ms=HOUR_MS,
        clearing_price_per_mw_h=Decimal("33.40"),
        energy_price_per_kwh=Decimal(0),
    )
    # 3.34 cents each: 10.02 in all, ten cents
    assert [line.capacity_amount for line in statement.lines] == [Decimal("0.04"), Decimal("0.03"), Decimal("0.03")]
    assert statement.total_amount == Decimal("0.10")


deliveries = st.lists(
    st.builds(
        Delivery,
        site=st.text("abcdefgh", min_size=1, max_size=6),
        contracted_w=st.integers(0, 20_000),
        error=st.floats(0, 0.2),
        samples=st.just(3_000),
        samples_missing=st.integers(0, 3_000),
        energy_wh=st.integers(-50_000, 50_000),
    ),
    max_size=15,
    unique_by=lambda d: d.site,
)
money = st.decimals(0, 10_000, places=2)


@settings(deadline=None)
@given(deliveries, st.randoms(use_true_random=False), st.integers(1, 10 * HOUR_MS), money, money)
def test_lines_sum_to_the_total_in_any_order(
    given_: Sequence[Delivery], random: object, delivery_ms: int, price: Decimal, energy_price: Decimal
) -> None:
    def run(some: Sequence[Delivery]):  # type: ignore[no-untyped-def]
        return settle(
            some,
            performance=PERFORMANCE,
            delivery_ms=delivery_ms,
            clearing_price_per_mw_h=price,
            energy_price_per_kwh=energy_price,
        )

    statement = run(given_)
    shuffled = list(given_)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert run(shuffled) == statement
    assert sum((line.capacity_amount for line in statement.lines), Decimal(0)) == statement.capacity_amount
    assert sum((line.energy_amount for line in statement.lines), Decimal(0)) == statement.energy_amount
    assert sum((line.total_amount for line in statement.lines), Decimal(0)) == statement.total_amount
    by_site = {d.site: d for d in given_}
    exact_sum = Fraction(0)
    for line in statement.lines:
        given_line = by_site[line.site]
        exact = (
            Fraction(given_line.contracted_w, 10**6)
            * Fraction(delivery_ms, HOUR_MS)
            * Fraction(price)
            * Fraction(line.performance_factor)
        )
        exact_sum += exact
        assert abs(Fraction(line.capacity_amount) - exact) < Fraction(1, 100)
        assert abs(Fraction(line.energy_amount) - given_line.energy_wh * Fraction(energy_price) / 1000) < Fraction(
            1, 100
        )
        assert line.capacity_amount == line.capacity_amount.quantize(Decimal("0.01"))
        assert 0 <= line.performance_factor <= 1
    assert abs(Fraction(statement.capacity_amount) - exact_sum) <= Fraction(1, 200)


def test_nonsense_is_refused() -> None:
    for wrong, match in (
        ([delivery("a", 1), delivery("a", 2)], "twice"),
        ([delivery("a", -1)], "negative"),
    ):
        with pytest.raises(ValueError, match=match):
            settle(
                wrong,
                performance=PERFORMANCE,
                delivery_ms=1,
                clearing_price_per_mw_h=Decimal(1),
                energy_price_per_kwh=Decimal(1),
            )
