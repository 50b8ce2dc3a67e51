"""Reads one device for the loop, and keeps a silent device from stopping it.

While a device answers it is read inside the cycle. After a failed reading the next attempts run beside the loop, so
that the other devices and the clock go on; the first answer brings it back into the cycle.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from edge_agent.model.clock import Clock
from edge_agent.model.devices import DeviceRejected, DeviceTimeout
from edge_agent.model.values import Quality, Sample

LOST_AFTER_S = 1.0  # of failed readings; shorter gaps are not worth telling
STALE_AFTER_S = 0.5  # a value older than this is not acted upon
GUARD_S = 5.0  # beyond any time-out a driver keeps by itself
_RETRY_S = 0.1
_RETRY_LOST_S = 1.0

T = TypeVar("T")


class Watcher(Protocol):
    """Is told when a device goes and when it comes back."""

    def lost(self, device: str, what: str, reason: str) -> None: ...

    def found(self, device: str, what: str) -> None: ...


class Source(Generic[T]):
    """The readings of one half of a device."""

    def __init__(
        self, device: str, what: str, read: Callable[[], Awaitable[T]], clock: Clock, watcher: Watcher
    ) -> None:
        """device: its name. what: which half of it, "inverter" or "meter"."""
        self.device = device
        self._what = what
        self._read = read
        self._clock = clock
        self._watcher = watcher
        self._attempt: asyncio.Task[None] | None = None
        self._failing_since_s: float | None = None
        self._next_attempt_s = 0.0
        self._reason = ""
        self._lost = False
        self.reading: T | None = None  # the last that came

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to read succeeded."""
        return self._failing_since_s is None

    async def refresh(self) -> None:
        """A fresh reading, or the certainty that there is none now. Waits for the device only while it is healthy."""
        if self._attempt is not None and self._attempt.done():
            attempt, self._attempt = self._attempt, None
            attempt.result()
        if self.healthy:
            await self._try()
        elif self._attempt is None and self._clock.monotonic_s() >= self._next_attempt_s:
            self._attempt = asyncio.create_task(self._try(), name=f"read {self.device}")
        if not self.healthy and not self._lost:
            self._note_lost()

    async def close(self) -> None:
        """Ends an attempt under way."""
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.gather(self._attempt, return_exceptions=True)
            self._attempt = None

    async def _try(self) -> None:
        try:
            async with asyncio.timeout(GUARD_S):
                self.reading = await self._read()
        except (DeviceTimeout, DeviceRejected, TimeoutError) as error:
            now_s = self._clock.monotonic_s()
            if self._failing_since_s is None:
                self._failing_since_s = now_s
            self._reason = str(error) or f"no answer within {GUARD_S:.0f} s"
            self._next_attempt_s = now_s + (_RETRY_LOST_S if self._lost else _RETRY_S)
            return
        self._failing_since_s = None
        if self._lost:
            self._lost = False
            self._watcher.found(self.device, self._what)

    def _note_lost(self) -> None:
        if self._failing_since_s is not None and self._clock.monotonic_s() - self._failing_since_s >= LOST_AFTER_S:
            self._lost = True
            self._watcher.lost(self.device, self._what, self._reason)


def aged(sample: Sample, *, healthy: bool, now_s: float) -> Sample:
    """The sample as it may be used now: good only while its device answers and it is young."""
    if sample.quality is Quality.GOOD and (not healthy or now_s - sample.at_s > STALE_AFTER_S):
        return replace(sample, quality=Quality.STALE)
    return sample
