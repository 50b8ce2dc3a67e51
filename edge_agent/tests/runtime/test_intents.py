"""Which intent is in force, and what is said about each."""

import pytest

from edge_agent.model.intent import ArmService, Envelope, Intent, PowerSetpoint, Release, Schedule, StopOrder
from edge_agent.runtime.intents import Intents
from edge_agent.runtime.messages import AckState
from protos import services

FFR = services.load("ercot-ffr")


class Kept:
    """Intents, with what they said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int, str]] = []  # but acceptances
        self.accepted: list[int] = []
        self.over: list[int] = []
        self.impossible = ""
        self.stops: list[StopOrder] = []
        self.intents = Intents(
            self.acknowledge,
            lambda intent, state: self.over.append(intent.sequence),
            lambda intent: self.impossible,
            self.stops.append,
        )

    def acknowledge(self, kind: str, sequence: int, state: AckState, reason: str) -> None:
        if state is AckState.ACCEPTED:
            self.accepted.append(sequence)
        else:
            self.said.append((kind, sequence, state.name))

    def at(self, now_s: float) -> "Kept":
        self.intents.advance(now_s)
        return self


def schedule(sequence: int, start_s: float, end_s: float) -> Intent:
    body = Schedule(start_s=start_s, mtu_s=900.0, power_w=(float(sequence),), plan_id=str(sequence))
    return Intent(kind="schedule", sequence=sequence, starts_s=start_s, ends_s=end_s, body=body)


def arm(sequence: int, start_s: float, end_s: float, award_id: str = "a") -> Intent:
    body = ArmService(award_id=award_id, service=FFR, contracted_w=1000.0)
    return Intent(kind="service", sequence=sequence, starts_s=start_s, ends_s=end_s, body=body)


def release(sequence: int, start_s: float, award_id: str = "") -> Intent:
    body = Release(award_id=award_id)
    return Intent(kind="service", sequence=sequence, starts_s=start_s, ends_s=start_s + 60.0, body=body)


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_in_force_from_its_beginning_to_its_expiry(kept: Kept) -> None:
    kept.intents.offer(schedule(1, 10.0, 20.0))
    assert kept.at(9.9).intents.schedule is None
    assert (kept.accepted, kept.said) == ([1], [])
    assert kept.at(10.0).intents.schedule is not None
    assert kept.at(19.9).intents.schedule is not None
    assert kept.at(20.0).intents.schedule is None
    assert kept.said == [("schedule", 1, "ACTIVE"), ("schedule", 1, "EXPIRED")]
    assert kept.over == [1]


def test_newer_replaces_when_it_begins_not_when_it_arrives(kept: Kept) -> None:
    kept.intents.offer(schedule(1, 0.0, 100.0))
    kept.at(0.0)
    kept.intents.offer(schedule(2, 50.0, 150.0))
    current = kept.at(49.0).intents.schedule
    assert current is not None
    assert current.plan_id == "1"
    current = kept.at(50.0).intents.schedule
    assert current is not None
    assert current.plan_id == "2"
    assert kept.said == [("schedule", 1, "ACTIVE"), ("schedule", 1, "RELEASED"), ("schedule", 2, "ACTIVE")]


def test_newer_in_force_ends_older_that_has_not_begun(kept: Kept) -> None:
    kept.intents.offer(schedule(1, 50.0, 100.0))
    kept.intents.offer(schedule(2, 10.0, 100.0))
    kept.at(10.0)
    current = kept.at(60.0).intents.schedule
    assert current is not None
    assert current.plan_id == "2"
    assert ("schedule", 1, "RELEASED") in kept.said


def test_repetition_after_a_restart_of_sync_is_ignored(kept: Kept) -> None:
    kept.intents.offer(arm(3, 0.0, 100.0))
    kept.at(0.0)
    kept.intents.offer(arm(3, 0.0, 100.0))
    kept.intents.offer(arm(2, 0.0, 100.0))
    kept.at(1.0)
    assert kept.said == [("service", 3, "ACTIVE")]
    assert kept.accepted == [3]


def test_kinds_do_not_touch_each_other(kept: Kept) -> None:
    kept.intents.offer(schedule(1, 0.0, 10.0))
    kept.intents.offer(arm(1, 0.0, 100.0))
    kept.at(20.0)
    kept.at(20.1)
    assert kept.intents.schedule is None
    assert kept.intents.service is not None


def test_expired_before_it_began(kept: Kept) -> None:
    kept.intents.offer(arm(1, 0.0, 10.0))
    assert kept.at(11.0).intents.service is None
    assert kept.said == [("service", 1, "EXPIRED")]
    assert kept.over == []


@pytest.mark.parametrize(
    ("award_id", "still_armed"),
    [pytest.param("", False, id="whatever is armed"), pytest.param("a", False, id="this"), ("b", True)],
)
def test_release(kept: Kept, award_id: str, still_armed: bool) -> None:
    kept.intents.offer(arm(1, 0.0, 100.0, "a"))
    kept.at(0.0)
    kept.intents.offer(release(2, 10.0, award_id))
    assert kept.at(9.0).intents.service is not None
    assert (kept.at(10.0).intents.service is not None) is still_armed
    assert kept.said[-1] == ("service", 2, AckState.ACTIVE.name)
    assert (("service", 1, "RELEASED") in kept.said) is not still_armed


def test_release_also_ends_what_has_not_begun(kept: Kept) -> None:
    kept.intents.offer(arm(1, 50.0, 100.0))
    kept.intents.offer(release(2, 10.0))
    kept.at(10.0)
    assert kept.at(60.0).intents.service is None
    assert ("service", 1, "RELEASED") in kept.said


def test_arming_after_a_release_counts(kept: Kept) -> None:
    kept.intents.offer(release(1, 0.0))
    kept.intents.offer(arm(2, 0.0, 100.0))
    assert kept.at(0.0).intents.service is not None


def test_what_cannot_begin_is_refused_and_leaves_the_older_in_force() -> None:
    kept = Kept()
    kept.intents.offer(arm(1, 0.0, 100.0))
    kept.at(1.0)
    kept.impossible = "frequency comes too late"
    kept.intents.offer(arm(2, 5.0, 100.0))
    kept.at(6.0)
    assert kept.said == [("service", 1, "ACTIVE"), ("service", 2, "REFUSED")]
    assert [intent.sequence for intent in kept.intents.in_force()] == [1]
    assert kept.over == []


def test_a_stop_order_begins_in_its_time_and_has_no_end_of_its_own() -> None:
    kept = Kept()
    order = StopOrder(stop=True, issued_ms=7, reason="fire")
    kept.intents.offer(Intent(kind="stop", sequence=1, starts_s=10.0, ends_s=20.0, body=order))
    assert kept.at(9.9).stops == []
    assert kept.at(10.0).stops == [order]
    assert kept.at(20.0).said == [("stop", 1, "ACTIVE")]


def test_ending_all_spares_the_limits_at_the_connection() -> None:
    kept = Kept()
    limits = Envelope(envelope_id="e", start_s=0.0, mtu_s=900.0, import_limit_w=(1.0,), export_limit_w=(1.0,))
    setpoint = PowerSetpoint(power_w=100.0, reason="test")
    kept.intents.offer(Intent(kind="envelope", sequence=1, starts_s=0.0, ends_s=900.0, body=limits))
    kept.intents.offer(Intent(kind="setpoint", sequence=1, starts_s=0.0, ends_s=900.0, body=setpoint))
    kept.intents.offer(schedule(1, 0.0, 900.0))
    kept.intents.offer(arm(1, 100.0, 900.0))
    kept.at(1.0).said.clear()
    kept.intents.end_all("emergency stop")
    assert sorted(kept.said) == [("schedule", 1, "RELEASED"), ("service", 1, "RELEASED"), ("setpoint", 1, "RELEASED")]
    assert kept.at(200.0).intents.envelope is limits
    assert (kept.intents.schedule, kept.intents.service, kept.intents.setpoint) == (None, None, None)
