import numpy as np
import pytest

from hil.fleet.closed_loop import hold
from hil.fleet.homes import Faults


@pytest.mark.parametrize("seed", [1, 2])
def test_a_target_is_held_although_sites_are_silent_and_lie(seed: int) -> None:
    held = hold(3_000, 900.0, Faults(silent=0.05, lying=0.02), seed=seed)
    assert held.p95_pct <= 1.0
    assert held.silent[-1] == 150
    assert held.wrongly_found < 0.01


def test_what_is_measured_makes_the_difference() -> None:
    alone, held = (hold(2_000, 600.0, Faults(), seed=3, corrected=corrected) for corrected in (False, True))
    assert alone.p95_pct > 2 * held.p95_pct


def test_a_fifth_of_the_fleet_stuck_is_found_and_made_up_for() -> None:
    held = hold(2_000, 900.0, Faults(silent=0.0, lying=0.2), seed=4)
    assert held.p95_pct <= 1.5
    assert held.liars_found > 0.4  # the rest is stuck where it should be at this price
    assert np.all(held.deviating[:3] == 0)  # nobody is judged by his first seconds
