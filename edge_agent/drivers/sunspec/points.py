"""Which points of a device's map the agent reads, and how often: measurements each cycle, ratings now and then."""

from dataclasses import dataclass

from edge_agent.drivers.sunspec.discovery import DeviceMap
from edge_agent.drivers.sunspec.layout import Field, ModelMap

METER_MODELS = (201, 202, 203, 204, 211, 212, 213, 214)


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """The fields by meaning; None where the device does not have them."""

    manufacturer: Field | None
    model: Field | None
    serial: Field | None
    # Model 701, at the inverter's AC terminals.
    ac_type: Field | None
    power: Field | None
    frequency: Field | None
    voltage_ln: Field | None
    voltage_ll: Field | None
    # Models 713 and 714.
    soc: Field | None
    capacity: Field | None
    dc_ports: tuple[tuple[Field, Field], ...]  # type and power of each
    # Model 702: rating and, where an installer set less, setting.
    max_power: tuple[Field, ...]
    max_charge: tuple[Field, ...]
    max_discharge: tuple[Field, ...]
    nominal_voltage: tuple[Field, ...]
    # A meter model.
    meter_power: Field | None
    meter_frequency: Field | None
    meter_voltage_ln: Field | None
    meter_voltage_ll: Field | None

    @property
    def measured(self) -> tuple[Field, ...]:
        """What is read each cycle."""
        single = (
            self.power,
            self.frequency,
            self.voltage_ln,
            self.voltage_ll,
            self.soc,
            self.meter_power,
            self.meter_frequency,
            self.meter_voltage_ln,
            self.meter_voltage_ll,
        )
        return tuple(field for field in (*single, *(power for _, power in self.dc_ports)) if field is not None)

    @property
    def constant(self) -> tuple[Field, ...]:
        """What changes seldom or never."""
        single = (self.manufacturer, self.model, self.serial, self.ac_type, self.capacity)
        ratings = (*self.max_power, *self.max_charge, *self.max_discharge, *self.nominal_voltage)
        return tuple(field for field in (*single, *ratings, *(kind for kind, _ in self.dc_ports)) if field is not None)


def choose_points(device: DeviceMap) -> Points:
    common, ac, ratings = device.first(1), device.first(701), device.first(702)
    storage, dc, meter = device.first(713), device.first(714), device.first(*METER_MODELS)
    return Points(
        manufacturer=_one(common, "Mn"),
        model=_one(common, "Md"),
        serial=_one(common, "SN"),
        ac_type=_one(ac, "ACType"),
        power=_one(ac, "W"),
        frequency=_one(ac, "Hz"),
        voltage_ln=_one(ac, "LNV"),
        voltage_ll=_one(ac, "LLV"),
        soc=_one(storage, "SoC"),
        capacity=_one(storage, "WHRtg"),
        dc_ports=_dc_ports(dc),
        max_power=_some(ratings, "WMaxRtg", "WMax"),
        max_charge=_some(ratings, "WChaRteMaxRtg", "WChaRteMax"),
        max_discharge=_some(ratings, "WDisChaRteMaxRtg", "WDisChaRteMax"),
        nominal_voltage=_some(ratings, "VNom", "VNomRtg"),
        meter_power=_one(meter, "W"),
        meter_frequency=_one(meter, "Hz"),
        meter_voltage_ln=_one(meter, "PhV"),
        meter_voltage_ll=_one(meter, "PPV"),
    )


def _one(model: ModelMap | None, path: str) -> Field | None:
    return model.fields.get(path) if model is not None else None


def _some(model: ModelMap | None, *paths: str) -> tuple[Field, ...]:
    return tuple(field for path in paths if (field := _one(model, path)) is not None)


def _dc_ports(model: ModelMap | None) -> tuple[tuple[Field, Field], ...]:
    if model is None:
        return ()
    count = len(model.root.repeated["Prt"])
    ports = ((_one(model, f"Prt[{i}].PrtTyp"), _one(model, f"Prt[{i}].DCW")) for i in range(count))
    return tuple((kind, power) for kind, power in ports if kind is not None and power is not None)
