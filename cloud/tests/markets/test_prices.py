"""The market's rows on the plan's grid."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from cloud.markets.client import ReservePrices, Tariff
from cloud.markets.prices import LEAST_EXPECTED_PRICE, PriceGap, energy_price, expected_reserve_price, unit_prices

T0 = datetime(2026, 1, 2, 3, 10, tzinfo=UTC)  # rows that begin at no quarter hour
T0_MS = round(T0.timestamp() * 1000)


def tariff(*prices: str) -> Tariff:
    rows = tuple(
        Tariff.Row(start=T0 + timedelta(hours=hour), import_price=Decimal(price), export_price=Decimal(price) / 2)
        for hour, price in enumerate(prices)
    )
    return Tariff(mtu_s=3600, currency="USD", unit="USD/kWh", rows=rows)


def test_a_unit_across_a_change_is_weighted_by_time() -> None:
    # units of 15 min from 03:15; the price changes at 04:10, ten minutes into the unit from 04:00
    bought, sold = unit_prices(tariff("0.30", "0.60"), T0_MS + 300_000, 900, 5)
    assert bought == pytest.approx([0.3, 0.3, 0.3, 0.4, 0.6])
    assert np.allclose(sold, bought / 2)


def test_energy_is_paid_the_export_price_of_its_time() -> None:
    price = energy_price(tariff("0.30", "0.60"), T0_MS + 3_500_000, T0_MS + 3_700_000)
    assert price == Decimal("0.225")


def test_a_gap_is_said_with_its_instant() -> None:
    with pytest.raises(PriceGap, match="2026-01-02T04:10:00"):
        unit_prices(tariff("0.30"), T0_MS, 900, 5)


@pytest.mark.parametrize(
    ("prices", "expected"),
    [(["10", "0", "20"], 10.0), (["0", "0"], LEAST_EXPECTED_PRICE), ([], LEAST_EXPECTED_PRICE)],
)
def test_reserve_is_expected_to_clear_as_it_did(prices: list[str], expected: float) -> None:
    rows = tuple(ReservePrices.Row(start=T0, price=Decimal(price)) for price in prices)
    past = ReservePrices(mtu_s=3600, currency="USD", unit="USD/MW/h", rows=rows)
    assert expected_reserve_price(past) == pytest.approx(expected)
