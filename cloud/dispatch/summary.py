"""A sum of supply functions as a message, so that nobody needs all rows in one process: workers sum, one clears."""

import itertools
from typing import Final

import numpy as np

from cloud.dispatch.curve import Curve
from cloud.dispatch.prices import Array, PriceGrid
from cloud.dispatch.rows import Rows
from protos.vpp.v1 import curve_pb2

MOST_POINTS: Final = 400  # of one group and worker; what that leaves out is bounded by `shortened`
_STEP: Final = 1e-6  # between the two sides of a step, so that each has a place of its own


class CurveError(ValueError):
    """A message that is no sum of supply functions on the grid."""


def points(curve: Curve) -> tuple[Array, Array]:
    """int64 ticks from the grid's first and float64 [W]: every breakpoint of the sum, two where it steps."""
    before, behind = curve.at_ticks()
    bends = np.abs(np.diff(before[1:] - behind[:-1], prepend=np.nan)) > 1e-6
    bends = np.append(bends, True)
    bends[0] = True
    steps = behind - before > 1e-6
    ticks = np.flatnonzero(bends | steps)
    twice = steps[ticks]
    doubled = np.repeat(ticks, 1 + twice)
    power_w = before[doubled]
    second = np.zeros(len(doubled), dtype=bool)
    second[1:] = doubled[1:] == doubled[:-1]
    power_w[second] = behind[doubled[second]]
    return doubled, power_w


def shortened(ticks: Array, power_w: Array, most: int = MOST_POINTS) -> tuple[Array, Array, float]:
    """At most `most` of the points, and how far the sum is off at worst [W]: 0 where all are kept.

    The point that is worst off in each stretch is put back, all stretches at a time, until the room is used.
    """
    if len(ticks) <= most:
        return ticks, power_w, 0.0
    place = ticks.astype(np.float64)
    place[1:] += _STEP * (ticks[1:] == ticks[:-1])
    kept = np.array([0, len(ticks) - 1])
    while True:
        error = np.abs(np.interp(place, place[kept], power_w[kept]) - power_w)
        worst = np.array([a + int(np.argmax(error[a:b])) for a, b in itertools.pairwise(kept)])
        worst = worst[error[worst] > 0]
        room = most - len(kept)
        if room <= 0 or not len(worst):
            return ticks[kept], power_w[kept], float(error.max())
        kept = np.union1d(kept, worst[np.argsort(-error[worst])[:room]])


def to_message(curve: Curve, *, group: str, worker: str, sequence: int, at_ms: int, sites: int) -> curve_pb2.GroupCurve:
    """The sum as one worker tells it."""
    ticks, power_w, _ = shortened(*points(curve))
    steps = np.diff(ticks + curve.grid.first, prepend=0)
    power_mw = np.diff(np.rint(power_w * 1e3).astype(np.int64), prepend=0)
    return curve_pb2.GroupCurve(
        group=group,
        worker=worker,
        sequence=sequence,
        at_ms=at_ms,
        sites=sites,
        tick_steps=steps.tolist(),
        power_steps_mw=power_mw.tolist(),
    )


def from_message(message: curve_pb2.GroupCurve, grid: PriceGrid) -> Curve:
    """The sum that a worker told. Raises CurveError."""
    ticks = np.cumsum(np.array(message.tick_steps, dtype=np.int64)) - grid.first
    power_mw = np.cumsum(np.array(message.power_steps_mw, dtype=np.int64))
    told = f"curve of group {message.group!r} from {message.worker!r}"
    if len(ticks) != len(power_mw) or not len(ticks):
        raise CurveError(f"{told}: {len(ticks)} prices and {len(power_mw)} powers")
    if (np.diff(ticks) < 0).any() or (np.diff(power_mw) < 0).any():
        raise CurveError(f"{told}: prices or powers fall")
    if ticks[0] < 0 or ticks[-1] >= grid.ticks:
        raise CurveError(f"{told}: beyond the price grid {grid.first}..{grid.last}")
    return Curve.of(Rows(ticks[:, None], power_mw[:, None] / 1e3), grid)
