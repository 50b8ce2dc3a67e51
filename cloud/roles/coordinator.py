"""The coordinator proper: what must be done by one process alone. Commands, trade, audit checkpoints, reports."""

import asyncio
from functools import partial

from cloud.gateway.guard import IntentGuard
from cloud.gateway.intents import IntentSender
from cloud.gateway.notary import Notary
from cloud.gateway.revoker import Revoker
from cloud.gateway.streams import ensure_streams
from cloud.ingest.reports import ReportWorker
from cloud.markets.client import MarketClient
from cloud.markets.desk import PARTICIPANT, Desk
from cloud.parts import Parts
from cloud.roles.foundation import Foundation, utc_ms


async def start(on: Foundation) -> None:
    """Returns when it leads or stands by."""
    nc = await on.connect("streams", on.parts)
    await ensure_streams(nc.jetstream(timeout=10.0))
    await lead(on, on.parts)


async def lead(on: Foundation, parts: Parts) -> None:
    """Starts what a leader does; a new part of the leader's belongs here."""
    notary = Notary(on.ledger, on.keyring.audit, utc_ms)
    parts.on_stop("last audit checkpoint", partial(asyncio.to_thread, notary.sign))
    parts.run("audit", notary.run())
    parts.run("revoker", Revoker(on.ledger, on.account, on.link).run())
    sender = IntentSender(await on.connect("intents", parts), on.keyring.signer, on.ledger, utc_ms)
    await _guard(on, parts, sender)
    reports = await on.connect("reports", parts)
    parts.run("reports", ReportWorker(reports, ledger=on.ledger, utc_ms=utc_ms).run())
    if on.config.market is not None:
        market = MarketClient(on.config.market.url, PARTICIPANT)
        parts.on_stop("market client", market.close)
        desk = Desk(on.config.market, on.ledger, on.history, on.fleet, sender, market, utc_ms)
        parts.run("desk", desk.run())


async def _guard(on: Foundation, parts: Parts, sender: IntentSender) -> None:
    """What the broker lost or a site displaced is put back; also looked for when the broker returns."""
    due = asyncio.Event()
    watching = await on.connect("guard", parts, on_return=due.set)
    guard = IntentGuard(watching, sender, on.ledger, utc_ms, due)
    parts.run("intent guard", guard.run())
