"""An inverter's own functions: frequency droop (711, 127, 134) and curves (705 volt-var, 706 volt-watt, 712 watt-var).

A model of the newer kind holds several sets of settings. The first is in force and can only be read; another is
written, its number is put into the request point, and the result point tells when the device has taken it over, or that
it will not. Models 127 and 134 are written in place.

Each function knows what it should say, compares that with what the device says, and writes only where they differ.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_agent.drivers.sunspec import codec
from edge_agent.drivers.sunspec.access import WritableRegisters, read_points, write_points
from edge_agent.drivers.sunspec.discovery import DeviceMap
from edge_agent.drivers.sunspec.layout import Field, ModelMap
from edge_agent.drivers.sunspec.plan import Image
from edge_agent.model.devices import DeviceRejected

ADOPTED_WITHIN_S = 3.0
_POLL_S = 0.1
_ENABLED = 1  # Ena; ModEna, bit 0
_WRITABLE = 0  # ReadOnly
_CHOICE = "ActCrv"  # which curve of model 134 counts
_IN_PROGRESS, _COMPLETED = 0, 1  # AdptCrvRslt, AdptCtlRslt; else it failed


@dataclass(frozen=True, slots=True)
class _Sets:
    """Where a model keeps its sets, and how one is asked for."""

    group: str
    request: str
    result: str


_CURVES = _Sets("Crv", "AdptCrvReq", "AdptCrvRslt")
_SETS = {705: _CURVES, 706: _CURVES, 711: _Sets("Ctl", "AdptCtlReq", "AdptCtlRslt"), 712: _CURVES}


@dataclass(frozen=True, slots=True)
class _Form:
    """What the points of a curve are called, and what its values are percent of."""

    title: str
    argument: str
    value: str
    dept_ref: int  # DeptRef


_FORMS = {
    705: _Form("volt-var curve", "V", "Var", dept_ref=1),  # VAR_MAX_PCT
    706: _Form("volt-watt curve", "V", "W", dept_ref=0),  # W_MAX_PCT
    712: _Form("watt-var curve", "W", "Var", dept_ref=1),
}


@dataclass(frozen=True, slots=True)
class GridFunction:
    """One function as it should be. `values` are scaled, by path inside a set; enums and counts are their numbers."""

    title: str  # for people: "volt-var curve"
    model: ModelMap
    values: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.title} (model {self.model.model_id})"

    @property
    def watched(self) -> tuple[Field, ...]:
        """What tells whether it is in force."""
        return tuple(field for path in self._in_force() if (field := self.model.fields.get(path)) is not None)

    def drift(self, image: Image) -> str | None:
        """How the device differs from what it should say, None where it does not. `image` holds `watched`."""
        try:
            wanted = self._raws(image, self._in_force())
        except DeviceRejected as error:
            return f"{self}: {error}"
        wrong = [
            f"{field.path} is {_shown(image, field, image.raw(field))}, {_shown(image, field, raw)} is configured"
            for field, raw in wanted.items()
            if image.raw(field) != raw
        ]
        return f"{self} is not as configured: {'; '.join(wrong)}" if wrong else None

    async def put_in_force(self, registers: WritableRegisters, image: Image) -> None:
        """Writes it, has the device adopt it, switches it on, and reads all of it back. Writes nothing that is so.

        Raises DeviceTimeout, DeviceRejected naming model, point and what the device said.
        """
        image.put(await read_points(registers, self.watched))
        if self.drift(image) is None:
            return
        in_force = self._raws(image, self._in_force())
        sets = _SETS.get(self.model.model_id)
        switch = self._switch()
        settings = {field: raw for field, raw in in_force.items() if field is not switch}
        if sets is None:
            # A curve is whole before it is chosen.
            for part in (False, True):
                step = {field: raw for field, raw in settings.items() if (field.path == _CHOICE) is part}
                await write_points(registers, step)
                await self._until(registers, step)
        elif await read_points(registers, settings) != settings:
            await self._adopt(registers, image, sets, settings)
        await write_points(registers, {switch: _ENABLED})
        await self._until(registers, {switch: _ENABLED})
        image.put(await read_points(registers, self.watched))

    async def _adopt(
        self, registers: WritableRegisters, image: Image, sets: _Sets, in_force: Mapping[Field, int]
    ) -> None:
        index = await self._writable_set(registers, sets)
        written = self._raws(image, {f"{sets.group}[{index}].{path}": value for path, value in self.values.items()})
        await write_points(registers, written)
        await self._until(registers, written)
        request, result = self._field(sets.request), self._field(sets.result)
        await write_points(registers, {request: index + 1})
        # The result of an earlier request may still stand there, so that the settings in force have the last word.
        said = None
        for _ in range(int(ADOPTED_WITHIN_S / _POLL_S)):
            said = (await read_points(registers, (result,)))[result]
            if said not in (_IN_PROGRESS, _COMPLETED):
                raise DeviceRejected(f"the device does not adopt set {index + 1} of {self}: {result.path} is {said}")
            if said == _COMPLETED and await read_points(registers, in_force) == in_force:
                return
            await asyncio.sleep(_POLL_S)
        state = "still in progress" if said == _IN_PROGRESS else "told as done, and other settings are in force"
        raise DeviceRejected(f"adopting set {index + 1} of {self} is {state} after {ADOPTED_WITHIN_S:.0f} s")

    async def _writable_set(self, registers: WritableRegisters, sets: _Sets) -> int:
        count = len(self.model.root.repeated.get(sets.group, ()))
        flags = [self.model.fields.get(f"{sets.group}[{i}].ReadOnly") for i in range(count)]
        found = await read_points(registers, [flag for flag in flags if flag is not None])
        for index, flag in enumerate(flags):
            if index and flag is not None and found[flag] == _WRITABLE:
                return index
        raise DeviceRejected(f"{self} has no set that can be written among its {len(flags)}")

    async def _until(self, registers: WritableRegisters, wanted: Mapping[Field, int]) -> None:
        """Reads back until the device shows what was written, for a second (SunSpec conformance test MOD-3)."""
        found: Mapping[Field, object] = {}
        for _ in range(int(1.0 / _POLL_S)):
            found = await read_points(registers, wanted)
            if found == wanted:
                return
            await asyncio.sleep(_POLL_S)
        wrong = "; ".join(f"{f.path} is {found[f]}, {raw} was written" for f, raw in wanted.items() if found[f] != raw)
        raise DeviceRejected(f"{self} does not hold what it was told: {wrong}")

    def _switch(self) -> Field:
        return self._field("Ena" if self.model.model_id in _SETS else "ModEna")

    def _in_force(self) -> dict[str, float]:
        sets = _SETS.get(self.model.model_id)
        if sets is None:
            return {**self.values, "ModEna": _ENABLED}
        return {f"{sets.group}[0].{path}": value for path, value in self.values.items()} | {"Ena": _ENABLED}

    def _raws(self, image: Image, values: Mapping[str, float]) -> dict[Field, int]:
        """In register order, so that neighbours are written together. Raises DeviceRejected."""
        raws: dict[Field, int] = {}
        for path, value in values.items():
            field = self._field(path)
            power = 0 if field.scale is None else image.power(field)
            if power is None:
                raise DeviceRejected(f"{field} has no scale factor, so nothing can be written to it")
            raw = round(value / 10**power if power >= 0 else value * 10**-power)
            try:
                codec.encode(field.point.type, field.point.size, raw)
            except ValueError as error:
                raise DeviceRejected(f"{field}: {value:g} cannot be written: {error}") from error
            raws[field] = raw
        return dict(sorted(raws.items(), key=lambda item: item[0].address))

    def _field(self, path: str) -> Field:
        field = self.model.fields.get(path)
        if field is None:
            raise DeviceRejected(f"model {self.model.model_id} has no {path} on this device")
        return field


def curve(found: DeviceMap, model_id: int, points: Iterable[tuple[float, float]]) -> GridFunction | None:
    """A curve of models 705, 706 or 712 through points in percent; None where the device has no model for it.

    Voltages are % of nominal; active power % of WMax, reactive power % of VArMax, injected where positive.
    """
    model = found.first(model_id)
    if model is None:
        return None
    points = tuple(points)
    form = _FORMS[model_id]
    values: dict[str, float] = {"ActPt": len(points), "DeptRef": form.dept_ref}
    for index, (argument, value) in enumerate(points):
        values |= {f"Pt[{index}].{form.argument}": argument, f"Pt[{index}].{form.value}": value}
    return GridFunction(form.title, model, values)


def _shown(image: Image, field: Field, raw: object) -> str:
    power = 0 if field.scale is None else image.power(field)
    return f"{codec.scaled(raw, power):g}" if isinstance(raw, int) and power is not None else "not implemented"
