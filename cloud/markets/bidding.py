"""One offer for a whole fleet: the reserve its homes can hold, at what holding it costs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from cloud.markets.apportion import pro_rata
from cloud.markets.products import Product

CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeReserve:
    """Reserve a home's plan found worth holding."""

    site: str
    reserve_w: int
    cost: float  # of holding it over the delivery period [currency]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOffer:
    """Reserve offered for one product, and who stands behind it."""

    product: str
    power_w: int
    price_per_mw_h: Decimal
    homes: Mapping[str, int]  # site -> whole watts; they sum to power_w


def fleet_offer(product: Product, homes: Sequence[HomeReserve], delivery_h: float) -> FleetOffer | None:
    """The fleet's offer, or None where it would be below the product's smallest.

    The price is the fleet's average opportunity cost, rounded up to the cent. Holding less costs no more a megawatt as
    long as costs are convex in the reserve, as those of a linear programme are; so an award shared pro rata below the
    offer is not sold at a loss. Raises ValueError for a site given twice.
    """
    standing = {home.site: home.reserve_w for home in homes if home.reserve_w > 0}
    if len({home.site for home in homes}) != len(homes):
        raise ValueError("a site stands in the offer twice")
    power_w = sum(standing.values())
    if power_w < product.minimum_w:
        return None
    cost = sum(max(0.0, home.cost) for home in homes if home.reserve_w > 0)
    # A nano-unit is far below the cent and far above the solver's noise.
    price = Decimal(round(cost * 1e9)) / Decimal(10**9) * 10**6 / power_w / Decimal(str(delivery_h))
    return FleetOffer(
        product=product.id,
        power_w=power_w,
        price_per_mw_h=price.quantize(CENT, rounding=ROUND_CEILING),
        homes=standing,
    )


def share_award(offered: Mapping[str, int], awarded_w: int) -> dict[str, int]:
    """Each home's part of an award in whole watts, pro rata to what it offered; sites with nothing are left out.

    Raises ValueError for an award above the offer.
    """
    if awarded_w > sum(offered.values()):
        raise ValueError(f"award of {awarded_w} W is more than was offered, {sum(offered.values())} W")
    return {site: watts for site, watts in pro_rata(offered, awarded_w).items() if watts > 0}
