"""A device's writes are spared, frequency response never waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.safety.writes import WriteBudget, full, spend

DAY_S = 86_400.0


def test_an_hours_worth_at_once_then_one_by_one() -> None:
    budget = full(240.0, 1000.0)
    assert budget == WriteBudget(per_day=240.0, left=10.0, at_s=1000.0)
    given_ = []
    for _ in range(12):
        budget, allowed = spend(budget, urgent=False, now_s=1000.0)
        given_.append(allowed)
    assert given_ == [True] * 10 + [False] * 2
    for now_s, expected in ((1359.9, False), (1360.1, True), (1400.0, False)):  # one every six minutes
        budget, allowed = spend(budget, urgent=False, now_s=now_s)
        assert allowed is expected


def test_never_more_than_an_hours_worth() -> None:
    budget = full(240.0, 0.0)
    budget, _ = spend(budget, urgent=False, now_s=10 * DAY_S)
    assert budget.left == 9.0


def test_frequency_response_is_written_and_owed() -> None:
    budget = WriteBudget(per_day=240.0, left=0.0, at_s=-360.0)
    for _ in range(6):
        budget, allowed = spend(budget, urgent=True, now_s=0.0)
        assert allowed
    assert budget == WriteBudget(per_day=240.0, left=-5.0, at_s=0.0)
    assert not spend(budget, urgent=False, now_s=5 * 360.0)[1]
    assert spend(budget, urgent=False, now_s=6 * 360.0 + 0.1)[1]


def test_no_more_than_a_day_is_owed() -> None:
    budget = WriteBudget(per_day=24.0, left=-23.5, at_s=0.0)
    budget, allowed = spend(budget, urgent=True, now_s=0.0)
    assert allowed
    assert budget.left == -24.0


def test_a_refused_change_costs_nothing_and_forgets_nothing() -> None:
    budget, allowed = spend(WriteBudget(per_day=240.0, left=0.5, at_s=0.0), urgent=False, now_s=36.0)
    assert not allowed
    assert budget.left == pytest.approx(0.6)
    assert budget.at_s == 36.0


def test_a_whole_write_is_enough() -> None:
    budget, allowed = spend(WriteBudget(per_day=240.0, left=0.0, at_s=0.0), urgent=False, now_s=360.0)
    assert allowed
    assert (budget.left, budget.at_s) == (0.0, 360.0)


def test_a_clock_that_goes_back_refills_nothing() -> None:
    budget, allowed = spend(WriteBudget(per_day=240.0, left=1.5, at_s=1000.0), urgent=False, now_s=10.0)
    assert allowed
    assert budget.left == 0.5


@given(
    per_day=st.floats(24, 100_000),
    gaps=st.lists(st.tuples(st.floats(0, 3600), st.booleans()), max_size=200),
)
def test_over_any_time_no_more_than_the_budget_but_for_what_is_urgent(
    per_day: float, gaps: list[tuple[float, bool]]
) -> None:
    budget, now_s, ordinary = full(per_day, 0.0), 0.0, 0
    for gap_s, urgent in gaps:
        now_s += gap_s
        budget, allowed = spend(budget, urgent=urgent, now_s=now_s)
        assert allowed or not urgent
        ordinary += allowed and not urgent
        assert -per_day <= budget.left <= per_day / 24
    assert ordinary <= per_day / 24 + per_day * now_s / DAY_S + 1e-6
