"""The target against the services' own published numbers (protos/services/*.toml)."""

from dataclasses import replace

import numpy as np
import pytest

from cloud.api.asked import Asked, AskedSchedule, AskedService
from cloud.api.signals import HeardSignals
from cloud.api.target import FleetTarget
from cloud.model.records import IntentState
from protos import services

HOUR_MS = 3_600_000


def scheduled(slot: int, *power_w: float, expires_ms: int = 10 * HOUR_MS) -> AskedSchedule:
    return AskedSchedule(
        slot=slot, valid_from_ms=0, expires_ms=expires_ms, start_ms=0, mtu_ms=HOUR_MS, power_w=np.array(power_w)
    )


def armed(slot: int, service_id: str, contracted_w: int, state: IntentState = IntentState.ACTIVE) -> AskedService:
    return AskedService(
        slot=slot,
        valid_from_ms=0,
        expires_ms=HOUR_MS,
        state=state,
        service_id=service_id,
        service_toml=services.text(service_id),
        contracted_w=contracted_w,
        rating_w=6_000.0,
    )


def stepped(
    target: FleetTarget,
    frequency_hz: float,
    *,
    steps: int = 1,
    measured_w: tuple[float, ...] = (0.0, 0.0),
    soc: tuple[float, ...] = (0.5, 0.5),
) -> float | None:
    result: float | None = None
    for step in range(steps):
        result = target.step(step * 100, frequency_hz, 0.1, np.array(measured_w), np.array(soc))
    return result


def test_nothing_asked_is_no_target() -> None:
    assert stepped(FleetTarget(), 59.0, measured_w=(100.0, 200.0)) is None


def test_schedules_change_with_the_market_time_unit_and_end_with_their_expiry() -> None:
    target = FleetTarget()
    target.renew(Asked((scheduled(0, 500, -700), scheduled(1, 40, 30, 20, expires_ms=2 * HOUR_MS)), ()))
    measured_w = np.array([1.0, 2.0])
    at = {
        at_ms: target.step(at_ms, 60.0, 0.1, measured_w, np.full(2, 0.5))
        for at_ms in (0, HOUR_MS - 1, HOUR_MS, 2 * HOUR_MS)
    }
    assert at == {0: 540, HOUR_MS - 1: 540, HOUR_MS: -670, 2 * HOUR_MS: None}


def test_a_storage_nearly_empty_is_expected_to_follow_the_mean_only() -> None:
    """FCR of 1 kW at 49.9 Hz, half of it due; one home has a minute left, and fades to nothing in five."""
    target = FleetTarget()
    homes = [replace(armed(slot, "fcr", 1_000), capacity_wh=10_000.0, soc_min=0.1, soc_max=0.9) for slot in (0, 1)]
    target.renew(Asked((scheduled(0, 0), scheduled(1, 0)), tuple(homes)))
    assert stepped(target, 49.9, soc=(0.5, 0.1017)) == pytest.approx(1_000, abs=1)
    assert stepped(target, 49.9, steps=3_001, soc=(0.5, 0.1017)) == pytest.approx(500, abs=1)


def test_a_site_without_schedule_counts_with_what_it_delivers() -> None:
    target = FleetTarget()
    target.renew(Asked((scheduled(0, 500),), (armed(1, "ercot-ffr", 3_000),)))
    assert stepped(target, 59.80, measured_w=(0.0, 2_900.0)) == 500 + 2_900
    assert target.responding().tolist() == [1]


@pytest.mark.parametrize(
    ("frequency_hz", "expected_w"),
    [
        pytest.param(60.000, 0, id="nominal"),
        pytest.param(59.851, 0, id="just above the trigger"),
        pytest.param(59.850, 3_000, id="at the trigger: all of it"),
        pytest.param(59.500, 3_000, id="far below"),
        pytest.param(60.500, 0, id="high: not its business"),
    ],
)
def test_fast_frequency_response(frequency_hz: float, expected_w: float) -> None:
    target = FleetTarget()
    target.renew(Asked((scheduled(0, 100),), (armed(0, "ercot-ffr", 3_000),)))
    assert stepped(target, frequency_hz) == pytest.approx(100 + expected_w)


@pytest.mark.parametrize(
    ("frequency_hz", "expected_w"),
    [
        pytest.param(59.964, 0, id="edge of the deadband"),
        # 6 kW rating, 5 % droop on 60 Hz: 2 kW per Hz beyond the deadband (IEEE 1547-2018 6.5.2.7)
        pytest.param(59.864, 200, id="0.1 Hz below the deadband"),
        pytest.param(60.136, -200, id="0.1 Hz above the deadband"),
        pytest.param(58.0, 1_000, id="capped at the contract"),
    ],
)
def test_droop_settles_at_the_standard_curve(frequency_hz: float, expected_w: float) -> None:
    target = FleetTarget()
    target.renew(Asked((scheduled(0, 0),), (armed(0, "ieee1547-droop", 1_000),)))
    assert stepped(target, frequency_hz, steps=300) == pytest.approx(expected_w, abs=0.01)


def test_droop_covers_90_percent_in_its_response_time() -> None:
    target = FleetTarget()
    target.renew(Asked((scheduled(0, 0),), (armed(0, "ieee1547-droop", 1_000),)))
    assert stepped(target, 59.864, steps=50) == pytest.approx(180, abs=0.01)


def test_a_renewal_that_changes_nothing_keeps_a_trigger_triggered() -> None:
    target = FleetTarget()
    for state in (IntentState.ACCEPTED, IntentState.ACTIVE):
        target.renew(Asked((scheduled(0, 0),), (armed(0, "ercot-ffr", 3_000, state),)))
        power_w = stepped(target, 59.80 if state is IntentState.ACCEPTED else 60.0)
        assert power_w == pytest.approx(3_000)


def test_a_refused_service_promises_nothing() -> None:
    target = FleetTarget()
    target.renew(Asked((scheduled(0, 0),), (armed(0, "ercot-ffr", 3_000, IntentState.REFUSED),)))
    assert stepped(target, 59.5) == 0


def test_slots_the_fleet_has_not_heard_of_are_left_out() -> None:
    target = FleetTarget()
    target.renew(Asked((scheduled(0, 100), scheduled(9, 5)), (armed(9, "ercot-ffr", 3_000),)))
    assert stepped(target, 59.5) == 100


def test_a_service_is_promised_from_its_beginning_to_its_expiry_only() -> None:
    target = FleetTarget()
    later = replace(armed(0, "ercot-ffr", 3_000), valid_from_ms=1_000, expires_ms=2_000)
    target.renew(Asked((scheduled(0, 500),), (later,)))
    at = {
        at_ms: target.step(at_ms, 59.80, 0.1, np.zeros(1), np.full(1, 0.5))
        for at_ms in (900, 1_000, 1_500, 1_900, 2_000)
    }
    assert (at[900], at[1_900], at[2_000]) == (500.0, 3_500.0, 500.0)
    assert target.responding().size == 0


def test_who_follows_a_signal_is_held_to_what_was_broadcast_and_to_nothing_where_that_is_not_known() -> None:
    heard = HeardSignals()
    target = FleetTarget(heard.at)
    regulated = replace(armed(0, "pjm-regd", 2_000), group="north")
    target.renew(Asked((scheduled(0, 500),), (regulated,)))

    def at(slot_ms: int) -> float | None:
        return target.step(slot_ms, 60.0, 0.1, np.array([333.0, 0.0]), np.full(2, 0.5))

    assert at(0) == 333.0
    heard.note("north", 1_000, 3_000, 0.4)
    heard.note("south", 1_000, 3_000, -1.0)
    assert at(900) == 333.0
    share_of = services.load("pjm-regd").signal
    assert share_of is not None
    assert share_of.ramp_pu_per_s is None, "followed at once"
    assert at(1_000) == 500.0 + 0.4 * 2_000
    assert target.responding().tolist() == [0]
    assert at(3_000) == 333.0
