"""Tells the sites what was sold, and hears whether they obey."""

import asyncio
import json
from collections.abc import Sequence
from typing import Protocol

from cloud.gateway.intents import IntentHeld, IntentNotSent
from cloud.model.records import AwardRecord, AwardShare, IntentRecord, IntentState, PlanRecord
from protos import services
from protos.vpp.v1 import intent_pb2

SCHEDULE_GRACE_MS = 60_000
"""The schedule outlives the delivery by this much, so that a response let go at its end falls back to the baseline
it rose from."""
ACTIVE_WITHIN_MS = 10_000
"""After the beginning of delivery a site that is not armed by now is reported."""


HELD_S = 10.0
HELD_TRIES = 7  # a minute of it: so long the guard's ramp remembers
_AT_ONCE = 32


class IntentSender(Protocol):
    """What of cloud.gateway.intents.IntentSender the desk uses."""

    async def send(
        self,
        body: intent_pb2.Schedule | intent_pb2.ArmService | intent_pb2.Release,
        site: str,
        kind: str,
        valid_from_ms: int,
        expires_ms: int,
    ) -> int:
        """The sequence number the intent got. Raises IntentNotSent."""
        ...


async def arm(
    sender: IntentSender,
    award: AwardRecord,
    shares: Sequence[AwardShare],
    plan: PlanRecord,
    now_ms: int,
    *,
    held_s: float = HELD_S,
) -> dict[str, str]:
    """Sends every site its schedule and its service; the sites that could not be told, and why.

    held_s: between two tries of what the fleet guard holds up.
    """
    version = services.parse(award.service_toml).version
    plans = {planned.site: planned for planned in plan.sites}
    tries, turn = HELD_TRIES, asyncio.Semaphore(_AT_ONCE)

    async def tell(share: AwardShare) -> str:
        schedule = intent_pb2.Schedule(
            start_ms=plan.start_ms,
            mtu_s=plan.mtu_s,
            inverter_power_w=plans[share.site].inverter_power_w,
            plan_id=plan.plan_id,
            stored_value_ticks=plans[share.site].stored_value_ticks,
        )
        service = intent_pb2.ArmService(
            award_id=award.award_id,
            service_id=award.service_id,
            service_version=version,
            contracted_w=share.contracted_w,
            service_toml=award.service_toml,
        )
        try:
            await send(
                schedule, share.site, "schedule", max(now_ms, plan.start_ms), award.delivery_end_ms + SCHEDULE_GRACE_MS
            )
            await send(service, share.site, "service", award.delivery_start_ms, award.delivery_end_ms)
        except IntentNotSent as error:
            return str(error)
        return ""

    async def send(
        body: intent_pb2.Schedule | intent_pb2.ArmService, site: str, kind: str, valid_from_ms: int, expires_ms: int
    ) -> None:
        """What the fleet guard holds up for its ramp passes in a moment; where one does not, none is waited for."""
        nonlocal tries
        for left in reversed(range(tries)):
            try:
                await sender.send(body, site=site, kind=kind, valid_from_ms=valid_from_ms, expires_ms=expires_ms)
                return
            except IntentHeld:
                if not left:
                    tries = 1
                    raise
                await asyncio.sleep(held_s)

    async def in_turn(share: AwardShare) -> str:
        async with turn:
            return await tell(share)

    async with asyncio.TaskGroup() as group:
        told = {share.site: group.create_task(in_turn(share)) for share in shares}
    return {site: task.result() for site, task in told.items() if task.result()}


def not_active(award: AwardRecord, shares: Sequence[AwardShare], intents: Sequence[IntentRecord]) -> dict[str, str]:
    """Sites of the award whose service is not in force, with what became of it. `intents`: newest first."""
    missing = {share.site: "no intent was sent" for share in shares}
    for record in reversed(intents):
        if record.site in missing and record.kind == "service" and _award_id(record) == award.award_id:
            missing[record.site] = f"{record.state}{f' ({record.reason})' if record.reason else ''}"
            if record.state is IntentState.ACTIVE:
                missing[record.site] = ""
    return {site: reason for site, reason in missing.items() if reason}


def _award_id(record: IntentRecord) -> str:
    return str(json.loads(record.body).get("arm", {}).get("award_id", ""))
