"""Tells the sites what was sold, and hears whether they obey."""

import asyncio
import json
from collections.abc import Sequence
from typing import Protocol

from cloud.gateway.intents import IntentNotSent
from cloud.model.records import AwardRecord, AwardShare, IntentRecord, IntentState, PlanRecord
from protos import services
from protos.vpp.v1 import intent_pb2

SCHEDULE_GRACE_MS = 60_000
"""The schedule outlives the delivery by this much, so that a response let go at its end falls back to the baseline
it rose from."""
ACTIVE_WITHIN_MS = 10_000
"""After the beginning of delivery a site that is not armed by now is reported."""


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
    sender: IntentSender, award: AwardRecord, shares: Sequence[AwardShare], plan: PlanRecord, now_ms: int
) -> dict[str, str]:
    """Sends every site its schedule and its service; the sites that could not be told, and why."""
    version = services.parse(award.service_toml).version
    plans = {planned.site: planned for planned in plan.sites}

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
            await sender.send(
                schedule,
                site=share.site,
                kind="schedule",
                valid_from_ms=max(now_ms, plan.start_ms),
                expires_ms=award.delivery_end_ms + SCHEDULE_GRACE_MS,
            )
            await sender.send(
                service,
                site=share.site,
                kind="service",
                valid_from_ms=award.delivery_start_ms,
                expires_ms=award.delivery_end_ms,
            )
        except IntentNotSent as error:
            return str(error)
        return ""

    async with asyncio.TaskGroup() as group:
        told = {share.site: group.create_task(tell(share)) for share in shares}
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
