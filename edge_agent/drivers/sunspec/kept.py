"""The inverter's own functions that the configuration asks for: put in force at the opening, watched from then on."""

import logging
from collections.abc import Iterable

from edge_agent.drivers.sunspec.access import WritableRegisters
from edge_agent.drivers.sunspec.discovery import DeviceMap
from edge_agent.drivers.sunspec.droop import SunSpecLocalDroop, droop_model, required_fields
from edge_agent.drivers.sunspec.functions import GridFunction, curve
from edge_agent.drivers.sunspec.layout import Field
from edge_agent.drivers.sunspec.plan import Image
from edge_agent.model.config import DeviceConfig
from edge_agent.model.devices import DeviceRejected, Droop

_log = logging.getLogger(__name__)

_CURVES = {705: "volt_var", 706: "volt_watt", 712: "watt_var"}


class KeptFunctions:
    """What is configured for one device, and what is wrong with it."""

    def __init__(self, config: DeviceConfig, found: DeviceMap) -> None:
        self._name = config.name
        self._droop = (
            Droop(
                deadband_over_hz=config.local_droop.deadband_over_hz,
                deadband_under_hz=config.local_droop.deadband_under_hz,
                droop_over=config.local_droop.droop_over,
                droop_under=config.local_droop.droop_under,
                response_s=config.local_droop.response_s,
            )
            if config.local_droop is not None
            else None
        )
        self._droop_model = droop_model(found)
        settings = found.first(121)
        self._nominal = settings.fields.get("ECPNomHz") if settings is not None else None
        self._curves: list[GridFunction] = []
        self._lacking: list[str] = []
        for model_id, key in _CURVES.items():
            points = getattr(config, key)
            function = curve(found, model_id, points) if points is not None else None
            if function is not None:
                self._curves.append(function)
            elif points is not None:
                self._lacking.append(f"{key} is configured, and the device has no model {model_id}")
        if self._droop is not None and self._droop_model is None:
            self._lacking.append("local_droop is configured, and the device has none of the models 711, 127 and 134")
        elif self._droop is not None and self._droop_model is not None and self._droop_model.model_id != 711:
            model_id = self._droop_model.model_id
            self._lacking.append(f"local_droop: model {model_id} lowers power above nominal, and does nothing below it")
        self._refused: list[str] = []
        self._drifts: tuple[str, ...] = ()
        self._settable: SunSpecLocalDroop | None = None
        self._read_only = config.read_only

    @property
    def findings(self) -> tuple[str, ...]:
        return (*self._lacking, *self._refused, *self._drifts)

    @property
    def local_droop(self) -> SunSpecLocalDroop | None:
        """None where the device has none, or is read-only."""
        return None if self._read_only else self._settable

    @property
    def fields(self) -> Iterable[Field]:
        """What has to be read now and then."""
        watched = [field for function in self._curves for field in function.watched]
        nominal = (self._nominal,) if self._nominal is not None else ()
        return (*required_fields(self._droop_model), *watched, *nominal)

    async def put_in_force(self, registers: WritableRegisters, image: Image, frequency: Field | None) -> None:
        """Where that fails it is a finding: the device can do everything else. Raises DeviceTimeout.

        A read-only device is only watched.
        """
        nominal_hz = _nominal_hz(image.number(self._nominal), image.number(frequency))
        if self._droop_model is not None and nominal_hz is not None:
            self._settable = SunSpecLocalDroop(registers, self._droop_model, image, nominal_hz)
        if not self._read_only:
            for function in self._curves:
                try:
                    await function.put_in_force(registers, image)
                except DeviceRejected as error:
                    self._refused.append(str(error))
            if self._droop is not None and self._settable is not None:
                try:
                    await self._settable.set_droop(self._droop)
                except DeviceRejected as error:
                    self._refused.append(str(error))
        self.look(image)

    def look(self, image: Image) -> None:
        """Compares what the device says with what is configured; a change is logged once."""
        drifts = [text for function in self._curves if (text := function.drift(image)) is not None]
        if self._droop is not None and self._settable is not None:
            text = self._settable.drift(self._droop)
            drifts += [text] if text is not None else []
        for text in drifts:
            if text not in self._drifts:
                _log.warning("settings drift: device=%s %s", self._name, text)
        if self._drifts and not drifts:
            _log.info("settings are as configured again: device=%s", self._name)
        self._drifts = tuple(drifts)


def _nominal_hz(told_hz: float | None, measured_hz: float | None) -> float | None:
    if told_hz:
        return told_hz
    return None if not measured_hz else 60.0 if measured_hz > 55.0 else 50.0
