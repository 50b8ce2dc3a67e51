"""Ingest: one reader for each telemetry stream, on a connection of its own, in one process at a time."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Final

from nats.aio.client import Client

from cloud.dispatch.prices import PriceGrid
from cloud.fleet.supply import SupplyColumns
from cloud.gateway.lease import Lease
from cloud.ingest.duty import IngestDuty, lease_key
from cloud.ingest.follower import FleetFollower
from cloud.ingest.shares import Shares
from cloud.ingest.supply import SupplyWorker
from cloud.ingest.worker import IngestWorker
from cloud.memory import give_back_early
from cloud.model.role import Role
from cloud.roles.foundation import Foundation, utc_ms
from cloud.store.errors import LedgerUnavailable
from cloud.store.tenure import Writer
from cloud.store.upkeep import Retention
from protos import subjects

_STOP_S: Final = 25.0  # for the last write to the history
_ACCOUNT_S: Final = 30.0  # for what sites did, into the ledger


async def start(on: Foundation) -> None:
    """Returns when the workers were started; they wait for their stream by themselves."""
    give_back_early()
    workers: dict[str, IngestWorker] = {}
    duties: dict[str, IngestDuty] = {}
    _tell(on, workers, duties)
    leases = await on.connect("ingest-leases", on.parts)
    for part in on.telemetry_parts:
        stream = subjects.telemetry_stream(part)
        connection = await on.connect(f"ingest-{stream}", on.parts)
        work = partial(_work, on, connection, stream, part, workers)
        look = partial(_follow, on, connection, stream) if _shows_the_fleet(on) else None
        duties[stream] = IngestDuty(
            stream, Lease(leases, lease_key(stream), on.holder, time.monotonic), on.holder, work, look
        )
        on.parts.run(f"ingest of {stream}", duties[stream].run(), within_s=_STOP_S)
    await _sum_up(on, duties)


async def _sum_up(on: Foundation, duties: Mapping[str, IngestDuty]) -> None:
    """What the sites of these streams told, summed up for the coordinator while the streams are ours."""
    streams = {
        subjects.telemetry_stream(part): subjects.stream_partitions(part, on.config.messaging.telemetry_streams)
        for part in on.telemetry_parts
    }
    columns = SupplyColumns(PriceGrid())
    reading = await on.connect("supply", on.parts)
    supply = SupplyWorker(
        reading,
        columns=columns,
        ledger=on.ledger,
        utc_ms=utc_ms,
        only=[partition for partitions in streams.values() for partition in partitions],
    )
    on.parts.run_again("supply functions", supply.run, LedgerUnavailable)

    def ours() -> dict[str, range]:
        return {stream: partitions for stream, partitions in streams.items() if duties[stream].has_it}

    shares = Shares(columns=columns, fleet=on.fleet, ledger=on.ledger, utc_ms=utc_ms, streams=ours)
    on.metrics.gauge(
        "murmuration_share_seconds",
        "what the last answer to the coordinator's steering took",
        lambda: {(stream,): took_s for stream, took_s in shares.answer_s.items()},
        ("stream",),
    )
    answering = await on.connect("shares", on.parts)
    on.parts.run("shares of activations", shares.run(answering), within_s=_ACCOUNT_S)


async def follow_the_rest(on: Foundation) -> None:
    """Where the process needs the whole fleet and ingests a part of it or none, it looks on at the rest."""
    if not _shows_the_fleet(on):
        return
    own = set(on.telemetry_parts) if Role.INGEST in on.roles else set()
    for part in sorted(set(range(on.config.messaging.telemetry_streams)) - own):
        stream = subjects.telemetry_stream(part)
        connection = await on.connect(f"follow-{stream}", on.parts)
        follow = partial(_follow, on, connection, stream)
        on.parts.run_again(f"view of {stream}", follow, LedgerUnavailable)


def _shows_the_fleet(on: Foundation) -> bool:
    trades = Role.COORDINATOR in on.roles and on.config.market is not None
    return trades or Role.CONSOLE in on.roles


async def _follow(on: Foundation, connection: Client, stream: str) -> None:
    await FleetFollower(connection, stream, fleet=on.fleet, ledger=on.ledger, utc_ms=utc_ms).run()


def _tell(on: Foundation, workers: Mapping[str, IngestWorker], duties: Mapping[str, IngestDuty]) -> None:
    gauge = on.metrics.gauge
    gauge(
        "murmuration_ingest_has_stream",
        "1 while this process ingests the stream, 0 while it stands by",
        lambda: {(stream,): float(duty.has_it) for stream, duty in duties.items()},
        ("stream",),
    )
    gauge(
        "murmuration_ingest_refused_frames",
        "frames refused since the worker's start, by cause",
        lambda: {(str(c), s): float(n) for s, w in workers.items() for c, n in w.refused_by_cause.items()},
        ("cause", "stream"),
    )
    gauge(
        "murmuration_ingest_waiting_frames",
        "frames read and not yet on disk; the stream waits when there are too many",
        lambda: {(stream,): float(worker.waiting) for stream, worker in workers.items()},
        ("stream",),
    )
    gauge(
        "murmuration_ingest_frames",
        "frames taken since the process's start",
        lambda: {(): float(on.fleet.frames.sum())},
    )
    on.metrics.needs("history", lambda: not any(worker.flush_fails for worker in workers.values()))


async def _work(
    on: Foundation, connection: Client, stream: str, part: int, workers: dict[str, IngestWorker], writer: Writer
) -> None:
    """A worker that begins with what the history says."""
    kept, width = on.config.history, subjects.PARTITIONS // on.config.messaging.telemetry_streams
    worker = IngestWorker(
        connection,
        stream,
        part,
        history=on.history,
        fleet=on.fleet,
        ledger=on.ledger,
        utc_ms=utc_ms,
        partitions=range(part * width, (part + 1) * width),
        writer=writer,
        retention=Retention(raw_days=kept.raw_days, minute_days=kept.minute_days, quarter_days=kept.quarter_days),
    )
    workers[stream] = worker
    await worker.run()
