"""What a site expects of itself: its load and its sun, for a status page and for what is kept for outages."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """Mean power of consecutive stretches of time [W], magnitudes; empty where nothing is known of it."""

    start_ms: int  # UTC of the first stretch's beginning
    step_s: int
    load_w: tuple[float, ...]
    sun_w: tuple[float, ...]
    source: str  # what said so
    note: str = ""  # why it is not the model

    def energy_wh(self, powers_w: tuple[float, ...], from_ms: float, hours: float) -> float | None:
        """Of these powers over the next hours; None where they do not reach so far."""
        stretches = list(self.stretches(from_ms, hours))
        if not stretches or stretches[-1][0] >= len(powers_w):
            return None
        return sum(powers_w[index] * seconds for index, seconds in stretches) / 3600.0

    def stretches(self, from_ms: float, hours: float) -> Iterator[tuple[int, float]]:
        """(number, seconds of it) of the stretches that the next hours go through."""
        step_ms = 1e3 * self.step_s
        begin, end = from_ms - self.start_ms, from_ms - self.start_ms + 3.6e6 * hours
        if begin < 0:
            begin = 0.0
        index = int(begin // step_ms)
        while index * step_ms < end:
            yield index, (min(end, (index + 1) * step_ms) - max(begin, index * step_ms)) / 1e3
            index += 1
