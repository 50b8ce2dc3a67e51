"""Narrow, then prefer; never beyond the bounds; headroom never sold twice."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_agent.control.arbiter import Merged, merge
from edge_agent.model.values import PowerBounds, Proposal

BOUNDS = PowerBounds(lower_w=-5000.0, upper_w=5000.0)


def merged(*proposals: Proposal, bounds: PowerBounds = BOUNDS) -> Merged:
    result = merge(proposals, bounds, expires_s=10.0)
    assert result is not None
    return result


def ffr(share: float = 0.0, contracted_w: float = 3000.0) -> Proposal:
    return Proposal(source="ercot-ffr", offset_w=share * contracted_w, reserve_up_w=contracted_w)


def schedule(power_w: float) -> Proposal:
    return Proposal(source="schedule", power_w=power_w)


@pytest.mark.parametrize(
    ("proposals", "power_w", "source"),
    [
        pytest.param([schedule(1000.0)], 1000.0, "schedule", id="schedule alone"),
        pytest.param([schedule(9000.0)], 5000.0, "schedule", id="clipped to what it can hold"),
        pytest.param([ffr(), schedule(1000.0)], 1000.0, "schedule", id="armed: inside the room left"),
        pytest.param([ffr(), schedule(4000.0)], 2000.0, "schedule", id="armed: the schedule cannot sell it again"),
        pytest.param([ffr(1.0), schedule(1000.0)], 4000.0, "schedule+ercot-ffr", id="adds to the baseline"),
        pytest.param([ffr(1.0), schedule(4000.0)], 5000.0, "schedule+ercot-ffr", id="all of it, and no more"),
        pytest.param(
            [schedule(1000.0), Proposal(source="self-consumption", power_w=-700.0)],
            1000.0,
            "schedule",
            id="stronger wins",
        ),
        pytest.param(
            [Proposal(source="schedule"), Proposal(source="self-consumption", power_w=-700.0)],
            -700.0,
            "self-consumption",
            id="no wish: the next has its way",
        ),
        pytest.param(
            [Proposal(source="limit", bounds=PowerBounds(lower_w=-math.inf, upper_w=500.0)), schedule(2000.0)],
            500.0,
            "schedule",
            id="narrowed by a stronger one",
        ),
        pytest.param(
            [schedule(2000.0), Proposal(source="limit", bounds=PowerBounds(lower_w=-math.inf, upper_w=500.0))],
            2000.0,
            "schedule",
            id="not by a weaker one",
        ),
        pytest.param([ffr(0.5)], 1500.0, "ercot-ffr", id="no baseline at all: from zero"),
    ],
)
def test_merging(proposals: list[Proposal], power_w: float, source: str) -> None:
    result = merged(*proposals)
    assert result.setpoint.power_w == pytest.approx(power_w)
    assert result.setpoint.source == source
    assert result.setpoint.expires_s == 10.0


def test_nobody_wishes() -> None:
    assert merge([ffr(), Proposal(source="schedule")], BOUNDS, expires_s=10.0) is None


proposals = st.lists(
    st.builds(
        Proposal,
        source=st.sampled_from(["a", "b", "c"]),
        power_w=st.none() | st.floats(-20_000, 20_000),
        offset_w=st.just(0.0) | st.floats(-9_000, 9_000),
        reserve_up_w=st.just(0.0) | st.floats(0, 9_000),
        reserve_down_w=st.just(0.0) | st.floats(0, 9_000),
        bounds=st.none()
        | st.tuples(st.floats(-9_000, 9_000), st.floats(0, 9_000)).map(
            lambda pair: PowerBounds(lower_w=pair[0], upper_w=pair[0] + pair[1])
        ),
    ),
    max_size=5,
)


@given(proposals=proposals, lower_w=st.floats(-9_000, 0), upper_w=st.floats(0, 9_000))
def test_never_beyond_the_bounds(proposals: list[Proposal], lower_w: float, upper_w: float) -> None:
    result = merge(proposals, PowerBounds(lower_w=lower_w, upper_w=upper_w), expires_s=1.0)
    if result is not None:
        assert lower_w <= result.setpoint.power_w <= upper_w
        assert lower_w <= result.room.lower_w <= result.room.upper_w <= upper_w


@given(
    wish_w=st.floats(-20_000, 20_000),
    up_w=st.lists(st.floats(0, 4_000), max_size=3),
    down_w=st.lists(st.floats(0, 4_000), max_size=3),
    share=st.floats(-1.0, 1.0),
)
def test_headroom_is_never_sold_twice(wish_w: float, up_w: list[float], down_w: list[float], share: float) -> None:
    """Below services that fit together, a baseline leaves all of them room: schedule + reserve <= upper bound."""
    assume(sum(up_w) + sum(down_w) <= BOUNDS.upper_w - BOUNDS.lower_w)
    services = [Proposal(source="up", reserve_up_w=w) for w in up_w]
    services += [Proposal(source="down", reserve_down_w=w) for w in down_w]
    baseline_w = merged(*services, schedule(wish_w)).baseline_w
    assert baseline_w + sum(up_w) <= BOUNDS.upper_w + 1e-6
    assert baseline_w - sum(down_w) >= BOUNDS.lower_w - 1e-6
    # and so each service's whole answer fits on top of it, unclipped
    answering = [
        Proposal(
            source=p.source,
            reserve_up_w=p.reserve_up_w,
            reserve_down_w=p.reserve_down_w,
            offset_w=max(0.0, share) * p.reserve_up_w + min(0.0, share) * p.reserve_down_w,
        )
        for p in services
    ]
    result = merged(*answering, schedule(wish_w))
    assert result.setpoint.power_w == pytest.approx(baseline_w + sum(p.offset_w for p in answering), abs=1e-6)


@given(proposals=proposals, lower_w=st.floats(-9_000, 0), upper_w=st.floats(0, 9_000), data=st.data())
def test_removing_a_controller_never_makes_a_stronger_one_deliver_less(
    proposals: list[Proposal], lower_w: float, upper_w: float, data: st.DataObject
) -> None:
    """Whatever a controller is granted, it is granted the same without any of those below it."""
    assume(len(proposals) > 1)
    gone = data.draw(st.integers(1, len(proposals) - 1))
    bounds = PowerBounds(lower_w=lower_w, upper_w=upper_w)
    whole = merge(proposals, bounds, expires_s=1.0)
    without = merge([*proposals[:gone], *proposals[gone + 1 :]], bounds, expires_s=1.0)
    assume(whole is not None)
    assert whole is not None
    if without is None:  # nobody else had a wish or anything to deliver
        assert not any(whole.granted_w[:gone])
        return
    assert without.granted_w[:gone] == whole.granted_w[:gone]
    wishes = [i for i, proposal in enumerate(proposals) if proposal.power_w is not None]
    if wishes and wishes[0] < gone:
        assert without.baseline_w == whole.baseline_w


@given(proposals=proposals, lower_w=st.floats(-9_000, 0), upper_w=st.floats(0, 9_000))
def test_what_is_granted_is_delivered(proposals: list[Proposal], lower_w: float, upper_w: float) -> None:
    """The setpoint is the baseline and every grant, whole: the last clipping takes nothing from anybody."""
    result = merge(proposals, PowerBounds(lower_w=lower_w, upper_w=upper_w), expires_s=1.0)
    if result is not None:
        assert result.setpoint.power_w == pytest.approx(result.baseline_w + sum(result.granted_w), abs=1e-6)
        for proposal, granted_w in zip(proposals, result.granted_w, strict=True):
            assert abs(granted_w) <= abs(proposal.offset_w)
            assert granted_w * proposal.offset_w >= 0


def test_two_that_do_not_fit_together_the_stronger_has_all_of_its_own() -> None:
    weaker = Proposal(source="fcr", offset_w=4000.0, reserve_up_w=4000.0)
    result = merged(ffr(1.0), weaker, schedule(0.0), bounds=PowerBounds(lower_w=0.0, upper_w=5000.0))
    assert result.granted_w == (3000.0, 2000.0, 0.0)
    assert result.setpoint.power_w == 5000.0
