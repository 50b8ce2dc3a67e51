"""Which points of a device's map the agent reads, and how often: measurements each cycle, ratings now and then.

Two generations of models say the same things: those of IEEE 1547-2018 (701 to 715) and the older ones (101 to 124,
160, 802). Where a device has both, the newer is read.
"""

from dataclasses import dataclass
from typing import Literal

from edge_agent.drivers.sunspec.discovery import DeviceMap
from edge_agent.drivers.sunspec.layout import Field, ModelMap

METER_MODELS = (201, 202, 203, 204, 211, 212, 213, 214)
# Single-phase, split-phase and three-phase inverters, with integers and with floats; the number is model 701's ACType.
LEGACY_INVERTERS = {101: 0, 102: 1, 103: 2, 111: 0, 112: 1, 113: 2}
INVERTER_MODELS = (701, *LEGACY_INVERTERS)
FAST_METER = 64910  # of our firmware; it stands beside a meter model that shows less, which is then not read


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """The fields by meaning; None where the device does not have them."""

    manufacturer: Field | None
    model: Field | None
    serial: Field | None
    # At the inverter's AC terminals.
    ac_type: Field | int | None
    power: Field | None
    frequency: Field | None
    voltage_ln: Field | None
    voltage_ll: Field | None
    # Storage. Several, since a device may carry a model of a battery that is not installed: the first that has a value.
    soc: tuple[Field, ...]
    capacity: tuple[Field, ...]
    dc_ports: tuple[tuple[Field, Field], ...]  # type, or in model 160 name, and power of each
    # Rating and, where an installer set less, setting.
    max_power: tuple[Field, ...]
    max_charge: tuple[Field, ...]
    max_discharge: tuple[Field, ...]
    nominal_voltage: tuple[Field, ...]
    # Model 122: what is connected.
    grid_connected: Field | None
    storage_connected: Field | None
    # A meter model.
    meter_power: Field | None
    meter_frequency: Field | None
    meter_voltage_ln: Field | None
    meter_voltage_ll: Field | None
    # Our firmware's fast meter tells more of its frequency: why not to act upon it, its age, and how often it is new.
    meter_flags: Field | None
    meter_age: Field | None
    meter_renewal: Field | None
    meter_sign: int  # 1 where its positive power is exported, -1 where it is imported

    @property
    def is_meter(self) -> bool:
        return self.meter_power is not None or self.meter_age is not None

    @property
    def measured(self) -> tuple[Field, ...]:
        """What is read each cycle."""
        single = (
            self.power,
            self.frequency,
            self.voltage_ln,
            self.voltage_ll,
            *self.soc,
            self.meter_power,
            self.meter_frequency,
            self.meter_voltage_ln,
            self.meter_voltage_ll,
            self.meter_flags,
            self.meter_age,
        )
        return tuple(field for field in (*single, *(power for _, power in self.dc_ports)) if field is not None)

    @property
    def constant(self) -> tuple[Field, ...]:
        """What changes seldom or never."""
        ac_type = self.ac_type if isinstance(self.ac_type, Field) else None
        status = (self.grid_connected, self.storage_connected)
        single = (self.manufacturer, self.model, self.serial, ac_type, self.meter_renewal, *self.capacity, *status)
        ratings = (*self.max_power, *self.max_charge, *self.max_discharge, *self.nominal_voltage)
        return tuple(field for field in (*single, *ratings, *(kind for kind, _ in self.dc_ports)) if field is not None)


def choose_points(device: DeviceMap, meter_positive: Literal["export", "import"] = "export") -> Points:
    """`meter_positive`: what the meter's positive power means, which its models do not fix."""
    common, ac, meter = device.first(1), _inverter(device), device.first(*METER_MODELS)
    ratings, dc = device.first(702), device.first(714)
    nameplate, settings, status = device.first(120), device.first(121), device.first(122)
    fast = device.first(FAST_METER)
    if fast is not None:
        meter = None
    newer, older, battery = device.first(713), device.first(124), device.first(802)
    legacy = ac is not None and ac.model_id in LEGACY_INVERTERS
    return Points(
        manufacturer=_one(common, "Mn"),
        model=_one(common, "Md"),
        serial=_one(common, "SN"),
        ac_type=LEGACY_INVERTERS[ac.model_id] if ac is not None and legacy else _one(ac, "ACType"),
        power=_one(ac, "W"),
        frequency=_one(ac, "Hz"),
        voltage_ln=_one(ac, "PhVphA" if legacy else "LNV"),
        voltage_ll=_one(ac, "PPVphAB" if legacy else "LLV"),
        soc=_known(_one(newer, "SoC"), _one(battery, "SoC"), _one(older, "ChaState")),
        capacity=_known(_one(newer, "WHRtg"), _one(battery, "WHRtg"), _one(nameplate, "WHRtg")),
        dc_ports=_dc_ports(dc) if dc is not None else _modules(device.first(160)),
        max_power=_some(ratings, "WMaxRtg", "WMax") or _known(_one(nameplate, "WRtg"), _one(settings, "WMax")),
        max_charge=_some(ratings, "WChaRteMaxRtg", "WChaRteMax")
        or _known(_one(nameplate, "MaxChaRte"), _one(older, "WChaMax"), _one(battery, "WChaRteMax")),
        max_discharge=_some(ratings, "WDisChaRteMaxRtg", "WDisChaRteMax")
        or _known(_one(nameplate, "MaxDisChaRte"), _one(battery, "WDisChaRteMax")),
        nominal_voltage=_some(ratings, "VNom", "VNomRtg"),
        grid_connected=_one(status, "ECPConn"),
        storage_connected=_one(status, "StorConn") if older is not None else None,
        meter_power=_one(meter, "W"),
        meter_frequency=_one(fast or meter, "Hz"),
        meter_voltage_ln=_one(fast, "V") or _one(meter, "PhV"),
        meter_voltage_ll=_one(meter, "PPV"),
        meter_flags=_one(fast, "Flg"),
        meter_age=_one(fast, "Age"),
        meter_renewal=_one(fast, "Hop"),
        meter_sign=1 if meter_positive == "export" else -1,
    )


def _inverter(device: DeviceMap) -> ModelMap | None:
    return device.first(701) or device.first(*LEGACY_INVERTERS)


def _one(model: ModelMap | None, path: str) -> Field | None:
    return model.fields.get(path) if model is not None else None


def _known(*fields: Field | None) -> tuple[Field, ...]:
    return tuple(field for field in fields if field is not None)


def _some(model: ModelMap | None, *paths: str) -> tuple[Field, ...]:
    return _known(*(_one(model, path) for path in paths))


def _dc_ports(model: ModelMap) -> tuple[tuple[Field, Field], ...]:
    """Model 714."""
    count = len(model.root.repeated["Prt"])
    ports = ((_one(model, f"Prt[{i}].PrtTyp"), _one(model, f"Prt[{i}].DCW")) for i in range(count))
    return tuple((kind, power) for kind, power in ports if kind is not None and power is not None)


def _modules(model: ModelMap | None) -> tuple[tuple[Field, Field], ...]:
    """Model 160, which tells a battery's module from a string of panels by its name only."""
    if model is None:
        return ()
    count = len(model.root.repeated["module"])
    modules = ((_one(model, f"module[{i}].IDStr"), _one(model, f"module[{i}].DCW")) for i in range(count))
    return tuple((name, power) for name, power in modules if name is not None and power is not None)
