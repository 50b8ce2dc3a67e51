"""Firmware that the coordinator sent: what sync has staged is installed in the microcontrollers that it is for.

Sync leaves the newest image of a program, verified, in `updates/firmware/<program>/current/`; the microcontroller
verifies it once more by its own key. What a device did not take is told, and not tried again until the agent starts.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from edge_agent.model.devices import DeviceRejected, DeviceTimeout
from edge_agent.runtime.firmware_update import UpdateFailed, UpdateInterrupted
from edge_agent.runtime.messages import Reporter, Severity
from edge_agent.runtime.site import Site
from protos import firmware_image
from protos.firmware_image import ImageError

FOLDER: Final = Path("updates", "firmware")
PERIOD_S: Final = 30.0


async def keep_firmware(
    site: Site,
    data_dir: Path,
    *,
    reporter: Reporter,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Installs what is staged, for ever, one device after the other."""
    tried: set[tuple[str, str]] = set()  # device, SHA-256 of the image
    while True:
        for program, image in await asyncio.to_thread(_staged, data_dir / FOLDER):
            digest = hashlib.sha256(image).hexdigest()
            for name in site.microcontrollers(program):
                if (name, digest) not in tried and await _install(site, name, image, reporter):
                    tried.add((name, digest))
        await sleep(PERIOD_S)


async def _install(site: Site, name: str, image: bytes, reporter: Reporter) -> bool:
    """True when that is settled, one way or the other."""
    try:
        wanted = tuple(firmware_image.unpack(image)[0]["version"])
        if (await site.firmware_version(name)) == wanted:
            return True
        version = await site.update_firmware(name, image)
    except (DeviceTimeout, DeviceRejected, UpdateInterrupted):
        return False  # it does not answer now
    except (UpdateFailed, ImageError) as error:
        reporter.event("firmware.failed", Severity.WARNING, f"{name}: {error}")
        return True
    reporter.event("firmware.installed", Severity.INFO, f"{name}: firmware {'.'.join(map(str, version))} runs")
    return True


def _staged(folder: Path) -> list[tuple[str, bytes]]:
    """(program, image) of all that is there."""
    found = []
    with contextlib.suppress(OSError):  # nothing was ever staged, or sync is changing it just now
        for current in sorted(folder.glob("*/current")):
            found += [(current.parent.name, path.read_bytes()) for path in sorted(current.iterdir()) if path.is_file()]
    return found
