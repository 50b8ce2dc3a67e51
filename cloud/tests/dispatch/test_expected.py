"""The judge's law against published points, closed forms, and its own stepping twin."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.dispatch.expected import LiveTarget, envelope, expected_share
from protos import services
from protos.services import Service

FFR = services.load("ercot-ffr")
DROOP = services.load("ieee1547-droop")


def curve(knots: list[tuple[float, float]], *, lag_s: float = 0.0, nominal: int = 50) -> Service:
    return services.parse(
        f'id = "test"\nversion = 1\ntitle = "t"\nsource = "s"\ndate = 2026-01-01\nnominal_hz = {nominal}\n'
        f'[curve]\nreference = "contracted"\nknots = {[list(k) for k in knots]}\nresponse_90_s = {lag_s}\n'
        "[timing]\ninitiation_s = 1.0\nfull_delivery_s = 10.0\n"
        "[performance]\ndelay_s = 0.5\ntolerance_pu = 0.05\nfull_payment_error = 0.03\nno_payment_error = 0.07\n"
    )


DC = curve([(-0.5, 1.0), (-0.2, 0.05), (-0.015, 0.0), (0.015, 0.0), (0.2, -0.05), (0.5, -1.0)])


@pytest.mark.parametrize(
    ("frequency_hz", "share"),
    [
        # Dynamic Containment, shared reference 1.9
        (50.000, 0.0),
        (49.985, 0.0),
        (49.980, 0.001351),
        (49.950, 0.009459),
        (49.900, 0.022973),
        (49.800, 0.050000),
        (49.700, 0.366667),
        (49.650, 0.525000),
        (49.500, 1.0),
        (49.200, 1.0),
        (50.350, -0.525),
    ],
)
def test_dynamic_containment_points(frequency_hz: float, share: float) -> None:
    assert expected_share(DC, [frequency_hz], 0.1)[0] == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize(
    ("frequency_hz", "pre", "available", "result"),
    [
        # IEEE 1547-2018 with its default settings, shared reference 1.9: per unit of the rating
        (60.3, 1.0, 1.0, 0.91200),
        (60.5, 1.0, 1.0, 0.84533),
        (61.2, 1.0, 1.0, 0.61200),
        (59.7, 0.5, 1.0, 0.58800),
        (59.7, 0.95, 1.0, 1.0),
    ],
)
def test_ieee_1547_points(frequency_hz: float, pre: float, available: float, result: float) -> None:
    share = expected_share(DROOP, np.full(2_000, frequency_hz), 0.1, rating_over_contracted=1.0)[-1]
    assert min(available, pre + share) == pytest.approx(result, abs=1e-4)


def test_the_lag_covers_nine_tenths_in_its_time() -> None:
    # shared reference 1.9: 1 -> 0.912 with TR 5 s passes 0.93983 at 2.5 s and 0.92080 at 5 s
    share = expected_share(DROOP, np.full(60, 60.3), 0.1)
    assert 1 + share[24] == pytest.approx(0.93983, abs=1e-4)
    assert 1 + share[49] == pytest.approx(0.92080, abs=1e-4)


def test_a_share_of_the_rating_is_capped_at_the_contracted_power() -> None:
    share = expected_share(DROOP, np.full(2_000, 59.0), 0.1, rating_over_contracted=5.0)
    assert share[-1] == pytest.approx(1.0)  # 0.3213 of the rating is 1.607 of what was contracted
    half = expected_share(DROOP, np.full(2_000, 59.736), 0.1, rating_over_contracted=5.0)
    assert half[-1] == pytest.approx((0.264 - 0.036) / 3 * 5)


def test_fast_response_acts_holds_releases_and_rearms() -> None:
    frequency = np.full(60_000, 60.0)
    frequency[100:110] = 59.84
    frequency[9_500:9_510] = 59.80  # in the release
    frequency[17_000:17_010] = 59.80  # before it is rearmed
    frequency[30_000:] = 59.85  # at the threshold, ready again
    share = expected_share(FFR, frequency, 0.1)
    assert share[:100].max() == 0
    assert share[100 : 100 + 9_002].min() == 1  # full delivery and hold: 900.25 s
    assert share[9_128] == pytest.approx(1 - (902.8 - 900.25) * 0.2)
    assert share[9_153:30_000].max() == 0
    assert share[30_000] == 1


def test_what_was_not_measured_triggers_nothing_and_holds_a_curve() -> None:
    nan = float("nan")
    assert expected_share(FFR, [nan, nan, 59.8], 0.1).tolist() == [0, 0, 1]
    assert expected_share(DC, [nan, 49.5, nan, nan, 50.0], 0.1).tolist() == [0, 1, 1, 1, 0]


frequencies = st.lists(st.one_of(st.floats(59.0, 60.6), st.just(float("nan"))), min_size=1, max_size=120)


@settings(deadline=None)
@given(frequencies, st.floats(0.5, 8), st.sampled_from([0.1, 0.5, 1.0]))
def test_all_at_once_is_the_same_as_step_by_step(frequency: list[float], ratio: float, dt_s: float) -> None:
    for service in (DROOP, curve([(-0.5, 1.0), (0.5, -0.3)], nominal=60), _quick_trigger()):
        live = LiveTarget(service, [ratio, ratio])
        stepped = [live.step(hz, dt_s) for hz in frequency]
        at_once = expected_share(service, frequency, dt_s, ratio)
        assert [float(s[0]) for s in stepped] == pytest.approx(at_once.tolist(), abs=1e-9)
        assert all(s[0] == s[1] for s in stepped)
        assert np.abs(at_once).max() <= 1 + 1e-12


def _quick_trigger() -> Service:
    text = (
        services.text("ercot-ffr").replace("hold_s = 900.0", "hold_s = 1.75").replace("rearm_s = 900.0", "rearm_s = 3")
    )
    return services.parse(text.replace("release_pu_per_s = 0.2", "release_pu_per_s = 0.5"))


def test_sites_step_on_their_own() -> None:
    live = LiveTarget(FFR, [1.0, 1.0, 1.0])
    assert live.step([60.0, 59.8, float("nan")], 0.1).tolist() == [0, 1, 0]
    assert live.step([59.8, 60.0, 60.0], 0.1).tolist() == [1, 1, 0]


@dataclass(frozen=True)
class Window:
    share: list[float]
    delay_s: float
    lower: list[float]
    upper: list[float]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Window([0, 0, 1, 1, 1], 0.2, [0, 0, 0, 0, 1], [0, 1, 1, 1, 1]), id="may trail by two samples"),
        pytest.param(Window([0, 0, 1, 1, 1], 0.0, [0, 0, 1, 1, 1], [0, 1, 1, 1, 1]), id="and lead by one"),
        pytest.param(Window([1, 1, 0, 0, 0], 0.1, [0, 0, 0, 0, 0], [1, 1, 1, 0, 0]), id="and let go late"),
        pytest.param(Window([0.5], 0.3, [0], [0.5]), id="one sample, armed from here on"),
        pytest.param(Window([], 0.3, [], []), id="none"),
    ],
)
def test_the_envelope_is_what_the_law_asked_in_the_allowed_delay(case: Window) -> None:
    lower, upper = envelope(np.array(case.share, dtype=float), 0.1, case.delay_s, 0.0)
    assert (lower.tolist(), upper.tolist()) == (case.lower, case.upper)
    wider = envelope(np.array(case.share, dtype=float), 0.1, case.delay_s, 0.05)
    assert np.allclose(wider[0], lower - 0.05)
    assert np.allclose(wider[1], upper + 0.05)


def test_the_recipe_of_the_lag() -> None:
    """Independent of the doubling: one sample at a time in plain arithmetic."""
    rng = np.random.default_rng(3)
    frequency = 60 + rng.normal(0, 0.2, 500)
    level, steps = 0.0, []
    for hz in frequency:
        deviation = hz - 60
        steady = -np.sign(deviation) * max(0.0, abs(deviation) - 0.036) / 3
        level = steady + (level - steady) * 10 ** (-0.1 / 5)
        steps.append(level)
    assert expected_share(DROOP, frequency, 0.1) == pytest.approx(steps, abs=1e-12)
