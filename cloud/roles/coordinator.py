"""The coordinator proper: what must be done by one process alone. Commands, trade, audit checkpoints, reports."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import nats.errors
from nats.js import JetStreamContext
from nats.js.errors import Error as JetStreamError

from cloud.config import MessagingConfig
from cloud.dispatch.dispatcher import Dispatcher
from cloud.dispatch.estimate import GroupEstimate
from cloud.dispatch.prices import PriceGrid
from cloud.dispatch.scoring import Scorer
from cloud.gateway import fleet_limits
from cloud.gateway.broadcasts import BroadcastSender
from cloud.gateway.fleet_guard import Estimate, FleetGuard
from cloud.gateway.guard import IntentGuard
from cloud.gateway.intents import IntentSender
from cloud.gateway.lease import Lease, ensure_bucket
from cloud.gateway.nats_server import BrokerError
from cloud.gateway.notary import Notary
from cloud.gateway.notices import ConfigureNotices
from cloud.gateway.revoker import Revoker
from cloud.gateway.streams import ensure_streams
from cloud.gateway.workers import FleetWorkers
from cloud.ingest.reports import ReportWorker
from cloud.markets.client import MarketClient
from cloud.markets.desk import PARTICIPANT, Desk
from cloud.model.role import Role
from cloud.parts import Parts
from cloud.roles.foundation import START_S, Foundation, utc_ms
from cloud.roles.leadership import Leadership
from cloud.store.errors import LedgerUnavailable
from protos import subjects

log = logging.getLogger(__name__)

_ANSWER_S: Final = 10.0
_RETRY_S: Final = 0.5
_STEP_DOWN_S: Final = 20.0

Steered = tuple[Dispatcher, FleetWorkers]


async def start(on: Foundation) -> None:
    """Returns when it leads or stands by."""
    nc = await on.connect("lease", on.parts)
    await _patiently(partial(_ensure, nc.jetstream(timeout=_ANSWER_S), on.config.messaging))
    steered: list[Steered] = []
    lease = Lease(nc, Role.COORDINATOR, on.holder, time.monotonic)
    leadership = Leadership(lease, on.ledger, on.holder, partial(lead, on, steered), utc_ms)
    on.metrics.gauge("murmuration_leads", "1 while this process leads", lambda: {(): float(leadership.leads)})
    on.metrics.gauge("murmuration_term", "of this process's last leadership", lambda: {(): float(on.ledger.term or 0)})
    _tell(on, steered)
    on.metrics.needs("leadership", leadership.decided.is_set)
    on.parts.run("leadership", leadership.run(), within_s=_STEP_DOWN_S)
    await on.parts.until(leadership.decided, within_s=START_S)


async def _ensure(js: JetStreamContext, messaging: MessagingConfig) -> None:
    await ensure_streams(js, messaging.telemetry_streams, messaging.replicas)
    await ensure_bucket(js, messaging.replicas)


async def _patiently(make: Callable[[], Awaitable[None]]) -> None:
    """A cluster that has just started has no leader yet, and takes nothing."""
    deadline_s = time.monotonic() + START_S
    while True:
        try:
            await make()
            return
        except (TimeoutError, nats.errors.Error, JetStreamError) as error:
            if time.monotonic() > deadline_s:
                raise BrokerError(f"the broker does not take our streams ({error!r}); see its log") from error
            await asyncio.sleep(_RETRY_S)


async def lead(on: Foundation, steered: list[Steered], parts: Parts) -> None:
    """Starts what a leader does; a new part of the leader's belongs here. steered: gets what steers in this term."""
    notary = Notary(on.ledger, on.keyring.audit, utc_ms)
    parts.on_stop("last audit checkpoint", partial(asyncio.to_thread, notary.sign))
    parts.run("audit", notary.run())
    parts.run("revoker", Revoker(on.ledger, on.keyring, on.account, on.link).run())
    estimate = GroupEstimate()
    limits = await _fleet_guard(on, parts, estimate)
    sender = IntentSender(await on.connect("intents", parts), on.keyring.signer, on.ledger, utc_ms, limits)
    await _guard(on, parts, sender)
    notices = await on.connect("notices", parts)
    parts.run_again("notices", ConfigureNotices(notices, on.keyring.signer, on.ledger, utc_ms).run, LedgerUnavailable)
    reports = await on.connect("reports", parts)
    parts.run("reports", ReportWorker(reports, ledger=on.ledger, utc_ms=utc_ms).run())
    await _dispatch(on, parts, sender, limits, estimate, steered)
    if on.config.market is not None:
        market = MarketClient(on.config.market.url, PARTICIPANT)
        parts.on_stop("market client", market.close)
        desk = Desk(on.config.market, on.ledger, on.history, on.fleet, sender, market, utc_ms)
        parts.run("desk", desk.run())


async def _fleet_guard(on: Foundation, parts: Parts, estimate: Estimate) -> FleetGuard:
    """What stands before every sender."""
    settle = partial(fleet_limits.settle, on.config.fleet_guard, on.ledger, utc_ms(), on.configured_by)
    in_force, told = await asyncio.to_thread(settle)
    for line in told:
        log.warning("%s", line)
        on.say(line)
    limits, areas = fleet_limits.areas(in_force)
    guard = FleetGuard(on.ledger, limits, areas, utc_ms, estimate)
    parts.run_again("fleet limits", partial(fleet_limits.follow, guard, on.ledger, in_force), LedgerUnavailable)
    return guard


async def _dispatch(
    on: Foundation,
    parts: Parts,
    sender: IntentSender,
    limits: FleetGuard,
    estimate: GroupEstimate,
    steered: list[Steered],
) -> None:
    """Orders, prices and activations go out, by what the ingest workers sum up."""
    connection = await on.connect("broadcasts", parts)
    broadcasts = BroadcastSender(connection, on.keyring.signer, on.ledger, utc_ms, limits)
    parts.on_stop("account of broadcasts", broadcasts.finish)
    streams = range(on.config.messaging.telemetry_streams)
    asking = await on.connect("steering", parts)
    workers = FleetWorkers(asking, [subjects.telemetry_stream(part) for part in streams], utc_ms)
    dispatcher = Dispatcher(
        ledger=on.ledger, workers=workers, grid=PriceGrid(), intents=sender, broadcasts=broadcasts, utc_ms=utc_ms
    )
    estimate.watch(dispatcher.running)
    steered[:] = [(dispatcher, workers)]
    parts.run_again("dispatcher", dispatcher.run, LedgerUnavailable)
    parts.run_again("scores of regulations", Scorer(on.ledger, on.history, utc_ms).run, LedgerUnavailable)


def _tell(on: Foundation, steered: list[Steered]) -> None:
    gauge = on.metrics.gauge
    gauge(
        "murmuration_dispatch_answer_age_seconds",
        "since the last share of each ingest worker, while activations run",
        lambda: {(name,): age_s for _, workers in steered for name, age_s in workers.age_s().items()},
        ("worker",),
    )
    gauge(
        "murmuration_dispatch_messages",
        "asked of ingest workers and answered by them since the beginning of the term",
        lambda: {(): float(sum(workers.messages for _, workers in steered))},
    )
    gauge(
        "murmuration_dispatch_cycle_seconds",
        "what the last cycle of the dispatcher took",
        lambda: {(): sum(dispatcher.cycle_took_s for dispatcher, _ in steered)},
    )
    gauge(
        "murmuration_dispatch_error_watts",
        "power of the group less the target, by running activation",
        lambda: {(name,): error_w for dispatcher, _ in steered for name, error_w in dispatcher.errors_w().items()},
        ("activation",),
    )


async def _guard(on: Foundation, parts: Parts, sender: IntentSender) -> None:
    """What the broker lost or a site displaced is put back; also looked for when the broker returns."""
    due = asyncio.Event()
    watching = await on.connect("guard", parts, on_return=due.set)
    guard = IntentGuard(watching, sender, on.ledger, utc_ms, due)
    parts.run("intent guard", guard.run())
