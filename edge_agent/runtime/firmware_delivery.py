"""Firmware that the coordinator sent: what sync has staged is installed in the microcontrollers that it is for.

Sync leaves the newest image of a program, verified, in `updates/firmware/<program>/current/`; the microcontroller
verifies it once more by its own key, tries it, and rolls back by itself. What became of it is told. What a device did
not take is not tried again until the agent starts.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal

from edge_agent.model.devices import DeviceRejected, DeviceTimeout
from edge_agent.model.update import Delivered
from edge_agent.runtime.firmware_update import FirmwareRefused, UpdateFailed, UpdateInterrupted
from edge_agent.runtime.messages import Reporter, Severity
from edge_agent.runtime.site import Site
from protos import firmware_image
from protos.firmware_image import ImageError

FOLDER: Final = Path("updates", "firmware")
PERIOD_S: Final = 10.0


class FirmwareDelivery:
    """Installs what is staged, one device after the other."""

    def __init__(
        self,
        site: Site,
        data_dir: Path,
        *,
        reporter: Reporter,
        told: Callable[[tuple[Delivered, ...]], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """told: takes how far each program's newest version has come, again and again."""
        self._site = site
        self._folder = data_dir / FOLDER
        self._reporter = reporter
        self._told = told
        self._sleep = sleep
        self._settled: dict[tuple[str, str], Delivered] = {}  # by device and SHA-256 of the image
        self._now: dict[str, Delivered] = {}  # by program

    async def run(self) -> None:
        """Works for ever."""
        while True:
            for program, image in await asyncio.to_thread(_staged, self._folder):
                await self._deliver(program, image)
            await self._sleep(PERIOD_S)

    async def _deliver(self, program: str, image: bytes) -> None:
        try:
            version = ".".join(map(str, firmware_image.unpack(image)[0]["version"]))
        except ImageError as error:
            self._tell(Delivered(name=program, version="", state="refused", reason=str(error)))
            return
        digest = hashlib.sha256(image).hexdigest()
        devices = self._site.microcontrollers(program)
        if not devices:
            reason = f"no microcontroller that runs {program}, and may be written to, answers here"
            self._tell(Delivered(name=program, version=version, state="staged", reason=reason))
            return
        for device in devices:
            if (device, digest) not in self._settled:
                await self._install(device, Delivered(name=program, version=version, state="staged"), image, digest)
        outcomes = [self._settled.get((device, digest)) for device in devices]
        bad = [outcome for outcome in outcomes if outcome is not None and outcome.state != "healthy"]
        if bad:
            self._tell(bad[0])
        elif all(outcome is not None for outcome in outcomes):
            self._tell(Delivered(name=program, version=version, state="healthy"))

    async def _install(self, device: str, staged: Delivered, image: bytes, digest: str) -> None:
        def settle(state: Literal["healthy", "rolled-back", "refused"], reason: str = "") -> None:
            text = f"{device}: {reason}" if reason else ""
            self._settled[device, digest] = Delivered(
                name=staged.name, version=staged.version, state=state, reason=text
            )

        try:
            wanted = tuple(firmware_image.unpack(image)[0]["version"])
            if (await self._site.firmware_version(device)) == wanted:
                settle("healthy")
                return
            self._tell(Delivered(name=staged.name, version=staged.version, state="switched", reason=f"at {device}"))
            version = await self._site.update_firmware(device, image)
        except (DeviceTimeout, DeviceRejected, UpdateInterrupted):
            return  # it does not answer now
        except (UpdateFailed, ImageError) as error:
            settle("refused" if isinstance(error, FirmwareRefused | ImageError) else "rolled-back", str(error))
            self._reporter.event("firmware.failed", Severity.WARNING, f"{device}: {error}")
            return
        settle("healthy")
        installed = ".".join(map(str, version))
        self._reporter.event("firmware.installed", Severity.INFO, f"{device}: firmware {installed} runs")

    def _tell(self, delivered: Delivered) -> None:
        self._now[delivered.name] = delivered
        self._told(tuple(self._now.values()))


def _staged(folder: Path) -> list[tuple[str, bytes]]:
    """(program, image) of all that is there."""
    found = []
    with contextlib.suppress(OSError):  # nothing was ever staged, or sync is changing it just now
        for current in sorted(folder.glob("*/current")):
            found += [(current.parent.name, path.read_bytes()) for path in sorted(current.iterdir()) if path.is_file()]
    return found
