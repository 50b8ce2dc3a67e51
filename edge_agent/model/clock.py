"""Time as the agent uses it: monotonic for control, UTC milliseconds only for what leaves the site."""

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
