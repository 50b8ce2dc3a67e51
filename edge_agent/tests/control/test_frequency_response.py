"""The laws against published points: IEEE 1547-2018 droop with its lag, ERCOT's trigger (reference: services)."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.control.curve_response import CurveLaw
from edge_agent.control.frequency_response import law
from edge_agent.control.response import BLIND_HOLD_S, BLIND_RELEASE_PU_PER_S, Phase, ResponseLaw, ResponseState
from edge_agent.control.trigger_response import TriggerLaw
from edge_agent.model.values import Quality, Sample
from protos import services
from protos.services import Curve

DROOP = services.load("ieee1547-droop")
FFR = services.load("ercot-ffr")
OVER = services.parse(services.text("ercot-ffr").replace("under_hz = 59.85", "over_hz = 60.15"))
CONTAINMENT = Curve(  # GB Dynamic Containment, its published knots
    reference="contracted",
    knots=((-0.5, 1.0), (-0.2, 0.05), (-0.015, 0.0), (0.015, 0.0), (0.2, -0.05), (0.5, -1.0)),
)
ONE_SIDED = Curve(reference="contracted", knots=((-0.5, 1.0), (0.0, 0.0)))


def good(hz: float, at_s: float = 0.0) -> Sample:
    return Sample(hz, Quality.GOOD, at_s)


def bad(at_s: float = 0.0) -> Sample:
    return Sample(59.0, Quality.STALE, at_s)


def settled(frequency_hz: float, response: ResponseLaw) -> float:
    """Share long after a step, reached in one exact step."""
    state = response.step(response.start(0.0), good(60.0), 0.0)
    return response.step(state, good(frequency_hz), 1e4).share


def run(
    response: ResponseLaw, state: ResponseState, frequency: Sample, start_s: float, end_s: float, dt_s: float = 0.05
) -> ResponseState:
    for i in range(1, round((end_s - start_s) / dt_s) + 1):
        state = response.step(state, frequency, start_s + i * dt_s)
    return state


@pytest.mark.parametrize(
    ("frequency_hz", "power_pu"),
    [
        # services 1.9: p - p_pre of the published (f, p_pre, p_avl) -> p, in shares of the rating
        pytest.param(60.036, 0.0, id="upper end of the deadband"),
        pytest.param(60.3, 0.91200 - 1, id="60.3 Hz"),
        pytest.param(60.5, 0.84533 - 1, id="60.5 Hz"),
        pytest.param(61.2, 0.61200 - 1, id="61.2 Hz"),
        pytest.param(59.7, 0.58800 - 0.5, id="59.7 Hz"),
        pytest.param(59.964, 0.0, id="lower end of the deadband"),
        pytest.param(60.0, 0.0, id="nominal"),
        pytest.param(64.0, -1.0, id="beyond the last knot"),
        pytest.param(56.5, 1.0, id="beyond the first knot"),
    ],
)
def test_ieee1547_droop_points(frequency_hz: float, power_pu: float) -> None:
    share = settled(frequency_hz, law(DROOP, contracted_w=5000.0, rated_power_w=5000.0))
    assert share == pytest.approx(power_pu, abs=1e-5)


@pytest.mark.parametrize(
    ("frequency_hz", "contracted_w", "share"),
    [
        pytest.param(59.7, 1000.0, 0.088 * 5, id="a share of the rating is more of the contract"),
        pytest.param(58.0, 1000.0, 1.0, id="capped at the contract"),
        pytest.param(62.0, 1000.0, -1.0, id="capped at the contract, down"),
    ],
)
def test_droop_of_the_rating_is_capped_at_the_contract(frequency_hz: float, contracted_w: float, share: float) -> None:
    assert settled(frequency_hz, law(DROOP, contracted_w=contracted_w, rated_power_w=5000.0)) == pytest.approx(share)


@pytest.mark.parametrize(
    ("elapsed_s", "power_pu"),
    [
        pytest.param(0.0, 1.0, id="at the step"),
        pytest.param(2.5, 0.93983, id="half the response time"),
        pytest.param(5.0, 0.92080, id="the response time: 90 %"),
    ],
)
@pytest.mark.parametrize("dt_s", [2.5, 0.05, 0.02])
def test_ieee1547_lag(elapsed_s: float, power_pu: float, dt_s: float) -> None:
    """1 -> 0.912 with TResponse 5 s, whatever the cycle's length."""
    response = law(DROOP, contracted_w=5000.0, rated_power_w=5000.0)
    state = response.step(response.start(0.0), good(60.0), 0.0)
    state = run(response, state, good(60.3), 0.0, elapsed_s, dt_s)
    assert 1.0 + state.share == pytest.approx(power_pu, abs=1e-5)


@pytest.mark.parametrize(
    ("frequency_hz", "share"),
    [(50.0, 0.0), (49.985, 0.0), (49.98, 0.001351), (49.85, 0.036486), (49.7, 0.366667), (49.2, 1.0), (50.35, -0.525)],
)
def test_curve_of_the_contract_without_lag(frequency_hz: float, share: float) -> None:
    response = CurveLaw(curve=CONTAINMENT, nominal_hz=50.0, scale=1.0)
    state = response.step(response.start(0.0), good(frequency_hz), 0.0)
    assert state.share == pytest.approx(share, abs=1e-6)


def test_trigger_delivers_at_once_holds_releases_and_rearms() -> None:
    response = law(FFR, contracted_w=3000.0, rated_power_w=5000.0)
    state = run(response, response.start(0.0), good(59.851), 0.0, 5.0)
    assert (state.phase, state.share) == (Phase.READY, 0.0)

    state = response.step(state, good(59.85), 5.05)
    assert (state.phase, state.share, state.seen) == (Phase.DELIVERING, 1.0, 59.85)

    held_until_s = 5.05 + 0.25 + 900.0
    state = response.step(state, good(60.0), held_until_s - 0.001)
    assert (state.phase, state.share) == (Phase.DELIVERING, 1.0)

    state = response.step(state, good(60.0), held_until_s + 1.0)  # a late cycle: the ramp began when it was due
    assert state.phase is Phase.RELEASING
    assert state.share == pytest.approx(0.8)
    state = response.step(state, good(59.0), held_until_s + 3.0)
    assert state.share == pytest.approx(0.4)

    released_s = held_until_s + 5.0
    state = response.step(state, good(60.0), released_s + 0.001)
    assert (state.phase, state.share) == (Phase.RECOVERING, 0.0)
    state = response.step(state, good(59.0), released_s + 899.0)
    assert (state.phase, state.share) == (Phase.RECOVERING, 0.0)
    state = response.step(state, good(59.0), released_s + 900.01)
    assert (state.phase, state.share) == (Phase.DELIVERING, 1.0)


def test_trigger_ignores_what_it_cannot_act_upon_and_says_why() -> None:
    response = law(FFR, contracted_w=3000.0, rated_power_w=5000.0)
    state = response.step(response.start(0.0), bad(), 0.05)
    assert (state.phase, state.note) == (Phase.READY, "frequency is stale")
    for untrue in (47.0, 0.0, -60.0, math.inf, math.nan):
        state = response.step(state, good(untrue), 0.1)
        assert state.phase is Phase.READY
        assert "cannot be true" in state.note


def test_trigger_keeps_its_hold_through_missing_frequency() -> None:
    response = law(FFR, contracted_w=3000.0, rated_power_w=5000.0)
    state = response.step(response.start(0.0), good(59.8), 0.05)
    state = run(response, state, bad(), 0.05, 30.0)
    assert (state.phase, state.share) == (Phase.DELIVERING, 1.0)


def test_curve_holds_then_lets_go_along_a_ramp_while_blind() -> None:
    response = CurveLaw(curve=CONTAINMENT, nominal_hz=50.0, scale=1.0)  # no lag: the ramp alone shows
    state = response.step(response.start(0.0), good(49.2), 0.0)
    assert state.share == 1.0
    state = run(response, state, bad(), 0.0, BLIND_HOLD_S)
    assert state.share == 1.0
    assert "held" in state.note
    state = run(response, state, bad(), BLIND_HOLD_S, BLIND_HOLD_S + 2.0)
    assert state.share == pytest.approx(1.0 - 2.0 * BLIND_RELEASE_PU_PER_S)
    assert "let go" in state.note
    state = response.step(state, good(49.2), BLIND_HOLD_S + 2.05)
    assert (state.share, state.note) == (1.0, "")


def test_recalled_curve_lets_go_along_its_own_lag_but_no_faster_than_the_ramp() -> None:
    response = law(DROOP, contracted_w=1100.0, rated_power_w=5000.0)
    state = response.step(response.start(0.0), good(60.0), 0.0)
    state = response.step(state, good(59.7), 1e3)
    assert state.share == pytest.approx(0.4)
    state = run(response, response.recall(state, 1e3), good(59.7), 1e3, 1e3 + 5.0)
    assert state.share == pytest.approx(0.04)  # from here on the lag is slower than the ramp: 10 % after 5 s
    state = run(response, state, good(59.7), 1e3 + 5.0, 1e3 + 15.0)
    assert (state.phase, state.share) == (Phase.ENDED, 0.0)

    full = replace(state, phase=Phase.DELIVERING, share=1.0)
    full = run(response, response.recall(full, 2e3), good(59.7), 2e3, 2e3 + 2.0)
    assert full.share == pytest.approx(1.0 - 2.0 * BLIND_RELEASE_PU_PER_S)


def test_recalled_trigger_releases_along_its_ramp_and_ends() -> None:
    response = law(FFR, contracted_w=3000.0, rated_power_w=5000.0)
    state = response.recall(response.step(response.start(0.0), good(59.8), 0.05), 10.0)
    state = response.step(state, good(59.0), 12.0)
    assert state.share == pytest.approx(1.0 - 2.0 * 0.2)
    state = response.step(state, good(59.0), 15.1)
    assert (state.phase, state.share) == (Phase.ENDED, 0.0)
    assert response.step(state, good(59.0), 2e3) == state


def test_recalled_while_ready_ends_at_once() -> None:
    response = law(FFR, contracted_w=3000.0, rated_power_w=5000.0)
    state = response.step(response.recall(response.start(0.0), 1.0), good(59.0), 1.05)
    assert (state.phase, state.share) == (Phase.ENDED, 0.0)


def test_curve_phase_tells_when_it_responds() -> None:
    response = law(DROOP, contracted_w=1000.0, rated_power_w=5000.0)
    state = run(response, response.start(0.0), good(59.99), 0.0, 5.0)
    assert state.phase is Phase.READY
    state = run(response, state, good(59.7), 5.0, 10.0)
    assert state.phase is Phase.DELIVERING
    state = run(response, state, good(60.0), 10.0, 30.0)
    assert state.phase is Phase.READY


@pytest.mark.parametrize(
    ("response", "direction"),
    [
        (law(FFR, contracted_w=1.0, rated_power_w=1.0), (True, False)),
        (law(DROOP, contracted_w=1.0, rated_power_w=1.0), (True, True)),
        (law(services.load("lfsm-o"), contracted_w=1.0, rated_power_w=1.0), (False, True)),
        (law(services.load("synthetic-inertia-50"), contracted_w=1.0, rated_power_w=1.0), (True, True)),
        (law(OVER, contracted_w=1.0, rated_power_w=1.0), (False, True)),
        (CurveLaw(curve=ONE_SIDED, nominal_hz=50.0, scale=1.0), (True, False)),
    ],
)
def test_directions(response: ResponseLaw, direction: tuple[bool, bool]) -> None:
    assert response.direction == direction


samples = st.builds(
    Sample,
    st.one_of(st.floats(), st.floats(55.0, 65.0)),
    st.sampled_from(list(Quality)),
    st.just(0.0),
)


@given(steps=st.lists(st.tuples(samples, st.floats(0.0, 400.0)), max_size=40), recall_at=st.integers(0, 60))
@pytest.mark.parametrize(
    "service",
    [FFR, OVER, DROOP, *map(services.load, ("gb-dr", "fcr", "synthetic-inertia-60"))],
    ids=lambda service: service.title,
)
def test_share_stays_inside_the_contract_whatever_is_measured(
    service: services.Service, steps: list[tuple[Sample, float]], recall_at: int
) -> None:
    response = law(service, contracted_w=1500.0, rated_power_w=5000.0)
    state, now_s = response.start(0.0), 0.0
    for i, (sample, dt_s) in enumerate(steps):
        now_s += dt_s
        if i == recall_at:
            state = response.recall(state, now_s)
        state = response.step(state, sample, now_s)
        assert -1.0 <= state.share <= 1.0
        assert response.direction[1] or state.share >= 0.0
        assert response.direction[0] or state.share <= 0.0


@given(deviation_hz=st.floats(-4.9, 4.9), step_hz=st.floats(0.0, 1.0))
def test_less_frequency_never_asks_for_less_power(deviation_hz: float, step_hz: float) -> None:
    response = CurveLaw(curve=CONTAINMENT, nominal_hz=50.0, scale=1.0)
    assert response.target(50.0 + deviation_hz - step_hz) >= response.target(50.0 + deviation_hz)


def test_hold_left_is_what_the_contract_may_still_ask() -> None:
    trigger = law(FFR, contracted_w=3000.0, rated_power_w=5000.0)
    assert isinstance(trigger, TriggerLaw)
    state = trigger.start(0.0)
    assert trigger.hold_left_s(state, 0.0) == pytest.approx(900.25)
    state = trigger.step(state, good(59.8), 10.0)
    assert trigger.hold_left_s(state, 310.0) == pytest.approx(600.25)
    assert trigger.hold_left_s(replace(state, phase=Phase.RELEASING), 310.0) == 0.0
