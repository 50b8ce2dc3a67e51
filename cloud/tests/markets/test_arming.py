"""What a site is told, and what is made of its answers."""

from dataclasses import replace
from decimal import Decimal

from google.protobuf.message import Message

from cloud.gateway.intents import IntentHeld, IntentNotSent
from cloud.markets.arming import HELD_TRIES, SCHEDULE_GRACE_MS, arm, not_active
from cloud.model.records import AwardRecord, AwardShare, IntentRecord, IntentState, PlanRecord, SitePlan
from protos import services
from protos.vpp.v1 import intent_pb2

START_MS = 1_800_000_000_000 // 900_000 * 900_000
DELIVERY = (START_MS + 300_000, START_MS + 600_000)
AWARD = AwardRecord(
    award_id="award-1",
    session_id="s",
    offer_id="award-1",
    product="ffr",
    service_id="ercot-ffr",
    service_toml=services.text("ercot-ffr"),
    group="fast",
    power_w=5_000,
    clearing_price_per_mw_h=Decimal(1),
    currency="USD",
    delivery_start_ms=DELIVERY[0],
    delivery_end_ms=DELIVERY[1],
)
SHARES = [AwardShare(award_id="award-1", site=site, contracted_w=w) for site, w in (("a", 3_000), ("b", 2_000))]
PLAN = PlanRecord(
    plan_id="plan-1",
    created_ms=1,
    start_ms=START_MS,
    mtu_s=900,
    sites=tuple(
        SitePlan(
            site=site,
            inverter_power_w=(100, -200),
            load_w=(0, 0),
            pv_w=(0, 0),
            soc=(0, 0, 0),
            reserve_w=(1, 1),
            stored_value_ticks=(21_500, -300),
        )
        for site in ("a", "b")
    ),
)


class Sender:
    def __init__(self, deaf: str = "", held: int = 0) -> None:
        self.deaf = deaf
        self.held = held  # so often somebody is held up yet
        self.tries = 0
        self.sent: list[tuple[str, str, Message, int, int]] = []

    async def send(self, body: Message, site: str, kind: str, valid_from_ms: int, expires_ms: int) -> int:
        if site == self.deaf:
            raise IntentNotSent(f"{site}: the broker does not take it")
        self.tries += 1
        if self.held:
            self.held -= 1
            raise IntentHeld("area elsewhere: 21 MW up in a minute")
        self.sent.append((site, kind, body, valid_from_ms, expires_ms))
        return len(self.sent)


def intent(
    site: str, state: IntentState, *, award: str = "award-1", sequence: int = 1, reason: str = ""
) -> IntentRecord:
    return IntentRecord(
        site=site,
        kind="service",
        sequence=sequence,
        issued_ms=sequence,
        valid_from_ms=1,
        expires_ms=2,
        body=f'{{"arm": {{"award_id": "{award}"}}}}',
        state=state,
        reason=reason,
        updated_ms=1,
    )


async def test_what_is_held_up_for_a_ramp_is_tried_again() -> None:
    sender = Sender(held=5)
    assert await arm(sender, AWARD, SHARES, PLAN, START_MS, held_s=0.0) == {}
    assert sorted((site, kind) for site, kind, *_ in sender.sent) == [
        (site, kind) for site in ("a", "b") for kind in ("schedule", "service")
    ]


async def test_where_one_is_held_for_good_the_others_are_not_waited_for() -> None:
    shares = [AwardShare(award_id="award-1", site="a", contracted_w=1) for _ in range(200)]
    sender = Sender(held=10**6)
    told = await arm(sender, AWARD, shares, PLAN, START_MS, held_s=0.0)
    assert told == {"a": "area elsewhere: 21 MW up in a minute"}
    assert sender.tries < 2 * HELD_TRIES * 32, "a wave of them, and each other once"


async def test_each_site_gets_its_schedule_and_its_service() -> None:
    sender = Sender()
    now_ms = START_MS + 60_000
    assert await arm(sender, AWARD, SHARES, PLAN, now_ms) == {}
    sent = {(site, kind): (body, begins, ends) for site, kind, body, begins, ends in sender.sent}
    schedule, begins, ends = sent["a", "schedule"]
    assert schedule == intent_pb2.Schedule(
        start_ms=START_MS,
        mtu_s=900,
        inverter_power_w=[100, -200],
        plan_id="plan-1",
        stored_value_ticks=[21_500, -300],
    )
    assert (begins, ends) == (now_ms, DELIVERY[1] + SCHEDULE_GRACE_MS)
    service, begins, ends = sent["b", "service"]
    assert isinstance(service, intent_pb2.ArmService)
    assert (service.contracted_w, service.award_id, service.service_version) == (2_000, "award-1", 1)
    assert services.parse(service.service_toml) == services.load("ercot-ffr")
    assert (begins, ends) == DELIVERY


async def test_a_schedule_is_not_valid_before_its_first_unit() -> None:
    sender = Sender()
    await arm(sender, AWARD, SHARES, PLAN, START_MS - 5_000)
    assert {begins for _, kind, _, begins, _ in sender.sent if kind == "schedule"} == {START_MS}


async def test_a_site_that_cannot_be_told_does_not_keep_the_others() -> None:
    sender = Sender(deaf="a")
    assert await arm(sender, AWARD, SHARES, PLAN, START_MS) == {"a": "a: the broker does not take it"}
    assert {(site, kind) for site, kind, *_ in sender.sent} == {("b", "schedule"), ("b", "service")}


def test_who_is_not_armed_and_what_became_of_it() -> None:
    assert not_active(AWARD, SHARES, []) == {"a": "no intent was sent", "b": "no intent was sent"}
    mixed = [intent("a", IntentState.ACTIVE), intent("b", IntentState.REFUSED, reason="signature")]
    assert not_active(AWARD, SHARES, mixed) == {"b": "refused (signature)"}
    of_another = [
        intent("a", IntentState.ACTIVE, award="award-0"),
        replace(intent("b", IntentState.ACTIVE), kind="schedule"),
    ]
    assert set(not_active(AWARD, SHARES, of_another)) == {"a", "b"}
    # told twice because the desk was restarted: what became of the newer one counts
    again = [intent("a", IntentState.ACTIVE, sequence=2), intent("a", IntentState.RELEASED, sequence=1)]
    assert set(not_active(AWARD, SHARES, again)) == {"b"}
