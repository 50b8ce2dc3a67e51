"""The gate by table, by property, and by mutation: each comparison it makes is needed by some case of the table."""

import ast
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.model import values
from edge_agent.model.values import Applied, Clipped, PowerBounds, Refused, Setpoint, Verdict
from edge_agent.safety import gate
from edge_agent.safety.gate import admit

NAN, INF = math.nan, math.inf
BOUNDS = PowerBounds(lower_w=-3000.0, upper_w=5000.0)


def ask(power_w: float, admit_: Callable[..., Verdict] = admit, **changes: Any) -> Verdict:
    given_: dict[str, Any] = {
        "bounds": BOUNDS, "previous_w": None, "ramp_w_per_s": None, "dt_s": 0.05, "now_s": 100.0, "expires_s": 110.0,
    } | changes  # fmt: skip
    request = Setpoint(power_w=power_w, source="test", expires_s=given_.pop("expires_s"))
    return admit_(request, given_.pop("bounds"), **given_)


# Power asked, what differs from the ordinary case, power admitted (None: refused), what clipped or refused it.
CASES = [
    pytest.param(1000.0, {}, 1000.0, "", id="inside: as asked"),
    pytest.param(-3000.0, {}, -3000.0, "", id="on the lower bound: as asked"),
    pytest.param(5000.0, {}, 5000.0, "", id="on the upper bound: as asked"),
    pytest.param(-3001.0, {}, -3000.0, "device bounds", id="below: the lower bound"),
    pytest.param(5001.0, {}, 5000.0, "device bounds", id="above: the upper bound"),
    pytest.param(0.0, {"bounds": None}, None, "no fresh bounds", id="unknown bounds"),
    pytest.param(0.0, {"bounds": PowerBounds(lower_w=1.0, upper_w=0.0)}, None, "bounds", id="bounds crossed"),
    pytest.param(7.0, {"bounds": PowerBounds(lower_w=5.0, upper_w=5.0)}, 5.0, "device bounds", id="one power allowed"),
    pytest.param(0.0, {"bounds": PowerBounds(lower_w=NAN, upper_w=1.0)}, None, "bounds", id="lower bound no number"),
    pytest.param(0.0, {"bounds": PowerBounds(lower_w=0.0, upper_w=NAN)}, None, "bounds", id="upper bound no number"),
    pytest.param(0.0, {"bounds": PowerBounds(lower_w=-INF, upper_w=1.0)}, None, "bounds", id="no lower bound"),
    pytest.param(0.0, {"bounds": PowerBounds(lower_w=0.0, upper_w=INF)}, None, "bounds", id="no upper bound"),
    pytest.param(NAN, {}, None, "power is not finite", id="power no number"),
    pytest.param(INF, {}, None, "power is not finite", id="infinite power"),
    pytest.param(-INF, {}, None, "power is not finite", id="infinite charge"),
    pytest.param(0.0, {"now_s": 109.999}, 0.0, "", id="just before expiry"),
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
    pytest.param(5000.0, {"previous_w": 9000.0, "ramp_w_per_s": 20e3}, 5000.0, "", id="ramp and bounds cancel out"),
    pytest.param(0.0, {"previous_w": NAN, "ramp_w_per_s": 20e3}, None, "ramp", id="previous power no number"),
    pytest.param(0.0, {"previous_w": INF, "ramp_w_per_s": 20e3}, None, "ramp", id="previous power infinite"),
    pytest.param(0.0, {"previous_w": 0.0, "ramp_w_per_s": NAN}, None, "ramp", id="ramp no number"),
    pytest.param(0.0, {"previous_w": 0.0, "ramp_w_per_s": INF}, None, "ramp", id="ramp infinite"),
    pytest.param(0.0, {"previous_w": 0.0, "ramp_w_per_s": -1.0}, None, "ramp", id="ramp negative"),
    pytest.param(0.0, {"previous_w": 0.0, "ramp_w_per_s": -1.0, "dt_s": -1.0}, None, "ramp", id="both negative"),
    pytest.param(0.0, {"previous_w": 0.0, "ramp_w_per_s": 1.0, "dt_s": -1.0}, None, "ramp", id="time runs backwards"),
    pytest.param(0.0, {"previous_w": 0.0, "ramp_w_per_s": 1.0, "dt_s": NAN}, None, "ramp", id="time no number"),
]  # fmt: skip


def holds(verdict: Verdict, asked_w: float, admitted_w: float | None, why: str) -> bool:
    match verdict:
        case Refused(reason):
            return admitted_w is None and why in reason
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


@given(
    asked=anything, lower=anything, upper=anything, previous=maybe, ramp=maybe, dt=anything, now=anything, end=anything
)
def test_whatever_comes_in_only_what_is_safe_goes_out(
    asked: float,
    lower: float,
    upper: float,
    previous: float | None,
    ramp: float | None,
    dt: float,
    now: float,
    end: float,
) -> None:
    bounds = PowerBounds(lower_w=lower, upper_w=upper)
    arguments: dict[str, Any] = {
        "bounds": bounds, "previous_w": previous, "ramp_w_per_s": ramp, "dt_s": dt, "now_s": now, "expires_s": end,
    }  # fmt: skip
    verdict = ask(asked, **arguments)
    assert verdict == ask(asked, **arguments)  # the same question has the same answer
    if isinstance(verdict, Refused):
        return
    power_w = verdict.setpoint.power_w
    assert math.isfinite(power_w)
    assert lower <= power_w <= upper
    assert now < end
    if previous is not None and ramp is not None:
        step_w = ramp * dt
        inside_ramp = previous - step_w <= power_w <= previous + step_w
        # Further than the ramp only where the bounds have moved away from under the last power.
        assert inside_ramp or (power_w == lower > previous) or (power_w == upper < previous)


finite = st.floats(min_value=-1e6, max_value=1e6)


@given(asked=finite, ends=st.tuples(finite, finite), previous=finite, ramp=st.floats(0, 1e6), dt=st.floats(0, 10))
def test_what_is_safe_is_not_refused(
    asked: float, ends: tuple[float, float], previous: float, ramp: float, dt: float
) -> None:
    bounds = PowerBounds(lower_w=min(ends), upper_w=max(ends))
    verdict = ask(asked, bounds=bounds, previous_w=previous, ramp_w_per_s=ramp, dt_s=dt)
    assert not isinstance(verdict, Refused)
    if bounds.lower_w <= asked <= bounds.upper_w and abs(asked - previous) <= ramp * dt * (1 - 1e-9):
        assert isinstance(verdict, Applied)


_SWAPS: dict[type[ast.AST], list[ast.AST]] = {
    ast.Lt: [ast.LtE(), ast.GtE()],
    ast.LtE: [ast.Lt(), ast.Gt()],
    ast.NotEq: [ast.Eq()],
    ast.Eq: [ast.NotEq()],
    ast.Is: [ast.IsNot()],
    ast.IsNot: [ast.Is()],
    ast.And: [ast.Or()],
    ast.Or: [ast.And()],
    ast.Add: [ast.Sub()],
    ast.Sub: [ast.Add()],
    ast.Mult: [ast.Add()],
}


def _mutants() -> Iterator[tuple[str, ast.Module]]:
    """The gate's source with one operator exchanged, one `not` dropped, or min and max swapped."""
    source = inspect.getsource(gate)

    def fresh() -> tuple[ast.Module, list[ast.AST]]:
        tree = ast.parse(source)
        return tree, list(ast.walk(tree))

    for index, node in enumerate(fresh()[1]):
        match node:
            case ast.Compare(ops=ops):
                for place, op in enumerate(ops):
                    for swap in _SWAPS[type(op)]:
                        tree, nodes = fresh()
                        nodes[index].ops[place] = swap  # type: ignore[attr-defined]
                        yield f"line {node.lineno}: {type(op).__name__} -> {type(swap).__name__}", tree
            case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in _SWAPS:
                for swap in _SWAPS[type(op)]:
                    tree, nodes = fresh()
                    nodes[index].op = swap  # type: ignore[attr-defined]
                    yield f"line {node.lineno}: {type(op).__name__} -> {type(swap).__name__}", tree
            case ast.UnaryOp(op=ast.Not()):
                tree, nodes = fresh()
                nodes[index].op = ast.UAdd()  # type: ignore[attr-defined]
                yield f"line {node.lineno}: not dropped", tree
            case ast.Name(id="min" | "max" as name):
                tree, nodes = fresh()
                nodes[index].id = {"min": "max", "max": "min"}[name]  # type: ignore[attr-defined]
                yield f"line {node.lineno}: {name} swapped", tree


MUTANTS = [pytest.param(tree, id=name) for name, tree in _mutants()]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_operator_of_the_gate_matters_to_some_case(mutant: ast.Module) -> None:
    namespace: dict[str, Any] = {"values": values}
    exec(compile(ast.fix_missing_locations(mutant), "mutant", "exec"), namespace)

    def survives(asked_w: float, changes: dict[str, Any], admitted_w: float | None, why: str) -> bool:
        try:
            return holds(ask(asked_w, namespace["admit"], **changes), asked_w, admitted_w, why)
        except TypeError:
            return False

    assert not all(survives(*case.values) for case in CASES), "no case of the table notices this change"  # type: ignore[arg-type]


def test_there_are_mutants() -> None:
    assert len(MUTANTS) > 25
