"""What an award is worth, to the cent: pure arithmetic on whole watts, milliseconds, watt-hours and Decimal prices.

    capacity = contracted [MW] x delivery [h] x clearing price x performance factor
    factor   = availability x (1 up to full_payment_error, falling linearly to 0 at no_payment_error)
    energy   = energy beyond the baseline [whole Wh] x energy price

Availability is the share of the delivery period with good telemetry. Amounts are exact fractions until the very end:
the portfolio's total of each column is rounded once, half to even, and shared over the sites by largest remainders, so
lines sum to totals exactly and the order of the sites does not matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from cloud.markets.apportion import apportion
from protos.services import Performance

_FACTOR_STEP = Decimal("0.0001")
_MS_PER_HOUR = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What one site did for an award."""

    site: str
    contracted_w: int
    error: float  # mean distance outside the envelope, share of the contracted power
    samples: int  # of the delivery period
    samples_missing: int  # of them, without good telemetry
    energy_wh: int  # beyond the baseline, positive towards the grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One site's part."""

    site: str
    contracted_w: int
    capacity_wh: int
    performance_error: float
    performance_factor: Decimal
    delivered: bool  # within the limits in which all is paid
    samples: int
    samples_missing: int
    energy_wh: int
    capacity_amount: Decimal
    energy_amount: Decimal

    @property
    def total_amount(self) -> Decimal:
        return self.capacity_amount + self.energy_amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The whole award; each amount is the exact sum of its lines."""

    lines: tuple[Line, ...]  # by site name
    capacity_amount: Decimal
    energy_amount: Decimal

    @property
    def total_amount(self) -> Decimal:
        return self.capacity_amount + self.energy_amount


def performance_factor(error: float, samples: int, samples_missing: int, performance: Performance) -> Decimal:
    """Share of the capacity price that is earned, in steps of 0.0001 (half to even)."""
    if samples <= 0 or not 0 <= error < float("inf"):
        return Decimal(0)
    full, none = performance.full_payment_error, performance.no_payment_error
    score = min(1.0, max(0.0, (none - error) / (none - full)))
    available = Decimal(samples - samples_missing) / Decimal(samples)
    return (Decimal(repr(score)) * available).quantize(_FACTOR_STEP)


def settle(
    deliveries: Sequence[Delivery],
    *,
    performance: Performance,
    delivery_ms: int,
    clearing_price_per_mw_h: Decimal,
    energy_price_per_kwh: Decimal,
    decimals: int = 2,
) -> Statement:
    """The statement of one award over `delivery_ms`; `decimals` of the currency's smallest coin.

    Raises ValueError for a site given twice, a negative contracted power or a delivery that never was.
    """
    if len({d.site for d in deliveries}) != len(deliveries):
        raise ValueError("a site is settled twice")
    if delivery_ms <= 0 or any(d.contracted_w < 0 for d in deliveries):
        raise ValueError("delivery time and contracted power must not be negative")
    factors = {d.site: performance_factor(d.error, d.samples, d.samples_missing, performance) for d in deliveries}
    mw_hours = Fraction(delivery_ms, _MS_PER_HOUR * 10**6)
    capacity, capacity_total = _coins(
        {
            d.site: d.contracted_w * mw_hours * Fraction(clearing_price_per_mw_h) * Fraction(factors[d.site])
            for d in deliveries
        },
        decimals,
    )
    energy, energy_total = _coins(
        {d.site: Fraction(d.energy_wh, 1000) * Fraction(energy_price_per_kwh) for d in deliveries}, decimals
    )
    lines = tuple(
        Line(
            site=d.site,
            contracted_w=d.contracted_w,
            capacity_wh=round(Fraction(d.contracted_w * delivery_ms, _MS_PER_HOUR)),
            performance_error=d.error,
            performance_factor=factors[d.site],
            delivered=d.error <= performance.full_payment_error and d.samples_missing < d.samples,
            samples=d.samples,
            samples_missing=d.samples_missing,
            energy_wh=d.energy_wh,
            capacity_amount=capacity[d.site],
            energy_amount=energy[d.site],
        )
        for d in sorted(deliveries, key=lambda d: d.site)
    )
    return Statement(lines=lines, capacity_amount=capacity_total, energy_amount=energy_total)


def _coins(exact: Mapping[str, Fraction], decimals: int) -> tuple[dict[str, Decimal], Decimal]:
    """Amounts in whole coins, and their sum."""
    scaled = {site: amount * 10**decimals for site, amount in exact.items()}
    total = round(sum(scaled.values(), Fraction(0)))
    coin = Decimal(1).scaleb(-decimals)
    return {site: coins * coin for site, coins in apportion(scaled, total).items()}, total * coin
