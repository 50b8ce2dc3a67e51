"""Rows of the ledger about what is operated: groups of sites, devices, and what energy costs.

Ratings are magnitudes [W], [Wh]; prices are Decimal [currency/kWh].
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class GroupKind(StrEnum):
    PORTFOLIO = "portfolio"
    FEEDER = "feeder"
    NEIGHBOURHOOD = "neighbourhood"
    MARKET_AREA = "market-area"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group of sites. Every site of it is in its parent, too."""

    name: str
    kind: GroupKind
    parent: str | None = None
    created_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A device as the site's agent found it. Ratings are 0 where it has none or tells none."""

    site: str
    name: str
    manufacturer: str
    model: str
    serial: str
    sunspec_models: tuple[int, ...] = ()
    rated_power_w: float = 0.0  # AC
    max_charge_w: float = 0.0
    max_discharge_w: float = 0.0
    storage_capacity_wh: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTariff:
    """A named series of energy prices on one grid of intervals."""

    name: str
    currency: str
    interval_ms: int
    created_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffRate:
    """What a kWh costs from the grid, and brings from the site, from start_ms on for the tariff's interval."""

    tariff: str
    start_ms: int  # UTC
    import_price: Decimal
    export_price: Decimal
