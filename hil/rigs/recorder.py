"""What one device did, as its own rig saw it: a sample at every tick and at every accepted register write."""

import math
from array import array
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hil.plant.home import HomePlant

COLUMNS: Final = ("t_ms", "frequency_hz", "power_w", "setpoint_w", "soc", "pv_w", "load_w")
_KEPT: Final = 150_000  # samples at least: 20 minutes at 100 ticks and 20 writes a second


class Recorder:
    """Growing columns of one plant's samples; the oldest are dropped beyond a bound."""

    def __init__(self, plant: HomePlant) -> None:
        self._plant = plant
        # Single precision halves the memory of what is read for plots only.
        self._columns = tuple(array("d" if name in COLUMNS[:4] else "f") for name in COLUMNS)

    def sample(self) -> None:
        """Notes the plant at its latest instant. A setpoint of NaN: none, the inverter follows its own default."""
        plant = self._plant
        commanded_w = plant.commanded_w
        t, frequency, power, setpoint, soc, pv, load = self._columns
        t.append(plant.utc_ms)
        frequency.append(plant.frequency_hz)
        power.append(plant.power_w)
        setpoint.append(math.nan if commanded_w is None else commanded_w)
        soc.append(plant.battery.soc)
        pv.append(plant.pv_w)
        load.append(plant.load_w)
        if len(t) > 2 * _KEPT:
            for column in self._columns:
                del column[:_KEPT]

    def arrays(self) -> dict[str, NDArray[np.floating]]:
        """Copies of the columns, and the instants at which the reversion timer let go."""
        copies: dict[str, NDArray[np.floating]] = {
            name: np.array(column) for name, column in zip(COLUMNS, self._columns, strict=True)
        }
        copies["reversions_ms"] = np.array(self._plant.reversions_ms, dtype=np.float64)
        return copies
