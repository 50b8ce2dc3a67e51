"""One home's electrical plant: PV and battery on a hybrid inverter, the home's load, and the grid meter.

All powers are positive towards the grid, so the meter reads inverter minus load and the inverter gives PV plus battery.
The inverter's own losses are part of the battery's efficiencies and of the recorded PV output.

`advance(to)` brings the plant from its last instant to another one. Between setpoint changes every quantity is computed
in closed form; steps are cut where the reversion timer runs out, so that it lets go at its instant and not at the next
reading.
"""

from dataclasses import dataclass
from typing import Final

from hil.plant.battery import Battery, BatteryRating
from hil.plant.droop import Droop
from hil.plant.frequency import Frequency
from hil.plant.household import Household
from hil.plant.inverter import InverterRating, PowerControl, follow
from hil.plant.legacy import LegacyControl

NOMINAL_V: Final = 240.0
SERVICE_OHM: Final = 0.1  # of the line from the transformer to the meter
_LONGEST_STEP_MS: Final = 1000.0  # load and PV are taken as constant within a step
_PV_TRACKS_W: Final = 1.0  # nearer than this to the PV's power, the inverter passes it through


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeRating:
    """The nameplate of a home's plant."""

    inverter: InverterRating
    battery: BatteryRating
    pv_w: float


@dataclass(slots=True)
class EnergyCounters:
    """Energy since the plant began [Wh], as unsigned pairs."""

    inverter_injected_wh: float = 0.0
    inverter_absorbed_wh: float = 0.0
    export_wh: float = 0.0  # at the grid meter
    import_wh: float = 0.0
    pv_wh: float = 0.0
    discharged_wh: float = 0.0
    charged_wh: float = 0.0
    load_wh: float = 0.0


class HomePlant:
    """The plant of one home at its latest instant."""

    def __init__(
        self,
        rating: HomeRating,
        *,
        soc: float,
        household: Household,
        frequency: Frequency,
        start_ms: float,
        legacy: LegacyControl | None = None,
    ) -> None:
        """At `start_ms` [UTC ms] PV passes through and the battery rests. An older inverter obeys its `legacy`
        control, and no power setpoint. Raises ValueError for an impossible SoC.
        """
        self.rating = rating
        self.battery = Battery(rating.battery, soc)
        self.control = PowerControl()
        self._legacy = legacy
        self.droop: Droop | None = None  # the inverter's own
        self.energy = EnergyCounters()
        self.reversions_ms: list[float] = []  # instants at which the timer let go
        self.utc_ms = start_ms
        self._household = household
        self._frequency = frequency
        self._available_w = household.pv_w(start_ms)
        self.pv_w = min(self._available_w, rating.inverter.power_w)
        self.power_w = self.pv_w  # at the inverter's AC terminals
        self.load_w = household.load_w(start_ms)

    @property
    def storage_w(self) -> float:
        """The battery's power [W], positive when discharging."""
        return self.power_w - self.pv_w

    @property
    def grid_w(self) -> float:
        """At the grid meter [W]: positive exports."""
        return self.power_w - self.load_w

    @property
    def voltage_v(self) -> float:
        """At the meter: raised by export, lowered by import."""
        return NOMINAL_V + SERVICE_OHM * self.grid_w / NOMINAL_V

    @property
    def frequency_hz(self) -> float:
        return self._frequency(self.utc_ms)

    @property
    def commanded_w(self) -> float | None:
        """The setpoint as asked [W]; None: the inverter follows its own default."""
        order = self._obeyed.order(self._available_w, self.rating.inverter.power_w, self.battery)
        return None if order is None else order.power_w

    @property
    def _obeyed(self) -> PowerControl | LegacyControl:
        return self.control if self._legacy is None else self._legacy

    def advance(self, to_ms: float) -> None:
        """Brings the plant to an instant [UTC ms]; one that has passed changes nothing."""
        while self.utc_ms < to_ms:
            end_ms = min(to_ms, self.utc_ms + _LONGEST_STEP_MS)
            expires_ms = self._obeyed.expires_ms
            if expires_ms is not None:
                end_ms = min(end_ms, max(expires_ms, self.utc_ms))
            self._step(end_ms)
            if expires_ms is not None and end_ms >= expires_ms:
                self._obeyed.revert()
                self.reversions_ms.append(expires_ms)

    def bounds(self, pv_w: float) -> tuple[float, float]:
        """(lowest, highest) power the inverter can hold with this much PV [W]."""
        rated_w = self.rating.inverter.power_w
        return -min(rated_w, self.battery.max_charge_w), min(rated_w, pv_w + self.battery.max_discharge_w)

    def _step(self, end_ms: float) -> None:
        middle_ms = (self.utc_ms + end_ms) / 2
        dt_s = (end_ms - self.utc_ms) / 1000.0
        available_w = self._available_w = self._household.pv_w(middle_ms)
        self.load_w = self._household.load_w(middle_ms)
        self.utc_ms = end_ms
        if dt_s <= 0.0:
            return

        rated_w = self.rating.inverter.power_w
        order = self._obeyed.order(available_w, rated_w, self.battery)
        # By its own default the battery rests, so PV beyond the inverter's rating is throttled.
        usable_w = min(available_w, rated_w) if order is None else order.pv_w
        if order is None:
            target_w = usable_w
            if abs(target_w - self.power_w) < _PV_TRACKS_W:
                self.power_w = target_w
        else:
            lower_w, upper_w = self.bounds(available_w)
            target_w = max(lower_w, min(upper_w, order.power_w))
        if self.droop is not None and (share := self.droop.share(self.frequency_hz)):
            lower_w, upper_w = self.bounds(available_w)
            target_w, usable_w = max(lower_w, min(upper_w, target_w + share * rated_w)), available_w
        self.power_w, mean_w = follow(self.power_w, target_w, dt_s, self.rating.inverter)

        # What PV does not cover the battery gives; what PV gives beyond it the battery takes, or the PV is throttled.
        storage_w = self.battery.step(mean_w - usable_w, dt_s)
        pv_w = max(0.0, min(usable_w, mean_w - storage_w))
        if abs(pv_w + storage_w - mean_w) > 1e-6:  # the battery is at a limit: power falls to what there is
            mean_w = self.power_w = pv_w + storage_w
        self._count(mean_w, pv_w, storage_w, dt_s / 3600.0)
        now_w = max(-self.battery.max_charge_w, min(self.battery.max_discharge_w, self.power_w - usable_w))
        self.pv_w = max(0.0, min(usable_w, self.power_w - now_w))

    def _count(self, power_w: float, pv_w: float, storage_w: float, hours: float) -> None:
        energy, grid_w = self.energy, power_w - self.load_w
        energy.inverter_injected_wh += max(power_w, 0.0) * hours
        energy.inverter_absorbed_wh += max(-power_w, 0.0) * hours
        energy.export_wh += max(grid_w, 0.0) * hours
        energy.import_wh += max(-grid_w, 0.0) * hours
        energy.pv_wh += pv_w * hours
        energy.discharged_wh += max(storage_w, 0.0) * hours
        energy.charged_wh += max(-storage_w, 0.0) * hours
        energy.load_wh += self.load_w * hours
