"""What cannot be true moves nothing; what a grid can do is believed at once."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.control.believe import HIGHEST_HZ, JUMP_HZ, JUMP_HZ_PER_S, LOWEST_HZ, Belief, believe
from edge_agent.model.values import MISSING, Quality, Sample


def judged(values: list[float], dt_s: float = 0.05) -> list[float | None]:
    belief, out = Belief(), []
    for i, value in enumerate(values):
        belief, sample = believe(belief, Sample(value, Quality.GOOD, i * dt_s))
        out.append(sample.good)
    return out


def test_first_reading_waits_for_the_second() -> None:
    assert judged([60.0, 60.001, 60.002]) == [None, 60.001, 60.002]


def test_fast_real_decline_is_believed_at_once() -> None:
    decline = [60.0 - 0.2 * i for i in range(10)]  # 4 Hz/s
    assert judged(decline)[1:] == decline[1:]


def test_single_glitch_is_never_believed() -> None:
    assert judged([60.0, 60.0, 57.0, 60.0, 60.0]) == [None, 60.0, None, 60.0, 60.0]


def test_step_is_believed_once_confirmed() -> None:
    assert judged([60.0, 60.0, 58.0, 58.0, 58.0]) == [None, 60.0, None, 58.0, 58.0]


def test_alternating_nonsense_is_never_believed() -> None:
    assert judged([60.0, 60.0, 45.0, 66.0, 45.0, 66.0])[2:] == [None] * 4


def test_what_no_grid_runs_at_is_refused() -> None:
    assert judged([60.0, 60.0, 0.0, 39.9, 70.1, float("inf"), float("nan"), 60.0])[2:] == [None] * 5 + [60.0]


def test_same_reading_seen_again_confirms_nothing() -> None:
    belief, _ = believe(Belief(), Sample(60.0, Quality.GOOD, 0.0))
    belief, again = believe(belief, Sample(60.0, Quality.GOOD, 0.0))
    assert again.good is None
    belief, later = believe(belief, Sample(60.0, Quality.GOOD, 0.05))
    assert later.good == 60.0
    assert believe(belief, later)[1].good == 60.0


def test_missing_stays_missing() -> None:
    assert believe(Belief(), MISSING) == (Belief(), MISSING)


@given(st.lists(st.floats() | st.floats(58.0, 62.0), min_size=2, max_size=30))
def test_every_believed_reading_has_an_earlier_one_that_vouches_for_it(values: list[float]) -> None:
    for i, believed in enumerate(judged(values)):
        if believed is not None:
            assert LOWEST_HZ <= believed <= HIGHEST_HZ
            assert any(
                abs(believed - value) <= max(JUMP_HZ, JUMP_HZ_PER_S * 0.05 * (i - j)) + 1e-9
                for j, value in enumerate(values[:i])
            )
