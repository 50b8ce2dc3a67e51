"""Time as the agent uses it: monotonic for control, UTC milliseconds only for what leaves the site."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Where control gets its time; injected, so that tests own it."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never steps."""
        ...

    def utc_ms(self) -> int:
        """Milliseconds since 1970, UTC. For samples sent and expiries received, never for intervals."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def utc_ms(self) -> int:
        return time.time_ns() // 1_000_000


class VirtualClock:
    """Time that passes only when somebody sleeps, or moves it: for a day in a minute, and for tests."""

    def __init__(self, utc_ms: int = 1_790_000_000_000) -> None:
        """utc_ms: what time it is at first."""
        self.now_s = 1_000.0
        self._utc_0_ms = utc_ms - 1_000_000

    def monotonic_s(self) -> float:
        return self.now_s

    def utc_ms(self) -> int:
        return self._utc_0_ms + round(self.now_s * 1e3)

    def set_utc(self, utc_ms: int) -> None:
        """Somebody sets the system clock; what is monotonic does not notice."""
        self._utc_0_ms += utc_ms - self.utc_ms()

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)
