"""Judging a site: hand-computed errors, energy, and what missing telemetry costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.dispatch.verification import Verification, verify
from protos import services

FFR = services.load("ercot-ffr")  # delay 0.25 s, tolerance 0.05
EVENT = 50  # sample of the crossing
SAMPLES = 150


def judge(power_w: np.ndarray, *, frequency_hz: np.ndarray | None = None, baseline_w: float = 500.0) -> Verification:
    frequency = np.full(SAMPLES, 60.0)
    frequency[EVENT:] = 59.8
    return verify(
        FFR,
        contracted_w=2_000.0,
        rated_power_w=5_000.0,
        baseline_w=np.full(SAMPLES, baseline_w),
        power_w=power_w,
        frequency_hz=frequency if frequency_hz is None else frequency_hz,
        dt_s=0.1,
    )


def answer(delay_samples: int, height_w: float = 2_000.0, baseline_w: float = 500.0) -> np.ndarray:
    power = np.full(SAMPLES, baseline_w)
    power[EVENT + delay_samples :] += height_w
    return power


@pytest.mark.parametrize("delay_samples", [-1, 0, 1, 2, 3])
def test_full_power_within_the_delay_is_without_error(delay_samples: int) -> None:
    verdict = judge(answer(delay_samples))
    assert (verdict.error, verdict.samples_outside) == (0, 0)
    assert verdict.activation_samples == SAMPLES - EVENT + 1  # and the sample before, where an answer may show first
    assert (verdict.samples, verdict.samples_missing, verdict.availability) == (SAMPLES, 0, 1.0)


def test_each_late_sample_is_the_whole_contract_less_the_tolerance() -> None:
    verdict = judge(answer(13))
    assert verdict.error == pytest.approx(10 * 0.95 / 101)
    assert verdict.samples_outside == 10


def test_a_tenth_short_is_a_twentieth_outside() -> None:
    verdict = judge(answer(0, height_w=1_800.0))
    # 98 samples 0.05 outside; in the three after the crossing less was allowed still
    assert verdict.error == pytest.approx(97 * 0.05 / 101)


def test_too_much_is_as_wrong_as_too_little() -> None:
    assert judge(answer(0, height_w=2_200.0)).error == pytest.approx(100 * 0.05 / 101)


def test_nothing_done() -> None:
    verdict = judge(np.full(SAMPLES, 500.0))
    assert verdict.error == pytest.approx(97 * 0.95 / 101)
    assert verdict.energy_wh == 0


def test_energy_beyond_the_baseline_in_whole_watt_hours() -> None:
    assert judge(answer(0)).energy_wh == round(2_000 * 10 / 3600)  # 100 samples of 0.1 s: 5.6 Wh
    assert judge(answer(0, baseline_w=-4_000.0), baseline_w=-4_000.0).energy_wh == 6


def test_missing_power_during_activation_is_as_wrong_as_can_be() -> None:
    power = answer(0)
    power[100:110] = np.nan
    verdict = judge(power)
    assert verdict.error == pytest.approx(10 / 101)
    assert verdict.samples_missing == 10
    assert verdict.availability == pytest.approx(1 - 10 / 150)


def test_missing_telemetry_in_quiet_times_costs_availability_only() -> None:
    power = answer(0)
    power[10:40] = np.nan
    verdict = judge(power)
    assert verdict.error == 0
    assert verdict.availability == pytest.approx(0.8)


def test_a_site_that_told_nothing_has_failed() -> None:
    nothing = np.full(SAMPLES, np.nan)
    verdict = judge(nothing, frequency_hz=nothing)
    assert (verdict.error, verdict.availability, verdict.energy_wh) == (1.0, 0.0, 0)


def test_without_an_event_there_is_nothing_to_get_wrong() -> None:
    verdict = judge(np.full(SAMPLES, -3_000.0), frequency_hz=np.full(SAMPLES, 60.0))
    assert (verdict.error, verdict.activation_samples, verdict.energy_wh) == (0.0, 0, 0)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.3))
def test_losing_telemetry_never_helps(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    power = answer(2) + rng.normal(0, rng.choice([150, 3_000]), SAMPLES)
    whole = judge(power)
    lossy = power.copy()
    lossy[rng.random(SAMPLES) < share] = np.nan
    verdict = judge(lossy)
    assert verdict.error >= whole.error - 1e-12
    assert verdict.availability <= whole.availability


def test_nonsense_is_refused() -> None:
    some = np.zeros(3)
    with pytest.raises(ValueError, match="contracted power"):
        verify(FFR, contracted_w=0, rated_power_w=1, baseline_w=some, power_w=some, frequency_hz=some, dt_s=0.1)
    with pytest.raises(ValueError, match="one value a sample"):
        verify(FFR, contracted_w=1, rated_power_w=1, baseline_w=some, power_w=some[1:], frequency_hz=some, dt_s=0.1)


@pytest.mark.parametrize(
    ("followed", "error"),
    [
        pytest.param(1.0, 0.0, id="all of it"),
        pytest.param(0.5, 1 - 0.83333, id="half of it: correlation and delay are perfect"),
        pytest.param(-1.0, 1 - 1 / 3, id="the wrong way round is five minutes late here, and like it to the dot"),
        pytest.param(0.0, 1.0, id="nothing"),
    ],
)
def test_regulation_is_judged_by_its_operators_score(followed: float, error: float) -> None:
    signal = np.repeat(np.sin(2 * np.pi * np.arange(90) / 60), 10)  # a second a sample
    verdict = verify(
        services.load("pjm-regd"),
        contracted_w=2_000.0,
        rated_power_w=5_000.0,
        baseline_w=np.full(signal.size, 500.0),
        power_w=500.0 + followed * 2_000.0 * signal,
        frequency_hz=signal,
        dt_s=1.0,
    )
    assert verdict.error == pytest.approx(error, abs=1e-5)
