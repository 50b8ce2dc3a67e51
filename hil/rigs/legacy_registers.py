"""A home's plant behind the older SunSpec models: 1, 103, 120 to 124, 127, 160 and meter 203, as on older hybrids.

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
from dataclasses import replace
from typing import Final

from hil.plant.droop import Droop
from hil.plant.home import NOMINAL_V, HomePlant
from hil.plant.legacy import LegacyControl
from hil.rigs.device_registers import DeviceRegisters, IllegalValue, MeterRegisters, Nameplate, flag, within
from hil.rigs.sunspec_map import Point

MODELS: Final = (1, 103, 120, 121, 122, 123, 124, 127, 160, 203)
_PV_STORAGE: Final = 82  # DERTyp
_CONNECTED: Final = 0b111  # PVConn, StorConn: connected, available, operating
_PV, _CHARGING, _DISCHARGING = range(3)
_MODULES: Final = ((_PV, "String 1", 380.0), (_CHARGING, "StCha 2", 400.0), (_DISCHARGING, "StDisCha 3", 400.0))
_NOMINAL_HZ: Final = 60.0
_LONGEST_TIME_OUT_S: Final = 0xFFFE

_SCALES: Final = {
    103: {"A": -2, "V": -1, "W": 0, "Hz": -2, "VA": 0, "WH": 0, "Tmp": 0},
    120: {"WRtg": 0, "VARtg": 0, "VArRtg": 0, "ARtg": -1, "PFRtg": -2, "WHRtg": 0, "MaxChaRte": 0, "MaxDisChaRte": 0},
    121: {"WMax": 0, "VRef": -1, "VRefOfs": 0, "ECPNomHz": 0},
    123: {"WMaxLimPct": -2, "OutPFSet": -2},
    124: {"WChaMax": 0, "WChaDisChaGra": 0, "ChaState": -2, "InOutWRte": -2},
    127: {"WGra": -2, "HzStrStop": -3, "RmpIncDec": 0},
    160: {"DCA": -2, "DCV": -1, "DCW": 0, "DCWH": 0},
}
_WRITABLE: Final = {
    123: {"WMaxLimPct", "WMaxLimPct_RvrtTms", "WMaxLim_Ena"},
    124: {"StorCtl_Mod", "OutWRte", "InWRte", "InOutWRte_RvrtTms", "ChaGriSet"},
    127: {"WGra", "HzStr", "HysEna", "ModEna"},
}


class LegacyRegisters(DeviceRegisters):
    """The register map of one home with an older hybrid inverter."""

    def __init__(self, plant: HomePlant, control: LegacyControl, nameplate: Nameplate) -> None:
        """`control` is the one that the plant obeys."""
        super().__init__(plant, MODELS, counts={"module": len(_MODULES)})
        self._control = control
        self._fixed(replace(nameplate, model="HIL hybrid inverter, 2016"))
        MeterRegisters(self)
        self.follow(103, self._refresh_103)
        self.follow(122, self._refresh_122)
        self.follow(123, self._refresh_123)
        self.follow(124, self._refresh_124)
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
        rating, battery = self.plant.rating, self.plant.rating.battery
        rated_w = round(rating.inverter.power_w)
        self.put_nameplate(nameplate)
        self.put_scales(_SCALES)
        quadrants = {f"VArRtgQ{q}": 0 for q in (1, 2, 3, 4)} | {f"PFRtgQ{q}": 100 for q in (1, 2, 3, 4)}
        self.put(
            120, DERTyp=_PV_STORAGE, WRtg=rated_w, VARtg=rated_w, ARtg=round(rated_w / NOMINAL_V * 10), **quadrants
        )
        charge_w, discharge_w = (round(min(w, rated_w)) for w in (battery.max_charge_w, battery.max_discharge_w))
        self.put(120, WHRtg=round(battery.capacity_wh), MaxChaRte=charge_w, MaxDisChaRte=discharge_w)
        self.put(121, WMax=rated_w, VRef=round(NOMINAL_V * 10), VRefOfs=0, ECPNomHz=round(_NOMINAL_HZ))
        self.put(103, **dict.fromkeys(("AphB", "AphC", "PhVphB", "PhVphC", "TmpCab", "Evt1", "Evt2"), 0), St=4)
        self.put(123, Conn=1, OutPFSet=100, OutPFSet_Ena=0, VArPct_Ena=0)
        self.put(124, WChaMax=charge_w, WChaGra=100, WDisChaGra=100)
        self.put(127, WGra=4000, HzStr=36, HzStop=36, HysEna=0, ModEna=0)
        self.put(160, N=len(_MODULES))
        for index, label, _ in _MODULES:
            self.put(160, **{f"module[{index}].ID": index + 1, f"module[{index}].DCSt": 4})
            self.put_text(160, **{f"module[{index}].IDStr": label})

    # ---- what follows the plant

    def _refresh_103(self) -> None:
        plant, put, points = self.plant, self.map.put, self.dynamic[103]
        power_w, volts = round(plant.power_w), round(plant.voltage_v * 10)
        centiamps = round(abs(plant.power_w) / plant.voltage_v * 100)
        put(points["W"], power_w)
        put(points["VA"], abs(power_w))
        for name in ("A", "AphA"):
            put(points[name], centiamps)
        put(points["PhVphA"], volts)
        put(points["Hz"], round(plant.frequency_hz * 100))
        put(points["WH"], int(plant.energy.inverter_injected_wh))

    def _refresh_122(self) -> None:
        self.put(122, PVConn=_CONNECTED, StorConn=_CONNECTED, ECPConn=1)
        self.put(122, ActWh=int(self.plant.energy.inverter_injected_wh))

    def _refresh_123(self) -> None:
        control = self._control
        self.put(123, WMaxLimPct=round(control.cap * 10_000), WMaxLim_Ena=int(control.capped))
        self.put(123, WMaxLimPct_RvrtTms=control.cap_time_s)

    def _refresh_124(self) -> None:
        control, plant = self._control, self.plant
        self.put(124, StorCtl_Mod=control.mode, ChaGriSet=int(control.from_grid))
        self.put(124, OutWRte=round(control.out * 10_000), InWRte=round(control.into * 10_000))
        self.put(124, InOutWRte_RvrtTms=control.window_time_s, ChaState=round(plant.battery.soc * 10_000))
        self.put(124, ChaSt=3 if plant.storage_w > 0 else 4 if plant.storage_w < 0 else 6)

    def _refresh_160(self) -> None:
        plant, energy = self.plant, self.plant.energy
        powers = (
            (plant.pv_w, energy.pv_wh),
            (max(0.0, -plant.storage_w), energy.charged_wh),
            (max(0.0, plant.storage_w), energy.discharged_wh),
        )
        for (index, _, volts), (power_w, energy_wh) in zip(_MODULES, powers, strict=True):
            at = f"module[{index}]."
            self.put(160, **{f"{at}DCW": round(power_w), f"{at}DCV": round(volts * 10)})
            self.put(160, **{f"{at}DCA": round(power_w / volts * 100), f"{at}DCWH": int(energy_wh)})
