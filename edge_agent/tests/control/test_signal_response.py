"""Following a signal: when it is believed, how fast it is followed, and how it is let go."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.control.response import Phase
from edge_agent.control.signal_response import SignalLaw, misfit
from edge_agent.model.values import Quality, Sample
from protos import services

REGD = services.load("pjm-regd")
assert REGD.signal is not None
LAW = SignalLaw(signal=REGD.signal)
NOTHING = Sample(math.nan, Quality.BAD, -math.inf, "group north has heard no regulation yet")


def heard(share: float, at_s: float = 0.0) -> Sample:
    return Sample(share, Quality.GOOD, at_s)


@pytest.mark.parametrize(
    ("sample", "now_s", "believed", "why"),
    [
        pytest.param(heard(0.5), 10.0, 0.5, "", id="as old as it may be"),
        pytest.param(heard(0.5), 10.1, None, "the last signal came 10 s ago", id="older"),
        pytest.param(heard(math.nan), 0.0, None, "the signal is no number", id="no number"),
        pytest.param(heard(math.inf), 0.0, None, "the signal is no number", id="no end"),
        pytest.param(NOTHING, 0.0, None, NOTHING.reason, id="never heard"),
    ],
)
def test_which_signal_is_believed(sample: Sample, now_s: float, believed: float | None, why: str) -> None:
    assert LAW.believe(sample, now_s) == (believed, why)


def test_without_a_first_signal_nothing_is_done() -> None:
    state = LAW.start(0.0)
    for cycle in range(1, 1000):
        state = LAW.step(state, NOTHING, cycle * 0.05)
        assert state.share == 0.0
    assert state.note.startswith(NOTHING.reason)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.none() | st.floats(-1.5, 1.5), min_size=1, max_size=60), st.sampled_from(["both", "up", "down"]))
def test_whatever_comes_the_share_stays_in_its_direction_and_within_its_ramp(
    shares: list[float | None], direction: str
) -> None:
    """A signal a second, or none: aFRR, whose ramp and release are the same P/300 s."""
    afrr = services.load({"both": "afrr", "up": "afrr-up", "down": "afrr-down"}[direction])
    assert afrr.signal is not None
    following, last = SignalLaw(signal=afrr.signal), NOTHING
    state = following.start(0.0)
    for second, share in enumerate(shares, 1):
        last = heard(share, float(second)) if share is not None else last
        before = state.share
        state = following.step(state, last, float(second))
        assert abs(state.share - before) <= 1 / 300 + 1e-12
        assert (0.0 if direction == "up" else -1.0) <= state.share <= (0.0 if direction == "down" else 1.0)


def test_told_to_end_it_lets_go_along_its_release_and_ends() -> None:
    state = LAW.recall(LAW.step(LAW.start(0.0), heard(0.5), 1.0), 1.0)
    state = LAW.step(state, heard(1.0, 11.0), 11.0)
    assert state.share == pytest.approx(0.5 - 10 * 0.02)
    assert state.phase is Phase.RELEASING
    state = LAW.step(state, heard(1.0, 30.0), 30.0)
    assert (state.share, state.phase) == (0.0, Phase.ENDED)
    assert LAW.step(state, heard(1.0, 31.0), 31.0).share == 0.0


def test_what_a_slow_site_is_told() -> None:
    assert misfit(REGD, swing_s=10.0) == ""
    assert misfit(REGD, swing_s=12.34) == (
        "pjm-regd must be delivered whole within 10 s, and the site's own ramp takes 12.3 s"
    )
