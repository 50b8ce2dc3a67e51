"""Market prices on the plan's own grid of market time units."""

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from cloud.markets.client import ReservePrices, Tariff

Array = npt.NDArray[np.float64]
LEAST_EXPECTED_PRICE = 0.01
"""Reserve that costs nothing to hold is offered even where past hours cleared at nothing."""


class PriceGap(ValueError):
    """The market's prices do not cover the time; says from when on they are missing."""


def unit_prices(tariff: Tariff, start_ms: int, mtu_s: int, units: int) -> tuple[Array, Array]:
    """Import and export price of each unit [currency/kWh], weighted by time where a price changes inside one.

    Raises PriceGap.
    """
    return (
        np.array([float(price) for price in _mean(tariff, "import_price", start_ms, mtu_s * 1000, units)]),
        np.array([float(price) for price in _mean(tariff, "export_price", start_ms, mtu_s * 1000, units)]),
    )


def energy_price(tariff: Tariff, start_ms: int, end_ms: int) -> Decimal:
    """What energy delivered in a period is paid [currency/kWh]: its export price, weighted by time. Raises PriceGap."""
    return _mean(tariff, "export_price", start_ms, end_ms - start_ms, 1)[0]


def expected_reserve_price(past: ReservePrices) -> float:
    """Mean clearing price of the past hours [currency per MW and hour]."""
    prices = [float(row.price) for row in past.rows]
    return max(LEAST_EXPECTED_PRICE, float(np.mean(prices)) if prices else 0.0)


def _mean(tariff: Tariff, name: str, start_ms: int, length_ms: int, units: int) -> list[Decimal]:
    rows = [(round(row.start.timestamp() * 1000), getattr(row, name)) for row in tariff.rows]
    result = []
    for begin in range(start_ms, start_ms + units * length_ms, length_ms):
        end = begin + length_ms
        shares = [
            (max(0, min(end, row_ms + tariff.mtu_s * 1000) - max(begin, row_ms)), price) for row_ms, price in rows
        ]
        if sum(share for share, _ in shares) < length_ms:
            raise PriceGap(f"no tariff for all of the {length_ms / 1000:g} s from {_iso(begin)}")
        result.append(sum((share * price for share, price in shares), Decimal(0)) / length_ms)
    return result


def _iso(utc_ms: int) -> str:
    return datetime.fromtimestamp(utc_ms / 1000, UTC).isoformat()
