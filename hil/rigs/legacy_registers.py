"""A home's plant behind the older SunSpec models, as on older hybrids and PV inverters; a `LegacyLayout` says which.

Signs: power is positive towards the grid, in the meter too (`W` positive exports). Model 160 gives each module's power
as a magnitude: the panels, the charging and the discharging battery are modules of their own, told apart by name.

Resolution: frequency 10 mHz (Hz is an uint16 with scale -2), powers 1 W, rates 0.01 %, state of charge 0.01 %.

Writes: StorCtl_Mod, OutWRte, InWRte, InOutWRte_RvrtTms and ChaGriSet of model 124; WMaxLimPct, WMaxLimPct_RvrtTms and
WMaxLim_Ena of model 123; WGra, HzStr, HysEna and ModEna of model 127, whose hysteresis does nothing here. A timer
starts anew when its time or its enabling point is written; both are off at 0. The battery takes nothing from the grid
while ChaGriSet says PV.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hil.plant.droop import Droop
from hil.plant.home import NOMINAL_V, HomePlant
from hil.plant.legacy import LegacyControl
from hil.rigs.device_registers import DeviceRegisters, IllegalValue, MeterRegisters, Nameplate, flag, within
from hil.rigs.sunspec_map import Point

_PV_ONLY: Final = 4  # DERTyp
_PV_STORAGE: Final = 82
_CONNECTED: Final = 0b111  # PVConn, StorConn: connected, available, operating
_STRING_V: Final = 380.0  # DC, nominal
_STORAGE_V: Final = 400.0
_NOMINAL_HZ: Final = 60.0
_LONGEST_TIME_OUT_S: Final = 0xFFFE

_SCALES: Final = {
    120: {"WRtg": 0, "VARtg": 0, "VArRtg": 0, "ARtg": -1, "PFRtg": -2, "WHRtg": 0, "MaxChaRte": 0, "MaxDisChaRte": 0},
    121: {"WMax": 0, "VRef": -1, "VRefOfs": 0, "ECPNomHz": 0},
    123: {"WMaxLimPct": -2, "OutPFSet": -2},
    124: {"WChaMax": 0, "WChaDisChaGra": 0, "ChaState": -2, "InOutWRte": -2},
    127: {"WGra": -2, "HzStrStop": -3, "RmpIncDec": 0},
    160: {"DCA": -2, "DCV": -1, "DCW": 0, "DCWH": 0},
    802: {"AHRtg": 0, "WHRtg": 0, "WChaDisChaMax": 0, "SoC": -2, "V": -1, "A": -1},
}
_INVERTER_SCALES: Final = {"A": -2, "V": -1, "W": 0, "Hz": -2, "VA": 0, "WH": 0, "Tmp": 0}  # 101 to 103
_THREE_PHASE: Final = (103, 113)
_WRITABLE: Final = {
    123: {"WMaxLimPct", "WMaxLimPct_RvrtTms", "WMaxLim_Ena"},
    124: {"StorCtl_Mod", "OutWRte", "InWRte", "InOutWRte_RvrtTms", "ChaGriSet"},
    127: {"WGra", "HzStr", "HysEna", "ModEna"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyLayout:
    """Which models an older device carries."""

    inverter: int = 103  # 101 to 103 with integers, 111 to 113 with floats: single, split and three phases
    meter: int = 203  # 201 to 204, 211 to 214
    storage: bool = True  # model 124, and its ratings in 120; without it the panels alone can be throttled
    battery_model: bool = False  # 802 tells state of charge and ratings, and 120 and 124 do not
    strings: int = 1  # of panels, as modules of 160 (maximum power point trackers)

    @property
    def models(self) -> tuple[int, ...]:
        storage = (124,) if self.storage else ()
        battery = (802,) if self.battery_model else ()
        modules = (160,) if self.strings else ()
        return (1, self.inverter, 120, 121, 122, 123, *storage, 127, *battery, *modules, self.meter)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of model 160's modules: the strings, and what charges and discharges the battery."""
        battery = ("StCha", "StDisCha") if self.storage else ()
        return tuple(f"{name} {i + 1}" for i, name in enumerate((*["String"] * self.strings, *battery)))


class LegacyRegisters(DeviceRegisters):
    """The register map of one home with an older inverter."""

    def __init__(self, plant: HomePlant, control: LegacyControl, nameplate: Nameplate, layout: LegacyLayout) -> None:
        """`control` is the one that the plant obeys."""
        super().__init__(plant, layout.models, counts={"module": len(layout.labels)})
        self._control = control
        self._layout = layout
        self._fixed(replace(nameplate, model=f"HIL {'hybrid' if layout.storage else 'PV'} inverter, 2016"))
        MeterRegisters(self, layout.meter)
        self.follow(layout.inverter, self._refresh_inverter)
        self.follow(122, self._refresh_122)
        self.follow(123, self._refresh_123)
        if layout.storage:
            self.follow(124, self._refresh_124)
        if layout.battery_model:
            self.follow(802, lambda: self.put_numbers(802, SoC=100.0 * self.plant.battery.soc))
        if layout.strings:
            self.follow(160, self._refresh_160)
        self.refresh(0, len(self.map.registers))

    def writable(self, point: Point) -> bool:
        return point.name in _WRITABLE.get(point.model, ())

    def take(self, values: Sequence[tuple[Point, int]], now_ms: float) -> None:
        control = replace(self._control)
        for point, value in values:
            name = point.name
            match name:
                case "StorCtl_Mod":
                    control.mode = int(within(name, value, 0, 3))
                case "OutWRte":
                    control.out = within(name, value, -10_000, 10_000) / 10_000
                case "InWRte":
                    control.into = within(name, value, -10_000, 10_000) / 10_000
                case "InOutWRte_RvrtTms":
                    control.window_time_s = int(within(name, value, 0, _LONGEST_TIME_OUT_S))
                case "ChaGriSet":
                    control.from_grid = flag(name, value)
                case "WMaxLimPct":
                    control.cap = within(name, value, 0, 10_000) / 10_000
                case "WMaxLimPct_RvrtTms":
                    control.cap_time_s = int(within(name, value, 0, _LONGEST_TIME_OUT_S))
                case "WMaxLim_Ena":
                    control.capped = flag(name, value)
        for point, value in values:
            if point.model == 127 and (value < 0 or (point.name == "WGra" and value == 0)):
                raise IllegalValue(f"{point.name}: {value}")
        written = {point.name for point, _ in values}
        if written & {"StorCtl_Mod", "InOutWRte_RvrtTms"}:
            control.rearm_window(now_ms)
        if written & {"WMaxLim_Ena", "WMaxLimPct_RvrtTms"}:
            control.rearm_cap(now_ms)
        self._control.become(control)
        for point, value in values:
            if point.model == 127:
                self.map.put(point, value)
                self._set_droop()

    def _set_droop(self) -> None:
        slope, start_mhz, enabled = (self.map.get(self.dynamic[127][name]) for name in ("WGra", "HzStr", "ModEna"))
        self.plant.droop = (
            Droop(
                nominal_hz=_NOMINAL_HZ,
                deadband_over_hz=start_mhz / 1000,
                deadband_under_hz=math.inf,
                droop_over=10_000 / (slope * _NOMINAL_HZ),
                droop_under=math.inf,
            )
            if enabled & 1
            else None
        )

    # ---- what never changes

    def _fixed(self, nameplate: Nameplate) -> None:
        rating, battery, layout = self.plant.rating, self.plant.rating.battery, self._layout
        rated_w = round(rating.inverter.power_w)
        self.put_nameplate(nameplate)
        self.put_scales({model: scales for model, scales in _SCALES.items() if model in layout.models})
        if "W_SF" in self.dynamic[layout.inverter]:
            self.put_scales({layout.inverter: _INVERTER_SCALES})
        quadrants = {f"VArRtgQ{q}": 0 for q in (1, 2, 3, 4)} | {f"PFRtgQ{q}": 100 for q in (1, 2, 3, 4)}
        kind = _PV_STORAGE if layout.storage else _PV_ONLY
        self.put(120, DERTyp=kind, WRtg=rated_w, VARtg=rated_w, ARtg=round(rated_w / NOMINAL_V * 10), **quadrants)
        charge_w, discharge_w = (round(min(w, rated_w)) for w in (battery.max_charge_w, battery.max_discharge_w))
        capacity_wh = round(battery.capacity_wh)
        if layout.battery_model:
            self.put(802, WHRtg=capacity_wh, WChaRteMax=charge_w, WDisChaRteMax=discharge_w)
        elif layout.storage:
            self.put(120, WHRtg=capacity_wh, MaxChaRte=charge_w, MaxDisChaRte=discharge_w)
        self.put(121, WMax=rated_w, VRef=round(NOMINAL_V * 10), VRefOfs=0, ECPNomHz=round(_NOMINAL_HZ))
        absent = ("AphB", "AphC", "PhVphB", "PhVphC") if layout.inverter in _THREE_PHASE else ()
        self.put_numbers(layout.inverter, **dict.fromkeys((*absent, "TmpCab", "Evt1", "Evt2"), 0), St=4)
        self.put(123, Conn=1, OutPFSet=100, OutPFSet_Ena=0, VArPct_Ena=0)
        if layout.storage:
            self.put(124, WChaMax=charge_w, WChaGra=100, WDisChaGra=100)
        self.put(127, WGra=4000, HzStr=36, HzStop=36, HysEna=0, ModEna=0)
        if layout.strings:
            self.put(160, N=len(layout.labels))
            for index, label in enumerate(layout.labels):
                self.put(160, **{f"module[{index}].ID": index + 1, f"module[{index}].DCSt": 4})
                self.put_text(160, **{f"module[{index}].IDStr": label})

    # ---- what follows the plant

    def _refresh_inverter(self) -> None:
        plant = self.plant
        amps = abs(plant.power_w) / plant.voltage_v
        self.put_numbers(
            self._layout.inverter,
            W=plant.power_w,
            VA=abs(plant.power_w),
            A=amps,
            AphA=amps,
            PhVphA=plant.voltage_v,
            Hz=plant.frequency_hz,
            WH=int(plant.energy.inverter_injected_wh),
        )

    def _refresh_122(self) -> None:
        self.put(122, PVConn=_CONNECTED, ECPConn=1)
        if self._layout.storage:
            self.put(122, StorConn=_CONNECTED)
        self.put(122, ActWh=int(self.plant.energy.inverter_injected_wh))

    def _refresh_123(self) -> None:
        control = self._control
        self.put(123, WMaxLimPct=round(control.cap * 10_000), WMaxLim_Ena=int(control.capped))
        self.put(123, WMaxLimPct_RvrtTms=control.cap_time_s)

    def _refresh_124(self) -> None:
        control, plant = self._control, self.plant
        self.put(124, StorCtl_Mod=control.mode, ChaGriSet=int(control.from_grid))
        self.put(124, OutWRte=round(control.out * 10_000), InWRte=round(control.into * 10_000))
        self.put(124, InOutWRte_RvrtTms=control.window_time_s)
        if not self._layout.battery_model:
            self.put_numbers(124, ChaState=100.0 * plant.battery.soc)
        self.put(124, ChaSt=3 if plant.storage_w > 0 else 4 if plant.storage_w < 0 else 6)

    def _refresh_160(self) -> None:
        plant, energy, strings = self.plant, self.plant.energy, self._layout.strings
        powers = [(plant.pv_w / strings, energy.pv_wh / strings, _STRING_V)] * strings
        if self._layout.storage:
            powers.append((max(0.0, -plant.storage_w), energy.charged_wh, _STORAGE_V))
            powers.append((max(0.0, plant.storage_w), energy.discharged_wh, _STORAGE_V))
        for index, (power_w, energy_wh, volts) in enumerate(powers):
            shown = {"DCW": power_w, "DCV": volts, "DCA": power_w / volts, "DCWH": int(energy_wh)}
            self.put_numbers(160, **{f"module[{index}].{name}": number for name, number in shown.items()})
