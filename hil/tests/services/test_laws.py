"""Every shipped service: the published points, and the agent's law against the judge's, which share only the TOML."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.dispatch.expected import LiveTarget, expected_share
from edge_agent.control.frequency_response import law
from edge_agent.model.values import Quality, Sample
from hil.data.recordings import underfrequency_event
from protos import services
from protos.services import Service

Shares = list[float]
Law = Callable[[Service, Sequence[float], float, float], Shares]


def agents(service: Service, frequency_hz: Sequence[float], dt_s: float, ratio: float) -> Shares:
    """Shares of the agent's law, a cycle every dt_s; `ratio`: the inverter's rating over the contracted power."""
    response = law(service, contracted_w=1000.0, rated_power_w=1000.0 * ratio)
    state, shares = response.start(0.0), []
    for cycle, hz in enumerate(frequency_hz, 1):
        state = response.step(state, Sample(float(hz), Quality.GOOD, cycle * dt_s), cycle * dt_s)
        shares.append(state.share)
    return shares


def judges(service: Service, frequency_hz: Sequence[float], dt_s: float, ratio: float) -> Shares:
    return [float(share) for share in expected_share(service, frequency_hz, dt_s, ratio)]


def live(service: Service, frequency_hz: Sequence[float], dt_s: float, ratio: float) -> Shares:
    target = LiveTarget(service, [ratio])
    return [float(target.step(hz, dt_s)[0]) for hz in frequency_hz]


EVERY_LAW = pytest.mark.parametrize("shares", [agents, judges, live])


def on(nominal_hz: int, service_id: str) -> Service:
    """A shipped service on a grid of this frequency."""
    own = services.load(service_id).nominal_hz
    return services.parse(services.text(service_id).replace(f"nominal_hz = {own}", f"nominal_hz = {nominal_hz}"))


def settled(shares: Law, service: Service, hz: float, ratio: float = 1.0) -> float:
    """Long after a step."""
    return shares(service, [service.nominal_hz, *[hz] * 20], 10.0, ratio)[-1]


POINTS = {  # reference: services 1.9
    "gb-dc": [0, 0, 0.001351, 0.009459, 0.022973, 0.036486, 0.05, 0.366667, 0.525, 1, 1],
    "gb-dm": [0, 0, 0.002941, 0.020588, 0.05, 0.525, 1, 1, 1, 1, 1],
    "gb-dr": [0, 0, 0.027027, 0.189189, 0.459459, 0.729730, 1, 1, 1, 1, 1],
    "fcr": [0, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1],
    "fcr-n": [0, 0.15, 0.2, 0.5, 1, 1, 1, 1, 1, 1, 1],
    "fcr-d-up": [0, 0, 0, 0, 0, 0.125, 0.25, 0.5, 0.625, 1, 1],
}
AT_HZ = [50.0, 49.985, 49.98, 49.95, 49.9, 49.85, 49.8, 49.7, 49.65, 49.5, 49.2]
ONE_SIDED = {"gb-dc-low": "gb-dc", "gb-dm-low": "gb-dm", "gb-dr-low": "gb-dr", "fcr-d-up": "fcr-d-up"}
MIRROR = {"gb-dc-low": "gb-dc-high", "gb-dm-low": "gb-dm-high", "gb-dr-low": "gb-dr-high", "fcr-d-up": "fcr-d-down"}


@EVERY_LAW
@pytest.mark.parametrize("nominal_hz", [50, 60])
@pytest.mark.parametrize("service_id", ["gb-dc", "gb-dm", "gb-dr", "fcr", "fcr-n"])
def test_points_of_the_symmetric_services(service_id: str, nominal_hz: int, shares: Law) -> None:
    service = on(nominal_hz, service_id)
    for hz, share in zip(AT_HZ, POINTS[service_id], strict=True):
        below, above = nominal_hz + (hz - 50), nominal_hz - (hz - 50)
        assert settled(shares, service, below) == pytest.approx(share, abs=1e-6), below
        assert settled(shares, service, above) == pytest.approx(-share, abs=1e-6), above


@EVERY_LAW
@pytest.mark.parametrize("nominal_hz", [50, 60])
@pytest.mark.parametrize("low", sorted(ONE_SIDED))
def test_points_of_the_one_sided_services(low: str, nominal_hz: int, shares: Law) -> None:
    up, down = on(nominal_hz, low), on(nominal_hz, MIRROR[low])
    for hz, share in zip(AT_HZ, POINTS[ONE_SIDED[low]], strict=True):
        below, above = nominal_hz + (hz - 50), nominal_hz - (hz - 50)
        assert settled(shares, up, below) == pytest.approx(share, abs=1e-6), below
        assert settled(shares, down, above) == pytest.approx(-share, abs=1e-6), above
        assert settled(shares, up, above) == settled(shares, down, below) == 0


@EVERY_LAW
def test_insensitivity_is_not_a_shift(shares: Law) -> None:
    """Nothing inside 49.99 to 50.01 Hz, both included; beyond it the line through nominal."""
    fcr = services.load("fcr")
    for hz, share in ((49.995, 0), (49.99, 0), (50.01, 0), (49.9899, 0.0505), (50.0101, -0.0505), (50.05, -0.25)):
        assert settled(shares, fcr, hz) == pytest.approx(share, abs=1e-9), hz


@EVERY_LAW
@pytest.mark.parametrize(
    ("frequency_hz", "before", "available", "result"),
    [
        # IEEE 1547-2018 with its default settings, per unit of the rating (reference: services 1.9)
        (60.036, 1.0, 1.0, 1.0),
        (60.3, 1.0, 1.0, 0.91200),
        (60.5, 1.0, 1.0, 0.84533),
        (61.2, 1.0, 1.0, 0.61200),
        (59.7, 0.5, 1.0, 0.58800),
        (59.7, 0.95, 1.0, 1.0),
    ],
)
def test_ieee_1547_points(frequency_hz: float, before: float, available: float, result: float, shares: Law) -> None:
    share = settled(shares, services.load("ieee1547-droop"), frequency_hz)
    assert min(available, before + share) == pytest.approx(result, abs=1e-5)


@EVERY_LAW
@pytest.mark.parametrize("nominal_hz", [50, 60])
def test_limited_frequency_sensitive_modes(nominal_hz: int, shares: Law) -> None:
    """5 % droop from 0.2 Hz: at 0.45 Hz 0.25 Hz beyond it, a tenth of the rating; twice that of half the rating."""
    over, under = on(nominal_hz, "lfsm-o"), on(nominal_hz, "lfsm-u")
    for sign, mode in ((1, over), (-1, under)):
        for deviation_hz, share in ((0.2, 0.0), (0.45, 0.1), (1.2, 0.4)):
            hz = nominal_hz + sign * deviation_hz
            assert settled(shares, mode, hz) == pytest.approx(-sign * share, abs=1e-9)
            assert settled(shares, mode, hz, ratio=2.0) == pytest.approx(-sign * 2 * share, abs=1e-9)
        assert settled(shares, mode, nominal_hz - sign * 1.0) == 0


@EVERY_LAW
@pytest.mark.parametrize("kind", ["very-fast", "fast", "slow"])
def test_australian_contingency(kind: str, shares: Law) -> None:
    for sign, way in ((1, "raise"), (-1, "lower")):
        service = services.load(f"nem-{kind}-{way}")
        for deviation_hz, share in ((0.0, 0), (0.15, 0), (0.325, 0.5), (0.5, 1), (0.8, 1)):
            assert settled(shares, service, 50 - sign * deviation_hz) == pytest.approx(sign * share, abs=1e-9)


@EVERY_LAW
def test_ramp_limits_every_change(shares: Law) -> None:
    """DR: an eighth of the contract a second, there and back, through a crossing."""
    found = shares(services.load("gb-dr"), [50.0] + [49.7] * 100 + [50.3] * 100, 0.1, 1.0)
    assert found[40] == pytest.approx(0.5)
    assert found[80:101] == pytest.approx([1.0] * 21)
    assert found[180] == pytest.approx(0.0)
    assert np.abs(np.diff(found)).max() == pytest.approx(0.0125)


@EVERY_LAW
@pytest.mark.parametrize(("service_id", "nominal_hz"), [("synthetic-inertia-50", 50), ("synthetic-inertia-60", 60)])
@pytest.mark.parametrize("dt_s", [0.02, 0.05, 0.1])
def test_inertia(service_id: str, nominal_hz: int, dt_s: float, shares: Law) -> None:
    """H = 5 s: a steady -1 Hz/s asks for +0.2 of the rating on 50 Hz (reference: services 1.9), +1/6 on 60 Hz."""
    service = services.load(service_id)
    falling = [nominal_hz - k * dt_s for k in range(round(1.0 / dt_s))]
    found = shares(service, falling, dt_s, 1.0)
    whole = round(0.5 / dt_s)
    assert set(found[:whole]) == {0.0}, "no slope before a whole window was seen"
    assert found[whole:] == pytest.approx([10.0 / nominal_hz] * (len(found) - whole), abs=1e-6)
    rising = shares(service, [2 * nominal_hz - hz for hz in falling], dt_s, 3.0)
    assert rising[-1] == pytest.approx(-30.0 / nominal_hz, abs=1e-6)
    assert shares(service, falling, dt_s, 20.0)[-1] == 1.0, "never beyond the contract"


@EVERY_LAW
@pytest.mark.parametrize("service_id", [s for s in services.shipped() if s.startswith("nordic-ffr")])
def test_nordic_fast_reserve(service_id: str, shares: Law) -> None:
    service = services.load(service_id)
    trigger, timing = service.trigger, service.timing
    assert trigger is not None
    low = trigger.threshold_hz
    path = np.full(9_200, 50.0)
    path[50:100] = low + 0.001  # not yet
    path[100:110] = low
    path[5_000:5_010] = low - 0.1  # before it is ready again
    path[9_110:9_120] = low - 0.1  # ready: 15 minutes after the first activation
    found = np.array(shares(service, path.tolist(), 0.1, 1.0))
    full_s = timing.full_delivery_s + trigger.hold_s
    release_s = 1 / trigger.release_pu_per_s
    assert found[:100].max() == 0
    assert found[100 : 100 + round(full_s * 10)].min() == 1
    middle = 100 + round((full_s + release_s / 2) * 10)
    assert found[middle] == pytest.approx(0.5, abs=0.051 * trigger.release_pu_per_s * 2)
    assert found[100 + round((full_s + release_s) * 10) + 1 : 9_110].max() == 0
    assert found[9_110] == 1


@EVERY_LAW
def test_a_trigger_above_nominal_takes_power(shares: Law) -> None:
    text = services.text("nordic-ffr-497-5s").replace("under_hz = 49.7", "over_hz = 50.3")
    found = shares(services.parse(text), [50.0, 50.299, 50.3, *[50.0] * 90], 0.1, 1.0)
    assert found[:3] == [0, 0, -1]
    assert found[65] == pytest.approx(-1)
    assert found[2 + 63 + 25] == pytest.approx(-0.5)


MODE = services.parse(services.text("fcr").replace("mean_s = 300.0", "mean_s = 10.0"))


def agents_with(frequency_hz: Sequence[float], left_s: Sequence[float], dt_s: float) -> Shares:
    response = law(MODE, contracted_w=1000.0, rated_power_w=5000.0)
    state, shares = response.start(0.0), []
    for cycle, (hz, left) in enumerate(zip(frequency_hz, left_s, strict=True), 1):
        state = response.step(state, Sample(float(hz), Quality.GOOD, cycle * dt_s), cycle * dt_s, float(left))
        shares.append(state.share)
    return shares


def judges_with(frequency_hz: Sequence[float], left_s: Sequence[float], dt_s: float) -> Shares:
    due = expected_share(MODE, frequency_hz, dt_s, 5.0, np.array(left_s, dtype=float))
    return [float(share) for share in due]


def live_with(frequency_hz: Sequence[float], left_s: Sequence[float], dt_s: float) -> Shares:
    target = LiveTarget(MODE, [5.0, 5.0])
    pairs = zip(frequency_hz, left_s, strict=True)
    return [float(target.step(hz, dt_s, [1e9, left])[1]) for hz, left in pairs]


@pytest.mark.parametrize("shares", [agents_with, judges_with, live_with])
def test_reserve_mode_takes_the_mean_off_and_gives_it_back(
    shares: Callable[[Sequence[float], Sequence[float], float], Shares],
) -> None:
    """Steady 49.9 Hz, half the contract. Under 300 s left the mean fades in over 10 s, above 600 s out again."""
    left_s = [400.0] * 200 + [299.0] * 10 + [590.0] * 190 + [601.0] * 150
    found = shares([49.9] * 550, left_s, 0.1)
    assert found[199] == pytest.approx(0.5)
    assert found[249] == pytest.approx(0.25, abs=1e-6), "half way in"
    assert found[320] == found[399] == pytest.approx(0.0, abs=1e-6), "not over by recovering a little"
    assert found[449] == pytest.approx(0.25, abs=1e-6), "half way out"
    assert found[520] == pytest.approx(0.5)
    dip = shares([49.95] * 500 + [49.85] * 10, [100.0] * 510, 0.1)
    assert dip[509] == pytest.approx((0.1 - 0.1 * 10 / 100) / 0.2), "a new dip, less what it added to the mean"


@settings(deadline=None, max_examples=25)
@given(
    steps=st.lists(st.tuples(st.floats(-0.3, 0.3), st.floats(0, 900), st.integers(1, 60)), min_size=1, max_size=12),
    dt_s=st.sampled_from([0.05, 0.1]),
)
def test_agent_and_judge_agree_on_the_reserve_mode(steps: list[tuple[float, float, int]], dt_s: float) -> None:
    frequency_hz = [50.0 + deviation for deviation, _, cycles in steps for _ in range(cycles)]
    left_s = [left for _, left, cycles in steps for _ in range(cycles)]
    judged = np.array(judges_with(frequency_hz, left_s, dt_s))
    assert live_with(frequency_hz, left_s, dt_s) == pytest.approx(judged.tolist(), abs=1e-9)
    # The agent keeps its running mean in steps of a second, and the insensitivity makes 0 of what is nearly 0.05.
    near = np.abs(np.array(agents_with(frequency_hz, left_s, dt_s)) - judged)
    assert near.max() <= 0.05 + 0.3 / 10 / 0.2 + 1e-9
    assert np.median(near) <= 0.02


def assert_agree(service: Service, frequency_hz: Sequence[float], dt_s: float, ratio: float) -> Shares:
    judged = judges(service, frequency_hz, dt_s, ratio)
    assert agents(service, frequency_hz, dt_s, ratio) == pytest.approx(judged, abs=1e-7)
    assert live(service, frequency_hz, dt_s, ratio) == pytest.approx(judged, abs=1e-7)
    return judged


OF_FREQUENCY = [s for s in services.shipped() if services.load(s).signal is None]


@pytest.mark.parametrize("depth", [1.0, 3.0])
@pytest.mark.parametrize("service_id", OF_FREQUENCY)
def test_agent_and_judge_agree_over_the_recorded_event(service_id: str, depth: float) -> None:
    """As recorded, 30 frames a second, in per unit of the service's own grid, and three times as deep."""
    service = services.load(service_id)
    event = underfrequency_event().between(60.0, 90.0)  # the fall from 65 s, its minimum at 71.7 s, the way back
    frequency = service.nominal_hz * (1 + depth * (event.frequency_hz / 60 - 1))
    judged = assert_agree(service, frequency.tolist(), 1 / 30, 2.5)
    if depth > 1 and service.directions[0]:
        assert max(judged) > 0.02


paths = st.lists(st.tuples(st.floats(-0.9, 0.9), st.integers(1, 60)), min_size=1, max_size=12)


@settings(deadline=None, max_examples=10)
@given(path=paths, ratio=st.floats(0.5, 8), dt_s=st.sampled_from([0.02, 0.05, 0.1]), smooth=st.booleans())
@pytest.mark.parametrize("service_id", services.shipped())
def test_agent_and_judge_agree_on_any_path(
    service_id: str, path: list[tuple[float, int]], ratio: float, dt_s: float, smooth: bool
) -> None:
    """Steps, or straight lines between the same points."""
    service = services.load(service_id)
    instants = np.cumsum([0, *(cycles for _, cycles in path)])
    deviations = np.array([0.0, *(deviation for deviation, _ in path)])
    ticks = np.arange(instants[-1] + 1)
    followed = np.interp(ticks, instants, deviations) if smooth else deviations[np.searchsorted(instants, ticks)]
    at_rest = service.nominal_hz if service.signal is None else 0.0
    judged = assert_agree(service, (at_rest + followed).tolist(), dt_s, ratio)
    up, down = service.directions
    assert (0.0 if not down else -1.0) <= min(judged) <= max(judged) <= (1.0 if up else 0.0)


@EVERY_LAW
@pytest.mark.parametrize(
    ("service_id", "asked", "due"),
    [
        pytest.param("pjm-rega", 0.4, 0.4, id="RegA at once"),
        pytest.param("pjm-regd", -1.0, -1.0, id="RegD at once"),
        pytest.param("afrr", 1.0, 30.0 / 300.0, id="aFRR by P/300 s: a tenth after 30 s"),
        pytest.param("afrr", -1.0, -30.0 / 300.0, id="and down"),
        pytest.param("afrr", 0.05, 0.05, id="no further than asked"),
        pytest.param("afrr-up", 1.0, 30.0 / 300.0, id="up"),
        pytest.param("afrr-up", -1.0, 0.0, id="up only"),
        pytest.param("afrr-down", -1.0, -30.0 / 300.0, id="down"),
        pytest.param("afrr-down", 1.0, 0.0, id="down only"),
    ],
)
def test_signals_half_a_minute_after_a_step(service_id: str, asked: float, due: float, shares: Law) -> None:
    assert shares(services.load(service_id), [asked] * 300, 0.1, 2.5)[-1] == pytest.approx(due, abs=1e-9)
