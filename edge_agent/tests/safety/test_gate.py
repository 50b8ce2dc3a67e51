"""The gate by table and by property. `make mutants` shows that each comparison it makes is needed by some case."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.model.values import Applied, Clipped, PowerBounds, Refused, Setpoint, Verdict
from edge_agent.safety.gate import FRESH_S, admit

NAN, INF = math.nan, math.inf
BOUNDS = PowerBounds(lower_w=-3000.0, upper_w=5000.0)


def ask(power_w: float, **changes: Any) -> Verdict:
    given_: dict[str, Any] = {
        "bounds": BOUNDS, "envelope": None, "rated_power_w": 6000.0, "read_s": 99.9, "previous_w": None,
        "ramp_w_per_s": None, "dt_s": 0.05, "now_s": 100.0, "expires_s": 110.0,
    } | changes  # fmt: skip
    request = Setpoint(power_w=power_w, source="test", expires_s=given_.pop("expires_s"))
    return admit(request, given_.pop("bounds"), **given_)


def limits(lower_w: float, upper_w: float) -> PowerBounds:
    return PowerBounds(lower_w=lower_w, upper_w=upper_w)


NO_RANGE = "bounds are not a finite range"
NO_RAMP = "ramp cannot be kept: it, its time or the previous power is not a number"

# Power asked, what differs from the ordinary case, power admitted (None: refused), what clipped or refused it.
CASES = [
    pytest.param(1000.0, {}, 1000.0, "", id="inside: as asked"),
    pytest.param(-3000.0, {}, -3000.0, "", id="on the lower bound: as asked"),
    pytest.param(5000.0, {}, 5000.0, "", id="on the upper bound: as asked"),
    pytest.param(-3001.0, {}, -3000.0, "device bounds", id="below: the lower bound"),
    pytest.param(5001.0, {}, 5000.0, "device bounds", id="above: the upper bound"),
    pytest.param(0.0, {"bounds": None}, None, "no fresh bounds", id="unknown bounds"),
    pytest.param(0.0, {"bounds": PowerBounds(lower_w=1.0, upper_w=0.0)}, None, NO_RANGE, id="bounds crossed"),
    pytest.param(7.0, {"bounds": PowerBounds(lower_w=5.0, upper_w=5.0)}, 5.0, "device bounds", id="one power allowed"),
    pytest.param(0.0, {"bounds": PowerBounds(lower_w=NAN, upper_w=1.0)}, None, NO_RANGE, id="lower bound no number"),
    pytest.param(0.0, {"bounds": PowerBounds(lower_w=0.0, upper_w=NAN)}, None, NO_RANGE, id="upper bound no number"),
    pytest.param(0.0, {"bounds": PowerBounds(lower_w=-INF, upper_w=1.0)}, None, NO_RANGE, id="no lower bound"),
    pytest.param(0.0, {"bounds": PowerBounds(lower_w=0.0, upper_w=INF)}, None, NO_RANGE, id="no upper bound"),
    pytest.param(-3001.0, {"rated_power_w": 3000.0}, -3000.0, "nameplate", id="charging beyond the rating"),
    pytest.param(4001.0, {"rated_power_w": 4000.0}, 4000.0, "nameplate", id="beyond the rating"),
    pytest.param(4000.0, {"rated_power_w": 4000.0}, 4000.0, "", id="at the rating: as asked"),
    pytest.param(0.0, {"rated_power_w": 0.0}, None, "nameplate has no rated power", id="no rating"),
    pytest.param(0.0, {"rated_power_w": 0.5}, 0.0, "", id="a tiny rating"),
    pytest.param(0.0, {"rated_power_w": -1.0}, None, "nameplate has no rated power", id="rating negative"),
    pytest.param(0.0, {"rated_power_w": NAN}, None, "nameplate has no rated power", id="rating no number"),
    pytest.param(0.0, {"rated_power_w": INF}, None, "nameplate has no rated power", id="rating infinite"),
    pytest.param(2001.0, {"envelope": limits(-1e9, 2000.0)}, 2000.0, "envelope", id="beyond the export limit"),
    pytest.param(2000.0, {"envelope": limits(-1e9, 2000.0)}, 2000.0, "", id="at the export limit: as asked"),
    pytest.param(-2001.0, {"envelope": limits(-2000.0, 1e9)}, -2000.0, "envelope", id="beyond the import limit"),
    pytest.param(0.0, {"envelope": limits(4500.0, 1e9), "rated_power_w": 4000.0}, 4000.0, "nameplate", id="beyond it"),
    pytest.param(0.0, {"envelope": limits(5500.0, 1e9)}, 5000.0, "device bounds", id="envelope out of reach"),
    pytest.param(0.0, {"envelope": limits(7.0, 7.0)}, 7.0, "envelope", id="envelope of one power"),
    pytest.param(0.0, {"envelope": limits(1.0, 0.0)}, None, "envelope is not a finite range", id="envelope crossed"),
    pytest.param(0.0, {"envelope": limits(NAN, 0.0)}, None, "envelope is not a finite range", id="envelope no number"),
    pytest.param(0.0, {"envelope": limits(0.0, INF)}, None, "envelope is not a finite range", id="envelope infinite"),
    pytest.param(0.0, {"read_s": 100.0 - FRESH_S}, 0.0, "", id="read just lately enough"),
    pytest.param(0.0, {"read_s": 99.9 - FRESH_S}, None, "device was not read lately", id="read too long ago"),
    pytest.param(0.0, {"read_s": -INF}, None, "device was not read lately", id="never read"),
    pytest.param(0.0, {"read_s": NAN}, None, "device was not read lately", id="reading's instant no number"),
    pytest.param(NAN, {}, None, "power is not finite", id="power no number"),
    pytest.param(INF, {}, None, "power is not finite", id="infinite power"),
    pytest.param(-INF, {}, None, "power is not finite", id="infinite charge"),
    pytest.param(0.0, {"now_s": 109.999, "read_s": 109.9}, 0.0, "", id="just before expiry"),
    pytest.param(0.0, {"now_s": 110.0}, None, "setpoint expired", id="at expiry"),
    pytest.param(0.0, {"now_s": 110.001}, None, "setpoint expired", id="after expiry"),
    pytest.param(0.0, {"now_s": NAN}, None, "setpoint expired", id="clock no number"),
    pytest.param(0.0, {"expires_s": NAN}, None, "setpoint expired", id="expiry no number"),
    pytest.param(900.0, {"previous_w": 0.0, "ramp_w_per_s": 20e3}, 900.0, "", id="within the ramp"),
    pytest.param(1000.0, {"previous_w": 0.0, "ramp_w_per_s": 20e3}, 1000.0, "", id="as fast as the ramp"),
    pytest.param(1500.0, {"previous_w": 0.0, "ramp_w_per_s": 20e3}, 1000.0, "ramp", id="up too fast"),
    pytest.param(-1500.0, {"previous_w": 0.0, "ramp_w_per_s": 20e3}, -1000.0, "ramp", id="down too fast"),
    pytest.param(1500.0, {"previous_w": 1400.0, "ramp_w_per_s": 0.0}, 1400.0, "ramp", id="no ramp at all"),
    pytest.param(1500.0, {"previous_w": 1400.0, "ramp_w_per_s": 20e3, "dt_s": 0.0}, 1400.0, "ramp", id="no time"),
    pytest.param(4000.0, {"previous_w": None, "ramp_w_per_s": 1.0}, 4000.0, "", id="first setpoint: no ramp"),
    pytest.param(4000.0, {"previous_w": 0.0, "ramp_w_per_s": None}, 4000.0, "", id="no ramp limit"),
    pytest.param(0.0, {"previous_w": 9000.0, "ramp_w_per_s": 20e3}, 5000.0, "device bounds", id="bounds beat the ramp"),
    pytest.param(2000.0, {"previous_w": 2900.0, "ramp_w_per_s": 1e3, "envelope": limits(-9.0, 2500.0)}, 2500.0,
                 "envelope", id="envelope beats the ramp"),
    pytest.param(5000.0, {"previous_w": 9000.0, "ramp_w_per_s": 20e3}, 5000.0, "", id="ramp and bounds cancel out"),
    pytest.param(0.0, {"previous_w": NAN, "ramp_w_per_s": 20e3}, None, NO_RAMP, id="previous power no number"),
    pytest.param(0.0, {"previous_w": INF, "ramp_w_per_s": 20e3}, None, NO_RAMP, id="previous power infinite"),
    pytest.param(0.0, {"previous_w": 0.0, "ramp_w_per_s": NAN}, None, NO_RAMP, id="ramp no number"),
    pytest.param(0.0, {"previous_w": 0.0, "ramp_w_per_s": INF}, None, NO_RAMP, id="ramp infinite"),
    pytest.param(0.0, {"previous_w": 0.0, "ramp_w_per_s": -1.0}, None, NO_RAMP, id="ramp negative"),
    pytest.param(0.0, {"previous_w": 0.0, "ramp_w_per_s": -1.0, "dt_s": -1.0}, None, NO_RAMP, id="both negative"),
    pytest.param(0.0, {"previous_w": 0.0, "ramp_w_per_s": 1.0, "dt_s": -1.0}, None, NO_RAMP, id="time runs backwards"),
    pytest.param(0.0, {"previous_w": 0.0, "ramp_w_per_s": 1.0, "dt_s": NAN}, None, NO_RAMP, id="time no number"),
]  # fmt: skip


def holds(verdict: Verdict, asked_w: float, admitted_w: float | None, why: str) -> bool:
    match verdict:
        case Refused(reason):
            return admitted_w is None and reason == why
        case Applied(setpoint):
            return setpoint.power_w == asked_w == admitted_w and not why
        case Clipped(setpoint, asked, by):
            return setpoint.power_w == admitted_w and asked == asked_w and by == why


@pytest.mark.parametrize(("asked_w", "changes", "admitted_w", "why"), CASES)
def test_table(asked_w: float, changes: dict[str, Any], admitted_w: float | None, why: str) -> None:
    verdict = ask(asked_w, **changes)
    assert holds(verdict, asked_w, admitted_w, why), verdict


def test_what_is_clipped_keeps_source_and_expiry() -> None:
    verdict = ask(9e9)
    assert isinstance(verdict, Clipped)
    assert (verdict.setpoint.source, verdict.setpoint.expires_s) == ("test", 110.0)


anything = st.floats(allow_nan=True, allow_infinity=True)
maybe = st.none() | anything
some_range = st.builds(limits, anything, anything)


@given(
    asked=anything,
    changes=st.fixed_dictionaries(
        {
            "bounds": some_range,
            "envelope": st.none() | some_range,
            "rated_power_w": anything,
            "read_s": anything,
            "previous_w": maybe,
            "ramp_w_per_s": maybe,
            "dt_s": anything,
            "now_s": anything,
            "expires_s": anything,
        }
    ),
)
def test_whatever_comes_in_only_what_is_safe_goes_out(asked: float, changes: dict[str, Any]) -> None:
    verdict = ask(asked, **changes)
    assert verdict == ask(asked, **changes)  # the same question has the same answer
    if isinstance(verdict, Refused):
        return
    power_w, bounds, envelope = verdict.setpoint.power_w, changes["bounds"], changes["envelope"]
    assert math.isfinite(power_w)
    assert bounds.lower_w <= power_w <= bounds.upper_w
    assert changes["now_s"] < changes["expires_s"]
    assert changes["now_s"] - changes["read_s"] <= FRESH_S
    assert changes["rated_power_w"] > 0
    at_a_bound = power_w in (bounds.lower_w, bounds.upper_w)
    at_a_limit = at_a_bound or abs(power_w) == changes["rated_power_w"]
    assert abs(power_w) <= changes["rated_power_w"] or at_a_bound
    if envelope is not None:
        assert envelope.lower_w <= power_w <= envelope.upper_w or at_a_limit
        at_a_limit = at_a_limit or power_w in (envelope.lower_w, envelope.upper_w)
    previous, ramp = changes["previous_w"], changes["ramp_w_per_s"]
    if previous is not None and ramp is not None:
        step_w = ramp * changes["dt_s"]
        # Further than the ramp only where a limit has moved away from under the last power.
        assert previous - step_w <= power_w <= previous + step_w or at_a_limit


finite = st.floats(min_value=-1e6, max_value=1e6)


@given(asked=finite, ends=st.tuples(finite, finite), previous=finite, ramp=st.floats(0, 1e6), dt=st.floats(0, 10))
def test_what_is_safe_is_not_refused(
    asked: float, ends: tuple[float, float], previous: float, ramp: float, dt: float
) -> None:
    bounds = PowerBounds(lower_w=min(ends), upper_w=max(ends))
    verdict = ask(asked, bounds=bounds, previous_w=previous, ramp_w_per_s=ramp, dt_s=dt, rated_power_w=1e9)
    assert not isinstance(verdict, Refused)
    if bounds.lower_w <= asked <= bounds.upper_w and abs(asked - previous) <= ramp * dt * (1 - 1e-9):
        assert isinstance(verdict, Applied)
