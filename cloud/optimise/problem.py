"""What a home's schedule is made from and what comes out: frozen values and arrays, no solver.

Generator reference: positive power flows towards the grid. Powers are at the inverter's AC terminals.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A home's inverter and storage, as far as planning needs them. Ratings are magnitudes."""

    rated_power_w: float  # inverter, AC
    max_charge_w: float
    max_discharge_w: float
    capacity_wh: float
    soc_min: float
    soc_max: float
    charge_efficiency: float = 0.95  # both low figures: a device does not say its own
    discharge_efficiency: float = 0.9
    wear_per_kwh: float = 0.01
    """Cost of passing a kWh through the storage: without one, equal prices make a plan cycle it for nothing."""

    def __post_init__(self) -> None:
        if not (0 <= self.soc_min <= self.soc_max <= 1):
            raise ValueError(f"soc_min {self.soc_min} and soc_max {self.soc_max}: 0 <= soc_min <= soc_max <= 1")
        if not (0 < self.charge_efficiency <= 1 and 0 < self.discharge_efficiency <= 1):
            raise ValueError("an efficiency lies in 0..1, 0 excluded")
        if min(self.rated_power_w, self.max_charge_w, self.max_discharge_w, self.capacity_wh, self.wear_per_kwh) < 0:
            raise ValueError("ratings, capacity and wear are magnitudes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """What is expected of the next market time units."""

    mtu_s: int
    load_w: Array
    pv_w: Array  # available, may be curtailed
    import_price: Array  # [currency/kWh], paid for what flows into the home
    export_price: Array  # [currency/kWh], earned by what flows out
    terminal_value: float  # [currency/kWh] of energy left in the storage at the end

    def __post_init__(self) -> None:
        sizes = {a.size for a in (self.load_w, self.pv_w, self.import_price, self.export_price)}
        if len(sizes) != 1 or 0 in sizes:
            raise ValueError("load, pv and prices have one value a unit, and at least one unit")
        for name in ("load_w", "pv_w", "import_price", "export_price"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} has a value that is not a number")
        above = np.flatnonzero(self.export_price > self.import_price)
        if above.size:
            raise ValueError(f"unit {above[0]}: export price above import price would pay for energy going in circles")

    @property
    def units(self) -> int:
        return self.load_w.size


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveTerms:
    """Reserve to be held in the units of a delivery period: one power for all of them."""

    units: npt.NDArray[np.bool_]  # the delivery period's units
    sustain_s: float  # full delivery must be possible this long, from any moment of those units
    upward: bool  # towards the grid
    downward: bool
    limit_w: float  # at most this much
    delivery_h: float  # paid hours
    price_per_mw_h: float = 0.0  # expected clearing price; unused when awarded
    awarded_w: float | None = None  # sold already: hold this much


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A home's schedule. Always physically possible; `shortfall_w` says what of an award it cannot hold."""

    inverter_power_w: Array  # per unit, towards the grid
    grid_power_w: Array  # per unit at the point of common coupling, towards the grid
    soc: Array  # expected at each unit's beginning, and after the last: units + 1 values, without any activation
    cost: float  # [currency] energy and wear, less the value of what is left in the storage; reserve income excluded
    reserve_w: float
    shortfall_w: float
    stored_value_per_kwh: Array | None = None  # of a kWh more in the storage at each unit's end; None: not known
    status: str  # "optimal", "time limit" (feasible, perhaps not the best) or "at rest" (no solution in time)
