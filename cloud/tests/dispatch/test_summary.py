import numpy as np
import pytest

from cloud.dispatch.curve import Curve
from cloud.dispatch.prices import PriceGrid
from cloud.dispatch.rows import Rows
from cloud.dispatch.summary import CurveError, from_message, points, shortened, to_message
from protos.vpp.v1.curve_pb2 import GroupCurve

GRID = PriceGrid()


def fleet(seed: int, sites: int = 200) -> Rows:
    rng = np.random.default_rng(seed)
    ticks = np.sort(rng.integers(45_000, 80_000, (8, sites), dtype=np.int32), axis=0)
    ticks[3] = ticks[2]  # a step
    return Rows(ticks, np.sort(rng.integers(-5000, 5000, (8, sites), dtype=np.int32), axis=0))


def told(rows: Rows, worker: str) -> GroupCurve:
    message = to_message(Curve.of(rows, GRID), group="north", worker=worker, sequence=1, at_ms=1, sites=rows.sites)
    return GroupCurve.FromString(message.SerializeToString())


def test_sums_of_two_workers_clear_as_all_rows_would() -> None:
    a, b = fleet(1, 20), fleet(2, 20)
    total = from_message(told(a, "0"), GRID)
    total.merge(from_message(told(b, "1"), GRID))
    whole = Curve.of(Rows(np.hstack((a.ticks, b.ticks)), np.hstack((a.power_w, b.power_w))), GRID)
    assert total.drift_w(whole) < 0.1  # milliwatts, once for each breakpoint
    for target_w in (-50_000.0, 0.0, 50_000.0):
        assert whole.power_at(total.clear(target_w).position) == pytest.approx(target_w, abs=1.0)


def test_a_long_sum_is_shortened_and_says_how_far_it_is_off() -> None:
    curve = Curve.of(fleet(3, 5000), GRID)
    ticks, power_w, off_w = shortened(*points(curve), most=100)
    assert len(ticks) == 100
    short = Curve.of(Rows(ticks[:, None], power_w[:, None]), GRID)
    low, high = curve.range_w
    assert short.drift_w(curve) <= off_w + 1e-3
    assert off_w < 0.01 * (high - low)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (GroupCurve(group="g", worker="w"), "0 prices"),
        (GroupCurve(group="g", tick_steps=[0, 5], power_steps_mw=[0]), "2 prices and 1 powers"),
        (GroupCurve(group="g", tick_steps=[0, -1], power_steps_mw=[0, 0]), "fall"),
        (GroupCurve(group="g", tick_steps=[0, 1], power_steps_mw=[0, -1]), "fall"),
        (GroupCurve(group="g", tick_steps=[-60_000], power_steps_mw=[0]), "beyond the price grid"),
    ],
)
def test_a_message_that_is_no_sum_is_refused(message: GroupCurve, why: str) -> None:
    with pytest.raises(CurveError, match=why):
        from_message(message, GRID)
