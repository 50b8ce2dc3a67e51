"""An enrolment token that is guessed, used again, copied or stolen: who comes second is refused, recorded and told."""

import asyncio
import json
from datetime import timedelta

import grpc
import grpc.aio

from cloud.gateway.enrolment import ADDRESS_GUESSES, GUESS_WINDOW_S
from cloud.gateway.testing import Agent, new_agent
from cloud.tests.gateway.doors import TIMEOUT_S, Gateway, refused


async def test_second_use_of_a_token_is_refused(gateway: Gateway) -> None:
    token = gateway.claim("home-01")
    await gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S)
    code, details = await refused(gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert "used before" in details
    assert "\n" not in details


async def test_copy_of_a_request_is_refused_recorded_and_said(gateway: Gateway) -> None:
    """The same keys may ask again, for an answer gets lost; the same bytes are somebody else's copy."""
    token, agent = gateway.claim("home-01"), new_agent()
    request = agent.enrol(token)
    await gateway.enrolment.Enrol(request, timeout=TIMEOUT_S)
    again = agent.enrol(token)
    await gateway.enrolment.Enrol(again, timeout=TIMEOUT_S)
    for copy in (request, again):
        code, details = await refused(gateway.enrolment.Enrol(copy, timeout=TIMEOUT_S))
        assert code is grpc.StatusCode.ALREADY_EXISTS
        assert "it is a copy" in details
    told = [json.loads(entry.detail) for entry in gateway.ledger.audit_entries() if entry.action == "claim.refused"]
    assert [detail["problem"] for detail in told] == ["replayed", "replayed"]


async def test_guessing_tokens_is_slowed_down_recorded_and_costs_nobody_else_anything(gateway: Gateway) -> None:
    token = gateway.claim("home-01")
    for _ in range(ADDRESS_GUESSES):
        code, _ = await refused(gateway.enrolment.Enrol(new_agent().enrol("a" * 32), timeout=TIMEOUT_S))
        assert code is grpc.StatusCode.NOT_FOUND
    code, details = await refused(gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "come back in 15 minutes" in details
    actions = [entry.action for entry in gateway.ledger.audit_entries()]
    assert (actions.count("claim.refused"), actions.count("claim.locked")) == (ADDRESS_GUESSES, 1)
    gateway.clock.now += timedelta(seconds=GUESS_WINDOW_S)
    token = gateway.claim("home-01")
    assert (await gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S)).site == "home-01"


async def test_half_of_the_keys_is_another_gateway(gateway: Gateway) -> None:
    token, agent = gateway.claim("home-01"), new_agent()
    await gateway.enrolment.Enrol(agent.enrol(token), timeout=TIMEOUT_S)
    for other in (Agent(agent.key, new_agent().nats_public_key), Agent(new_agent().key, agent.nats_public_key)):
        code, _ = await refused(gateway.enrolment.Enrol(other.enrol(token), timeout=TIMEOUT_S))
        assert code is grpc.StatusCode.ALREADY_EXISTS


async def test_replaced_gateway_does_not_come_back_by_its_old_token(gateway: Gateway) -> None:
    token, old = gateway.claim("home-01"), new_agent()
    await gateway.enrolment.Enrol(old.enrol(token), timeout=TIMEOUT_S)
    gateway.clock.now += timedelta(minutes=1)
    await gateway.enrolled("home-01")
    code, _ = await refused(gateway.enrolment.Enrol(old.enrol(token), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.ALREADY_EXISTS


async def test_used_token_is_not_answered_again_for_ever(gateway: Gateway) -> None:
    token, agent = gateway.claim("home-01", hours=1), new_agent()
    await gateway.enrolment.Enrol(agent.enrol(token), timeout=TIMEOUT_S)
    gateway.clock.now += timedelta(hours=1)
    code, _ = await refused(gateway.enrolment.Enrol(agent.enrol(token), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.FAILED_PRECONDITION


async def test_of_many_at_once_one_is_enrolled(gateway: Gateway) -> None:
    token = gateway.claim("home-01")
    calls = [gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S) for _ in range(6)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    codes = [o.code() for o in outcomes if isinstance(o, grpc.aio.AioRpcError)]
    assert codes == [grpc.StatusCode.ALREADY_EXISTS] * 5


async def test_unknown_token_is_refused(gateway: Gateway) -> None:
    code, _ = await refused(gateway.enrolment.Enrol(new_agent().enrol("a" * 32), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_expired_token_is_refused(gateway: Gateway) -> None:
    token = gateway.claim("home-01", hours=1)
    gateway.clock.now += timedelta(hours=1)
    code, details = await refused(gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "expired" in details
