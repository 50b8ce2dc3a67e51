"""A frequency droop in the inverter itself, settable: the answer to frequency for a link too slow to give one.

Model 711 (IEEE 1547-2018) answers in both directions; models 127 and 134 of the older kind only lower power above
nominal. The slope of 127 is in % of power a hertz: 100 / (droop x nominal frequency). 134 is a curve of power over
frequency: from 100 % at the end of the deadband to 0 % where the droop has used up all of it.
"""

from edge_agent.drivers.sunspec.access import WritableRegisters, read_points, write_points
from edge_agent.drivers.sunspec.discovery import DeviceMap
from edge_agent.drivers.sunspec.functions import GridFunction
from edge_agent.drivers.sunspec.layout import Field, ModelMap
from edge_agent.drivers.sunspec.plan import Image
from edge_agent.model.devices import Droop

_TITLE = "local droop"
_BOTH_WAYS = 711
_CURVE = 134
_IN_FORCE = "Ctl[0]."
_READ_ONLY = 1


class SunSpecLocalDroop:
    """See LocalDroop for what its methods promise."""

    def __init__(self, registers: WritableRegisters, model: ModelMap, image: Image, nominal_hz: float) -> None:
        """`image` holds a reading of `required_fields(model)`, kept fresh by the poller."""
        self._registers = registers
        self._model = model
        self._image = image
        self._nominal_hz = nominal_hz

    @property
    def droop(self) -> Droop | None:
        fields, number = self._model.fields, self._image.number
        if self._model.model_id == _BOTH_WAYS:
            if self._image.raw(fields.get("Ena")) != 1:
                return None
            return Droop(
                deadband_over_hz=number(fields.get(f"{_IN_FORCE}DbOf")),
                deadband_under_hz=number(fields.get(f"{_IN_FORCE}DbUf")),
                droop_over=number(fields.get(f"{_IN_FORCE}KOf")),
                droop_under=number(fields.get(f"{_IN_FORCE}KUf")),
                response_s=number(fields.get(f"{_IN_FORCE}RspTms")),
            )
        if self._image.raw(fields.get("ModEna")) != 1:
            return None
        if self._model.model_id == _CURVE:
            return self._of_curve()
        slope = number(fields.get("WGra"))
        return Droop(
            deadband_over_hz=number(fields.get("HzStr")),
            droop_over=100.0 / (slope * self._nominal_hz) if slope else None,
        )

    def _of_curve(self) -> Droop:
        """What the first two points of the curve in force come to; None in it where they are no droop."""
        index = self._image.raw(self._model.fields.get("ActCrv"))
        points = [
            self._image.number(self._model.fields.get(f"curve[{int(index or 1) - 1}].{name}"))
            for name in ("Hz1", "W1", "Hz2", "W2")
        ]
        hz_1, w_1, hz_2, w_2 = points
        if hz_1 is None or w_1 is None or hz_2 is None or w_2 is None or w_1 == w_2:
            return Droop()
        return Droop(
            deadband_over_hz=hz_1 - self._nominal_hz,
            droop_over=(hz_2 - hz_1) * 100.0 / (w_1 - w_2) / self._nominal_hz,
        )

    async def set_droop(self, droop: Droop | None) -> None:
        if droop is None:
            switch = self._model.fields["Ena" if self._model.model_id == _BOTH_WAYS else "ModEna"]
            await write_points(self._registers, {switch: 0})
            self._image.put(await read_points(self._registers, (switch,)))
        else:
            await self._wanted(droop).put_in_force(self._registers, self._image)

    def drift(self, droop: Droop) -> str | None:
        return self._wanted(droop).drift(self._image)

    def _wanted(self, droop: Droop) -> GridFunction:
        given: dict[str, float | None]
        if self._model.model_id == _BOTH_WAYS:
            given = {
                "DbOf": droop.deadband_over_hz,
                "DbUf": droop.deadband_under_hz,
                "KOf": droop.droop_over,
                "KUf": droop.droop_under,
                "RspTms": droop.response_s,
            }
        elif self._model.model_id == _CURVE:
            given = self._curve(droop)
        else:
            slope = 100.0 / (droop.droop_over * self._nominal_hz) if droop.droop_over else None
            given = {"WGra": slope, "HzStr": droop.deadband_over_hz, "HysEna": 0.0}
        return GridFunction(_TITLE, self._model, {path: value for path, value in given.items() if value is not None})

    def _curve(self, droop: Droop) -> dict[str, float | None]:
        """The first curve that can be written, as two points, and its choice."""
        count = len(self._model.root.repeated.get("curve", ()))
        flags = [self._image.raw(self._model.fields.get(f"curve[{i}].ReadOnly")) for i in range(count)]
        index = next((i for i, flag in enumerate(flags) if flag != _READ_ONLY), 0)
        start_hz = self._nominal_hz + (droop.deadband_over_hz or 0.0)
        at = f"curve[{index}]."
        return {
            "ActCrv": index + 1,
            f"{at}ActPt": 2,
            f"{at}Hz1": start_hz,
            f"{at}W1": 100.0,
            f"{at}Hz2": start_hz + (droop.droop_over or 0.0) * self._nominal_hz,
            f"{at}W2": 0.0,
        }


def droop_model(found: DeviceMap) -> ModelMap | None:
    """The model by which a droop can be set, the newer one first."""
    return found.first(_BOTH_WAYS) or found.first(127) or found.first(_CURVE)


def required_fields(model: ModelMap | None) -> tuple[Field, ...]:
    """What must have been read before a SunSpecLocalDroop can be made."""
    if model is None:
        return ()
    names: tuple[str, ...] = ("WGra", "HzStr", "HysEna", "ModEna")
    if model.model_id == _BOTH_WAYS:
        names = ("Ena", *(f"{_IN_FORCE}{name}" for name in ("DbOf", "DbUf", "KOf", "KUf", "RspTms")))
    if model.model_id == _CURVE:
        points = ("ActPt", "Hz1", "W1", "Hz2", "W2", "ReadOnly")
        curves = len(model.root.repeated.get("curve", ()))
        names = ("ActCrv", "ModEna", *(f"curve[{index}].{name}" for index in range(curves) for name in points))
    return tuple(model.fields[name] for name in names if name in model.fields)
