"""Frequency as a function of time: the recording at its frames, exact crossings, and nothing rewritten."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.data.recordings import underfrequency_event
from hil.plant.frequency import FrequencyError, Timeline, crossings

T0 = 1_800_000_000_000.0


@pytest.fixture
def played() -> Timeline:
    timeline = Timeline()
    timeline.play(underfrequency_event(), at_ms=T0, return_hz_per_s=0.005, now_ms=T0 - 1000)
    return timeline


def test_equals_the_recording_at_its_frames(played: Timeline) -> None:
    event = underfrequency_event()
    at_frames = [played(T0 + 1000 * t) for t in event.time_s]
    assert at_frames == pytest.approx(event.frequency_hz, abs=1e-6)


def test_is_linear_between_frames(played: Timeline) -> None:
    event = underfrequency_event()
    between_s = np.linspace(60.0, 80.0, 997)
    expected = np.interp(between_s, event.time_s, event.frequency_hz)
    assert [played(T0 + 1000 * t) for t in between_s] == pytest.approx(expected, abs=1e-6)


def test_is_quiet_before_and_returns_at_the_stated_rate(played: Timeline) -> None:
    last_ms, last_hz = T0 + 149_966.667, 59.893
    assert played(T0 - 1.0) == 60.0
    assert played(last_ms + 10_000) == pytest.approx(last_hz + 0.05, abs=1e-5)
    assert played.end_ms - last_ms == pytest.approx(1000 * (60.0 - last_hz) / 0.005, abs=0.01)
    assert played(played.end_ms) == 60.0
    assert played(played.end_ms + 3_600_000) == 60.0


def test_first_fall_to_the_trigger_lies_between_the_frames_that_straddle_it(played: Timeline) -> None:
    event = underfrequency_event()
    first = crossings(*played.breakpoints(), 59.85)[0]
    frame = int(np.flatnonzero(event.frequency_hz <= 59.85)[0])
    t0, t1 = event.time_s[frame - 1 : frame + 1]
    f0, f1 = event.frequency_hz[frame - 1 : frame + 1]
    assert first.falling
    assert first.utc_ms - T0 == pytest.approx(1000 * (t0 + (f0 - 59.85) / (f0 - f1) * (t1 - t0)), abs=0.01)
    assert played(first.utc_ms) == pytest.approx(59.85, abs=1e-6)


def test_steps_jump_at_their_instant() -> None:
    timeline = Timeline()
    timeline.steps([(T0, 59.8), (T0 + 500, 60.0)], now_ms=T0 - 1)
    assert [timeline(T0 + d) for d in (-0.01, 0, 499.9, 500, 9e9)] == [60.0, 59.8, 59.8, 60.0, 60.0]
    found = crossings(*timeline.breakpoints(), 59.85)
    assert [(c.utc_ms, c.falling) for c in found] == [(T0, True), (T0 + 500, False)]


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        pytest.param([], "empty", id="empty"),
        pytest.param([(T0 - 5, 59.0)], "5 ms in the past", id="past"),
        pytest.param([(T0 + 9, 59.0), (T0 + 8, 60.0)], "do not increase", id="unordered"),
        pytest.param([(T0 + 9, 0.0)], "0..100 Hz", id="absurd"),
    ],
)
def test_impossible_programmes_are_refused(steps: list[tuple[float, float]], reason: str) -> None:
    timeline = Timeline()
    with pytest.raises(FrequencyError, match=reason):
        timeline.steps(steps, now_ms=T0)
    assert timeline(T0 + 100) == 60.0


def test_what_was_announced_cannot_be_rewritten(played: Timeline) -> None:
    with pytest.raises(FrequencyError, match="another programme still runs"):
        played.steps([(T0 + 1000, 50.0)], now_ms=T0)
    assert played(T0 + 2000) == pytest.approx(60.0, abs=0.05)


@given(
    st.lists(st.tuples(st.floats(1, 1000), st.floats(59, 61)), min_size=2, max_size=20),
    st.floats(59.2, 60.8),
)
def test_crossings_are_where_the_curve_changes_sides(pieces: list[tuple[float, float]], level: float) -> None:
    times = np.cumsum([gap for gap, _ in pieces])
    values = np.array([value for _, value in pieces])
    found = crossings(times, values, level)
    # Between two crossings the curve stays on one side: checked on a dense grid, by numpy's own interpolation.
    edges = [times[0], *(c.utc_ms for c in found), times[-1]]
    for i, (start, end) in enumerate(pairwise(edges)):
        inside = np.interp(np.linspace(start, end, 52)[1:-1], times, values)
        below = found[i - 1].falling if i else values[0] <= level
        assert np.all(inside <= level + 1e-9) if below else np.all(inside >= level - 1e-9)
    for crossing in found:
        assert np.interp(crossing.utc_ms, times, values) == pytest.approx(level, abs=1e-6)
