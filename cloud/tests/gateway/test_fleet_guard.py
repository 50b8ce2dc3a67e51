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
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger
from protos.vpp.v1 import broadcast_pb2, intent_pb2

NOW_MS = 1_700_000_000_000
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


async def test_what_has_run_out_is_no_longer_asked(intents: IntentSender, clock: Clock) -> None:
    body = intent_pb2.PowerSetpoint(inverter_power_w=9000)
    await intents.send(body, "s0", "setpoint", clock.now_ms, clock.now_ms + 30_000)
    clock.now_ms += 90_000
    await intents.send(body, "s1", "setpoint", clock.now_ms, clock.now_ms + 30_000)


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
