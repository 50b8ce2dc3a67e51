"""The rig's time: UTC as every recording of it is stamped, but never stepped while the rig runs."""

import time
from typing import Protocol


class RigClock(Protocol):
    """Where plant and recording get their time."""

    def utc_ms(self) -> float:
        """Milliseconds since 1970, UTC; never goes back."""
        ...


class SteadyClock:
    """The machine's UTC at the moment of making, carried on by the monotonic clock."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def utc_ms(self) -> float:
        return (time.monotonic_ns() + self._offset_ns) / 1e6


class ManualClock:
    """A clock that a test owns."""

    def __init__(self, utc_ms: float = 1_800_000_000_000.0) -> None:
        self.now_ms = utc_ms

    def utc_ms(self) -> float:
        return self.now_ms

    def leap(self, seconds: float) -> None:
        """Goes forward."""
        self.now_ms += 1000.0 * seconds
