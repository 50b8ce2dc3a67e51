"""A uniform-price auction for reserve: merit order, pay-as-cleared, ties at the margin shared pro rata.

The demand side is one quantity; the supply side is the participants' offers and a ladder of rivals. Power in whole
watts, prices in Decimal per MW and hour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

RIVAL_STEPS = (Decimal("0.25"), Decimal("0.50"), Decimal("0.75"))
"""Prices of the cheap rivals, as shares of the recorded clearing price; each offers a fifth of the demand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bid:
    """Power for sale at a price or better."""

    offer_id: str
    power_w: int
    price_per_mw_h: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Clearing:
    """What the auction bought: watts per offer, and the one price paid for all of them."""

    price_per_mw_h: Decimal
    awarded_w: dict[str, int]  # every offer that won something


def rival_ladder(demand_w: int, recorded_price: Decimal) -> list[Bid]:
    """Synthetic rivals that make the recorded price the marginal one.

    Who bid what in the recorded hour was never published, only where it cleared. So three rivals of a fifth of the
    demand each stand below the recorded price and one of the whole demand stands at it: whoever else offers less than
    two fifths of the demand below the recorded price is taken whole and is paid the recorded price; more of it drives
    the price down, as it would.
    """
    cheap = [
        Bid(offer_id=f"rival-{number}", power_w=demand_w // 5, price_per_mw_h=recorded_price * step)
        for number, step in enumerate(RIVAL_STEPS, start=1)
    ]
    return [*cheap, Bid(offer_id="rival-marginal", power_w=demand_w, price_per_mw_h=recorded_price)]


def clear(bids: Sequence[Bid], demand_w: int) -> Clearing:
    """Buys `demand_w`, or all there is, from the cheapest; the dearest accepted price is paid to all.

    Raises ValueError for an offer given twice, a power below one watt or a negative demand.
    """
    if demand_w < 0 or any(bid.power_w < 1 for bid in bids):
        raise ValueError("demand must not be negative, and an offer is at least 1 W")
    if len({bid.offer_id for bid in bids}) != len(bids):
        raise ValueError("an offer is in the auction twice")
    awarded: dict[str, int] = {}
    price, left = Decimal(0), demand_w
    for level in sorted({bid.price_per_mw_h for bid in bids}):
        if left == 0:
            break
        at_level = sorted((bid for bid in bids if bid.price_per_mw_h == level), key=lambda bid: bid.offer_id)
        taken = _split(at_level, min(left, sum(bid.power_w for bid in at_level)))
        awarded.update(taken)
        left -= sum(taken.values())
        price = level
    return Clearing(price_per_mw_h=price, awarded_w=awarded)


def _split(bids: Sequence[Bid], total_w: int) -> dict[str, int]:
    """`total_w` over equal-priced offers in proportion to their power, whole watts, largest remainders first."""
    whole = sum(bid.power_w for bid in bids)
    shares = {bid.offer_id: total_w * bid.power_w // whole for bid in bids}
    left = total_w - sum(shares.values())
    for bid in sorted(bids, key=lambda bid: (-(total_w * bid.power_w % whole), bid.offer_id))[:left]:
        shares[bid.offer_id] += 1
    return {offer_id: watts for offer_id, watts in shares.items() if watts}
