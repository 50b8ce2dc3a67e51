"""The judge's reserve mode: a storage nearly empty or full follows the deviation less its mean. numpy only.

blend   rises by dt/mean_s a sample while the mode is on, and falls likewise while it is off, within 0..1
mean    of the deviation over the last mean_s, or since the first sample
answered deviation = deviation - blend mean
"""

from collections import deque

import numpy as np
import numpy.typing as npt

from protos.services import ReserveMode

Array = npt.NDArray[np.float64]


def seconds_left(
    soc: Array,
    *,
    soc_min: Array | float,
    soc_max: Array | float,
    capacity_wh: Array | float,
    contracted_w: Array | float,
    directions: tuple[bool, bool],
) -> Array:
    """Seconds of the contracted power between the owner's limits, losses aside, in the direction that has less.

    Infinite where the state of charge is not known (NaN), or there is no storage.
    """
    up, down = directions
    none = np.full(soc.shape, np.inf)
    share = np.minimum(soc - soc_min if up else none, soc_max - soc if down else none)
    left = np.maximum(share, 0.0) * capacity_wh * 3600 / contracted_w
    return np.where(np.isfinite(soc) & (np.asarray(capacity_wh) > 0), left, np.inf)


def taken_off_hz(mode: ReserveMode, deviation_hz: Array, left_s: Array, dt_s: float) -> Array:
    """The part of each sample's deviation that is not answered [Hz]."""
    blend = _blend(mode, left_s, dt_s)
    if not blend.any():
        return np.zeros(deviation_hz.shape)
    count = max(1, round(mode.mean_s / dt_s))
    total = np.concatenate(((0.0,), np.cumsum(deviation_hz)))
    last = np.arange(1, deviation_hz.size + 1)
    first = np.maximum(last - count, 0)
    part_off: Array = blend * (total[last] - total[first]) / (last - first)
    return part_off


def _blend(mode: ReserveMode, left_s: Array, dt_s: float) -> Array:
    if not (left_s < mode.enter_s).any():
        return np.zeros(left_s.shape)
    on, level, levels = False, 0.0, []
    for left in left_s.tolist():
        on = left < mode.enter_s or (on and left <= mode.leave_s)
        level = min(1.0, level + dt_s / mode.mean_s) if on else max(0.0, level - dt_s / mode.mean_s)
        levels.append(level)
    return np.array(levels)


class LiveReserveMode:
    """The same a step at a time, for many sites at once."""

    def __init__(self, mode: ReserveMode, sites: int) -> None:
        self._mode = mode
        self._on = np.zeros(sites, dtype=np.bool_)
        self._blend = np.zeros(sites)
        self._sum = np.zeros(sites)  # deviation times time over the steps in the window
        self._lasted_s = 0.0
        self._steps: deque[tuple[float, Array]] = deque()  # (dt, deviation dt)

    def step(self, deviation_hz: Array, left_s: Array, dt_s: float) -> Array:
        """The part of each site's deviation that is not answered now [Hz]."""
        mode = self._mode
        self._steps.append((dt_s, deviation_hz * dt_s))
        self._sum = self._sum + self._steps[-1][1]
        self._lasted_s += dt_s
        while self._lasted_s > mode.mean_s + dt_s / 2:
            lasted_s, part = self._steps.popleft()
            self._sum = self._sum - part
            self._lasted_s -= lasted_s
        self._on = (left_s < mode.enter_s) | (self._on & (left_s <= mode.leave_s))
        change = np.where(self._on, dt_s, -dt_s) / mode.mean_s
        self._blend = np.clip(self._blend + change, 0.0, 1.0)
        part_off: Array = self._blend * self._sum / self._lasted_s if self._lasted_s > 0 else np.zeros(self._sum.shape)
        return part_off
