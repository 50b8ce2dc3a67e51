"""A home's plant behind SunSpec registers: models 1, 701, 702, 704, 713, 714 (ports PV and storage) and meter 203.

Signs: every power is positive towards the grid. That is model 701's own rule; the definition of meter model 203 states
none, and this meter follows the same rule: `W` positive exports, `TotWhExp` counts export and `TotWhImp` import.
In model 714 a storage port is positive while the battery discharges.

Resolution: frequency 1 mHz in 701 (Hz_SF -3); the meter's Hz is an int16, so 10 mHz there (Hz_SF -2). Powers 1 W,
voltages 0.1 V, state of charge 0.01 %.

Writes: the points of model 704's WSet group can be written, with function 6 or 16, whole points only. Every other
address answers exception 2, a value out of range exception 3, and a request with one bad value changes nothing.
The reversion timer starts anew when WSetEna or WSetRvrtTms is written, and stops with WSetEna or WSetRvrtTms at 0.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hil.plant.home import NOMINAL_V, HomePlant
from hil.plant.inverter import Setting
from hil.rigs.device_registers import DeviceRegisters, MeterRegisters, Nameplate, flag, within
from hil.rigs.grid_functions import COUNTS as GRID_FUNCTION_COUNTS
from hil.rigs.grid_functions import MODELS as GRID_FUNCTIONS
from hil.rigs.grid_functions import GridFunctions
from hil.rigs.sunspec_map import Point

MODELS: Final = (1, 701, 702, 704, 713, 714, 203, *GRID_FUNCTIONS)
_PV_PORT, _STORAGE_PORT = 0, 1
_PV_V: Final = 380.0  # DC, nominal
_STORAGE_V: Final = 400.0
_LONGEST_REVERSION_S: Final = 86_400
_FIXED_W: Final = 1 << 1  # CtrlModes: active power setpoint
_PERCENT: Final = 0.001  # WSetPct has scale -1: 0.1 % of the rating

_SCALES: Final = {
    701: {"A": -2, "V": -1, "Hz": -3, "W": 0, "PF": -2, "VA": 0, "Var": 0, "TotWh": 0, "TotVarh": 0, "Tmp": 0},
    702: {"W": 0, "PF": -2, "VA": 0, "Var": 0, "V": -1, "A": -1, "S": 0},
    704: {"PF": -2, "WMaxLimPct": -1, "WSet": 0, "WSetPct": -1, "VarSet": 0, "VarSetPct": -1},
    713: {"WH": 0, "Pct": -2},
    714: {"DCA": -2, "DCV": -1, "DCW": 0, "DCWH": 0, "Tmp": 0},
}


class HomeRegisters(DeviceRegisters):
    """The register map of one home, kept true to its plant."""

    def __init__(self, plant: HomePlant, nameplate: Nameplate) -> None:
        super().__init__(plant, MODELS, counts={"NPrt": 2, **GRID_FUNCTION_COUNTS})
        self._fixed(nameplate)
        MeterRegisters(self)
        self._functions = GridFunctions(self)
        self.follow(701, self._refresh_701)
        self.follow(704, self._refresh_704)
        self.follow(713, self._refresh_713)
        self.follow(714, self._refresh_714)
        self.refresh(0, len(self.map.registers))

    def writable(self, point: Point) -> bool:
        return point.name in _WRITABLE if point.model == 704 else self._functions.writable(point)

    def take(self, values: Sequence[tuple[Point, int]], now_ms: float) -> None:
        functions = [(point, value) for point, value in values if point.model != 704]
        self._functions.check(functions)
        self._take_704({point.name: value for point, value in values if point.model == 704}, now_ms)
        self._functions.take(functions, now_ms)

    def _take_704(self, values: dict[str, int], now_ms: float) -> None:
        control, rated_w = self.plant.control, self.plant.rating.inverter.power_w
        active, reversion = control.active, control.reversion
        percent_mode, reversion_s = control.percent_mode, control.reversion_time_s
        lowest_w = -min(rated_w, self.plant.rating.battery.max_charge_w)
        for name, value in values.items():
            match name:
                case "WSetEna":
                    active = replace(active, enabled=flag(name, value))
                case "WSetEnaRvrt":
                    reversion = replace(reversion, enabled=flag(name, value))
                case "WSetMod":
                    percent_mode = not flag(name, value)  # 0: percent of the rating, 1: watts
                case "WSet":
                    active = replace(active, power_w=within(name, value, lowest_w, rated_w))
                case "WSetRvrt":
                    reversion = replace(reversion, power_w=within(name, value, lowest_w, rated_w))
                case "WSetPct":
                    active = replace(active, share=within(name, value * _PERCENT, lowest_w / rated_w, 1.0))
                case "WSetPctRvrt":
                    reversion = replace(reversion, share=within(name, value * _PERCENT, lowest_w / rated_w, 1.0))
                case "WSetRvrtTms":
                    reversion_s = int(within(name, value, 0, _LONGEST_REVERSION_S))
        control.active, control.reversion = active, reversion
        control.percent_mode, control.reversion_time_s = percent_mode, reversion_s
        if values.keys() & {"WSetEna", "WSetRvrtTms"}:
            control.rearm(now_ms)

    # ---- what never changes

    def _fixed(self, nameplate: Nameplate) -> None:
        rating = self.plant.rating
        self.put_nameplate(nameplate)
        self.put_scales(_SCALES)

        rated_w, battery = round(rating.inverter.power_w), rating.battery
        charge_w = round(min(battery.max_charge_w, rated_w))
        discharge_w = round(min(battery.max_discharge_w, rated_w))
        limits = {
            "WMax": rated_w,
            "VAMax": rated_w,
            "WChaRteMax": charge_w,
            "WDisChaRteMax": discharge_w,
            "VAChaRteMax": charge_w,
            "VADisChaRteMax": discharge_w,
            "VNom": round(NOMINAL_V * 10),
            "VMax": round(NOMINAL_V * 1.1 * 10),
            "VMin": round(NOMINAL_V * 0.88 * 10),
            "AMax": round(rated_w / NOMINAL_V * 10),
        }
        self.put(702, **limits, **{f"{name}Rtg": value for name, value in limits.items()})
        self.put(702, NorOpCatRtg=1, AbnOpCatRtg=2, CtrlModes=_FIXED_W)  # categories B and III of IEEE 1547-2018

        self.put(701, ACType=0, St=1, InvSt=3, ConnSt=1, Alrm=0, DERMode=1, Var=0, VarL1=0)
        self.put(713, WHRtg=round(battery.capacity_wh), SoH=10_000, Sta=0)
        self.put(714, PrtAlrms=0)
        for port, kind, label in ((_PV_PORT, 0, "PV"), (_STORAGE_PORT, 1, "ESS")):
            prefix = f"Prt[{port}]."
            self.put(714, **{f"{prefix}PrtTyp": kind, f"{prefix}ID": port, f"{prefix}DCSta": 1, f"{prefix}DCAlrm": 0})
            self.map.put_text(self.map.point(714, f"{prefix}IDStr"), label)

    # ---- what follows the plant

    def _refresh_701(self) -> None:
        plant, put, points = self.plant, self.map.put, self.dynamic[701]
        power_w, volts = round(plant.power_w), round(plant.voltage_v * 10)
        centiamps = round(abs(plant.power_w) / plant.voltage_v * 100)
        for name in ("W", "WL1"):
            put(points[name], power_w)
        for name in ("VA", "VAL1"):
            put(points[name], abs(power_w))
        for name in ("PF", "PFL1"):  # its sign is that of active power
            put(points[name], -100 if power_w < 0 else 100)
        for name in ("A", "AL1"):
            put(points[name], centiamps)
        for name in ("LNV", "VL1"):
            put(points[name], volts)
        put(points["Hz"], round(plant.frequency_hz * 1000))
        for name in ("TotWhInj", "TotWhInjL1"):
            put(points[name], int(plant.energy.inverter_injected_wh))
        for name in ("TotWhAbs", "TotWhAbsL1"):
            put(points[name], int(plant.energy.inverter_absorbed_wh))

    def _refresh_704(self) -> None:
        control, put, points = self.plant.control, self.map.put, self.dynamic[704]
        for suffix, setting in (("", control.active), ("Rvrt", control.reversion)):
            self._put_setting(points, suffix, setting)
        put(points["WSetMod"], 0 if control.percent_mode else 1)
        put(points["WSetRvrtTms"], control.reversion_time_s)
        put(points["WSetRvrtRem"], control.remaining_s(self.plant.utc_ms))

    def _put_setting(self, points: dict[str, Point], suffix: str, setting: Setting) -> None:
        self.map.put(points[f"WSetEna{suffix}"], int(setting.enabled))
        self.map.put(points[f"WSet{suffix}"], round(setting.power_w))
        self.map.put(points[f"WSetPct{suffix}"], round(setting.share / _PERCENT))

    def _refresh_713(self) -> None:
        battery, put, points = self.plant.battery, self.map.put, self.dynamic[713]
        put(points["WHAvail"], round(battery.stored_wh))
        put(points["SoC"], round(battery.soc * 10_000))

    def _refresh_714(self) -> None:
        plant, put, points = self.plant, self.map.put, self.dynamic[714]
        energy = plant.energy
        put(points["DCW"], round(plant.pv_w + plant.storage_w))
        put(points["DCA"], round((plant.pv_w / _PV_V + plant.storage_w / _STORAGE_V) * 100))
        put(points["DCWhInj"], int(energy.pv_wh + energy.discharged_wh))
        put(points["DCWhAbs"], int(energy.charged_wh))
        for port, power_w, volts, injected_wh, absorbed_wh in (
            (_PV_PORT, plant.pv_w, _PV_V, energy.pv_wh, 0.0),
            (_STORAGE_PORT, plant.storage_w, _STORAGE_V, energy.discharged_wh, energy.charged_wh),
        ):
            prefix = f"Prt[{port}]."
            put(points[prefix + "DCW"], round(power_w))
            put(points[prefix + "DCA"], round(power_w / volts * 100))
            put(points[prefix + "DCV"], round(volts * 10))
            put(points[prefix + "DCWhInj"], int(injected_wh))
            put(points[prefix + "DCWhAbs"], int(absorbed_wh))


_WRITABLE: Final = frozenset(
    {"WSetEna", "WSetMod", "WSet", "WSetRvrt", "WSetPct", "WSetPctRvrt", "WSetEnaRvrt", "WSetRvrtTms"}
)
