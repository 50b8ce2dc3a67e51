"""The fleet as a process sees it that does not ingest, such as a coordinator or console beside workers.

`python -m hil.load.follower URL DATA STREAMS`: looks on at so many streams until SIGTERM.
"""

import asyncio
import signal
import sys
import time
from pathlib import Path

import nats
import pyarrow as pa
import uvloop

from cloud.fleet.state import FleetState
from cloud.ingest.follower import FleetFollower
from cloud.store.ledger import LEDGER_FILE, Ledger
from protos import subjects


async def run(url: str, data: Path, streams: int) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    fleet = FleetState()
    with Ledger(data / LEDGER_FILE) as ledger:
        connections = [await nats.connect(url) for _ in range(streams)]
        following = [
            asyncio.create_task(
                FleetFollower(
                    connection,
                    subjects.telemetry_stream(part),
                    fleet=fleet,
                    ledger=ledger,
                    utc_ms=lambda: time.time_ns() // 1_000_000,
                ).run()
            )
            for part, connection in enumerate(connections)
        ]
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, *following}, return_when=asyncio.FIRST_COMPLETED)
        for task in following:
            task.cancel()
        await asyncio.wait(following)
        for connection in connections:
            await connection.close()


if __name__ == "__main__":
    pa.set_cpu_count(1)
    uvloop.run(run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
