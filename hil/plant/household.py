"""What a home consumes and what its roof gives, from a recorded home.

Load inside an hour: the recording knows only the hour's energy, a meter sees appliances. Each hour is cut into 60
minutes of constant power whose shares follow a log-normal first-order autoregression (a stretch of a minute resembles
the last), drawn from a generator seeded by home and hour and divided by their mean: the hour's energy stays the
recorded one, and the same home always lives the same minutes.

PV: the recorded hourly mean power per kW stands at the middle of its hour, straight lines between, times the rating.

The recording covers whole days; before its first and after its last the days repeat.
"""

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final, Protocol

from hil.data.recordings import HomeRecording

HOUR_MS: Final = 3_600_000.0
MINUTE_MS: Final = 60_000.0
_SPREAD: Final = 0.35  # standard deviation of the logarithm of a minute's share
_MEMORY: Final = 0.9  # correlation of a minute with the one before


class Household(Protocol):
    """A home's own load and PV at an instant [UTC ms]."""

    def load_w(self, utc_ms: float) -> float:
        """Consumption [W], never negative."""
        ...

    def pv_w(self, utc_ms: float) -> float:
        """Power the PV could give [W], never negative."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyHousehold:
    """A home in which nothing changes, for tests."""

    load: float = 0.0  # [W]
    pv: float = 0.0  # [W]

    def load_w(self, utc_ms: float) -> float:
        return self.load

    def pv_w(self, utc_ms: float) -> float:
        return self.pv


def local_ms(recorded: datetime) -> float:
    """A recorded local time as milliseconds on the recording's own axis."""
    return recorded.replace(tzinfo=UTC).timestamp() * 1000.0


class RecordedHousehold:
    """A recorded home, living at the wall instant + `offset_ms` on the recording's axis."""

    def __init__(self, recording: HomeRecording, *, offset_ms: float, pv_rating_w: float, seed: str) -> None:
        hours = len(recording.load_wh)
        if hours % 24 or hours != len(recording.pv_w_per_kw):
            raise ValueError(f"a recording covers whole days in both columns, not {hours} hours")
        self._hours = hours
        self._load_wh = [float(wh) for wh in recording.load_wh]
        self._pv_w = [float(w) * pv_rating_w / 1000.0 for w in recording.pv_w_per_kw]
        self._shift_ms = offset_ms - local_ms(recording.first)  # wall -> since the recording's first hour
        self._seed = seed
        self._shaped: dict[int, tuple[float, ...]] = {}  # hour -> power of its minutes [W]

    def load_w(self, utc_ms: float) -> float:
        hour, within_ms = divmod(utc_ms + self._shift_ms, HOUR_MS)
        return self._minutes(int(hour))[int(within_ms // MINUTE_MS)]

    def pv_w(self, utc_ms: float) -> float:
        hour, share = divmod((utc_ms + self._shift_ms) / HOUR_MS - 0.5, 1.0)
        before = self._pv_w[int(hour) % self._hours]
        after = self._pv_w[(int(hour) + 1) % self._hours]
        return before + (after - before) * share

    def load_energy_wh(self, start_ms: float, end_ms: float) -> float:
        """Consumed between two instants [Wh], exactly."""
        edges = self._edges(start_ms, end_ms, MINUTE_MS)
        return math.fsum(self.load_w((a + b) / 2) * (b - a) for a, b in pairwise(edges)) / HOUR_MS

    def pv_energy_wh(self, start_ms: float, end_ms: float) -> float:
        """What the PV could give between two instants [Wh], exactly."""
        edges = self._edges(start_ms, end_ms, HOUR_MS / 2)
        return math.fsum((self.pv_w(a) + self.pv_w(b)) / 2 * (b - a) for a, b in pairwise(edges)) / HOUR_MS

    def _edges(self, start_ms: float, end_ms: float, grid_ms: float) -> list[float]:
        """Start, end, and every multiple of the grid (on the recording's axis) between them, as wall instants."""
        first = math.floor((start_ms + self._shift_ms) / grid_ms) + 1
        last = math.ceil((end_ms + self._shift_ms) / grid_ms) - 1
        return [start_ms, *(n * grid_ms - self._shift_ms for n in range(first, last + 1)), end_ms]

    def _minutes(self, hour: int) -> tuple[float, ...]:
        shaped = self._shaped.get(hour)
        if shaped is None:
            shaped = self._shaped[hour] = self._shape(hour)
        return shaped

    def _shape(self, hour: int) -> tuple[float, ...]:
        draw = random.Random(f"{self._seed}/{hour}")
        state = draw.gauss(0.0, 1.0)
        shares = []
        for _ in range(60):
            shares.append(math.exp(_SPREAD * state))
            state = _MEMORY * state + math.sqrt(1.0 - _MEMORY**2) * draw.gauss(0.0, 1.0)
        scale = self._load_wh[hour % self._hours] * 60.0 / math.fsum(shares)
        return tuple(share * scale for share in shares)
