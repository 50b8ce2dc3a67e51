"""Ingest: one reader for each telemetry stream, on a connection of its own."""

from cloud.gateway.streams import TELEMETRY_GROUPS
from cloud.ingest.worker import IngestWorker
from cloud.roles.foundation import Foundation, utc_ms
from protos import subjects


async def start(on: Foundation) -> None:
    """Returns when the workers were started; they wait for their stream by themselves."""
    for group in range(TELEMETRY_GROUPS):
        stream = subjects.telemetry_stream(group)
        connection = await on.connect(f"ingest-{stream}", on.parts)
        worker = IngestWorker(
            connection, stream, group, history=on.history, fleet=on.fleet, ledger=on.ledger, utc_ms=utc_ms
        )
        on.parts.run(f"ingest of {stream}", worker.run())
