"""Follows a broadcast price: the site's own supply function, read there."""

from edge_agent.model.broadcast import Price
from edge_agent.model.supply import SupplyFunction
from edge_agent.model.values import Proposal

SOURCE = "price"


def propose(supply: SupplyFunction, price: Price | None, fallback_ticks: int, why_none: str) -> Proposal:
    """The wish at the price that holds, else at the fallback; `why_none` then goes with it."""
    if price is None:
        power_w = supply.power_w(fallback_ticks, 0.0)
        return Proposal(source=SOURCE, power_w=power_w, note=f"{why_none}: fallback price {fallback_ticks / 100:.2f}")
    return Proposal(source=SOURCE, power_w=supply.power_w(price.ticks, price.step_share))
