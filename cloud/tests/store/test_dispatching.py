from dataclasses import replace

import pytest

from cloud.model.dispatch import Activation, ActivationSite, ActivationState, GroupLimit, Order
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger

NOW_MS = 1_800_000_000_000
ASKED = Activation(
    activation_id="a1",
    group="north",
    target_w=-5_000,
    start_ms=NOW_MS,
    end_ms=NOW_MS + 60_000,
    source="grid",
    reason="test",
    actor="somebody",
    created_ms=NOW_MS,
)
ORDER = Order(
    order_id="o1",
    site="home-01",
    kind="setpoint",
    body="{}",
    valid_from_ms=NOW_MS,
    expires_ms=NOW_MS + 1,
    actor="somebody",
    created_ms=NOW_MS,
)
LIMIT = GroupLimit(
    limit_id="l1",
    group="north",
    start_ms=NOW_MS,
    end_ms=NOW_MS + 10,
    import_limit_w=5,
    export_limit_w=7,
    actor="somebody",
    created_ms=NOW_MS,
)


@pytest.fixture(autouse=True)
def home(ledger: Ledger) -> None:
    ledger.add_site("home-01", ("north", "all"), NOW_MS)


def test_an_activation_from_asked_to_verified(ledger: Ledger) -> None:
    ledger.add_activation(ASKED)
    assert ledger.activations(ActivationState.ASKED) == [ASKED]
    over = replace(ASKED, state=ActivationState.VERIFIED, measured_wh=-80, expected_wh=-81, target_wh=-83, cycles=30)
    part = ActivationSite(
        activation_id="a1", site="home-01", expected_wh=-81, measured_wh=-80, cycles_missing=1, deviated=True
    )
    ledger.add_activation_sites([replace(part, expected_wh=-21, measured_wh=-30, cycles_missing=0, deviated=False)])
    ledger.add_activation_sites([replace(part, expected_wh=-60, measured_wh=-50)])  # of the worker that took it over
    ledger.put_activation(over, NOW_MS + 60_000)
    assert (ledger.activation("a1"), ledger.activation_sites("a1")) == (over, [part])
    assert [entry.action for entry in ledger.audit_entries()][-2:] == ["activation.asked", "activation.verified"]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (replace(ASKED, group="nobody"), "has no site"),
        (replace(ASKED, group="nor%"), "use 1 to 63"),
        (replace(ASKED, end_ms=NOW_MS), "more than nothing"),
        (replace(ASKED, start_ms=NOW_MS - 9, end_ms=NOW_MS - 1), "over already"),
        (replace(ASKED, source="nowhere"), "one of own, market, grid"),
        (replace(ASKED, activation_id="a2", start_ms=NOW_MS + 59_999, end_ms=NOW_MS + 99_999), "a1 is in its way"),
    ],
)
def test_what_cannot_be_activated_is_refused(ledger: Ledger, asked: Activation, why: str) -> None:
    if asked.activation_id == "a2":
        ledger.add_activation(ASKED)
    with pytest.raises(LedgerError, match=why):
        ledger.add_activation(asked)


def test_the_next_one_may_follow_at_once_and_one_is_ended_once(ledger: Ledger) -> None:
    ledger.add_activation(ASKED)
    ledger.add_activation(replace(ASKED, activation_id="a2", start_ms=ASKED.end_ms, end_ms=ASKED.end_ms + 1))
    ledger.end_activation("a1", NOW_MS + 5, "me")
    assert [a.end_ms for a in ledger.activations()] == [NOW_MS + 5, ASKED.end_ms + 1]
    for unknown in ("a1", "a9"):
        with pytest.raises(LedgerError, match=r"over already|unknown"):
            ledger.end_activation(unknown, NOW_MS + 6, "me")


def test_orders_wait_until_they_are_sent_or_cannot_be(ledger: Ledger) -> None:
    ledger.add_order(ORDER)
    ledger.add_order(replace(ORDER, order_id="o2"))
    ledger.set_order("o1", sequence=4)
    ledger.set_order("o2", problem="no broker")
    assert ledger.orders(waiting=True) == []
    assert {(o.order_id, o.sequence, o.problem) for o in ledger.orders()} == {("o1", 4, ""), ("o2", None, "no broker")}
    for wrong in (replace(ORDER, site="home-99"), replace(ORDER, kind="dance")):
        with pytest.raises(LedgerError):
            ledger.add_order(replace(wrong, order_id="o3"))


def test_the_limit_that_was_given_last_is_in_force(ledger: Ledger) -> None:
    ledger.add_group_limit(LIMIT)
    newer = replace(LIMIT, limit_id="l2", created_ms=NOW_MS + 1, export_limit_w=1)
    ledger.add_group_limit(newer)
    assert ledger.group_limits(NOW_MS + 5) == {"north": newer}
    assert ledger.group_limits(NOW_MS + 10) == {}
