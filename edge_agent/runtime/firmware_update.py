"""A new firmware for a microcontroller behind the agent: sent in chunks, tried, and kept only if it does well.

The microcontroller verifies the signature, refuses what is not for it, goes on with its work meanwhile, and rolls a
firmware back by itself that does not do well or that nobody confirms. What is done here is to carry it there, to see
whether the node comes back as what it was sent, and to confirm.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from edge_agent.model.clock import Clock
from edge_agent.model.devices import DeviceRejected, DeviceTimeout, Microcontroller, UpdateState, UpdateStatus
from protos import firmware_image

log = logging.getLogger(__name__)

CHUNK_PAUSE_S: Final = 0.02  # between chunks the line belongs to the control loop
POLL_S: Final = 0.5
ATTEMPTS: Final = 20  # for one transaction, over a line that loses some
VERIFY_TIMEOUT_S: Final = 600.0  # a small processor takes its time
RESTART_TIMEOUT_S: Final = 60.0
TRIAL_TIMEOUT_S: Final = 180.0


class UpdateFailed(Exception):
    """The firmware was not taken, or not kept; says why. What ran before runs."""


class UpdateInterrupted(UpdateFailed):
    """The device does not answer any more, or is busy; the next attempt goes on where this one ended."""


class FirmwareRefused(UpdateFailed):
    """The device does not take it, and never will."""


async def update_firmware(
    node: Microcontroller,
    image: bytes,
    *,
    clock: Clock,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> tuple[int, int, int]:
    """Installs a firmware image (`protos/firmware_image.py`); the version that runs then.

    A transfer that broke off goes on where it ended. Raises UpdateFailed, ImageError.
    """
    found = firmware_image.unpack(image)[0]
    major, minor, patch = found["version"]
    return await _Update(node, image, (major, minor, patch), clock, sleep).run()


class _Update:
    def __init__(
        self,
        node: Microcontroller,
        image: bytes,
        version: tuple[int, int, int],
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._node = node
        self._image = image
        self._version = version
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> tuple[int, int, int]:
        status = await self._status()
        if status.state in (UpdateState.TRIAL, UpdateState.HEALTHY):
            if status.version != self._version:
                raise UpdateInterrupted(
                    f"it tries firmware {_dotted(status.version)} just now: wait until that has ended"
                )
            return await self._confirm()  # the last attempt broke off after the switch
        await self._transfer()
        await self._insist(self._node.verify_update)
        await self._reach(UpdateState.VERIFIED, VERIFY_TIMEOUT_S)
        log.info("firmware verified by the device: version=%s", _dotted(self._version))
        await self._insist(self._node.switch_update)
        return await self._confirm()

    async def _transfer(self) -> None:
        await self._insist(lambda: self._node.begin_update(self._image))
        status = await self._status()
        while status.state is UpdateState.RECEIVING:
            have = status.have
            for offset in range(have, len(self._image), self._node.update_chunk_bytes)[:16]:
                try:
                    await self._node.write_update(offset, self._image[offset : offset + self._node.update_chunk_bytes])
                except DeviceTimeout:
                    break  # it may have come or not: the device says how far it is
                await self._sleep(CHUNK_PAUSE_S)
            status = await self._status()
        self._check(status)

    async def _reach(self, state: UpdateState, timeout_s: float) -> UpdateStatus:
        until_s = self._clock.monotonic_s() + timeout_s
        while (status := await self._status()).state is not state:
            self._check(status)
            if self._clock.monotonic_s() >= until_s:
                raise UpdateFailed(f"it is {status.state.name} and not {state.name} after {timeout_s:.0f} s")
            await self._sleep(POLL_S)
        return status

    async def _confirm(self) -> tuple[int, int, int]:
        """Waits for the node to come back as what it was sent and to have done well for a while, then confirms."""
        until_s = self._clock.monotonic_s() + RESTART_TIMEOUT_S + TRIAL_TIMEOUT_S
        while True:
            try:
                status = await self._node.read_update()
                if status.rolled_back:
                    raise UpdateFailed(f"firmware {_dotted(self._version)} did not do well and was rolled back")
                if status.state is UpdateState.REFUSED:
                    self._check(status)
                if status.version == self._version and status.state is UpdateState.HEALTHY:
                    await self._node.confirm_update()
                elif status.version == self._version and status.state is UpdateState.IDLE:
                    log.info("firmware installed: version=%s", _dotted(status.version))
                    return status.version
            except (DeviceTimeout, DeviceRejected):
                pass  # it starts again
            if self._clock.monotonic_s() >= until_s:
                raise UpdateFailed("it did not come back with the new firmware; it rolls back by itself")
            await self._sleep(POLL_S)

    @staticmethod
    def _check(status: UpdateStatus) -> None:
        if status.state is UpdateState.REFUSED:
            raise FirmwareRefused(f"the device refused it: {status.why}")

    async def _status(self) -> UpdateStatus:
        found: list[UpdateStatus] = []

        async def read() -> None:
            found.append(await self._node.read_update())

        await self._insist(read)
        return found[-1]

    async def _insist(self, do: Callable[[], Awaitable[None]]) -> None:
        for attempt in range(ATTEMPTS):
            try:
                await do()
                return
            except DeviceTimeout as error:
                if attempt == ATTEMPTS - 1:
                    raise UpdateInterrupted(str(error)) from error
            except DeviceRejected as error:
                raise UpdateFailed(str(error)) from error
            await self._sleep(POLL_S)


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
