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
    trigger = services.load("ercot-ffr").trigger
    assert trigger is not None
    assert trigger.under_hz == 59.85
    assert trigger.full_delivery_s == 15 / 60  # cycles of 60 Hz
    assert trigger.hold_s == 15 * 60


def test_droop_has_the_defaults_of_ieee_1547() -> None:
    curve = services.load("ieee1547-droop").curve
    assert curve is not None
    assert curve.knots[1][0] == -0.036
    assert curve.knots[0][0] == pytest.approx(-(0.036 + 0.05 * 60))
    assert curve.response_90_s == 5.0


GOOD = services.text("ieee1547-droop")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("id = ", "service: ", id="not TOML"),
        pytest.param(GOOD.replace("nominal_hz = 60", "nominal_hz = 55"), "nominal_hz", id="no such grid"),
        pytest.param(GOOD.replace("response_90_s", "respons_90_s"), "respons_90_s", id="unknown key"),
        pytest.param(GOOD.replace("[-3.036, 1.0], ", ""), "", id="still a curve"),
        pytest.param(GOOD.replace("[-0.036, 0.0]", "[-4.0, 0.0]"), "strictly increasing", id="knots out of order"),
        pytest.param(GOOD.replace("[-3.036, 1.0]", "[-3.036, 1.5]"), "-1..1", id="share beyond one"),
        pytest.param(GOOD.replace("no_payment_error = 0.07", "no_payment_error = 0.01"), "exceed", id="payment"),
        pytest.param(GOOD.replace("version = 1", "version = 0"), "version", id="version"),
        pytest.param(
            GOOD + services.text("ercot-ffr").split("[performance]")[0].split("nominal_hz = 60")[1],
            "either",
            id="curve and trigger",
        ),
    ],
)
def test_a_text_that_cannot_be_used_is_refused_by_name(text: str, says: str) -> None:
    if not says:
        assert services.parse(text).curve is not None
        return
    with pytest.raises(services.ServiceError, match=says):
        services.parse(text)


def test_an_unknown_service_names_those_there_are() -> None:
    with pytest.raises(services.ServiceError, match="ercot-ffr"):
        services.load("nothing")


def test_a_service_of_ones_own_is_a_file(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(GOOD.replace('id = "ieee1547-droop"', 'id = "own"'))
    assert services.load(str(own)).id == "own"
    with pytest.raises(services.ServiceError, match=r"missing\.toml: cannot be read"):
        services.load(str(tmp_path / "missing.toml"))
