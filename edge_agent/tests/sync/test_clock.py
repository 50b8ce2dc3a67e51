"""The coordinator's time, from exchanges whose delays and clocks are made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sync.clock import CoordinatorClock, better, measured

UTC_MS = 1_800_000_000_000.0


class Machine:
    """A gateway's clocks: one that runs, and one that people set."""

    def __init__(self, set_ms: float = 0.0) -> None:
        self.now_s = 500.0
        self.set_ms = set_ms  # how far the system clock is off the truth

    def monotonic_s(self) -> float:
        return self.now_s

    def utc_ms(self) -> int:
        return round(UTC_MS + 1e3 * self.now_s + self.set_ms)


@given(there_s=st.floats(0.0, 5.0), back_s=st.floats(0.0, 5.0))
def test_the_truth_lies_within_the_bound_however_the_delay_is_split(there_s: float, back_s: float) -> None:
    before_s = 500.0
    at_coordinator_ms = UTC_MS + 1e3 * (before_s + there_s)
    found = measured(before_s, before_s + there_s + back_s, at_coordinator_ms)
    assert abs(found.ahead_ms - UTC_MS) <= found.bound_ms + 1e-3


def test_a_narrow_measurement_is_kept_until_its_age_has_made_it_the_wider() -> None:
    narrow = measured(0.0, 0.010, UTC_MS)
    wide = measured(60.0, 60.100, UTC_MS)
    assert better(narrow, wide) is narrow  # 5 ms and 6 ms of age against 50 ms
    later = measured(3600.0, 3600.100, UTC_MS)
    assert better(narrow, later) is later  # 5 ms and 360 ms of age against 50 ms
    assert better(None, wide) is wide


def test_setting_the_system_clock_does_not_move_the_coordinators_time() -> None:
    machine = Machine(set_ms=-7_200_000.0)  # no battery behind its clock
    time = CoordinatorClock(machine)
    assert time.utc_ms() == machine.utc_ms()
    assert time.uncertainty_ms() == float("inf")
    time.take(measured(machine.now_s - 0.02, machine.now_s, UTC_MS + 1e3 * (machine.now_s - 0.01)))
    assert time.utc_ms() == round(UTC_MS + 1e3 * machine.now_s)
    assert round(time.offset_ms()) == -7_200_000
    assert time.uncertainty_ms() == pytest.approx(10.0, abs=0.01)
    machine.set_ms = 0.0  # NTP has come
    machine.now_s += 100.0
    assert time.utc_ms() == round(UTC_MS + 1e3 * machine.now_s)
    assert abs(time.offset_ms()) < 1
    assert time.uncertainty_ms() == pytest.approx(20.0, abs=0.01)  # 100 s at 100 ppm more


def test_a_step_of_the_system_clock_is_noticed_once() -> None:
    machine = Machine()
    time = CoordinatorClock(machine)
    for _ in range(3):
        machine.now_s += 1.0
        assert time.stepped_ms() == 0.0
    machine.set_ms = 3_600_000.0
    assert round(time.stepped_ms()) == 3_600_000
    machine.now_s += 1.0
    assert time.stepped_ms() == 0.0
