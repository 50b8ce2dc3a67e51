"""Workers' sums of supply functions as messages, so that nobody needs all rows in one process: many sum, one clears."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from cloud.dispatch.correction import Tally
from cloud.dispatch.node_sums import Points
from cloud.dispatch.prices import Array, PriceGrid
from cloud.dispatch.share import Ask, Told
from protos.vpp.v1 import steer_pb2

MOST_W: Final = 1e12  # of anything in a share
MOST_POINTS: Final = 50_000  # of one message: half a megabyte; a broker takes one of a megabyte


class ShareError(ValueError):
    """A message that is no share of what was asked for."""


def to_steer(ask: Ask, names: Sequence[str]) -> steer_pb2.Steer:
    """The nodes and what is wanted of them; who asks fills in the rest."""
    columns = (ask.heard, ask.low, ask.high)
    nodes = [
        steer_pb2.SteerNode(group=name, heard=heard, exact_low=low, exact_high=high)
        for name, heard, low, high in zip(names, *(column.tolist() for column in columns), strict=True)
    ]
    return steer_pb2.Steer(step=ask.step, fallback=ask.fallback, nodes=nodes)


def from_steer(message: steer_pb2.Steer) -> Ask:
    nodes = message.nodes
    return Ask(
        message.step,
        message.fallback,
        np.array([node.heard for node in nodes], dtype=np.float64),
        np.array([node.exact_low for node in nodes], dtype=np.int64),
        np.array([node.exact_high for node in nodes], dtype=np.int64),
    )


def to_messages(told: Told, *, activation: str, sequence: int, most: int = MOST_POINTS) -> list[steer_pb2.Share]:
    """The share, in as many parts as it needs."""
    points = told.points
    cuts = [0]
    for node in range(len(told.sites)):
        if points.begin[node + 1] - points.begin[cuts[-1]] > most and node > cuts[-1]:
            cuts.append(node)
    cuts.append(len(told.sites))
    power_mw = np.rint(points.power_w * 1e3).astype(np.int64)
    messages = []
    for part, (first, last) in enumerate(pairwise(cuts)):
        message = steer_pb2.Share(
            worker=told.worker,
            activation=activation,
            sequence=sequence,
            at_ms=told.at_ms,
            part=part,
            parts=len(cuts) - 1,
            curves=[_curve(told, node, power_mw) for node in range(first, last)],
        )
        if part == 0:
            _add_tally(message, told)
        messages.append(message)
    return messages


def _curve(told: Told, node: int, power_mw: Array) -> steer_pb2.GroupCurve:
    points = told.points
    span = slice(points.begin[node], points.begin[node + 1])
    return steer_pb2.GroupCurve(
        node=node,
        sites=int(told.sites[node]),
        tick_steps=np.diff(points.ticks[span], prepend=0).tolist(),
        # Rounding must not make a sum of rising functions fall.
        power_steps_mw=np.diff(np.maximum.accumulate(power_mw[span]), prepend=0).tolist(),
        exact_low=points.exact_low[node],
        exact_high=points.exact_high[node],
        estimate_w=told.estimate_w[node],
        house_w=told.house_w[node],
    )


def _add_tally(message: steer_pb2.Share, told: Told) -> None:
    tally = told.tally
    for name in ("following", "deviating", "silent", "relied_on", "counted", "error_w"):
        setattr(message, name, getattr(tally, name))
    message.moving_w.extend(tally.moving_w)
    message.expected_w, message.measured_w, message.missing = told.expected_w, told.measured_w, told.missing


def from_messages(messages: Sequence[steer_pb2.Share], nodes: int, grid: PriceGrid) -> Told:
    """The share that a worker told in all parts of an answer. Raises ShareError."""
    parts = sorted(messages, key=lambda message: message.part)
    first = parts[0]
    curves = [curve for part in parts for curve in part.curves]
    told = f"share of {first.activation!r} from {first.worker!r}"
    if [part.part for part in parts] != list(range(first.parts)) or [curve.node for curve in curves] != [*range(nodes)]:
        raise ShareError(f"{told}: it is not of the {nodes} nodes that were asked for")
    ticks, powers_mw = [], []
    for curve in curves:
        tick = np.cumsum(np.array(curve.tick_steps, dtype=np.int64))
        power_mw = np.cumsum(np.array(curve.power_steps_mw, dtype=np.int64))
        if len(tick) != len(power_mw) or not len(tick):
            raise ShareError(f"{told}: node {curve.node} has {len(tick)} prices and {len(power_mw)} powers")
        if len(power_mw) and np.abs(power_mw).max() > MOST_W * 1e3:
            raise ShareError(f"{told}: node {curve.node} has a power beyond {MOST_W:.0e} W")
        if (np.diff(tick) < 0).any() or (np.diff(power_mw) < 0).any():
            raise ShareError(f"{told}: prices or powers of node {curve.node} fall")
        if tick[0] < 0 or tick[-1] >= grid.ticks:
            raise ShareError(f"{told}: node {curve.node} is beyond the price grid {grid.first}..{grid.last}")
        ticks.append(tick)
        powers_mw.append(power_mw)
    columns = {
        name: np.array([getattr(curve, name) for curve in curves], dtype=np.float64)
        for name in ("exact_low", "exact_high", "estimate_w", "house_w")
    }
    amounts = np.concatenate([[first.error_w, first.expected_w, first.measured_w], first.moving_w, *columns.values()])
    if not (np.abs(amounts) <= MOST_W).all():  # nor NaN
        raise ShareError(f"{told}: an amount of it is no number up to {MOST_W:.0e}")
    return Told(
        worker=first.worker,
        at_ms=first.at_ms,
        points=Points(
            np.cumsum([0, *map(len, ticks)]),
            np.concatenate(ticks),
            np.concatenate(powers_mw) / 1e3,
            columns["exact_low"],
            columns["exact_high"],
        ),
        sites=np.array([curve.sites for curve in curves], dtype=np.int64),
        estimate_w=columns["estimate_w"],
        house_w=columns["house_w"],
        tally=Tally(
            following=first.following,
            deviating=first.deviating,
            silent=first.silent,
            relied_on=first.relied_on,
            counted=first.counted,
            error_w=first.error_w,
            moving_w=tuple(first.moving_w),
        ),
        expected_w=first.expected_w,
        measured_w=first.measured_w,
        missing=first.missing,
    )
