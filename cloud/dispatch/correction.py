"""What a fleet really does against what its supply functions say, and what to ask of it so that the sum is right.

Per site, every cycle:

- *Expected* is the function read at the prices of the last cycles: a site may be anywhere between the lowest and the
  highest of these, because devices lag and telemetry is late.
- A site whose measured power is outside of that, by more than a tolerance, most of the time *deviates*: it lies, is
  stuck, or is saturated where it does not say so. It is counted with what it measures, whatever the price, until it
  has been where it should be for as long.
- A site that is not heard of is *silent*. Until the last price it may have heard runs out it is taken to follow;
  then to be at its fallback price, as the contract has it (FollowPrice.fallback_ticks).

What the rest measures beyond what it should by now (expected, behind a delay and a first-order lag) is the
*disturbance*: bias, functions that are out of date, what silent sites do not tell. The sum is cleared for the target
less the disturbance (internal model control: Garcia and Morari, Ind. Eng. Chem. Process Des. Dev. 21, 1982): without
an error in the end, and without winding up while the fleet cannot do more.
"""

import math
from collections import deque
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np

from cloud.dispatch.prices import Array
from cloud.dispatch.rows import Rows, powers_at

WINDOW_S: Final = 12.0  # within which a site has followed a price: device, telemetry and broadcast together
JUDGED_S: Final = 14.0  # over which a site's deviations are averaged
DEVIATES: Final = 0.6  # share of the time outside, from which on a site is not counted on
FOLLOWS: Final = 0.2  # and below which it is again
TOLERANCE: Final = 0.05  # of a site's range
TOLERANCE_W: Final = 60.0
DELAY_S: Final = 2.0  # until a price shows in telemetry at all
LAG_S: Final = 2.3  # of devices, from then on
LEAD_S: Final = 3.0  # a fleet is so much behind its price: targets that are known are cleared for so much ahead
LEARNT_S: Final = 4.0
MOVING_S: Final = 6.0  # as much as the sum moved within it, nobody can tell lag from disturbance
MOVED_W: Final = 20.0  # a counted constant is renewed when it is off by more


@dataclass(frozen=True, slots=True)
class Counted:
    """What the clearing is to count with."""

    sites: Array  # int64: whose function is another than in the last cycle
    rows: Rows  # of these
    offset_w: float  # to be taken off the target
    estimate_w: float  # the group's power now, silent sites estimated
    following: int
    deviating: int
    silent: int


class Correction:
    """Of one group of n sites, numbered 0 to n - 1. Arrays in, arrays out; time is the number of cycles."""

    def __init__(self, count: int, *, cycle_s: float) -> None:
        self._cycle_s = cycle_s
        self._expected: deque[Array] = deque(maxlen=max(2, round(WINDOW_S / cycle_s)))
        self._moving = max(2, round(MOVING_S / cycle_s))  # cycles
        self._outside = np.zeros(count)  # share of the time, lately
        self._deviating = np.zeros(count, dtype=bool)
        self._held_w = np.zeros(count)  # what a site is counted with that does not follow
        self._constant = np.zeros(count, dtype=bool)  # which are counted so
        self._model_w = np.full(count, np.nan)  # expected, behind the lag
        self._disturbance_w = 0.0

    @property
    def deviating(self) -> Array:
        """bool [n]: which sites are not counted on."""
        return self._deviating

    def step(
        self,
        rows: Rows,
        changed: Array,
        position: Array,
        fallback: Array,
        measured_w: Array,
        silent: Array,
        offers: Array,
    ) -> Counted:
        """One cycle.

        rows: all functions as they are told. changed: int64, those that are told anew. position: float64 [n], the last
        price that each site heard. fallback: float64 [n], the one it goes to when it hears none. measured_w: NaN where
        not known. silent: bool [n], which can have heard no price that still holds. offers: bool [n], whose function
        is in force; of the others it counts what they measure.
        """
        expected_w = powers_at(rows, np.where(silent, fallback, position))
        self._expected.append(expected_w)
        known = ~np.isnan(measured_w) & ~silent
        self._judge(rows, measured_w, known & offers)
        late_w = self._expected[max(0, len(self._expected) - 1 - round(DELAY_S / self._cycle_s))]
        gain = 1.0 - np.exp(-self._cycle_s / LAG_S)
        self._model_w = np.where(np.isnan(self._model_w), late_w, self._model_w + gain * (late_w - self._model_w))
        follows = ~self._deviating & ~silent & offers
        self._learn(measured_w, known & follows)
        held_w = np.where(silent & offers, expected_w, np.where(known, measured_w, self._held_w))
        sites, news = self._changes(rows, changed, ~follows, held_w)
        estimate_w = float(np.where(known, measured_w, self._model_w).sum())
        return Counted(
            sites,
            news,
            self._disturbance_w,
            estimate_w,
            int(follows.sum()),
            int((self._deviating & ~silent).sum()),
            int(silent.sum()),
        )

    def _judge(self, rows: Rows, measured_w: Array, known: Array) -> None:
        low_w, high_w = reduce(np.minimum, self._expected), reduce(np.maximum, self._expected)
        tolerance_w = TOLERANCE_W + TOLERANCE * (rows.power_w[-1] - rows.power_w[0])
        off = known & ((measured_w < low_w - tolerance_w) | (measured_w > high_w + tolerance_w))
        gain = 1.0 - np.exp(-self._cycle_s / JUDGED_S)
        self._outside = np.where(known, self._outside + gain * (off - self._outside), self._outside)
        self._deviating = np.where(self._deviating, self._outside > FOLLOWS, self._outside > DEVIATES)

    def _learn(self, measured_w: Array, counted: Array) -> None:
        if not counted.any():
            return
        # What is not measured of those that follow is as far off as the rest.
        whole = float((~self._deviating).sum()) / float(counted.sum())
        error_w = whole * float((measured_w - self._model_w)[counted].sum())
        sums = [float(expected_w[counted].sum()) for expected_w in list(self._expected)[-self._moving :]]
        error_w = math.copysign(max(0.0, abs(error_w) - (max(sums) - min(sums))), error_w)
        gain = 1.0 - np.exp(-self._cycle_s / LEARNT_S)
        self._disturbance_w += gain * (error_w - self._disturbance_w)

    def _changes(self, rows: Rows, changed: Array, constant: Array, held_w: Array) -> tuple[Array, Rows]:
        """Sites to be counted otherwise than before, and how: by their function, or with one power at every price."""
        moved = constant & (np.abs(held_w - self._held_w) > MOVED_W)
        renewed = constant != self._constant
        told = np.zeros(len(constant), dtype=bool)
        told[changed] = True
        sites = np.flatnonzero(renewed | moved | (told & ~constant))
        fixed = constant[sites]
        self._held_w[sites[fixed]] = held_w[sites[fixed]]
        self._constant = constant
        ticks, power_w = rows.ticks[:, sites].copy(), rows.power_w[:, sites].copy()
        ticks[:, fixed] = 0
        power_w[:, fixed] = np.rint(held_w[sites[fixed]])
        return sites, Rows(ticks, power_w)
