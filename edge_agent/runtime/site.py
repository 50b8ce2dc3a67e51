"""The devices of the site: opened at the start, looked for again while they cannot be reached."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from edge_agent.control.bounds import Storage
from edge_agent.model.clock import Clock
from edge_agent.model.config import AgentConfig, DeviceConfig
from edge_agent.model.devices import (
    Device,
    DeviceFault,
    DeviceRejected,
    DeviceTimeout,
    InverterReading,
    MeterReading,
)
from edge_agent.model.values import Nameplate
from edge_agent.runtime.firmware_update import UpdateFailed, update_firmware
from edge_agent.runtime.flexible import FlexibleUnits
from edge_agent.runtime.frequency import FrequencySource
from edge_agent.runtime.loop import Plant
from edge_agent.runtime.messages import Reporter, Severity
from edge_agent.runtime.sources import GUARD_S, Source

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 10.0  # discovery reads many blocks, each with its own time-out
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 30.0
_DISCOVERY = "discovery"
_FINDINGS_PERIOD_S = 10.0
_CLOCK_PERIOD_S = 60.0


OpenDevice = Callable[[DeviceConfig], Awaitable[Device]]


class Site:
    """Fills the Plant as devices are found, and tells when one goes or comes back."""

    def __init__(
        self,
        config: AgentConfig,
        open_device: OpenDevice,
        flexible: FlexibleUnits,
        *,
        clock: Clock,
        reporter: Reporter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._open_device = open_device
        self._flexible = flexible
        self._clock = clock
        self._reporter = reporter
        self._sleep = sleep
        self._devices: dict[str, Device] = {}
        self._silent: dict[str, set[str]] = {}  # device -> halves that do not answer
        self.plant = Plant()

    @property
    def nameplates(self) -> list[tuple[str, Nameplate | None]]:
        """Every configured device, with what it says it is once it has been found."""
        found = self._devices
        return [(d.name, found[d.name].nameplate if d.name in found else None) for d in self._config.devices]

    @property
    def silent(self) -> list[str]:
        """Devices that do not answer now."""
        return sorted(device for device, halves in self._silent.items() if halves)

    async def use(self, config: AgentConfig) -> None:
        """Puts a configuration of the same devices in force; one whose address or time-out differs is opened anew.

        Raises DeviceTimeout or DeviceFault for one that cannot be opened: the site is without it then.
        """
        before, self._config = self._config, config
        plant, limits = self.plant, config.control
        if plant.storage is not None:
            plant.storage = replace(plant.storage, soc_min=limits.soc_floor, soc_max=limits.soc_max)
        for old, new in zip(before.devices, config.devices, strict=True):
            if old != new:
                await self._forget(new.name)
                try:
                    await self._open(new)
                except (DeviceTimeout, DeviceFault) as error:
                    self.lost(new.name, _DISCOVERY, str(error))
                    raise
                self.found(new.name, _DISCOVERY)

    async def _forget(self, name: str) -> None:
        """Takes a device out of the plant, and ends its connection."""
        plant = self.plant
        gone: list[Source[InverterReading] | Source[MeterReading]] = []
        if plant.inverter is not None and plant.inverter.device == name:
            gone.append(plant.inverter)
            plant.inverter = plant.control = plant.storage = None
        if plant.meter is not None and plant.meter.device == name:
            gone.append(plant.meter)
            plant.meter = None
        gone += [each.source for each in plant.frequency if each.source.device == name and each.source not in gone]
        plant.frequency = [each for each in plant.frequency if each.source.device != name]
        for source in gone:
            await source.close()
        await self._flexible.forget(name)
        self._silent.pop(name, None)
        if (device := self._devices.pop(name, None)) is not None:
            await device.close()

    async def open_all(self) -> None:
        """One attempt at every device. Raises DeviceFault; a device that cannot be reached is only noted."""
        results = await asyncio.gather(*(self._open(d) for d in self._config.devices), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, DeviceTimeout):
                raise result
        for device, result in zip(self._config.devices, results, strict=True):
            if isinstance(result, DeviceTimeout):
                self.lost(device.name, _DISCOVERY, str(result))

    async def find_missing(self, tell: Callable[[], None]) -> None:
        """Looks for the devices that were not reached, until all are found; calls `tell` after each."""
        wait_s, complained = _FIRST_RETRY_S, set[str]()
        while missing := [d for d in self._config.devices if d.name not in self._devices]:
            await self._sleep(wait_s)
            wait_s = min(2 * wait_s, _LAST_RETRY_S)
            for device in missing:
                try:
                    await self._open(device)
                except DeviceTimeout:
                    continue
                except DeviceFault as error:
                    if device.name not in complained:
                        complained.add(device.name)
                        log.error("device cannot be used: %s", error)
                        self._reporter.event("device.fault", Severity.ALARM, str(error))
                    continue
                self.found(device.name, _DISCOVERY)
                tell()

    async def watch_findings(self) -> None:
        """Tells what is wrong with the devices, for ever: at their opening a warning, and an alarm once they drift."""
        told: dict[str, set[str]] = {}
        while True:
            for name, device in self._devices.items():
                now, before = set(device.findings), told.get(name)
                severity = Severity.WARNING if before is None else Severity.ALARM
                for finding in sorted(now - (before or set())):
                    self._reporter.event("device.finding", severity, f"{name}: {finding}")
                for finding in sorted((before or set()) - now):
                    self._reporter.event("device.settled", Severity.INFO, f"{name}: no longer: {finding}")
                told[name] = now
            await self._sleep(_FINDINGS_PERIOD_S)

    async def keep_clocks(self) -> None:
        """Tells microcontrollers the time now and then, for ever: their crystals are calibrated by it."""
        while True:
            for device in list(self._devices.values()):
                if device.microcontroller is None:
                    continue
                # One that does not answer is told of by whoever reads it; the next time comes.
                with contextlib.suppress(DeviceTimeout, DeviceRejected, TimeoutError):
                    async with asyncio.timeout(GUARD_S):
                        await device.microcontroller.write_clock(round(self._clock.monotonic_s() * 1e3))
            await self._sleep(_CLOCK_PERIOD_S)

    def microcontrollers(self, program: str) -> list[str]:
        """Names of the devices that run this program of our firmware, and may be written to."""
        return [
            name
            for name, device in self._devices.items()
            if device.microcontroller is not None and device.nameplate.model == program
        ]

    async def firmware_version(self, name: str) -> tuple[int, int, int] | None:
        """What a microcontroller runs; None where the device is none. Raises DeviceTimeout, DeviceRejected."""
        device = self._devices.get(name)
        if device is None or device.microcontroller is None:
            return None
        return (await device.microcontroller.read_update()).version

    async def update_firmware(self, name: str, image: bytes) -> tuple[int, int, int]:
        """Installs a firmware in a microcontroller of the site beside the loop; the version that runs then.

        Raises UpdateFailed, ImageError.
        """
        device = self._devices.get(name)
        if device is None:
            raise UpdateFailed(f"device {name} has not been found")
        if device.microcontroller is None:
            raise UpdateFailed(f"device {name} does not run our firmware, or is read_only")
        return await update_firmware(device.microcontroller, image, clock=self._clock, sleep=self._sleep)

    async def close(self) -> None:
        """Closes every connection."""
        for source in (self.plant.inverter, self.plant.meter, *(each.source for each in self.plant.frequency)):
            if source is not None:
                await source.close()
        await self._flexible.close()
        for device in self._devices.values():
            await device.close()

    def lost(self, device: str, what: str, reason: str) -> None:
        """A half of a device has stopped answering. Told once, however many halves go; its driver logs the rest."""
        silent = self._silent.setdefault(device, set())
        if not silent:
            log.warning("site runs without device: device=%s reason=%s", device, reason)
            self._reporter.event("device.lost", Severity.WARNING, f"{device}: {reason}")
        silent.add(what)

    def found(self, device: str, what: str) -> None:
        """A half of a device answers again. Told once all do."""
        silent = self._silent.setdefault(device, set())
        silent.discard(what)
        if not silent:
            log.info("site has device again: device=%s", device)
            self._reporter.event("device.found", Severity.INFO, f"{device} answers")

    async def _open(self, config: DeviceConfig) -> None:
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                device = await self._open_device(config)
        except TimeoutError as error:
            raise DeviceTimeout(
                f"{config.name} at {config.where}: discovery did not end within {OPEN_TIMEOUT_S:.0f} s"
            ) from error
        try:
            self._install(device)
        except DeviceFault:
            await device.close()
            raise

    def _install(self, device: Device) -> None:
        plant, limits = self.plant, self._config.control
        config = next(d for d in self._config.devices if d.name == device.name)
        if not config.frequency_only:
            if device.inverter is not None:
                self._alone(device.name, "an inverter", plant.inverter is not None)
            if device.meter is not None:
                self._alone(device.name, "a grid meter", plant.meter is not None)
        self._devices[device.name] = device
        if not config.frequency_only:
            self._flexible.add(device, config, self)
        inverter = meter = None
        if device.inverter is not None:
            inverter = Source(device.name, "inverter", device.inverter.read_inverter, self._clock, self)
        if device.meter is not None:
            meter = Source(device.name, "meter", device.meter.read_meter, self._clock, self)
        if config.frequency_only:
            # One half is enough; SunSpec's inverters tell it in finer steps than its meters, which have 16 bits for it.
            meter = None if inverter is not None else meter
        else:
            plant.meter = meter or plant.meter
            if device.inverter is not None:
                plant.storage = Storage(nameplate=device.nameplate, soc_min=limits.soc_floor, soc_max=limits.soc_max)
                plant.inverter = inverter
                plant.control = device.control
        if config.frequency_priority:
            self._add_frequency(device.name, config.frequency_priority, inverter, meter)

    def _add_frequency(
        self,
        name: str,
        priority: int,
        inverter: Source[InverterReading] | None,
        meter: Source[MeterReading] | None,
    ) -> None:
        both = inverter is not None and meter is not None
        found = [(name, inverter), (f"{name} (meter)" if both else name, meter)]
        added = [FrequencySource(name=n, priority=priority, source=s) for n, s in found if s is not None]
        order = [d.name for d in self._config.devices]
        # A grid meter last: it is read after the decision, unless it is given a better priority.
        self.plant.frequency = sorted(
            [*self.plant.frequency, *added],
            key=lambda each: (each.priority, each.source is self.plant.meter, order.index(each.source.device)),
        )

    @staticmethod
    def _alone(name: str, what: str, taken: bool) -> None:
        if taken:
            raise DeviceFault(
                f"device {name}: is {what}, and the site has one already; an agent drives one inverter behind one grid "
                "meter: give the other device an agent of its own, or remove it from [[devices]]"
            )
