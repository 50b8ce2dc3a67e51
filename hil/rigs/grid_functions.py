"""Functions of an inverter's own: curves (705 volt-var, 706 volt-watt, 712 watt-var) and droop (711).

Each model holds two sets: the first is in force and read-only, the second can be written. Writing a set's number to the
request point asks for it: the result reads IN_PROGRESS for a moment, then COMPLETED with the set copied into the first,
or FAILED where it makes no sense. The plant answers by its droop; it has no reactive power and one voltage, so that the
curves are kept and told, and do nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hil.plant.droop import Droop
from hil.rigs.device_registers import DeviceRegisters, IllegalValue, flag
from hil.rigs.sunspec_map import Point

MODELS: Final = (705, 706, 711, 712)
COUNTS: Final = {"NCrv": 2, "NPt": 4, "NCtl": 2}
IN_PROGRESS, COMPLETED, FAILED = 0, 1, 2
TAKES_MS: Final = 300.0
NOMINAL_HZ: Final = 60.0
_DROOP = 711
_REQUEST: Final = {705: "AdptCrvReq", 706: "AdptCrvReq", 711: "AdptCtlReq", 712: "AdptCrvReq"}
_RESULT: Final = {705: "AdptCrvRslt", 706: "AdptCrvRslt", 711: "AdptCtlRslt", 712: "AdptCrvRslt"}
_SET: Final = {705: "Crv", 706: "Crv", 711: "Ctl", 712: "Crv"}
_ARGUMENT: Final = {705: "V", 706: "V", 712: "W"}
_SCALES: Final = {
    705: {"V": -1, "DeptRef": -1, "RspTms": -1},
    706: {"V": -1, "DeptRef": -1, "RspTms": -1},
    711: {"Db": -3, "K": -3, "RspTms": -1},
    712: {"W": -1, "DeptRef": -1},
}
# In force when the device leaves the factory: category B of IEEE 1547-2018, tables 8 and 24; all disabled.
_FACTORY: Final[Mapping[int, Mapping[str, Any]]] = {
    705: {"DeptRef": 1, "RspTms": 50, "Pt": ((920, 440), (980, 0), (1020, 0), (1080, -440))},
    706: {"DeptRef": 0, "RspTms": 100, "Pt": ((1060, 1000), (1100, 0))},
    711: {"DbOf": 36, "DbUf": 36, "KOf": 50, "KUf": 50, "RspTms": 50},
    712: {"DeptRef": 1, "Pt": ((200, 0), (500, 0), (1000, -440))},
}


@dataclass(frozen=True, slots=True)
class _Pending:
    number: int  # of the set asked for, from 1
    done_ms: float


class GridFunctions:
    """The four models of one device."""

    def __init__(self, device: DeviceRegisters) -> None:
        self._device = device
        self._pending: dict[int, _Pending] = {}
        device.put_scales(_SCALES)
        for model in MODELS:
            self._make(model)
            device.follow(model, lambda model=model: self._settle(model))  # type: ignore[misc]

    def writable(self, point: Point) -> bool:
        """The switch, the request, and every value of the second set."""
        if point.model not in MODELS:
            return False
        inside = point.name.startswith(f"{_SET[point.model]}[1].") and not point.name.endswith("ReadOnly")
        return point.name in ("Ena", _REQUEST[point.model]) or (inside and point.writable)

    def check(self, values: Sequence[tuple[Point, int]]) -> None:
        """Raises IllegalValue."""
        for point, value in values:
            if point.name == "Ena":
                flag(point.name, value)
            elif point.name == _REQUEST[point.model] and value not in (1, 2):
                raise IllegalValue(f"{point.name}: there is no set {value}")

    def take(self, values: Sequence[tuple[Point, int]], now_ms: float) -> None:
        """Takes values that were checked."""
        for point, value in values:
            self._device.map.put(point, value)
            if point.name == _REQUEST[point.model]:
                self._pending[point.model] = _Pending(value, now_ms + TAKES_MS)
                self._device.put(point.model, **{_RESULT[point.model]: IN_PROGRESS})
        for model in {point.model for point, _ in values}:
            self._apply(model)

    def _make(self, model: int) -> None:
        device, name = self._device, _SET[model]
        device.put(model, Ena=0, **{_REQUEST[model]: 1, _RESULT[model]: COMPLETED})
        for index in (0, 1):
            prefix = f"{name}[{index}]."
            device.put(model, **{f"{prefix}ReadOnly": int(index == 0)})
            for key, value in _FACTORY[model].items():
                if isinstance(value, int):
                    device.put(model, **{f"{prefix}{key}": value})
            self._put_points(model, prefix, _FACTORY[model].get("Pt", ()))

    def _put_points(self, model: int, prefix: str, points: Sequence[tuple[int, int]]) -> None:
        if points:
            self._device.put(model, **{f"{prefix}ActPt": len(points)})
        value_name = "W" if model == 706 else "Var"
        for index, (argument, value) in enumerate(points):
            at = f"{prefix}Pt[{index}]."
            self._device.put(model, **{f"{at}{_ARGUMENT[model]}": argument, f"{at}{value_name}": value})

    def _settle(self, model: int) -> None:
        """Ends an adoption whose time has come."""
        pending = self._pending.get(model)
        if pending is None or self._device.plant.utc_ms < pending.done_ms:
            return
        del self._pending[model]
        sound = self._sound(model, pending.number - 1)
        if sound:
            self._copy(model, pending.number - 1)
            self._apply(model)
        self._device.put(model, **{_RESULT[model]: COMPLETED if sound else FAILED})

    def _sound(self, model: int, index: int) -> bool:
        prefix = f"{_SET[model]}[{index}]."
        if model == _DROOP:
            return self._get(model, prefix + "KOf") > 0 and self._get(model, prefix + "KUf") > 0
        count = self._get(model, prefix + "ActPt")
        if not 2 <= count <= COUNTS["NPt"]:
            return False
        arguments = [self._get(model, f"{prefix}Pt[{i}].{_ARGUMENT[model]}") for i in range(count)]
        return arguments == sorted(set(arguments))

    def _copy(self, model: int, index: int) -> None:
        """A set into the one in force."""
        points = self._device.dynamic[model]
        first, other = f"{_SET[model]}[0].", f"{_SET[model]}[{index}]."
        for name, point in points.items():
            if name.startswith(first) and not name.endswith("ReadOnly"):
                source = points[other + name[len(first) :]]
                self._device.map.put(point, self._device.map.get(source))

    def _apply(self, model: int) -> None:
        """Has the plant do what the droop in force says."""
        if model != _DROOP:
            return
        names = ("DbOf", "DbUf", "KOf", "KUf")
        over_mhz, under_mhz, over, under = (self._get(_DROOP, f"Ctl[0].{name}") for name in names)
        enabled = self._get(_DROOP, "Ena") == 1
        self._device.plant.droop = (
            Droop(
                nominal_hz=NOMINAL_HZ,
                deadband_over_hz=over_mhz / 1000,
                deadband_under_hz=under_mhz / 1000,
                droop_over=over / 1000,
                droop_under=under / 1000,
            )
            if enabled
            else None
        )

    def _get(self, model: int, name: str) -> int:
        return self._device.map.get(self._device.map.point(model, name))
