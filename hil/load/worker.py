"""An ingest worker as a process of its own, as the load generator and its benches run it.

`python -m hil.load.worker URL DATA STREAM PART REPORT UPKEEP_S`: works until SIGTERM, then writes to REPORT when the
frames of probe sites came into the fleet's columns. The process tells by a line on standard output that it is ready.
"""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import nats
import pyarrow as pa
import uvloop

from cloud.fleet.state import FleetState
from cloud.ingest.worker import IngestWorker
from cloud.memory import give_back_early
from cloud.model.telemetry import Frames
from cloud.store.history import History
from cloud.store.ledger import LEDGER_FILE, Ledger
from hil.load.driver import PROBE_EVERY


class WatchedFleet(FleetState):
    """Notes when frames of probe sites are in the columns."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[int, int, int]] = []  # slot, seq, ns

    def update(self, frames: Frames, now_ms: int) -> None:
        super().update(frames, now_ms)
        now_ns = time.time_ns()
        probes = frames.slot % PROBE_EVERY == 0
        if probes.any():
            pairs = zip(frames.slot[probes].tolist(), frames.seq[probes].tolist(), strict=True)
            self.shown += [(slot, seq, now_ns) for slot, seq in pairs]


async def run(url: str, data: Path, stream: str, part: int, upkeep_s: float) -> dict[str, Any]:
    """Until SIGTERM; what the worker did."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    connection = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.2, ping_interval=5)
    fleet = WatchedFleet()
    with Ledger(data / LEDGER_FILE) as ledger:
        worker = IngestWorker(
            connection,
            stream,
            part,
            history=History(data / "history"),
            fleet=fleet,
            ledger=ledger,
            utc_ms=lambda: time.time_ns() // 1_000_000,
            upkeep_s=upkeep_s,
        )
        task = asyncio.create_task(worker.run())
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        await asyncio.wait({task})
    await connection.close()
    return {
        "shown": fleet.shown,
        "duplicates": int(fleet.duplicates.sum()),
        "refused": dict(worker.refused_by_cause),
    }


if __name__ == "__main__":
    give_back_early()
    pa.set_cpu_count(1)  # Arrow's own threads would fight the broker for the cores
    done = uvloop.run(run(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[6])))
    Path(sys.argv[5]).write_text(json.dumps(done))
