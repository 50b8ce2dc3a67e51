"""A reserved service can always be delivered for its duration: battery, baseline and service in simulated time."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.control import energy
from edge_agent.control.arbiter import Merged, merge
from edge_agent.control.bounds import TAPER, Storage, available
from edge_agent.control.energy import DISCHARGE_EFFICIENCY, PLAN_MARGIN, Need, needed, propose, range_needed
from edge_agent.control.frequency_response import law
from edge_agent.model.intent import ArmService
from edge_agent.model.values import Nameplate, PowerBounds, Proposal, Quality, Sample, Snapshot
from protos import services

PLATE = Nameplate(
    manufacturer="Example",
    model="Hybrid 5",
    serial="1",
    rated_power_w=5000.0,
    max_charge_w=5000.0,
    max_discharge_w=5000.0,
    storage_capacity_wh=10_000.0,
)
STORAGE = Storage(nameplate=PLATE, soc_min=0.1, soc_max=0.95)
FFR = services.load("ercot-ffr")


def at(soc: float, at_s: float = 0.0, *, frequency_hz: float = 60.0, pv_w: float = 0.0) -> Snapshot:
    def good(value: float) -> Sample:
        return Sample(value, Quality.GOOD, at_s)

    return Snapshot(at_s=at_s, utc_ms=0, frequency_hz=good(frequency_hz), soc=good(soc), pv_power_w=good(pv_w))


@pytest.mark.parametrize(
    ("need", "soc", "lower_w", "upper_w"),
    [
        # 750 Wh to give need 833 Wh of the cells: 0.0833 above 0.1, and one taper so that it can be given at full power
        pytest.param(Need(up_wh=750.0), 0.1983 + 0.001, -math.inf, math.inf, id="more than enough"),
        pytest.param(Need(up_wh=750.0), 0.18833 + TAPER / 2, -math.inf, 2500.0, id="the last of what is spare"),
        pytest.param(Need(up_wh=750.0), 0.18833, -math.inf, 0.0, id="just what is needed"),
        pytest.param(Need(up_wh=750.0), 0.17, -math.inf, 0.0, id="short, and something is being delivered"),
        pytest.param(Need(up_wh=750.0, recovery_w=120.0), 0.17, -math.inf, -120.0, id="short, recovering"),
        pytest.param(Need(down_wh=750.0), 0.5, -math.inf, math.inf, id="room enough"),
        pytest.param(Need(down_wh=750.0), 0.87, 0.0, math.inf, id="just the room that is needed"),
        pytest.param(Need(down_wh=750.0, recovery_w=120.0), 0.9, 120.0, math.inf, id="too full, recovering"),
        pytest.param(Need(), 0.1, -math.inf, math.inf, id="nothing promised"),
    ],
)
def test_what_is_left_to_the_baseline(need: Need, soc: float, lower_w: float, upper_w: float) -> None:
    bounds = propose(STORAGE, at(soc), need).bounds or PowerBounds(lower_w=-math.inf, upper_w=math.inf)
    assert (bounds.lower_w, bounds.upper_w) == pytest.approx((lower_w, upper_w), abs=5.0)


def test_sun_is_passed_on_while_energy_is_kept() -> None:
    bounds = propose(STORAGE, at(0.15, pv_w=1500.0), Need(up_wh=750.0)).bounds
    assert bounds is not None
    assert bounds.upper_w == 1500.0


def test_both_directions_in_too_small_a_storage_rest() -> None:
    bounds = propose(STORAGE, at(0.5), Need(up_wh=5000.0, down_wh=5000.0, recovery_w=100.0)).bounds
    assert bounds == PowerBounds(lower_w=0.0, upper_w=0.0)


def test_unknown_charge_bounds_nothing() -> None:
    assert propose(STORAGE, Snapshot(at_s=0.0, utc_ms=0), Need(up_wh=750.0)).bounds is None


@given(up_wh=st.floats(0, 3000), down_wh=st.floats(0, 3000), soc=st.floats(0.0, 1.0), pv_w=st.floats(0, 6000))
def test_bounds_are_a_range(up_wh: float, down_wh: float, soc: float, pv_w: float) -> None:
    need = Need(up_wh=up_wh, down_wh=down_wh, recovery_w=150.0)
    bounds = propose(STORAGE, at(soc, pv_w=pv_w), need).bounds
    if bounds is not None:
        assert bounds.lower_w <= bounds.upper_w


def test_limits_for_plans_leave_the_whole_range_to_a_baseline() -> None:
    lowest, highest = range_needed(STORAGE, Need())
    assert lowest + TAPER == pytest.approx(STORAGE.soc_min + PLAN_MARGIN)
    assert highest - TAPER == pytest.approx(STORAGE.soc_max - PLAN_MARGIN)


@pytest.mark.parametrize(
    ("service_id", "contracted_w", "swing_w", "says"),
    [
        pytest.param("ercot-ffr", 5000.0, 10_000.0, "", id="1.25 kWh of 8.5"),
        pytest.param("gb-dr", 2000.0, 10_000.0, "", id="2 kWh either way: 2.2 + 2"),
        pytest.param("gb-dr", 4500.0, 10_000.0, "needs 4500 Wh to give and room for 4500 Wh", id="5 + 4.5 of 8.5"),
        pytest.param("gb-dc", 3000.0, 5000.0, "needs 6000 W of room, and the limits here leave 5000 W", id="no room"),
        pytest.param("ieee1547-droop", 5000.0, 10_000.0, "", id="no duration is asked for"),
    ],
)
def test_what_can_never_be_delivered_is_said(service_id: str, contracted_w: float, swing_w: float, says: str) -> None:
    arm = ArmService(award_id="a", service=services.load(service_id), contracted_w=contracted_w)
    reason = energy.misfit(STORAGE, arm, swing_w=swing_w)
    assert says in reason
    assert bool(reason) is bool(says)


@dataclass
class Home:
    """A battery with losses of its own, and the controllers as the agent runs them."""

    arm: ArmService
    soc: float
    efficiency: float
    dt_s: float = 1.0

    def __post_init__(self) -> None:
        self.law = law(self.arm.service, contracted_w=self.arm.contracted_w, rated_power_w=PLATE.rated_power_w)
        self.state = self.law.start(0.0)
        self.now_s = 0.0

    def step(self, wish_w: float, frequency_hz: float) -> Merged:
        """One cycle, and the battery after it."""
        self.now_s += self.dt_s
        now = at(self.soc, self.now_s, frequency_hz=frequency_hz)
        self.state = self.law.step(self.state, now.frequency_hz, self.now_s)
        need = needed([(self.arm, self.law, self.state)], self.now_s)
        up, down = self.law.direction
        held_w = self.arm.contracted_w
        merged = merge(
            [
                Proposal(
                    source="service",
                    offset_w=self.state.share * held_w,
                    reserve_up_w=held_w if up else 0.0,
                    reserve_down_w=held_w if down else 0.0,
                ),
                energy.propose(STORAGE, now, need),
                Proposal(source="schedule", power_w=wish_w),
            ],
            self.bounds(now),
            expires_s=self.now_s + 10,
        )
        assert merged is not None
        power_w = merged.setpoint.power_w
        loss = 1 / self.efficiency if power_w > 0 else self.efficiency
        self.soc -= power_w * self.dt_s / 3600 * loss / PLATE.storage_capacity_wh
        return merged

    @staticmethod
    def bounds(now: Snapshot) -> PowerBounds:
        bounds = available(STORAGE, now.soc, now.pv_power_w)
        assert bounds is not None
        return bounds


wishes = st.lists(st.floats(-6000, 6000), min_size=1, max_size=6)


@settings(max_examples=12, deadline=None)
@given(
    contracted_w=st.floats(500, 4500),
    spare=st.floats(0.0, 0.3),
    efficiency=st.floats(DISCHARGE_EFFICIENCY, 1.0),
    before=wishes,
    during=wishes,
)
def test_a_trigger_that_was_armed_with_its_energy_is_delivered_to_the_end(
    contracted_w: float, spare: float, efficiency: float, before: list[float], during: list[float]
) -> None:
    """Whatever the schedule wishes before and while it delivers, for a quarter of an hour at full power."""
    arm = ArmService(award_id="a", service=FFR, contracted_w=contracted_w)
    lowest, _ = range_needed(STORAGE, Need(up_wh=contracted_w * 900.25 / 3600))
    home = Home(arm, lowest + spare, efficiency)
    for wish_w in before:
        for _ in range(240):
            home.step(wish_w, 60.0)
    for second in range(900):
        wish_w = during[second * len(during) // 900]
        merged = home.step(wish_w, 59.8)
        assert merged.granted_w[0] == pytest.approx(contracted_w)
        assert merged.setpoint.power_w - merged.baseline_w == pytest.approx(contracted_w)


@pytest.mark.parametrize(
    ("service_id", "rests", "gives", "takes"),
    [
        pytest.param("gb-dc", 50.0, 49.4, 50.6, id="Dynamic Containment"),
        pytest.param("pjm-regd", 0.0, 1.0, -1.0, id="RegD, by its signal"),
    ],
)
@settings(max_examples=12, deadline=None)
@given(
    contracted_w=st.floats(200, 2400),
    at_share=st.floats(0.0, 1.0),
    efficiency=st.floats(DISCHARGE_EFFICIENCY, 1.0),
    low=st.booleans(),
    before=wishes,
    during=wishes,
)
def test_a_two_way_service_can_be_delivered_for_its_duration_either_way(
    service_id: str,
    rests: float,
    gives: float,
    takes: float,
    contracted_w: float,
    at_share: float,
    efficiency: float,
    low: bool,
    before: list[float],
    during: list[float],
) -> None:
    """Full power for 15 minutes, up or down, after any schedule."""
    service = services.load(service_id)
    duration_s = service.sustain_s
    arm = ArmService(award_id="a", service=service, contracted_w=contracted_w)
    wh = contracted_w * duration_s / 3600
    lowest, highest = range_needed(STORAGE, Need(up_wh=wh, down_wh=wh))
    home = Home(arm, lowest + at_share * (highest - lowest), efficiency)
    for wish_w in before:
        for _ in range(240):
            home.step(wish_w, rests)
    for second in range(math.floor(duration_s)):
        merged = home.step(during[second * len(during) // 900], gives if low else takes)
        assert abs(merged.granted_w[0]) == pytest.approx(contracted_w)
        assert merged.setpoint.power_w - merged.baseline_w == pytest.approx(merged.granted_w[0])


def test_after_a_delivery_the_charge_comes_back_within_the_tolerance() -> None:
    """Recovery moves the baseline by less than the service's tolerance, until the need is met again."""
    service = services.load("gb-dc")
    arm = ArmService(award_id="a", service=service, contracted_w=2000.0)
    lowest, _ = range_needed(STORAGE, Need(up_wh=500.0))
    home = Home(arm, lowest, 0.95)
    for _ in range(600):
        home.step(0.0, 49.4)
    short = home.soc
    assert short < lowest - 0.03
    home.dt_s = 20.0
    moved = [home.step(0.0, 50.0).baseline_w for _ in range(12 * 180)]
    assert min(moved) == pytest.approx(-0.8 * service.performance.tolerance_pu * 2000.0)
    assert home.soc == pytest.approx(lowest, abs=TAPER)


def test_nothing_recovers_while_something_is_delivered() -> None:
    arm = ArmService(award_id="a", service=services.load("gb-dc"), contracted_w=2000.0)
    home = Home(arm, 0.12, 0.95)
    quiet = home.step(0.0, 50.0).baseline_w
    busy = home.step(0.0, 49.6).baseline_w
    assert quiet < 0.0
    assert busy == 0.0


def test_a_service_that_always_moves_recovers_while_it_moves_a_little() -> None:
    """FCR-N has no deadband: it is at rest at exactly 50 Hz only."""
    service = services.load("fcr-n")
    home = Home(ArmService(award_id="a", service=service, contracted_w=1000.0), 0.12, 0.95)
    recovery_w = 0.8 * service.performance.tolerance_pu * 1000.0
    for hz, moved_w in ((49.96, -recovery_w), (50.04, -recovery_w), (49.94, 0.0)):
        assert home.step(0.0, hz).baseline_w == pytest.approx(moved_w)


@pytest.mark.parametrize(
    ("service_id", "moves"),
    [
        ("fcr-n", True),
        ("afrr", True),
        *((rests, False) for rests in ("fcr", "gb-dc", "gb-dr", "ercot-ffr", "pjm-rega", "ieee1547-droop", "fcr-d-up")),
    ],
)
def test_which_services_always_move(service_id: str, moves: bool) -> None:
    assert services.load(service_id).always_moves is moves


def test_a_trigger_that_recovers_keeps_the_energy_of_the_next_time() -> None:
    arm = ArmService(award_id="a", service=FFR, contracted_w=3000.0)
    home = Home(arm, 0.6, 0.95)
    for _ in range(960):
        home.step(0.0, 59.8 if home.now_s < 2 else 60.0)
    assert home.state.phase.value == "recovering"
    need = needed([(arm, home.law, home.state)], home.now_s)
    assert need.up_wh == pytest.approx(3000 * 900.25 / 3600)
