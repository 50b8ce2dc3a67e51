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

Sites are judged by the workers that see their telemetry; who clears learns the disturbance from all workers' tallies.
"""

import math
from collections import deque
from collections.abc import Sequence
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
class Tally:
    """What the judging of some sites came to; tallies add."""

    following: int
    deviating: int
    silent: int
    relied_on: int  # that do not deviate, silent or not
    counted: int  # of these with a measured power and a function in force: the next two are sums over them
    error_w: float  # measured beyond what it should be by now
    moving_w: tuple[float, ...]  # expected at the prices of the last cycles, oldest first

    @staticmethod
    def nothing(*, relied_on: int = 0) -> "Tally":
        """Of sites that were not judged yet."""
        return Tally(0, 0, 0, relied_on, 0, 0.0, ())


@dataclass(frozen=True, slots=True)
class Counted:
    """What the clearing is to count with."""

    sites: Array  # int64: whose function is another than in the last cycle
    rows: Rows  # of these
    expected_w: Array  # float64 [n]: by the functions, at the price that each site heard
    estimate_w: Array  # float64 [n]: power now, silent sites estimated
    tally: Tally


class Correction:
    """Of n sites, numbered 0 to n - 1. Arrays in, arrays out; time is the number of cycles."""

    def __init__(self, count: int, *, cycle_s: float) -> None:
        self._cycle_s = cycle_s
        self._expected: deque[Array] = deque(maxlen=max(2, round(WINDOW_S / cycle_s)))
        self._moving = max(2, round(MOVING_S / cycle_s))  # cycles
        self._outside = np.zeros(count)  # share of the time, lately
        self._deviating = np.zeros(count, dtype=bool)
        self._held_w = np.zeros(count)  # what a site is counted with that does not follow
        self._constant = np.zeros(count, dtype=bool)  # which are counted so
        self._model_w = np.full(count, np.nan)  # expected, behind the lag

    @property
    def deviating(self) -> Array:
        """bool [n]: which sites are not counted on."""
        return self._deviating

    def step(
        self,
        rows: Rows,
        changed: Array,
        position: Array,
        fallback: float,
        measured_w: Array,
        silent: Array,
        offers: Array,
    ) -> Counted:
        """One cycle.

        rows: all functions as they are told. changed: int64, those that are told anew. position: float64 [n], the last
        price that each site heard. fallback: the one it goes to when it hears none. measured_w: NaN where not known.
        silent: bool [n], which can have heard no price that still holds. offers: bool [n], whose function is in force;
        of the others it counts what they measure.
        """
        expected_w = powers_at(rows, np.where(silent, fallback, position))
        known = ~np.isnan(measured_w) & ~silent
        if not self._expected:  # what sites did before they heard of any price is no disturbance
            before_w = np.where(known, measured_w, expected_w)
            self._expected.extend([before_w] * round(DELAY_S / self._cycle_s))
        self._expected.append(expected_w)
        self._judge(rows, measured_w, known & offers)
        late_w = self._expected[max(0, len(self._expected) - 1 - round(DELAY_S / self._cycle_s))]
        gain = 1.0 - np.exp(-self._cycle_s / LAG_S)
        self._model_w = np.where(np.isnan(self._model_w), late_w, self._model_w + gain * (late_w - self._model_w))
        follows = ~self._deviating & ~silent & offers
        held_w = np.where(silent & offers, expected_w, np.where(known, measured_w, self._held_w))
        sites, news = self._changes(rows, changed, ~follows, held_w)
        counted = known & follows
        recent = list(self._expected)[-self._moving :]
        tally = Tally(
            following=int(follows.sum()),
            deviating=int((self._deviating & ~silent).sum()),
            silent=int(silent.sum()),
            relied_on=int((~self._deviating).sum()),
            counted=int(counted.sum()),
            error_w=float((measured_w - self._model_w)[counted].sum()),
            moving_w=tuple(float(one[counted].sum()) for one in recent),
        )
        return Counted(sites, news, expected_w, np.where(known, measured_w, self._model_w), tally)

    def _judge(self, rows: Rows, measured_w: Array, known: Array) -> None:
        low_w, high_w = reduce(np.minimum, self._expected), reduce(np.maximum, self._expected)
        tolerance_w = TOLERANCE_W + TOLERANCE * (rows.power_w[-1] - rows.power_w[0])
        off = known & ((measured_w < low_w - tolerance_w) | (measured_w > high_w + tolerance_w))
        gain = 1.0 - np.exp(-self._cycle_s / JUDGED_S)
        self._outside = np.where(known, self._outside + gain * (off - self._outside), self._outside)
        self._deviating = np.where(self._deviating, self._outside > FOLLOWS, self._outside > DEVIATES)

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


class Disturbance:
    """What the sites that are counted on do beyond what they should, together."""

    def __init__(self, *, cycle_s: float) -> None:
        self._cycle_s = cycle_s
        self.power_w = 0.0  # to be taken off the target

    def learn(self, tallies: Sequence[Tally]) -> None:
        """One cycle. What is not measured of those that follow is taken to be as far off as the rest."""
        counted = sum(tally.counted for tally in tallies)
        if not counted:
            return
        whole = sum(tally.relied_on for tally in tallies) / counted
        error_w = whole * sum(tally.error_w for tally in tallies)
        length = max(len(tally.moving_w) for tally in tallies)
        # Who has begun later was at its first price before, as far as anybody knows.
        padded = [(*tally.moving_w[:1] * (length - len(tally.moving_w)), *tally.moving_w) for tally in tallies]
        sums = [sum(at) for at in zip(*(one for one in padded if one), strict=True)]
        error_w = math.copysign(max(0.0, abs(error_w) - (max(sums) - min(sums))), error_w)
        gain = 1.0 - math.exp(-self._cycle_s / LEARNT_S)
        self.power_w += gain * (error_w - self.power_w)
