"""Following a setpoint, against a numerical solution of the same differential equation; and the reversion timer."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.plant.inverter import InverterRating, PowerControl, Setting, follow

RATING = InverterRating(power_w=5000)  # lag 15 ms, ramp 50 kW/s: exponential within 750 W of the target
POWER = st.floats(-5000, 5000)


def integrated(power_w: float, target_w: float, dt_s: float) -> tuple[float, float]:
    """(end, mean) by explicit Euler steps of 2 us."""
    steps = max(1, round(dt_s / 2e-6))
    h, area = dt_s / steps, 0.0
    for _ in range(steps):
        slope = max(-50_000.0, min(50_000.0, (target_w - power_w) / 0.015))
        area += (power_w + slope * h / 2) * h
        power_w += slope * h
    return power_w, area / dt_s


@pytest.mark.parametrize(
    ("power_w", "target_w", "dt_s"),
    [
        pytest.param(0, 500, 0.015, id="exponential up"),
        pytest.param(0, 3000, 0.03, id="ramp only"),
        pytest.param(1000, 4000, 0.07, id="ramp, then exponential"),
        pytest.param(2500, -5000, 0.2, id="down through zero"),
    ],
)
def test_follows_the_differential_equation(power_w: float, target_w: float, dt_s: float) -> None:
    end_w, mean_w = follow(power_w, target_w, dt_s, RATING)
    expected_end_w, expected_mean_w = integrated(power_w, target_w, dt_s)
    assert end_w == pytest.approx(expected_end_w, abs=0.5)
    assert mean_w == pytest.approx(expected_mean_w, abs=0.5)


def test_one_lag_into_a_small_step_it_has_63_percent() -> None:
    assert follow(0.0, 100.0, 0.015, RATING)[0] == pytest.approx(100 * (1 - math.exp(-1)))


def test_a_large_step_ramps_at_ten_ratings_a_second() -> None:
    assert follow(0.0, 5000.0, 0.04, RATING)[0] == pytest.approx(2000.0)


@given(POWER, POWER, st.floats(0.0001, 0.3), st.floats(0.0001, 0.3))
def test_two_steps_are_one(power_w: float, target_w: float, first_s: float, second_s: float) -> None:
    half_w, first_mean_w = follow(power_w, target_w, first_s, RATING)
    end_w, second_mean_w = follow(half_w, target_w, second_s, RATING)
    whole_w, mean_w = follow(power_w, target_w, first_s + second_s, RATING)
    assert end_w == pytest.approx(whole_w, abs=1e-6)
    assert first_mean_w * first_s + second_mean_w * second_s == pytest.approx(mean_w * (first_s + second_s), abs=1e-6)


@given(POWER, POWER, st.floats(0, 1))
def test_never_overshoots(power_w: float, target_w: float, dt_s: float) -> None:
    end_w, mean_w = follow(power_w, target_w, dt_s, RATING)
    low_w, high_w = min(power_w, target_w) - 1e-9, max(power_w, target_w) + 1e-9
    assert low_w <= end_w <= high_w
    assert low_w <= mean_w <= high_w


def test_the_timer_counts_down_and_reverts_to_the_reversion_setting() -> None:
    control = PowerControl(
        active=Setting(enabled=True, power_w=3000), reversion=Setting(enabled=True, power_w=-500), reversion_time_s=10
    )
    control.rearm(1000.0)
    assert (control.expires_ms, control.remaining_s(1000.0), control.remaining_s(1001.0)) == (11_000.0, 10, 10)
    assert control.remaining_s(10_500.0) == 1
    control.revert()
    assert (control.commanded_w(5000), control.expires_ms, control.remaining_s(12_000)) == (-500, None, 0)


def test_percent_mode_asks_for_a_share_of_the_rating() -> None:
    control = PowerControl(active=Setting(enabled=True, power_w=1, share=-0.4), percent_mode=True)
    assert control.commanded_w(5000) == -2000


def test_no_timer_runs_without_a_time_or_without_a_setpoint() -> None:
    without_time = PowerControl(active=Setting(enabled=True))
    without_time.rearm(0.0)
    without_setpoint = PowerControl(reversion_time_s=10)
    without_setpoint.rearm(0.0)
    assert without_time.expires_ms is None
    assert without_setpoint.expires_ms is None
