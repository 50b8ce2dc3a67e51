"""A day without the cloud, in virtual time: the agent's own loop on an ideal home, and the journal on a real disk.

The home is armed for the day and the frequency falls once an hour. What the device was told is compared with what the
judge's law says was due; what the journal holds at the end with the samples that were measured.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from cloud.dispatch.expected import expected_share
from edge_agent.model.config import ControlConfig
from edge_agent.runtime.testing import PLATE, Bench
from edge_agent.sync.frames import FrameBuilder
from edge_agent.sync.journal import Journal, read_status
from edge_agent.sync.state import State
from protos import frame, services

SERVICE: Final = "ieee1547-droop"
CONTRACTED_W: Final = 2000
SCHEDULED_W: Final = 1000
LOW_HZ: Final = 59.7
EVENT_S: Final = 60.0  # of every hour, half an hour into it
GRID_S: Final = 0.1  # of the judge
TOLERANCE: Final = 0.02  # of the contracted power, beside what one cycle's delay comes to
RATE_HZ: Final = 10.0


@dataclass(slots=True)
class _Kept:
    """What sync does with what control says."""

    builder: FrameBuilder
    journal: Journal

    def take(self, bench: Bench) -> None:
        for message in bench.received:
            if message.WhichOneof("body") == "snapshot":
                for draft in self.builder.add(message.snapshot):
                    pack = partial(draft.pack, 1)
                    self.journal.append_frame(pack, draft.last_sample_ms, settles=draft.settles)
        bench.received.clear()


def bench_outage(folder: Path, hours: float) -> dict[str, Any]:
    """The figures, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_run(folder, hours))


async def _run(folder: Path, hours: float) -> dict[str, Any]:
    bench = Bench(folder, ControlConfig(rate_hz=RATE_HZ))
    journal = Journal(folder, "home-01", State(folder), bench.clock)
    kept = _Kept(FrameBuilder(100), journal)
    await bench.agent.site.open_all()
    begin_s, seconds = bench.clock.now_s, 3600 * hours

    def low(now_s: float) -> bool:
        return 1800 <= (now_s - begin_s) % 3600 < 1800 + EVENT_S

    bench.home.frequency_hz = lambda now_s: LOW_HZ if low(now_s) else 60.0
    bench.schedule([SCHEDULED_W] * int(4 * hours + 1), mtu_s=900, end_s=seconds)
    bench.arm(SERVICE, CONTRACTED_W, end_s=seconds)
    await bench.run_for(1.0)
    bench.say_linked(False)
    delivered = events = 0
    for _ in range(int(hours)):
        await bench.run_for(1790 - (bench.clock.now_s - begin_s) % 3600)
        bench.home.trace.clear()
        kept.take(bench)
        await bench.run_for(20 + EVENT_S)
        events += 1
        delivered += _delivered(bench, bench.clock.now_s - 20 - EVENT_S, low)
        kept.take(bench)
        await bench.run_for(3600 - (bench.clock.now_s - begin_s) % 3600)
        kept.take(bench)
    measured_s = bench.clock.now_s - begin_s
    rows = journal.oldest_frames(1 << 30)
    status = read_status(folder)
    journal.close()
    bench.close()
    samples = sum(value is not None for _, body in rows for value in frame.unpack(body)[4][3])
    return {
        "outage_hours": round(measured_s / 3600, 2),
        "outage_events": events,
        "outage_events_delivered": delivered,
        "outage_frames": status.frames_created,
        "outage_frames_lost": status.frames_dropped + status.frames_thinned,
        "outage_samples_missing_pct": round(100 * max(0.0, 1 - samples / (measured_s / GRID_S)), 3),
        "outage_journal_mb": round(status.used_bytes / 1e6, 1),
    }


def _delivered(bench: Bench, from_s: float, low: Any) -> bool:
    """Whether the device was told what the law asks, from a quiet moment on."""
    at_s = np.arange(from_s, bench.clock.now_s, GRID_S)
    frequency = np.where([low(s) for s in at_s], LOW_HZ, 60.0)
    service = services.load(SERVICE)
    due = expected_share(service, frequency, GRID_S, PLATE.rated_power_w / CONTRACTED_W) * CONTRACTED_W
    written_s, power_w = np.array(bench.home.trace).T
    told = power_w[np.clip(np.searchsorted(written_s, at_s, side="right") - 1, 0, None)] - SCHEDULED_W
    early = np.interp(at_s - 2 / RATE_HZ, at_s, due)
    low_w, high_w = np.minimum(due, early), np.maximum(due, early)
    off = np.maximum(low_w - told, told - high_w)[10:]
    return bool(off.max() <= TOLERANCE * CONTRACTED_W)
