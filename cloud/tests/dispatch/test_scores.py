"""PJM's performance score, against published and computed values."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.dispatch.scores import PjmScore, pjm_score

Array = npt.NDArray[np.float64]

SINE = np.sin(2 * np.pi * np.arange(90) / 60)  # samples of 10 s


def late(samples: int) -> Array:
    return np.concatenate((np.zeros(samples), SINE))[: SINE.size]


@pytest.mark.parametrize(
    ("response", "correlation", "delay", "precision", "score"),
    [
        # Reference: services 1.9.
        pytest.param(SINE, 1.0, 1.0, 1.0, 1.0, id="identical"),
        pytest.param(0.9 * SINE, 1.0, 1.0, 0.9, 0.96667, id="nine tenths"),
        pytest.param(0.5 * SINE, 1.0, 1.0, 0.5, 0.83333, id="half"),
        pytest.param(late(1), 1.0, 0.96667, 0.89792, 0.95486, id="10 s late"),
        pytest.param(late(3), 1.0, 0.9, 0.70299, 0.86766, id="30 s late"),
    ],
)
def test_published_values(response: Array, correlation: float, delay: float, precision: float, score: float) -> None:
    found = pjm_score(SINE, response, 10.0)
    assert (found.correlation, found.delay, found.precision) == pytest.approx((correlation, delay, precision), abs=1e-5)
    assert found.score == pytest.approx(score, abs=1e-5)


def test_finer_samples_are_averaged_over_ten_seconds() -> None:
    rough = pjm_score(SINE, 0.9 * SINE, 10.0)
    noise = np.tile([0.3, -0.3], SINE.size * 50)
    fine = pjm_score(np.repeat(SINE, 100), np.repeat(0.9 * SINE, 100) + noise, 0.1)
    assert (fine.correlation, fine.precision) == pytest.approx((rough.correlation, rough.precision))


@pytest.mark.parametrize(
    ("signal", "response", "correlation", "delay", "precision"),
    [
        pytest.param(np.full(60, 0.5), np.full(60, 0.5), 1.0, 1.0, 1.0, id="a flat signal, held"),
        pytest.param(np.full(60, 0.5), np.linspace(0, 5.9, 60), 0.9, 1.0, 0.0, id="a flat signal, by its slope"),
        pytest.param(np.zeros(60), np.zeros(60), 1.0, 1.0, 1.0, id="nothing asked, nothing done"),
        pytest.param(np.zeros(60), np.full(60, 0.1), 1.0, 1.0, 0.0, id="nothing asked, something done"),
        pytest.param(SINE, np.zeros(90), 0.0, 0.0, 0.0, id="nothing done"),
        pytest.param(SINE, np.full(90, np.nan), 0.0, 0.0, 0.0, id="nothing measured"),
    ],
)
def test_the_ends_of_the_scale(
    signal: Array, response: Array, correlation: float, delay: float, precision: float
) -> None:
    found = pjm_score(signal, response, 10.0)
    assert (found.correlation, found.delay, found.precision) == pytest.approx((correlation, delay, precision))


def test_a_quarter_is_the_least_that_is_paid() -> None:
    assert PjmScore(correlation=0.7, delay=0.0, precision=0.0).paid == 0.0
    assert PjmScore(correlation=0.8, delay=0.0, precision=0.0).paid == pytest.approx(0.8 / 3)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(60, 400), st.floats(0, 2))
def test_every_part_lies_between_nothing_and_all(seed: int, size: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    found = pjm_score(random.uniform(-1, 1, size), random.normal(0, spread, size), 10.0)
    assert all(0.0 <= part <= 1.0 + 1e-9 for part in (found.correlation, found.delay, found.precision))


def test_what_cannot_be_scored_says_why() -> None:
    with pytest.raises(ValueError, match="ten minutes"):
        pjm_score(SINE[:59], SINE[:59], 10.0)
    with pytest.raises(ValueError, match="one value a sample"):
        pjm_score(SINE, SINE[:60], 10.0)
