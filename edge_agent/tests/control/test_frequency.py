"""What cannot be true moves nothing, and what is wrong with it has a name; what a grid can do is believed at once."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.control.frequency import (
    FROZEN_AFTER_S,
    HIGHEST_HZ,
    JUMP_HZ,
    JUMP_HZ_PER_S,
    LOWEST_HZ,
    WINDOW_S,
    Chosen,
    Reading,
    Timing,
    Watch,
    choose,
    misfit,
)
from edge_agent.model.values import MISSING, Quality, Sample
from protos import services

DT_S = 0.05
Signal = Callable[[float], float]


def good(value: float, at_s: float) -> Sample:
    return Sample(value, Quality.GOOD, at_s)


def judged(values: list[float], dt_s: float = DT_S) -> list[float | None]:
    watches: dict[str, Watch] = {}
    out = []
    for i, value in enumerate(values):
        reading = Reading(source="hybrid", frequency_hz=good(value, i * dt_s))
        watches, chosen = choose(watches, [reading], now_s=i * dt_s)
        out.append(chosen.frequency_hz.good)
    return out


class Grid:
    """Sources of one grid, each a function of time, best first; None: it does not answer."""

    def __init__(self, **signals: Callable[[float], float | None]) -> None:
        self.signals = signals
        self.watches: dict[str, Watch] = {}
        self.now_s = 0.0
        self.chosen = Chosen(frequency_hz=MISSING)

    def run(self, seconds: float) -> list[Chosen]:
        out = []
        for _ in range(round(seconds / DT_S)):
            self.now_s = round(self.now_s + DT_S, 6)
            readings = []
            for name, signal in self.signals.items():
                hz = signal(self.now_s)
                sample = good(hz, self.now_s - 0.01) if hz is not None else Sample(60.0, Quality.STALE, 0.0)
                readings.append(Reading(source=name, frequency_hz=sample))
            self.watches, self.chosen = choose(self.watches, readings, now_s=self.now_s)
            out.append(self.chosen)
        return out


def live(now_s: float) -> float:
    """A grid that is never quite still: two slow swings and a fast one, 1 mHz steps."""
    swing = 0.03 * math.sin(now_s / 3.0) + 0.02 * math.sin(now_s / 0.7) + 0.002 * math.sin(now_s * 40)
    return round(60.0 + swing, 3)


def renewed(every_s: float, signal: Signal = live) -> Signal:
    """The same in a register that is renewed only so often."""
    return lambda now_s: signal(math.floor(now_s / every_s + 1e-6) * every_s)


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
    def look(watches: dict[str, Watch], at_s: float, now_s: float) -> tuple[dict[str, Watch], float | None]:
        reading = Reading(source="hybrid", frequency_hz=good(60.0, at_s))
        watches, chosen = choose(watches, [reading], now_s=now_s)
        return watches, chosen.frequency_hz.good

    watches, first = look({}, 0.0, 0.0)
    watches, again = look(watches, 0.0, 0.05)
    watches, later = look(watches, 0.05, 0.1)
    watches, later_again = look(watches, 0.05, 0.15)
    assert (first, again, later, later_again) == (None, None, 60.0, 60.0)


@given(st.lists(st.floats() | st.floats(58.0, 62.0), min_size=2, max_size=30))
def test_every_believed_reading_has_an_earlier_one_that_vouches_for_it(values: list[float]) -> None:
    for i, believed in enumerate(judged(values)):
        if believed is not None:
            assert LOWEST_HZ <= believed <= HIGHEST_HZ
            assert any(
                abs(believed - value) <= max(JUMP_HZ, JUMP_HZ_PER_S * 0.05 * (i - j)) + 1e-9
                for j, value in enumerate(values[:i])
            )


@pytest.mark.parametrize(
    ("sample", "voltage_v", "nominal_v", "reason"),
    [
        pytest.param(good(47.0, 1.0), 12.0, None, "dead line (12 V)", id="dead by any measure"),
        pytest.param(good(47.0, 1.0), 110.0, 230.0, "dead line (110 V)", id="dead for a 230 V line"),
        pytest.param(good(47.0, 1.0), math.nan, 230.0, "dead line (nan V)", id="voltage no number"),
        pytest.param(good(39.0, 1.0), 230.0, 230.0, "out of range (39.000 Hz)", id="out of range"),
        pytest.param(good(62.0, 0.15), 230.0, 230.0, "jumped to 62.000 Hz", id="jumping"),
        pytest.param(Sample(60.0, Quality.STALE, 0.0), 230.0, 230.0, "does not answer", id="stale"),
        pytest.param(Sample(47.0, Quality.BAD, 1.0, "dead line (3 V)"), 230.0, 230.0, "dead line (3 V)", id="driver"),
        pytest.param(MISSING, 230.0, 230.0, "not measured", id="missing"),
    ],
)
def test_bad_data_is_named(sample: Sample, voltage_v: float, nominal_v: float | None, reason: str) -> None:
    watches: dict[str, Watch] = {}
    for at_s in (0.0, 0.05, 0.1):
        watches, _ = choose(watches, [Reading(source="hybrid", frequency_hz=good(60.0, at_s))], now_s=at_s)
    reading = Reading(source="hybrid", frequency_hz=sample, voltage_v=good(voltage_v, 1.0))
    _, chosen = choose(watches, [reading], now_s=0.15, nominal_v=nominal_v)
    assert chosen.frequency_hz.good is None
    assert chosen.frequency_hz.reason == f"hybrid: {reason}"
    assert chosen.silent is (sample.quality is Quality.STALE)


def test_line_above_half_its_voltage_is_alive() -> None:
    watches: dict[str, Watch] = {}
    for at_s in (0.0, 0.05):
        reading = Reading(source="hybrid", frequency_hz=good(49.0, at_s), voltage_v=good(115.0, at_s))
        watches, chosen = choose(watches, [reading], now_s=at_s, nominal_v=230.0)
    assert chosen.frequency_hz.good == 49.0


def test_nobody_measures() -> None:
    assert choose({}, [], now_s=0.0)[1].frequency_hz.reason == "nothing measures it"


def test_the_best_that_answers_is_used() -> None:
    grid = Grid(meter=lambda now_s: live(now_s) if not 5.0 < now_s < 8.0 else None, hybrid=live)
    used = [chosen.source for chosen in grid.run(10.0)][1:]
    assert used == ["meter"] * 99 + ["hybrid"] * 59 + ["meter"] * 41


def test_a_register_that_stands_still_while_the_other_moves_is_frozen() -> None:
    grid = Grid(hybrid=lambda now_s: live(min(now_s, 20.0)), meter=live)
    grid.run(20.0)
    assert grid.chosen.source == "hybrid"
    grid.run(2 * FROZEN_AFTER_S + 5.0)
    assert grid.chosen.source == "meter"
    assert grid.chosen.doubts["hybrid"].startswith("frozen at ")
    assert grid.chosen.doubts["hybrid"].endswith("while meter moves")


def test_a_coarse_register_on_a_quiet_grid_is_not_frozen() -> None:
    def quiet(now_s: float) -> float:
        return round(60.0 + 0.004 * math.sin(now_s), 3)

    grid = Grid(hybrid=lambda now_s: round(quiet(now_s), 2), meter=quiet)
    assert {chosen.source for chosen in grid.run(60.0)[2:]} == {"hybrid"}


def test_one_glitch_of_the_other_makes_no_register_frozen() -> None:
    grid = Grid(hybrid=lambda now_s: 60.0, meter=lambda now_s: 61.0 if now_s == 5.0 else live(now_s / 1e3))
    assert {chosen.source for chosen in grid.run(60.0)[2:]} == {"hybrid"}


@pytest.mark.parametrize("wrong", ["meter", "hybrid"])
def test_two_that_part_are_both_not_believed(wrong: str) -> None:
    off = lambda now_s: live(now_s) - (0.3 if now_s > 10.0 else 0.0)  # noqa: E731
    signals = {"meter": live, "hybrid": live} | {wrong: off}
    grid = Grid(**signals)
    grid.run(10.0)
    assert grid.chosen.frequency_hz.good is not None
    grid.run(2 * WINDOW_S + 0.1)
    assert grid.chosen.frequency_hz.good is None
    assert "parts from" in grid.chosen.frequency_hz.reason
    assert {"meter", "hybrid"} == set(grid.chosen.doubts)


def test_of_three_the_one_that_parts_is_left_out() -> None:
    grid = Grid(meter=lambda now_s: live(now_s) + 0.3, hybrid=live, second=live)
    grid.run(5.0)
    assert grid.chosen.source == "hybrid"
    assert set(grid.chosen.doubts) == {"meter"}


def test_a_slow_register_does_not_part_from_a_fast_meter_in_a_real_event() -> None:
    """1 Hz/s, four times what the 2025 Iberian event reached before the end: the register trails by a second."""

    def falling(now_s: float) -> float:
        return live(now_s) - max(0.0, min(2.0, now_s - 10.0))

    grid = Grid(meter=falling, hybrid=renewed(1.0, falling))
    chosen = grid.run(20.0)[2:]
    assert {each.source for each in chosen} == {"meter"}
    assert all(each.frequency_hz.good is not None for each in chosen)


def test_a_meter_that_shows_a_mean_of_seconds_does_not_blind_a_fast_one() -> None:
    def falling(now_s: float) -> float:
        return live(now_s) - max(0.0, min(2.0, 0.5 * (now_s - 10.0)))

    def mean(now_s: float) -> float:
        return round(sum(falling(now_s - 0.1 * i) for i in range(50)) / 50, 2)

    grid = Grid(hybrid=falling, meter=mean)
    chosen = grid.run(30.0)[2:]
    assert {each.source for each in chosen} == {"hybrid"}


@pytest.mark.parametrize("every_s", [0.05, 0.2, 1.0, 2.0])
def test_renewal_is_measured(every_s: float) -> None:
    grid = Grid(hybrid=renewed(every_s))
    grid.run(60.0)
    timing = grid.watches["hybrid"].timing
    assert timing.measured
    assert timing.interval_s == pytest.approx(every_s, abs=0.01)
    assert timing.age_s == pytest.approx(0.01)


def test_the_value_found_at_the_start_says_nothing_about_renewal() -> None:
    """Read for the first time just before it is renewed: that short gap is the reader's, not the register's."""
    grid = Grid(hybrid=lambda now_s: renewed(0.5)(now_s + 0.3))
    grid.run(5.2)
    timing = grid.watches["hybrid"].timing
    assert timing.measured
    assert timing.interval_s == pytest.approx(0.5, abs=0.06)


def test_a_coarse_register_is_measured_by_its_shortest_gaps() -> None:
    """10 mHz steps, once a second, as a real one-second log shows from its second minute on."""
    grid = Grid(hybrid=lambda now_s: round(renewed(1.0)(now_s), 2))
    grid.run(120.0)
    assert grid.watches["hybrid"].timing.interval_s == pytest.approx(1.0, abs=0.01)


def test_a_grid_that_hardly_moves_does_not_make_a_register_slow() -> None:
    """After a lively half minute frequency creeps back: a register of 1 mHz changes every third of a second."""
    grid = Grid(hybrid=lambda now_s: live(now_s) if now_s < 30.0 else round(59.9 + 0.003 * (now_s - 30.0), 3))
    grid.run(60.0)
    assert grid.watches["hybrid"].timing.interval_s == pytest.approx(DT_S, abs=0.01)


def test_steps_of_a_test_programme_are_no_renewals() -> None:
    grid = Grid(hybrid=lambda now_s: 60.0 if int(now_s / 0.6) % 2 else 59.7)
    grid.run(60.0)
    timing = grid.watches["hybrid"].timing
    assert not timing.measured
    assert timing.interval_s == pytest.approx(DT_S)


FFR = services.load("ercot-ffr")  # all of it within 0.25 s
FCR = services.load("fcr")  # begins within 2 s


@pytest.mark.parametrize(
    ("service", "interval_s", "age_s", "swing_s", "says"),
    [
        pytest.param(FFR, 0.05, 0.01, 0.0, "", id="a fast meter"),
        pytest.param(FFR, 1.0, 0.01, 0.0, "must begin within 0.25 s", id="a register once a second"),
        pytest.param(FFR, 0.05, 0.2, 0.0, "comes up to 0.30 s late", id="a slow line"),
        pytest.param(FFR, 0.05, 0.01, 0.2, "the ramp limit of this site takes 0.20 s", id="the site's own ramp"),
        pytest.param(FCR, 1.0, 0.2, 0.0, "", id="slow is enough for FCR"),
        pytest.param(FCR, 2.0, 0.2, 0.0, "fcr must begin within 2 s", id="but not that slow"),
    ],
)
def test_a_service_fits_its_measurement_or_says_why_not(
    service: services.Service, interval_s: float, age_s: float, swing_s: float, says: str
) -> None:
    timing = Timing(interval_s=interval_s, age_s=age_s, measured=True)
    reason = misfit(service, timing, "hybrid", period_s=0.05, swing_s=swing_s)
    assert says in reason
    assert bool(reason) is bool(says)
