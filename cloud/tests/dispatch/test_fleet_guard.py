"""What one area is moved without a second person."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.dispatch.fleet_guard import AreaLimits, AreaState, judge

LIMITS = AreaLimits(step_w=1e6, ramp_w_per_min=2e6, turns_per_hour=3)
T0 = 1_700_000_000_000


def asked(powers: list[tuple[float, float]]) -> list[str]:
    """The findings for powers [MW] asked at instants [s]; what is stopped is not sent."""
    state, found = AreaState(), []
    for at_s, power_mw in powers:
        after, reason = judge(LIMITS, state, power_mw * 1e6, T0 + round(at_s * 1e3))
        state = state if reason else after
        found.append(reason)
    return found


@pytest.mark.parametrize(
    ("powers", "stopped"),
    [
        pytest.param([(0, 1.0)], [], id="the greatest step"),
        pytest.param([(0, 1.01)], [0], id="a step too far"),
        pytest.param([(0, -1.01)], [0], id="down, too"),
        pytest.param([(0, 1.0), (1, -0.01)], [1], id="from where it stands"),
        pytest.param([(0, 1.0), (1, 2.0), (2, 2.1)], [2], id="small steps add up to a ramp"),
        pytest.param([(0, 1.0), (1, 2.0), (60, 2.9)], [], id="a minute later the first is forgotten"),
        pytest.param([(0, 1.0), (1, 2.0), (2, 1.5), (3, 1.9)], [3], id="back and forth is a ramp each way"),
        pytest.param([(0, 1.0), (1, 2.0), (2, 2.0)], [], id="the same again is no move"),
        pytest.param([(120 * i, 0.5 * (-1) ** i) for i in range(6)], [4], id="turning round too often"),
        pytest.param([(120 * i, 0.5 + 0.04 * (-1) ** i) for i in range(20)], [], id="trembling is no turning"),
        pytest.param([(1200 * i, 0.5 * (-1) ** i) for i in range(9)], [], id="three an hour are allowed"),
    ],
)
def test_limits(powers: list[tuple[float, float]], stopped: list[int]) -> None:
    assert [index for index, reason in enumerate(asked(powers)) if reason] == stopped


@given(st.lists(st.tuples(st.integers(0, 90), st.floats(-1e7, 1e7)), max_size=60))
def test_what_passes_stays_inside(steps: list[tuple[int, float]]) -> None:
    state, now_ms = AreaState(), T0
    passed: list[tuple[int, float]] = []
    for wait_s, power_w in steps:
        now_ms += 1000 * wait_s
        after, reason = judge(LIMITS, state, power_w, now_ms)
        if reason:
            continue
        passed.append((now_ms, power_w - state.power_w))
        state = after
    assert all(abs(change_w) <= LIMITS.step_w for _, change_w in passed)
    for now_ms, _ in passed:
        lately = [change_w for at_ms, change_w in passed if now_ms - 59_000 <= at_ms <= now_ms]
        assert sum(w for w in lately if w > 0) <= LIMITS.ramp_w_per_min + 1
        assert -sum(w for w in lately if w < 0) <= LIMITS.ramp_w_per_min + 1
