"""However it is asked, and by whom: the site moves no faster, no more often and no further than its own limits."""

from dataclasses import replace
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.control.guard import (
    CYCLING,
    MILEAGE,
    RAMP,
    TURNS,
    WAITS,
    Guard,
    GuardLimits,
    arm,
    signal,
    step,
    turn,
)

LIMITS = GuardLimits(
    ramp_w_per_s=500.0,
    turns_per_hour=4,
    throughput_wh_per_day=20_000.0,
    turn_w=100.0,
    mileage_w_per_hour=40_000.0,
)
PERIOD_S = 0.5


class Site:
    """A site that does what it is allowed to do, at once."""

    def __init__(self, limits: GuardLimits = LIMITS, *, now_s: float = 7_000.0, power_w: float | None = 0.0) -> None:
        self.limits = limits
        self.now_s = now_s
        self.power_w = power_w
        self.storage_w: float | None = 0.0
        self.guard = Guard()

    def ask(self, wish_w: float | None, *, spread_s: float = 0.0, after_s: float = PERIOD_S) -> float | None:
        self.now_s += after_s
        self.guard = step(
            self.limits,
            self.guard,
            wish_w,
            power_w=self.power_w,
            storage_w=self.storage_w,
            spread_s=spread_s,
            now_s=self.now_s,
        )
        return self.guard.allowed_w

    def settle(self, wish_w: float | None, seconds: float = 30.0) -> float | None:
        for _ in range(round(seconds / PERIOD_S)):
            self.ask(wish_w)
        return self.guard.allowed_w


def test_begins_from_the_power_of_now_and_follows_the_ramp() -> None:
    site = Site(power_w=-200.0)
    assert [site.ask(400.0) for _ in range(4)] == [300.0, 400.0, 400.0, 400.0], "the first step is of a second at most"
    assert [site.ask(-400.0) for _ in range(4)] == [150.0, -100.0, -350.0, -400.0]


def test_says_what_limits_it() -> None:
    site = Site()
    site.ask(600.0)
    assert site.guard.limited == RAMP
    site.ask(600.0)
    assert site.guard.limited == ""
    site.ask(-600.0)
    assert site.guard.limited == RAMP
    site.settle(-600.0)
    assert site.guard.limited == ""


def test_a_short_way_back_is_ramped_and_says_so() -> None:
    site = Site(replace(LIMITS, ramp_w_per_s=10.0), power_w=1000.0)
    site.ask(1000.0)
    assert site.ask(950.0) == 995.0
    assert (site.guard.limited, site.guard.farthest_w) == (RAMP, 1000.0)


def test_a_turn_is_the_new_farthest_at_once() -> None:
    site = Site(power_w=1000.0)
    site.ask(1000.0)
    assert site.ask(-1000.0) == 750.0
    assert (site.guard.farthest_w, site.guard.upwards) == (750.0, False)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_farthest_moves_with_the_smallest_steps(sign: float) -> None:
    site = Site()
    for count in range(500):
        site.ask(sign * 0.5 * count)
    assert site.guard.farthest_w == sign * 249.5


def test_what_limited_it_before_is_forgotten() -> None:
    site = Site()
    site.ask(1000.0, spread_s=1.0)
    site.power_w = None
    site.settle(1000.0)
    assert site.guard.limited == ""


def test_a_pause_is_not_ramped_after() -> None:
    site = Site()
    site.settle(0.0)
    assert site.ask(5000.0, after_s=1.0) == 500.0
    assert site.ask(5000.0, after_s=60.0) == 1000.0
    assert site.ask(5000.0, after_s=-60.0) == 1000.0, "nor does a clock that goes back move anything"


def test_nothing_is_begun_while_the_power_is_not_known() -> None:
    site = Site(power_w=None)
    assert site.ask(1000.0) is None
    site.power_w = nan
    assert site.ask(1000.0) is None
    assert site.guard.turns_s == ()
    site.power_w = 900.0
    assert site.ask(1000.0) == 1000.0


@pytest.mark.parametrize("wish_w", [None, nan, inf, -inf])
def test_no_wish_and_no_number_are_not_followed(wish_w: float | None) -> None:
    site = Site()
    site.settle(1000.0)
    assert site.ask(wish_w) is None
    assert (site.guard.wish_w, site.guard.starts_s, site.guard.limited) == (None, -inf, "")


def test_a_staircase_is_no_turn() -> None:
    site = Site()
    for wish_w in range(0, 5000, 50):
        site.settle(float(wish_w), 2.0)
    assert len(site.guard.turns_s) == 1, "its start"
    assert site.guard.upwards
    for wish_w in range(5000, -5000, -50):
        site.settle(float(wish_w), 2.0)
    assert len(site.guard.turns_s) == 2
    assert not site.guard.upwards
    assert site.guard.allowed_w == -4950.0


@pytest.mark.parametrize("first_w", [3000.0, -3000.0])
def test_the_first_way_is_no_turn_of_its_own(first_w: float) -> None:
    site = Site()
    assert site.settle(first_w) == first_w
    assert len(site.guard.turns_s) == 1


def test_where_it_stands_already_counts_as_upwards() -> None:
    site = Site(power_w=1000.0)
    site.ask(1000.0)
    assert site.guard.upwards


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_back_by_less_than_a_turn_is_free_and_never_adds_up(sign: float) -> None:
    site = Site()
    site.settle(sign * 3000.0)
    for _ in range(100):
        assert site.settle(sign * 2900.0, 2.0) == sign * 2900.0
        assert site.settle(sign * 3000.0, 2.0) == sign * 3000.0
    assert len(site.guard.turns_s) == 1
    assert site.settle(sign * 2899.0, 2.0) == sign * 2899.0
    assert len(site.guard.turns_s) == 2, "from the farthest, not from the last wish"


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_after_the_last_turn_it_stays_where_it_is(sign: float) -> None:
    site = Site()
    for each in range(4):  # the start is one
        assert site.settle(sign * (3000.0 if each % 2 == 0 else -3000.0)) is not None
    assert len(site.guard.turns_s) == 4
    assert site.settle(sign * 3000.0) == sign * -2900.0, "back by less than a turn, and no further"
    assert site.guard.limited == TURNS
    assert site.settle(sign * -3000.0) == sign * -3000.0
    assert site.guard.limited == ""
    assert site.settle(sign * -4000.0) == sign * -4000.0, "further the same way"
    assert len(site.guard.turns_s) == 4


def test_the_hour_moves_on() -> None:
    site = Site(replace(LIMITS, turns_per_hour=1), now_s=0.0)
    site.ask(1000.0, after_s=10.0)
    site.settle(1000.0)
    turn_s = site.guard.turns_s[0]
    assert turn_s == 10.0
    site.now_s = turn_s + 3599.0
    assert site.ask(-1000.0, after_s=0.9) == 900.0
    assert site.guard.limited == TURNS
    assert site.ask(-1000.0, after_s=0.1) == pytest.approx(850.0)
    assert site.guard.turns_s == (turn_s + 3600.0,)


def test_beginning_again_and_again_is_turning() -> None:
    site = Site()
    for _ in range(4):
        assert site.settle(3000.0) == 3000.0
        assert site.settle(None, 5.0) is None
    assert site.settle(3000.0) is None
    assert site.guard.limited == TURNS


def test_a_day_has_so_much_throughput() -> None:
    site = Site()
    site.storage_w = -4000.0
    site.settle(-4000.0, 10.0)
    site.settle(-4000.0, 5 * 3600.0 - 20.0)
    assert site.guard.allowed_w == -4000.0
    site.settle(-4000.0, 20.0)
    assert site.guard.allowed_w is None
    assert (site.guard.limited, site.guard.starts_s) == (CYCLING, -inf)
    assert sum(wh for _, wh in site.guard.used_wh) == pytest.approx(20_000.0, rel=1e-3)
    site.settle(-4000.0, 3600.0)
    assert sum(wh for _, wh in site.guard.used_wh) == pytest.approx(20_000.0, rel=1e-3), "not the owner's own"


def test_exactly_the_days_throughput_is_enough() -> None:
    site = Site(replace(LIMITS, throughput_wh_per_day=1.0))
    site.guard = replace(site.guard, used_wh=((int(site.now_s // 3600), 1.0),))
    assert site.ask(1000.0) is None
    assert site.guard.limited == CYCLING
    assert site.guard.wish_w == 1000.0


def test_energy_is_that_of_the_time_between_two_cycles() -> None:
    site = Site(now_s=3600.0 * 10)
    site.ask(0.0)
    site.storage_w = 3600.0
    site.ask(0.0, after_s=0.5)
    assert site.guard.used_wh == ((10, 0.5),)
    site.ask(0.0, after_s=0.25)
    assert site.guard.used_wh == ((10, 0.75),)
    site.storage_w = -3600.0
    site.ask(0.0, after_s=100.0)
    assert site.guard.used_wh == ((10, 1.75),), "of a pause a second"
    for unknown in (None, nan, inf):
        site.storage_w = unknown
        site.ask(0.0)
    assert site.guard.used_wh == ((10, 1.75),)
    site.storage_w = 3600.0
    site.now_s = 3600.0 * 11
    site.ask(0.0, after_s=0.0)
    site.ask(0.0, after_s=1.0)
    assert dict(site.guard.used_wh) == {10: 1.75, 11: 2.0}


def test_what_was_used_a_day_ago_is_forgotten() -> None:
    site = Site(now_s=3600.0 * 48)
    site.guard = replace(site.guard, used_wh=((24, 5.0), (25, 7.0), (47, 9.0)))
    site.ask(None)
    assert site.guard.used_wh == ((25, 7.0), (47, 9.0))


def test_a_change_waits_for_a_moment_of_its_own() -> None:
    site = Site(power_w=500.0)
    assert site.ask(1000.0, spread_s=3.0) is None
    assert site.guard.limited == WAITS
    assert site.guard.starts_s == site.now_s + 3.0
    begun_s = site.now_s
    while site.ask(1000.0, spread_s=3.0) is None:
        assert site.now_s < begun_s + 3.0
    assert site.now_s == begun_s + 3.0
    site.settle(1000.0)
    assert site.ask(-1000.0, spread_s=2.0) == 1000.0, "what was followed goes on meanwhile"
    assert site.guard.limited == WAITS


def test_also_less_than_a_second_is_waited() -> None:
    site = Site()
    assert site.ask(1000.0, spread_s=0.6) is None
    assert site.ask(1000.0) is None
    assert site.ask(1000.0) is not None


def test_wishes_that_change_while_one_waits_do_not_put_it_off() -> None:
    site = Site()
    site.ask(1000.0, spread_s=3.0)
    starts_s = site.guard.starts_s
    for count in range(5):
        assert site.ask(1000.0 * (-1) ** count, spread_s=3.0) is None
        assert site.guard.starts_s == starts_s
    assert site.ask(1000.0, spread_s=0.0) is not None


def test_small_changes_do_not_wait() -> None:
    site = Site(power_w=1000.0)
    site.settle(1000.0)
    assert site.ask(1100.0, spread_s=5.0) == 1100.0
    assert site.ask(1000.0, spread_s=5.0) == 1000.0
    assert site.ask(1100.1, spread_s=5.0) == 1000.0
    assert site.guard.limited == WAITS


def test_what_is_urgent_does_not_wait() -> None:
    site = Site()
    site.ask(0.0)
    assert site.ask(100.5) == 100.5
    assert site.guard.starts_s == site.now_s


def test_turns_of_other_causes_count() -> None:
    site = Site()
    for count in range(3):
        after = turn(LIMITS, site.guard, 7_000.0 + count)
        assert after is not None
        site.guard = after
    assert site.guard.turns_s == (7_000.0, 7_001.0, 7_002.0)
    assert site.settle(3000.0) == 3000.0, "the last of the four"
    assert turn(LIMITS, site.guard, site.now_s) is None
    assert turn(LIMITS, site.guard, 10_599.9) is None
    again = turn(LIMITS, site.guard, 10_600.0)
    assert again is not None
    assert again.turns_s == (*site.guard.turns_s[1:], 10_600.0)


def test_arming_is_a_turn_and_waits_only_for_arming() -> None:
    guard = Guard(turns_s=(6_999.0,) * 4)
    for count in range(4):
        armed = arm(LIMITS, guard, 7_000.0 + count)
        assert armed is not None
        guard = armed
    assert guard.arms_s == (7_000.0, 7_001.0, 7_002.0, 7_003.0)
    assert guard.turns_s == (*(6_999.0,) * 4, *guard.arms_s)
    assert arm(LIMITS, guard, 7_004.0) is None
    assert turn(LIMITS, guard, 7_004.0) is None
    later = arm(LIMITS, guard, 10_600.0)
    assert later is not None
    assert later.arms_s == (7_001.0, 7_002.0, 7_003.0, 10_600.0)
    assert later.turns_s == later.arms_s


class Signals:
    """A site that follows a signal, from nothing."""

    def __init__(self, guard: Guard | None = None, *, now_s: float = 7_000.0) -> None:
        self.now_s = now_s
        self.limited = ""
        self.guard = guard or Guard()

    def ask(self, asked_w: float, after_s: float = PERIOD_S, limits: GuardLimits = LIMITS) -> float:
        self.now_s += after_s
        self.guard, self.limited = signal(limits, self.guard, asked_w, self.now_s)
        return self.guard.signal_w


def test_a_signal_is_ramped_and_says_so() -> None:
    site = Signals()
    assert [site.ask(900.0), site.limited] == [500.0, RAMP], "the first step is of a second at most"
    assert [site.ask(900.0), site.limited] == [750.0, RAMP]
    assert [site.ask(900.0), site.limited] == [900.0, ""]
    assert [site.ask(-100.0), site.limited] == [650.0, RAMP]
    assert site.ask(-5000.0, after_s=60.0) == 150.0
    assert site.ask(-5000.0, after_s=-60.0) == 150.0, "a clock that goes back moves nothing"


@pytest.mark.parametrize("asked_w", [nan, inf, -inf])
def test_a_signal_that_is_no_number_moves_nothing(asked_w: float) -> None:
    site = Signals()
    site.ask(300.0)
    assert site.ask(asked_w) == 300.0


def test_what_a_signal_moves_wears_off_by_what_an_hour_allows() -> None:
    site = Signals()
    site.ask(400.0)
    site.ask(200.0)
    assert site.guard.moved_w == pytest.approx(600.0 - 40_000.0 * 0.5 / 3600.0)
    before_w = site.guard.moved_w
    site.ask(200.0, after_s=1.0)
    assert before_w - site.guard.moved_w == pytest.approx(40_000.0 / 3600.0)
    for _ in range(60):
        site.ask(200.0, after_s=60.0)
    assert site.guard.moved_w == 0.0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_signal_that_moved_it_too_much_may_only_go_back(sign: float) -> None:
    spent = Guard(moved_w=10_100.0, signal_w=sign * 200.0, signal_s=7_000.0)
    site = Signals(spent)
    assert [site.ask(sign * 300.0), site.limited] == [sign * 200.0, MILEAGE]
    assert [site.ask(sign * 150.0), site.limited] == [sign * 150.0, ""]
    assert [site.ask(sign * 160.0), site.limited] == [sign * 150.0, MILEAGE]
    assert [site.ask(sign * -50.0), site.limited] == [0.0, MILEAGE]
    assert [site.ask(sign * -50.0), site.limited] == [0.0, MILEAGE]
    assert [site.ask(0.0), site.limited] == [0.0, ""]


def test_exactly_the_burst_is_enough() -> None:
    limits = replace(LIMITS, mileage_w_per_hour=0.0)
    assert Signals(Guard()).ask(100.0, limits=limits) == 0.0
    assert Signals(Guard(moved_w=9_999.0, signal_s=7_000.0)).ask(100.0) == 100.0


def test_a_worn_storage_lets_a_signal_only_go_back() -> None:
    used = ((1, 20_000.0),)
    site = Signals(Guard(used_wh=used, signal_w=200.0, signal_s=7_000.0))
    assert [site.ask(300.0), site.limited] == [200.0, CYCLING]
    assert [site.ask(100.0), site.limited] == [100.0, ""]
    just = Signals(Guard(used_wh=((1, 19_999.0),), signal_s=7_000.0))
    assert just.ask(100.0) == 100.0


def test_what_a_signal_takes_from_the_storage_counts() -> None:
    site = Site(now_s=36_000.0)
    site.storage_w = 3600.0
    site.ask(None)
    assert site.guard.used_wh == ()
    site.guard = replace(site.guard, signal_w=-1.0)
    site.ask(None)
    assert site.guard.used_wh == ((10, 0.5),)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-5000, 5000), max_size=400))
def test_no_signal_moves_it_further_than_an_hour_allows(asked: list[float]) -> None:
    site, moved_w = Signals(), 0.0
    for asked_w in asked:
        before_w = site.guard.signal_w
        moved_w += abs(site.ask(asked_w, after_s=2.0) - before_w)
    hours = 2.0 * len(asked) / 3600.0
    # What is on its way when the budget ends, and the way back to nothing, come on top.
    assert moved_w <= LIMITS.mileage_w_per_hour * (0.25 + hours) + 2 * 5000.0 + 1e-6


WISHES = st.lists(
    st.tuples(st.one_of(st.none(), st.floats(-6000, 6000), st.sampled_from([-5000.0, 5000.0])), st.integers(1, 80)),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(WISHES, st.integers(2, 6))
def test_no_sequence_of_wishes_swings_the_site(wishes: list[tuple[float | None, int]], turns: int) -> None:
    """Ramp at every step; and inside an hour no more swings wider than a turn than there are turns."""
    site = Site(replace(LIMITS, turns_per_hour=turns))
    followed: list[float] = []
    for wish_w, cycles in wishes:
        for _ in range(cycles):
            before_w = site.guard.allowed_w
            allowed_w = site.ask(wish_w)
            if allowed_w is None:
                continue
            site.power_w = allowed_w
            from_w = before_w if before_w is not None else allowed_w
            assert abs(allowed_w - from_w) <= LIMITS.ramp_w_per_s * PERIOD_S + 1e-6
            followed.append(allowed_w)
    if site.now_s - 7_000.0 < 3600.0:
        assert _reversals(followed, LIMITS.turn_w + 1e-6) <= turns
        assert len(site.guard.turns_s) <= turns


def _reversals(powers_w: list[float], least_w: float) -> int:
    """Changes of direction by more than least_w: an independent count, by hysteresis over the whole trace."""
    count, direction = 0, 0
    extreme = powers_w[0] if powers_w else 0.0
    for after in powers_w[1:]:
        if (direction >= 0 and after > extreme) or (direction <= 0 and after < extreme):
            direction = direction or (1 if after > extreme else -1)
            extreme = after
        elif abs(after - extreme) > least_w:
            count, direction, extreme = count + 1, -direction, after
    return count
