"""What every simulated device's registers share: values that follow a plant, and writes that are checked before taken.

Writes: with function 6 or 16, whole points only. An address that cannot be written answers exception 2, a value out of
range exception 3, and a request with one bad value changes nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from hil.plant.home import HomePlant
from hil.rigs.sunspec_map import BASE_ADDRESS, Point, RegisterMap


class IllegalAddress(Exception):
    """A write to registers that cannot be written, or to half a point (Modbus exception 2)."""


class IllegalValue(Exception):
    """A write of a value out of its range (Modbus exception 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameplate:
    """What model 1 says."""

    serial: str
    unit_id: int = 1
    manufacturer: str = "Murmuration"
    model: str = "HIL hybrid inverter"
    version: str = "1"


class DeviceRegisters:
    """The register map of one home, kept true to its plant. A subclass has the models and takes what is written."""

    def __init__(self, plant: HomePlant, models: Sequence[int], counts: Mapping[str, int]) -> None:
        self.plant = plant
        self.map = RegisterMap(models, counts=counts)
        self.dynamic = {
            model: {name: p for (m, name), p in self.map.points.items() if m == model} for model in set(models)
        }
        self._refreshers: list[tuple[tuple[int, int], Callable[[], None]]] = []

    def follow(self, model: int, refresh: Callable[[], None]) -> None:
        """Has `refresh` called before any register of a model is read."""
        self._refreshers.append((self._span(model), refresh))

    def refresh(self, index: int, count: int) -> None:
        """Makes the registers of every model that this range touches show the plant as it is now."""
        for (first, end), refresh in self._refreshers:
            if index < end and first < index + count:
                refresh()

    def write(self, address: int, registers: Sequence[int], now_ms: float) -> None:
        """Takes a write at the plant's instant `now_ms` [UTC ms]. Raises IllegalAddress, IllegalValue."""
        index = address - BASE_ADDRESS
        values: list[tuple[Point, int]] = []
        done = 0
        while done < len(registers):
            point = self.map.starting_at(index + done)
            words = registers[done : done + point.size] if point else ()
            if point is None or not self.writable(point) or len(words) < point.size:
                raise IllegalAddress
            values.append((point, self.map.get(point, words)))
            done += point.size
        self.take(values, now_ms)

    def writable(self, point: Point) -> bool:
        """Whether a point takes writes."""
        raise NotImplementedError

    def take(self, values: Sequence[tuple[Point, int]], now_ms: float) -> None:
        """Takes raw values of writable points, all or none. Raises IllegalValue."""
        raise NotImplementedError

    def put(self, model: int, **values: int) -> None:
        """Raw values by name."""
        for name, value in values.items():
            self.map.put(self.map.point(model, name), value)

    def put_numbers(self, model: int, **numbers: float) -> None:
        """Numbers in their points' units, by name."""
        for name, number in numbers.items():
            self.map.put_number(self.map.point(model, name), number)

    def put_text(self, model: int, **texts: str) -> None:
        for name, text in texts.items():
            self.map.put_text(self.map.point(model, name), text)

    def put_nameplate(self, nameplate: Nameplate) -> None:
        """Model 1."""
        self.put_text(
            1, Mn=nameplate.manufacturer, Md=nameplate.model, Vr=nameplate.version, SN=nameplate.serial
        )  # fmt: skip
        self.put(1, DA=nameplate.unit_id)

    def put_scales(self, scales: Mapping[int, Mapping[str, int]]) -> None:
        """Scale factors by model and name, without their suffix."""
        for model, powers in scales.items():
            self.put(model, **{f"{name}_SF": exponent for name, exponent in powers.items()})

    def _span(self, model: int) -> tuple[int, int]:
        indices = [p.index + p.size for (m, _), p in self.map.points.items() if m == model]
        return self.map.point(model, "ID").index, max(indices)


class MeterRegisters:
    """A meter model (201 to 204, 211 to 214): positive power exports, `TotWhExp` counts export, `TotWhImp` import."""

    _SCALES: ClassVar = {"A": -2, "V": -1, "Hz": -2, "W": 0, "VA": 0, "TotWh": 0}
    _DELTA: ClassVar = (204, 214)  # which knows no neutral

    def __init__(self, device: DeviceRegisters, model: int = 203) -> None:
        self._device = device
        self._model = model
        self._points = device.dynamic[model]
        # A single-phase home on a meter of more phases: the mandatory points of the absent ones read 0.
        absent = ("AphB", "AphC", "PhVphB", "PhVphC", "PPV", "PhVphAB", "PhVphBC", "PhVphCA", "Evt")
        if "V_SF" in self._points:
            device.put_scales({model: self._SCALES})
        device.put(model, **{name: 0 for name in absent if name in self._points})
        device.follow(model, self._refresh)

    def _refresh(self) -> None:
        plant = self._device.plant
        line_v = {"PPV": plant.voltage_v * math.sqrt(3.0)} if self._model in self._DELTA else {}
        phase_v = dict.fromkeys(("PhV", "PhVphA"), plant.voltage_v) if not line_v else {}
        shown = {
            **dict.fromkeys(("W", "WphA"), plant.grid_w),
            **dict.fromkeys(("VA", "VAphA"), abs(plant.grid_w)),
            **dict.fromkeys(("A", "AphA"), plant.grid_w / plant.voltage_v),
            **phase_v,
            **line_v,
            "Hz": plant.frequency_hz,
            **dict.fromkeys(("TotWhExp", "TotWhExpPhA"), int(plant.energy.export_wh)),
            **dict.fromkeys(("TotWhImp", "TotWhImpPhA"), int(plant.energy.import_wh)),
        }
        for name, number in shown.items():
            self._device.map.put_number(self._points[name], number)


def flag(name: str, value: int) -> bool:
    """0 or 1. Raises IllegalValue."""
    if value not in (0, 1):
        raise IllegalValue(f"{name}: {value}")
    return value == 1


def within(name: str, value: float, lowest: float, highest: float) -> float:
    """A value in its range. Raises IllegalValue."""
    if not lowest <= value <= highest:
        raise IllegalValue(f"{name}: {value} lies outside {lowest}..{highest}")
    return float(value)
