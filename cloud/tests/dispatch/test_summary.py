"""Sums of workers as messages: cleared together they come to what clearing all their sites at once does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.dispatch.correction import Tally
from cloud.dispatch.nested import Nested
from cloud.dispatch.prices import Array, PriceGrid
from cloud.dispatch.rows import Rows, powers_at
from cloud.dispatch.share import Ask, Share, Told
from cloud.dispatch.summary import ShareError, from_messages, to_messages
from cloud.dispatch.testing import Split
from cloud.dispatch.tree import Limits, Tree
from protos.vpp.v1 import steer_pb2

GRID = PriceGrid()
PARENTS = [-1, 0, 0, 1]  # two areas, and a street in the first
NAMES = ["all", "area-1", "area-2", "street"]
INF = np.inf


def fleet(seed: int, sites: int, *, apart: int = 35_000) -> Rows:
    """Functions with slopes, flat stretches and steps; prices up to `apart` ticks."""
    rng = np.random.default_rng(seed)
    ticks = np.sort(rng.integers(45_000, 45_000 + apart, (8, sites), dtype=np.int32), axis=0)
    ticks[3] = ticks[2]
    return Rows(ticks, np.sort(rng.integers(-5000, 5000, (8, sites), dtype=np.int32), axis=0))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sites=st.integers(1, 400),
    workers=st.integers(1, 5),
    share=st.floats(-0.1, 1.1),
    tightness=st.lists(st.none() | st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=3, max_size=3),
    apart=st.sampled_from([3, 300, 35_000]),
)
def test_clearing_what_workers_told_is_clearing_all_their_sites(
    seed: int,
    sites: int,
    workers: int,
    share: float,
    tightness: list[tuple[float, float] | None],
    apart: int,
) -> None:
    rows = fleet(seed, sites, apart=apart)
    node = np.random.default_rng(seed + 1).integers(0, len(PARENTS), sites)
    reach_w = [float(rows.power_w[end].sum()) for end in (0, -1)]
    target_w = reach_w[0] + share * (reach_w[1] - reach_w[0])
    lower, upper = np.full(4, -INF), np.full(4, INF)
    for number, pair in enumerate(tightness, start=1):
        if pair is not None:
            of = rows.power_w[:, node == number]
            middle_w = float(of[0].sum() + (0.5 + pair[0] / 2) * (of[-1].sum() - of[0].sum()))
            lower[number], upper[number] = middle_w - 20_000 * pair[1], middle_w + 20_000 * pair[1]
    limits = Limits(lower, upper)
    split = Split(rows, node, NAMES, PARENTS, grid=GRID, cycle_s=2.0, workers=workers)
    found = split.open(target_w, limits).cleared
    at_once = Nested(Rows(rows.ticks.copy(), rows.power_w.copy()), node, Tree(PARENTS), GRID).clear(target_w, limits)
    assert found.total.power_w == pytest.approx(at_once.total.power_w, abs=1.0)
    assert found.power_w == pytest.approx(at_once.power_w, abs=1.0)
    assert found.total.feasible == at_once.total.feasible
    assert found.broken.tolist() == at_once.broken.tolist()
    # What the sites really give at the prices that were found, which no worker tells.
    given_w = np.bincount(node, powers_at(rows, found.position[node]), 4)
    given_w[1] += given_w[3]
    given_w[0] += given_w[1] + given_w[2]
    assert given_w == pytest.approx(at_once.power_w, abs=1.0)


def test_a_limit_at_the_very_end_of_what_sites_offer_is_kept_however_it_is_summed() -> None:
    rows, node = fleet(0, 2, apart=300), np.array([1, 2])
    end_w = float(rows.power_w[-1, 1])
    lower, upper = np.full(4, -INF), np.full(4, INF)
    lower[2] = upper[2] = end_w
    split = Split(rows, node, NAMES, PARENTS, grid=GRID, cycle_s=2.0, workers=2)
    found = split.open(-7200.0, Limits(lower, upper)).cleared
    assert found.power_w[2] == pytest.approx(end_w)
    assert not found.broken.any()


def test_a_share_of_many_nodes_comes_in_parts() -> None:
    nodes = 40
    told = share_of(fleet(7, 400), np.arange(400) % nodes, nodes)
    messages = to_messages(told, activation="a", sequence=3, most=1000)
    assert len(messages) > 3
    again = from_messages(messages[::-1], nodes, GRID)
    assert again.points.ticks.tolist() == told.points.ticks.tolist()
    assert again.points.power_w == pytest.approx(told.points.power_w, abs=1e-3)
    assert (again.tally, again.sites.tolist()) == (told.tally, told.sites.tolist())
    with pytest.raises(ShareError, match="not of the 40 nodes"):
        from_messages(messages[1:], nodes, GRID)


def share_of(rows: Rows, node: Array, nodes: int) -> Told:
    share = Share(rows, node, nodes, grid=GRID, cycle_s=2.0)
    ask = Ask(False, 0.0, np.zeros(nodes), np.full(nodes, 50_000), np.full(nodes, 51_000))
    return share.tell("w", 1, np.zeros(nodes), ask)


def test_a_share_of_a_million_sites_is_no_longer_than_one_of_a_thousand_price_steps() -> None:
    sizes = [
        len(to_messages(share_of(fleet(1, n), np.zeros(n, int), 1), activation="a", sequence=1)[0].SerializeToString())
        for n in (20_000, 200_000)
    ]
    assert sizes[1] < 1.5 * sizes[0] < 30_000


@pytest.mark.parametrize(
    ("curve", "why"),
    [
        (steer_pb2.GroupCurve(node=0), "0 prices"),
        (steer_pb2.GroupCurve(node=1, tick_steps=[0], power_steps_mw=[0]), "not of the 1 nodes"),
        (steer_pb2.GroupCurve(tick_steps=[0, 5], power_steps_mw=[0]), "2 prices and 1 powers"),
        (steer_pb2.GroupCurve(tick_steps=[0, -1], power_steps_mw=[0, 0]), "fall"),
        (steer_pb2.GroupCurve(tick_steps=[0, 1], power_steps_mw=[0, -1]), "fall"),
        (steer_pb2.GroupCurve(tick_steps=[-1], power_steps_mw=[0]), "beyond the price grid"),
        (steer_pb2.GroupCurve(tick_steps=[0], power_steps_mw=[0], house_w=float("nan")), "no number"),
        (steer_pb2.GroupCurve(tick_steps=[0], power_steps_mw=[10**16]), "power beyond"),
    ],
)
def test_a_message_that_is_no_share_is_refused(curve: steer_pb2.GroupCurve, why: str) -> None:
    message = steer_pb2.Share(worker="w", activation="a", parts=1, curves=[curve])
    with pytest.raises(ShareError, match=why):
        from_messages([message], 1, GRID)


def test_a_share_that_was_never_judged_relies_on_all_its_sites() -> None:
    assert share_of(fleet(1, 5), np.zeros(5, int), 1).tally == Tally(0, 0, 0, 5, 0, 0.0, ())
