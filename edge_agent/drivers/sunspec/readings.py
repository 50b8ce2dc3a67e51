"""What registers mean: an Image to readings and nameplate. Pure; the one place where a value is called unbelievable."""

import math
from collections.abc import Iterable

from edge_agent.drivers.samples import FREQUENCY_HZ, SHARE, believable_power, frequency, sample
from edge_agent.drivers.sunspec.codec import Value
from edge_agent.drivers.sunspec.layout import Field
from edge_agent.drivers.sunspec.plan import Image
from edge_agent.drivers.sunspec.points import Points
from edge_agent.model.devices import InverterReading, MeterReading
from edge_agent.model.values import Nameplate, Quality, Sample

# Bits of model 64910 Flg, from the lowest; the one after these, CLIPPED, is a remark and no doubt.
_DOUBTS = ("settling", "dead line", "low voltage", "phase jump", "noise", "out of range", "too steep", "samples lost")
_PORT_PV = 0  # model 714 PrtTyp
# Parts of a name by which vendors call a battery's module in model 160, e.g. "StCha 3" and "StDisCha 4", or "BAT".
_STORAGE_NAMES = ("cha", "bat", "sto", "ess")
_SPLIT_PHASE, _THREE_PHASE = 1, 2  # model 701 ACType
# Line to line over line to neutral; model 702 gives VNom line to neutral for single phase, else line to line.
_LL_PER_LN = {_SPLIT_PHASE: 2.0, _THREE_PHASE: math.sqrt(3.0)}


def read_nameplate(image: Image, points: Points, model_ids: tuple[int, ...]) -> Nameplate:
    """Ratings are the smaller of what the device was built and what it was set up for."""
    return Nameplate(
        manufacturer=image.text(points.manufacturer),
        model=image.text(points.model),
        serial=image.text(points.serial),
        sunspec_models=model_ids,
        rated_power_w=_least(image, points.max_power),
        max_charge_w=_least(image, points.max_charge),
        # An older device that gives one rate for its storage means both directions.
        max_discharge_w=_least(image, points.max_discharge) or _least(image, points.max_charge),
        storage_capacity_wh=_first(image, points.capacity) or 0.0,
        # Model 123 of an older inverter caps what leaves it, and knows no cap below zero.
        throttles_to_import=not isinstance(points.ac_type, int),
    )


def read_inverter(image: Image, points: Points, at_s: float) -> InverterReading:
    """An inverter model's power is already positive towards the grid; so is model 714's for a generating port."""
    voltage_v = _inverter_voltage_v(image, points)
    rated_w = _least(image, points.max_power)
    soc_pct = _first(image, points.soc)
    return InverterReading(
        power_w=sample(image.number(points.power), at_s, believable_power(rated_w)),
        frequency_hz=frequency(image.number(points.frequency), voltage_v, _nominal_ln_v(image, points), at_s),
        voltage_v=sample(voltage_v, at_s),
        pv_power_w=sample(read_pv_power_w(image, points), at_s),
        soc=sample(soc_pct / 100.0 if soc_pct is not None else None, at_s, SHARE),
    )


def read_meter(image: Image, points: Points, at_s: float) -> MeterReading:
    """The models do not fix the sign of a meter's W; the configuration says what its positive power means."""
    voltage_v = image.number(points.meter_voltage_ln)
    power_w = image.number(points.meter_power)
    if points.meter_age is not None:
        return _read_fast_meter(image, points, voltage_v, at_s)
    line_to_line_v = image.number(points.meter_voltage_ll)
    if not voltage_v and line_to_line_v:
        voltage_v = line_to_line_v / _LL_PER_LN[_THREE_PHASE]
    return MeterReading(
        power_w=sample(points.meter_sign * power_w if power_w is not None else None, at_s),
        frequency_hz=frequency(image.number(points.meter_frequency), voltage_v, _nominal_ln_v(image, points), at_s),
        voltage_v=sample(voltage_v, at_s),
    )


def _read_fast_meter(image: Image, points: Points, voltage_v: float | None, at_s: float) -> MeterReading:
    """Our firmware's meter, whose frequency is as old as it says itself. It was asked after at_s, so never older."""
    flags, age_ms = image.raw(points.meter_flags), image.number(points.meter_age)
    renewal_ms = image.number(points.meter_renewal)
    doubts = [name for bit, name in enumerate(_DOUBTS) if isinstance(flags, int) and flags >> bit & 1]
    if flags is not None and not doubts and age_ms is not None:
        frequency_hz = sample(image.number(points.meter_frequency), at_s - age_ms / 1e3, FREQUENCY_HZ)
    else:
        frequency_hz = Sample(math.nan, Quality.BAD, at_s, f"the meter says: {', '.join(doubts) or 'not measured'}")
    return MeterReading(
        frequency_hz=frequency_hz,
        frequency_interval_s=renewal_ms / 1e3 if renewal_ms is not None else None,
        voltage_v=sample(voltage_v, at_s),
    )


def _inverter_voltage_v(image: Image, points: Points) -> float | None:
    """Line to neutral, from line to line where that is all there is."""
    line_to_neutral_v = image.number(points.voltage_ln)
    if line_to_neutral_v is not None:
        return line_to_neutral_v
    line_to_line_v = image.number(points.voltage_ll)
    return line_to_line_v / _ll_per_ln(image, points) if line_to_line_v is not None else None


def _nominal_ln_v(image: Image, points: Points) -> float | None:
    nominal = next((v for field in points.nominal_voltage if (v := image.number(field))), None)
    return nominal / _ll_per_ln(image, points) if nominal is not None else None


def _ll_per_ln(image: Image, points: Points) -> float:
    kind = points.ac_type if isinstance(points.ac_type, int) else image.raw(points.ac_type)
    return _LL_PER_LN.get(kind, 1.0) if isinstance(kind, int) else 1.0


def read_pv_power_w(image: Image, points: Points) -> float | None:
    """The sum over the ports that are PV [W]. A sum with a hole in it is no value."""
    powers = [image.number(power) for kind, power in points.dc_ports if _is_pv(image.raw(kind))]
    known = [power for power in powers if power is not None]
    return sum(known) if known and len(known) == len(powers) else None


def _is_pv(kind: Value | None) -> bool:
    """By model 714's port type, or by the name of a module of model 160."""
    if isinstance(kind, str):
        return not any(part in kind.lower() for part in _STORAGE_NAMES)
    return kind == _PORT_PV


def _least(image: Image, fields: Iterable[Field]) -> float:
    return min((value for field in fields if (value := image.number(field)) is not None), default=0.0)


def _first(image: Image, fields: Iterable[Field]) -> float | None:
    return next((value for field in fields if (value := image.number(field)) is not None), None)
