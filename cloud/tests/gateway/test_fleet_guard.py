"""A dispatch that moves an area too far does not leave: a second person grants it, once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from cloud.dispatch.fleet_guard import AreaLimits
from cloud.gateway.broadcasts import BroadcastHeld, BroadcastSender
from cloud.gateway.fleet_guard import ELSEWHERE, FleetGuard
from cloud.gateway.intents import IntentHeld, IntentSender
from cloud.identity.keyring import Keyring
from cloud.model.records import Description
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger
from protos.vpp.v1 import broadcast_pb2, intent_pb2

NOW_MS = 1_700_000_000_000
RATED = Description(
    agent_version="1",
    rated_power_w=4_000,
    max_charge_w=4_000,
    max_discharge_w=4_000,
    storage_capacity_wh=8_000,
    soc_min=0.1,
    soc_max=0.9,
)
LIMITS = AreaLimits(step_w=10_000.0, ramp_w_per_min=12_000.0, turns_per_hour=3)


class Clock:
    now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as ledger:
        for number in range(4):
            ledger.add_site(f"s{number}", ("north",) if number < 3 else ("south",), NOW_MS)
        yield ledger


@pytest.fixture
def guard(ledger: Ledger, clock: Clock) -> FleetGuard:
    def estimate(group: str, price: broadcast_pb2.Price) -> float:
        return price.ticks * 100.0

    areas = {"north": "feeder-1"}
    return FleetGuard(ledger, {ELSEWHERE: LIMITS, "feeder-1": LIMITS}, areas, clock, estimate)


@pytest.fixture
def intents(backend: Client, keyring: Keyring, ledger: Ledger, clock: Clock, guard: FleetGuard) -> IntentSender:
    return IntentSender(backend, keyring.signer, ledger, clock, guard)


@pytest.fixture
def broadcasts(backend: Client, keyring: Keyring, ledger: Ledger, clock: Clock, guard: FleetGuard) -> BroadcastSender:
    return BroadcastSender(backend, keyring.signer, ledger, clock, guard)


def acts(ledger: Ledger) -> list[str]:
    return [entry.action for entry in ledger.audit_entries() if entry.action.startswith("dispatch.")]


async def test_setpoints_of_an_area_add_up_until_a_second_person_lets_them_through(
    intents: IntentSender, ledger: Ledger, clock: Clock, backend: Client
) -> None:
    async def set_(site: str, power_w: int) -> None:
        body = intent_pb2.PowerSetpoint(inverter_power_w=power_w)
        await intents.send(body, site, "setpoint", clock.now_ms, clock.now_ms + 600_000, actor="user:ann")

    await set_("s0", 5000)
    await set_("s1", 5000)
    for _ in range(3):
        with pytest.raises(IntentHeld, match=r"feeder-1.*15 kW up.*approve grant 1"):
            await set_("s2", 5000)
    await set_("s3", 5000)  # another area
    assert ledger.latest_intent("s2", "setpoint") is None
    assert (await backend.jetstream().stream_info("INTENT")).state.messages == 3
    assert acts(ledger) == ["dispatch.stopped"], "asked once"

    with pytest.raises(LedgerError, match="ask somebody else"):
        ledger.answer_approval(1, grant=True, now_ms=clock.now_ms, actor="user:ann")
    ledger.answer_approval(1, grant=True, now_ms=clock.now_ms, actor="user:bob")
    with pytest.raises(LedgerError, match="answered before"):
        ledger.answer_approval(1, grant=True, now_ms=clock.now_ms, actor="user:cy")
    await set_("s2", 5000)
    with pytest.raises(IntentHeld, match="approve grant 2"):
        await set_("s2", 9000)
    assert acts(ledger) == ["dispatch.stopped", "dispatch.granted", "dispatch.approved_sent", "dispatch.stopped"]
    clock.now_ms += 61_000
    await set_("s2", 9000)


async def test_a_grant_is_for_that_move_and_grows_old(intents: IntentSender, ledger: Ledger, clock: Clock) -> None:
    async def plan(power_w: int) -> None:
        body = intent_pb2.Schedule(start_ms=clock.now_ms, mtu_s=900, inverter_power_w=[0, power_w, 0])
        await intents.send(body, "s0", "schedule", clock.now_ms, clock.now_ms + 3_600_000)

    with pytest.raises(IntentHeld):
        await plan(11_000)
    ledger.answer_approval(1, grant=True, now_ms=clock.now_ms, actor="user:bob")
    for other_w in (-11_000, 20_000):
        with pytest.raises(IntentHeld):
            await plan(other_w)
    clock.now_ms += 16 * 60_000
    with pytest.raises(IntentHeld, match="approve grant 4"):
        await plan(11_000)


async def test_prices_are_judged_by_what_the_group_does(
    broadcasts: BroadcastSender, backend: Client, ledger: Ledger, clock: Clock
) -> None:
    heard = await backend.subscribe("vpp.group.>")

    async def say(ticks: int, group: str = "north") -> None:
        clock.now_ms += 120_000
        await broadcasts.send(broadcast_pb2.Price(ticks=ticks), group, clock.now_ms + 600_000)

    for ticks in (100, 0, 100, 0):
        await say(ticks)
    with pytest.raises(BroadcastHeld, match="turns round more than 3 times"):
        await say(100)
    await broadcasts.send(intent_pb2.StopOrder(stop=True), "north", clock.now_ms + 1000)
    await broadcasts.send(broadcast_pb2.Regulation(signal_e6=10**6), "north", clock.now_ms + 1000)
    kinds = [(await heard.next_msg(5)).subject.rsplit(".", 1)[1] for _ in range(6)]
    assert kinds == ["price"] * 4 + ["stop", "regulation"], "neither is held up"


async def test_what_has_run_out_is_no_longer_asked(intents: IntentSender, ledger: Ledger, clock: Clock) -> None:
    body = intent_pb2.PowerSetpoint(inverter_power_w=9000)
    await intents.send(body, "s0", "setpoint", clock.now_ms, clock.now_ms + 30_000)
    clock.now_ms += 90_000
    with pytest.raises(IntentHeld, match="a step of \\+11 kW"):
        await intents.send(intent_pb2.PowerSetpoint(inverter_power_w=11_000), "s1", "setpoint", *lasting(clock))
    (asked,) = ledger.approvals()
    assert (asked.from_w, asked.to_w) == (0.0, 11_000.0), "from nothing, and not from what s0 was asked"
    await intents.send(body, "s1", "setpoint", *lasting(clock))


def lasting(clock: Clock, seconds: float = 600.0) -> tuple[int, int]:
    return clock.now_ms, clock.now_ms + round(1000 * seconds)


def arm(contracted_w: int, group: str = "") -> intent_pb2.ArmService:
    return intent_pb2.ArmService(award_id="a", service_id="ffr", contracted_w=contracted_w, group=group)


async def test_what_sites_are_armed_with_adds_up_beside_their_power_and_a_release_is_never_held(
    intents: IntentSender, ledger: Ledger, clock: Clock
) -> None:
    await intents.send(intent_pb2.PowerSetpoint(inverter_power_w=9000), "s0", "setpoint", *lasting(clock))
    for site in ("s0", "s1"):
        await intents.send(arm(5000), site, "service", *lasting(clock))
    with pytest.raises(IntentHeld, match=r"feeder-1 \(services\): 15 kW up in a minute.*grant 1"):
        await intents.send(arm(5000), "s2", "service", *lasting(clock))
    await intents.send(arm(5000), "s3", "service", *lasting(clock))  # another area
    for site in ("s0", "s1", "s2"):
        await intents.send(intent_pb2.Release(), site, "service", *lasting(clock))
    assert ledger.latest_intent("s2", "service") is not None
    clock.now_ms += 61_000
    await intents.send(arm(9000), "s2", "service", *lasting(clock))
    with pytest.raises(IntentHeld, match="a step of \\+11 kW"):
        await intents.send(arm(11_000), "s0", "service", *lasting(clock))


async def test_envelopes_are_judged_by_what_they_take_from_their_sites(
    intents: IntentSender, ledger: Ledger, clock: Clock
) -> None:
    for site in ("s0", "s1"):
        ledger.set_description(site, RATED, NOW_MS)

    async def limit(site: str, *export_w: int, import_w: int = 9000) -> None:
        body = intent_pb2.Envelope(
            start_ms=clock.now_ms, mtu_s=60, export_limit_w=export_w, import_limit_w=[import_w] * len(export_w)
        )
        await intents.send(body, site, "envelope", *lasting(clock))

    await limit("s0", 9000, 0, 9000)  # takes 4 kW in its narrowest minute
    await limit("s1", 0, import_w=0)  # and 8 kW both ways
    with pytest.raises(IntentHeld, match=r"feeder-1 \(envelopes\): 16 kW down in a minute are more than 12 kW"):
        await limit("s0", 0, import_w=0)
    await limit("s2", 0, import_w=0)  # of which nobody knows what it is
    clock.now_ms += 61_000
    await limit("s0", 9000)
    clock.now_ms += 61_000
    await limit("s0", 0)
    clock.now_ms += 61_000
    await limit("s0", 9000)
    clock.now_ms += 61_000
    with pytest.raises(IntentHeld, match="turns round more than 3 times"):
        await limit("s0", 0)


async def test_a_regulation_signal_is_judged_by_its_step_and_by_nothing_else(
    intents: IntentSender, broadcasts: BroadcastSender, ledger: Ledger, clock: Clock
) -> None:
    for site in ("s0", "s1"):
        await intents.send(arm(6000, "north"), site, "service", *lasting(clock))

    async def say(share: float) -> None:
        clock.now_ms += 2000
        body = broadcast_pb2.Regulation(signal_e6=round(1e6 * share))
        await broadcasts.send(body, "north", clock.now_ms + 10_000, actor="user:ann")

    for _ in range(50):
        for share in (0.4, -0.4):
            await say(share)
    with pytest.raises(BroadcastHeld, match=r"feeder-1: a signal's step of \+11 kW is more than 10 kW.*grant 1"):
        await say(0.5)
    await say(0.4)
    await say(-0.4)
    ledger.answer_approval(1, grant=True, now_ms=clock.now_ms, actor="user:bob")
    for share in (0.5, -0.4, 0.5):
        await say(share)  # a grant is for as long as it is fresh
    with pytest.raises(BroadcastHeld, match="grant 2"):
        await say(-0.9)
    clock.now_ms += 10_000  # nobody follows what has run out
    await say(0.8)
    await intents.send(intent_pb2.Release(), "s0", "service", *lasting(clock))
    await say(-0.8)


async def test_sites_do_not_go_to_a_fallback_price_that_was_not_let_through(
    intents: IntentSender, broadcasts: BroadcastSender, clock: Clock
) -> None:
    follow = intent_pb2.FollowPrice(group="north", fallback_ticks=110)
    with pytest.raises(IntentHeld, match="a step of \\+11 kW"):
        await intents.send(follow, "s0", "price", *lasting(clock))
    await broadcasts.send(broadcast_pb2.Price(ticks=90), "north", clock.now_ms + 10_000)
    await intents.send(follow, "s0", "price", *lasting(clock))


async def test_a_leader_that_takes_over_steps_from_the_last_price_and_has_no_fresh_turns(
    broadcasts: BroadcastSender, backend: Client, keyring: Keyring, ledger: Ledger, clock: Clock
) -> None:
    async def say(to: BroadcastSender, ticks: int, lasts_s: int = 100) -> None:
        await to.send(broadcast_pb2.Price(ticks=ticks), "north", clock.now_ms + 1000 * lasts_s)

    for ticks in (90, 0, 90, 0):  # three turns
        clock.now_ms += 61_000
        await say(broadcasts, ticks)
    clock.now_ms += 61_000
    await say(broadcasts, -90, lasts_s=10)
    clock.now_ms += 20_000  # meanwhile the price has run out, and the sites stand at their fallback
    areas = {"north": "feeder-1"}
    guard = FleetGuard(
        ledger, {ELSEWHERE: LIMITS, "feeder-1": LIMITS}, areas, clock, lambda group, price: price.ticks * 100.0
    )
    after = BroadcastSender(backend, keyring.signer, ledger, clock, guard)
    with pytest.raises(BroadcastHeld, match="a step of \\+18 kW is more than 10 kW"):
        await say(after, 90)
    with pytest.raises(BroadcastHeld, match="turns round more than 3 times"):
        await say(after, -70)
    await say(after, -95)


async def test_a_process_that_takes_over_knows_what_stands(
    intents: IntentSender, backend: Client, keyring: Keyring, ledger: Ledger, clock: Clock
) -> None:
    body = intent_pb2.PowerSetpoint(inverter_power_w=9000)
    await intents.send(body, "s3", "setpoint", clock.now_ms, clock.now_ms + 600_000)
    again = FleetGuard(ledger, {ELSEWHERE: LIMITS}, {}, clock)
    after = IntentSender(backend, keyring.signer, ledger, clock, again)
    await after.send(body, "s3", "setpoint", clock.now_ms, clock.now_ms + 600_000)
    body.inverter_power_w = -2000
    with pytest.raises(IntentHeld, match="a step of -11 kW"):
        await after.send(body, "s3", "setpoint", clock.now_ms, clock.now_ms + 600_000)
