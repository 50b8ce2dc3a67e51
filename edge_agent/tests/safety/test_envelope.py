"""What the limits at the grid connection leave at the inverter."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.model.intent import Envelope
from edge_agent.model.values import PowerBounds
from edge_agent.safety.envelope import (
    FORGOTTEN_S,
    LAG_S,
    UNLIMITED_W,
    Connection,
    Load,
    at_inverter,
    follow,
    granted,
    relaxed,
    tighter,
)

BOTH = Connection(export_limit_w=3000.0, import_limit_w=4000.0)


def known(load_w: float) -> Load:
    return follow(Load(), load_w, 0.0, 100.0)  # the inverter gives it all, the meter shows nothing


@pytest.mark.parametrize(
    ("connection", "load", "lower_w", "upper_w"),
    [
        pytest.param(BOTH, known(1000.0), -3000.0, 4000.0, id="the home takes its part of what is given"),
        pytest.param(BOTH, known(0.0), -4000.0, 3000.0, id="no load"),
        pytest.param(BOTH, known(-500.0), -4500.0, 2500.0, id="a home that gives by itself"),
        pytest.param(BOTH, known(5000.0), 1000.0, 8000.0, id="more load than may be imported: the inverter must give"),
        pytest.param(BOTH, Load(), 0.0, 3000.0, id="load not known: no charging, export as if there were none"),
        pytest.param(Connection(export_limit_w=0.0), known(700.0), -UNLIMITED_W, 700.0, id="zero export"),
        pytest.param(Connection(export_limit_w=0.0), Load(), -UNLIMITED_W, 0.0, id="zero export, load not known"),
        pytest.param(Connection(import_limit_w=4000.0), known(700.0), -3300.0, UNLIMITED_W, id="import only"),
        pytest.param(Connection(import_limit_w=4000.0), Load(), 0.0, UNLIMITED_W, id="import only, load not known"),
        pytest.param(Connection(export_limit_w=0.0, import_limit_w=9.0), known(-20.0), -29.0, -20.0, id="must take"),
    ],
)
def test_what_is_left(connection: Connection, load: Load, lower_w: float, upper_w: float) -> None:
    assert at_inverter(connection, load, 100.0) == PowerBounds(lower_w=lower_w, upper_w=upper_w)


def test_nothing_is_limited() -> None:
    assert at_inverter(Connection(), known(700.0), 100.0) is None


def test_a_load_is_forgotten() -> None:
    connection = Connection(export_limit_w=1000.0)
    for after_s, upper_w in ((FORGOTTEN_S, 1700.0), (FORGOTTEN_S + 0.001, 1000.0), (-0.001, 1000.0)):
        bounds = at_inverter(connection, known(700.0), 100.0 + after_s)
        assert bounds is not None
        assert bounds.upper_w == upper_w


def test_a_load_is_followed_with_its_lag() -> None:
    load = follow(known(700.0), 2700.0, 0.0, 100.0 + LAG_S)
    assert load.load_w == pytest.approx(700.0 + 2000.0 * (1 - 1 / math.e))
    assert load.at_s == 100.0 + LAG_S
    assert follow(load, 500.0, -200.0, 100.0 + LAG_S + FORGOTTEN_S + 1).load_w == 700.0, "begun anew"


@pytest.mark.parametrize(
    ("inverter_w", "grid_w"), [(None, 0.0), (0.0, None), (None, None), (math.nan, 0.0), (0.0, math.inf)]
)
def test_a_reading_that_is_missing_or_no_number_changes_nothing(inverter_w: float | None, grid_w: float | None) -> None:
    assert follow(known(700.0), inverter_w, grid_w, 101.0) == known(700.0)


limit = st.none() | st.floats(0, 1e5)


@given(export_w=limit, import_w=limit, load_w=st.floats(-1e5, 1e5), known_=st.booleans())
def test_it_is_a_finite_range(export_w: float | None, import_w: float | None, load_w: float, known_: bool) -> None:
    connection = Connection(export_limit_w=export_w, import_limit_w=import_w)
    bounds = at_inverter(connection, known(load_w) if known_ else Load(), 100.0)
    if bounds is None:
        assert export_w is None
        assert import_w is None
        return
    assert math.isfinite(bounds.lower_w)
    assert math.isfinite(bounds.upper_w)
    assert bounds.lower_w <= bounds.upper_w
    if known_ and export_w is not None:  # at its end the grid sees just what is allowed
        assert bounds.upper_w - load_w == pytest.approx(export_w, abs=1e-6)


ENVELOPE = Envelope(
    envelope_id="e", start_s=100.0, mtu_s=900.0, import_limit_w=(4000.0, 0.0), export_limit_w=(3000.0, 1500.0)
)


@pytest.mark.parametrize(
    ("now_s", "import_w", "export_w"),
    [
        pytest.param(99.999, None, None, id="before its first unit"),
        pytest.param(100.0, 4000.0, 3000.0, id="the first unit begins"),
        pytest.param(999.999, 4000.0, 3000.0, id="and ends"),
        pytest.param(1000.0, 0.0, 1500.0, id="the last unit"),
        pytest.param(1899.999, 0.0, 1500.0, id="ends"),
        pytest.param(1900.0, None, None, id="after it"),
    ],
)
def test_the_operators_limits_hold_in_their_unit(now_s: float, import_w: float | None, export_w: float | None) -> None:
    assert granted(ENVELOPE, now_s) == Connection(import_limit_w=import_w, export_limit_w=export_w)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        pytest.param(Connection(), Connection(), Connection(), id="none"),
        pytest.param(BOTH, Connection(), BOTH, id="one alone"),
        pytest.param(Connection(), BOTH, BOTH, id="the other alone"),
        pytest.param(
            BOTH,
            Connection(export_limit_w=2000.0, import_limit_w=5000.0),
            Connection(export_limit_w=2000.0, import_limit_w=4000.0),
            id="each way the lower",
        ),
    ],
)
def test_of_two_limits_the_tighter_holds(one: Connection, other: Connection, both: Connection) -> None:
    assert tighter(one, other) == both


@pytest.mark.parametrize(
    ("held_w", "asked_w", "most_w", "after_w"),
    [
        pytest.param(None, None, 500.0, None, id="nothing"),
        pytest.param(None, 1000.0, 0.0, 1000.0, id="a limit comes at once"),
        pytest.param(3000.0, 1000.0, 0.0, 1000.0, id="narrower at once"),
        pytest.param(1000.0, 3000.0, 500.0, 1500.0, id="wider by a step"),
        pytest.param(1000.0, 1200.0, 500.0, 1200.0, id="wider, and there"),
        pytest.param(1000.0, 3000.0, 0.0, 1000.0, id="no wider"),
        pytest.param(1000.0, None, 500.0, 1500.0, id="taken away by a step"),
        pytest.param(4400.0, None, 500.0, 4900.0, id="short of where it binds nothing"),
        pytest.param(4500.0, None, 500.0, None, id="where it binds nothing any more"),
        pytest.param(6000.0, None, 0.0, None, id="bound nothing"),
    ],
)
def test_narrower_at_once_and_wider_by_steps(
    held_w: float | None, asked_w: float | None, most_w: float, after_w: float | None
) -> None:
    export = relaxed(Connection(export_limit_w=held_w), Connection(export_limit_w=asked_w), most_w, 5000.0)
    assert export == Connection(export_limit_w=after_w)
    taken = relaxed(Connection(import_limit_w=held_w), Connection(import_limit_w=asked_w), most_w, 5000.0)
    assert taken == Connection(import_limit_w=after_w)
