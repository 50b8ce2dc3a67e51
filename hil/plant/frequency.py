"""Grid frequency as a pure function of time.

The function is piecewise linear: breakpoints (instant, Hz), straight lines between them, constant before the first and
after the last, and a jump where two breakpoints share an instant (the later one holds from there on). A recording
played at 30 frames a second is exactly that, and so are a step programme and a return ramp; so the instant at which the
frequency at a device crossed a level can be computed afterwards to the microsecond.

A `Timeline` only ever grows into the future: what a device has been told cannot change.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hil.data.recordings import FrequencyRecording

Array = NDArray[np.float64]


class Frequency(Protocol):
    """Frequency at the device [Hz] at an instant [UTC ms]."""

    def __call__(self, utc_ms: float) -> float: ...


class FrequencyError(ValueError):
    """A frequency programme that cannot be; says why."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """An instant at which a curve passed a level."""

    utc_ms: float
    falling: bool


class Timeline:
    """A piecewise-linear frequency that can be continued, never rewritten."""

    def __init__(self, *, quiet_hz: float = 60.0) -> None:
        self.quiet_hz = quiet_hz
        self._utc_ms: list[float] = [0.0]
        self._hz: list[float] = [quiet_hz]

    def __call__(self, utc_ms: float) -> float:
        after = bisect_right(self._utc_ms, utc_ms)
        if after == len(self._utc_ms):
            return self._hz[-1]
        if after == 0:
            return self._hz[0]
        t0, t1 = self._utc_ms[after - 1], self._utc_ms[after]
        f0, f1 = self._hz[after - 1], self._hz[after]
        return f0 + (f1 - f0) * (utc_ms - t0) / (t1 - t0)

    @property
    def end_ms(self) -> float:
        """The last breakpoint: from there on the frequency is constant."""
        return self._utc_ms[-1]

    def breakpoints(self) -> tuple[Array, Array]:
        """(UTC ms, Hz) of every breakpoint so far."""
        return np.array(self._utc_ms), np.array(self._hz)

    def steps(self, steps: Sequence[tuple[float, float]], *, now_ms: float) -> None:
        """Jumps to each frequency at its instant: (UTC ms, Hz), in order. Raises FrequencyError."""
        times: list[float] = []
        levels: list[float] = []
        held = self._hz[-1]
        for at_ms, hz in steps:
            times += [at_ms, at_ms]
            levels += [held, hz]
            held = hz
        self._continue(times, levels, now_ms=now_ms)

    def play(self, recording: FrequencyRecording, *, at_ms: float, return_hz_per_s: float, now_ms: float) -> float:
        """Plays a recording from an instant, then ramps from its last frame back to the quiet frequency.

        Returns the instant at which the frequency is quiet again [UTC ms]. Raises FrequencyError.
        """
        times = [at_ms, *(at_ms + 1000.0 * recording.time_s)]
        levels = [self._hz[-1], *recording.frequency_hz]
        ramp_ms = 1000.0 * abs(levels[-1] - self.quiet_hz) / return_hz_per_s
        self._continue([*times, times[-1] + ramp_ms], [*levels, self.quiet_hz], now_ms=now_ms)
        return self.end_ms

    def _continue(self, times: Sequence[float], levels: Sequence[float], *, now_ms: float) -> None:
        """Appends breakpoints; the first one repeats the held frequency, so that nothing changes until it begins."""
        if not times:
            raise FrequencyError("the programme is empty")
        if times[0] < now_ms:
            raise FrequencyError(f"the programme begins {now_ms - times[0]:.0f} ms in the past")
        if times[0] < self.end_ms:
            raise FrequencyError(f"another programme still runs {self.end_ms - times[0]:.0f} ms into this one")
        if any(later < earlier for earlier, later in pairwise(times)):
            raise FrequencyError("the programme's instants do not increase")
        if not all(0.0 < hz < 100.0 for hz in levels):
            raise FrequencyError("the programme leaves 0..100 Hz")
        self._utc_ms += map(float, times)
        self._hz += map(float, levels)


def crossings(utc_ms: Array, values: Array, level: float) -> list[Crossing]:
    """Every instant at which a piecewise-linear curve passes a level, exact to the line between its breakpoints.

    A fall is the instant from which the curve lies at or below the level, a rise the one from which it lies above: an
    under-frequency trigger that acts "at or below" and a curve that only touches the level are thereby decided.
    """
    below = values <= level
    found = []
    for i in np.flatnonzero(below[1:] != below[:-1]):
        t0, t1, v0, v1 = utc_ms[i], utc_ms[i + 1], values[i], values[i + 1]
        found.append(Crossing(float(t0 + (t1 - t0) * (level - v0) / (v1 - v0)), bool(below[i + 1])))
    return found
