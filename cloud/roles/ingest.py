"""Ingest: one reader for each telemetry stream, on a connection of its own."""

from functools import partial

from nats.aio.client import Client

from cloud.ingest.worker import IngestWorker
from cloud.roles.foundation import Foundation, utc_ms
from cloud.store.errors import LedgerUnavailable
from protos import subjects


async def start(on: Foundation) -> None:
    """Returns when the workers were started; they wait for their stream by themselves."""
    for part in on.telemetry_parts:
        stream = subjects.telemetry_stream(part)
        connection = await on.connect(f"ingest-{stream}", on.parts)
        on.parts.run_again(f"ingest of {stream}", partial(_work, on, connection, stream, part), LedgerUnavailable)


async def _work(on: Foundation, connection: Client, stream: str, part: int) -> None:
    """A worker that begins with what the history says, as often as it must."""
    worker = IngestWorker(connection, stream, part, history=on.history, fleet=on.fleet, ledger=on.ledger, utc_ms=utc_ms)
    await worker.run()
