"""Services as data: every shipped text parses, and a text that cannot be used says what is wrong with it."""

from pathlib import Path

import pytest

from protos import services


@pytest.mark.parametrize("service_id", services.shipped())
def test_every_shipped_service_parses_and_names_its_source(service_id: str) -> None:
    service = services.load(service_id)
    assert service.id == service_id
    assert service.source
    assert service.date.year >= 2026


def test_ercot_fast_frequency_response_is_as_the_protocols_say() -> None:
    service = services.load("ercot-ffr")
    assert service.trigger is not None
    assert service.trigger.under_hz == 59.85
    assert service.timing.full_delivery_s == 15 / 60  # cycles of 60 Hz
    assert service.trigger.hold_s == 15 * 60


def test_droop_has_the_defaults_of_ieee_1547() -> None:
    curve = services.load("ieee1547-droop").curve
    assert curve is not None
    assert curve.knots[1][0] == -0.036
    assert curve.knots[0][0] == pytest.approx(-(0.036 + 0.05 * 60))
    assert curve.response_90_s == 5.0


@pytest.mark.parametrize(
    ("service_id", "initiation_s", "full_delivery_s", "sustain_s"),
    [  # the operators' own tables (reference: services 1.1 to 1.4)
        ("gb-dc", 0.5, 1.0, 15 * 60),
        ("gb-dm", 0.5, 1.0, 30 * 60),
        ("gb-dr", 2.0, 10.0, 60 * 60),
        ("fcr", 2.0, 30.0, 15 * 60),
        ("fcr-n", 2.5, 180.0, 60 * 60),
        ("fcr-d-up", 2.5, 7.5, 20 * 60),
        ("nem-very-fast-raise", 0.5, 1.0, 6),
        ("nem-fast-lower", 1.0, 6.0, 60),
        ("nem-slow-raise", 5.0, 60.0, 300),
        ("ercot-ffr", 0.25, 0.25, 0.25 + 15 * 60),
        ("nordic-ffr-497-5s", 1.3, 1.3, 1.3 + 5),
    ],
)
def test_timing_is_as_the_operators_say(
    service_id: str, initiation_s: float, full_delivery_s: float, sustain_s: float
) -> None:
    service = services.load(service_id)
    assert (service.timing.initiation_s, service.timing.full_delivery_s) == (initiation_s, full_delivery_s)
    assert service.sustain_s == sustain_s


@pytest.mark.parametrize(("under_hz", "full_delivery_s"), [(49.7, 1.3), (49.6, 1.0), (49.5, 0.7)])
@pytest.mark.parametrize(("hold_s", "steepest"), [(5.0, 0.2), (30.0, float("inf"))])
def test_nordic_fast_reserve_has_each_trigger_with_each_hold(
    under_hz: float, full_delivery_s: float, hold_s: float, steepest: float
) -> None:
    """A release of more than 20 % a second needs the long hold; ready within 15 minutes of the activation."""
    service = services.load(f"nordic-ffr-{round(under_hz * 10)}-{hold_s:.0f}s")
    trigger = service.trigger
    assert trigger is not None
    assert (trigger.under_hz, service.timing.full_delivery_s, trigger.hold_s) == (under_hz, full_delivery_s, hold_s)
    assert trigger.release_pu_per_s <= steepest
    assert full_delivery_s + hold_s + 1 / trigger.release_pu_per_s + trigger.rearm_s <= 15 * 60 + 1e-9


@pytest.mark.parametrize(
    ("service_id", "directions", "thresholds_hz"),
    [
        ("gb-dc", (True, True), [49.985, 50.015]),
        ("gb-dc-low", (True, False), [49.985]),
        ("gb-dr-high", (False, True), [50.015]),
        ("fcr", (True, True), [49.99, 50.01]),
        ("fcr-n", (True, True), []),
        ("fcr-d-down", (False, True), [50.1]),
        ("lfsm-o", (False, True), [50.2]),
        ("nem-fast-lower", (False, True), [50.15]),
        ("ercot-ffr", (True, False), [59.85]),
        ("synthetic-inertia-60", (True, True), []),
    ],
)
def test_which_way_and_from_where(service_id: str, directions: tuple[bool, bool], thresholds_hz: list[float]) -> None:
    service = services.load(service_id)
    assert (service.directions, service.thresholds_hz) == (directions, thresholds_hz)


@pytest.mark.parametrize("service_id", services.shipped())
def test_a_number_that_is_not_proven_says_so(service_id: str) -> None:
    """What nobody publishes is our reading: performance limits at the least."""
    assert "[G]" in services.load(service_id).source


GOOD = services.text("ieee1547-droop")
FAST = services.text("ercot-ffr")
INERTIA = services.text("synthetic-inertia-50")


def table(text: str, name: str) -> str:
    """One table of a text."""
    return f"[{name}]" + text.split(f"[{name}]")[1].split("\n[")[0] + "\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("id = ", "service: ", id="not TOML"),
        pytest.param(GOOD.replace("nominal_hz = 60", "nominal_hz = 55"), "nominal_hz", id="no such grid"),
        pytest.param(GOOD.replace("response_90_s", "respons_90_s"), "respons_90_s", id="unknown key"),
        pytest.param(GOOD.replace("[-0.036, 0.0]", "[-4.0, 0.0]"), "strictly increasing", id="knots out of order"),
        pytest.param(GOOD.replace("[-3.036, 1.0]", "[-3.036, 1.5]"), "-1..1", id="share beyond one"),
        pytest.param(GOOD.replace("[-3.036, 1.0]", "[-3.036, nan]"), "are numbers", id="no number"),
        pytest.param(GOOD.replace("[-3.036, 1.0]", "[-3.036, -1.0]"), "must not rise", id="wrong way round"),
        pytest.param(FAST.replace("hold_s = 900.0", "hold_s = inf"), "hold_s", id="for ever"),
        pytest.param(GOOD.replace("no_payment_error = 0.07", "no_payment_error = 0.01"), "exceed", id="payment"),
        pytest.param(GOOD.replace("version = 1", "version = 0"), "version", id="version"),
        pytest.param(GOOD + table(FAST, "trigger"), "either", id="curve and trigger"),
        pytest.param(FAST + table(INERTIA, "inertia"), "either", id="trigger and inertia"),
        pytest.param(FAST.replace(table(FAST, "trigger"), ""), "either", id="no law"),
        pytest.param(GOOD.replace(table(GOOD, "timing"), ""), "timing", id="no timing"),
        pytest.param(FAST.replace("under_hz", "over_hz"), "lies above nominal_hz", id="trigger on the wrong side"),
        pytest.param(FAST.replace("under_hz = 59.85", "under_hz = 50.0"), "lies below", id="trigger of another grid"),
        pytest.param(FAST.replace("[trigger]", "[trigger]\nover_hz = 60.2"), "either under_hz", id="two triggers"),
        pytest.param(FAST.replace("under_hz = 59.85", ""), "either under_hz", id="no threshold"),
        pytest.param(FAST.replace("initiation_s = 0.25", "initiation_s = 0.5"), "initiation_s", id="late begin"),
        pytest.param(GOOD.replace("response_90_s = 5.0", "response_90_s = 6.0"), "takes 12 s", id="lag too long"),
        pytest.param(
            GOOD.replace("[curve]", "[curve]\nramp_pu_per_s = 1.0"), "either response_90_s", id="lag and ramp"
        ),
        pytest.param(
            services.text("gb-dr").replace("ramp_pu_per_s = 0.125", "ramp_pu_per_s = 0.05"),
            "takes 20 s",
            id="slow ramp",
        ),
        pytest.param(services.text("fcr").replace("enter_s = 300.0", "enter_s = 600.0"), "leave_s", id="no hysteresis"),
        pytest.param(INERTIA.replace("window_s = 0.5", "window_s = 2.0"), "window_s", id="window too long"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(services.ServiceError, match=says):
        services.parse(text)


def test_a_curve_with_one_knot_less_is_still_a_curve() -> None:
    assert services.parse(GOOD.replace("[-3.036, 1.0], ", "")).directions == (False, True)


def test_an_unknown_service_names_those_there_are() -> None:
    with pytest.raises(services.ServiceError, match="ercot-ffr"):
        services.load("nothing")


def test_a_service_of_ones_own_is_a_file(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(GOOD.replace('id = "ieee1547-droop"', 'id = "own"'))
    assert services.load(str(own)).id == "own"
    with pytest.raises(services.ServiceError, match=r"missing\.toml: cannot be read"):
        services.load(str(tmp_path / "missing.toml"))
