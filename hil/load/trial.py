"""One load put on one rig, and what it cost: the part that the command and the benches share."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cloud.ingest.worker import UPKEEP_S
from hil.load.check import Comparison, compare
from hil.load.driver import LoadDriver, Mode, Phase
from hil.load.fleet import SimulatedFleet
from hil.load.link import LoadError
from hil.load.rig import LoadRig

BATCHES: Final = Mode()
_DRAINED_S: Final = 300.0  # a backlog of many minutes is as good as lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is to be sent."""

    sites: int
    connections: int
    phases: tuple[Phase, ...]
    mode: Mode = BATCHES
    streams: int = 1
    sync_interval: str = "always"
    outages_per_s: float = 0.0
    upkeep_s: float = UPKEEP_S  # between two upkeeps of a worker
    followed: bool = False  # by a process that ingests nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of it. Rates and cores are over the time until the last frame was in the committed history."""

    comparison: Comparison
    acknowledged_per_s: float  # while it was sent
    stored_per_s: float
    cores: dict[str, float]  # by process
    cpu_us_per_frame: dict[str, float]
    rss_mb: dict[str, float]
    lag_ms: tuple[float, float, float]  # frame given to the socket -> in the fleet's columns: p50, p99, largest
    wire_bytes_per_value: float
    history_bytes_per_value: float
    duplicates: int  # dropped by ingest: sent twice because an acknowledgement was lost
    refused: int
    reconnected: int


async def put(load: Load, folder: Path) -> Outcome:
    """Sends, waits until everything is stored, and compares. Raises LoadError, OSError."""
    shutil.rmtree(folder, ignore_errors=True)
    rig = LoadRig(folder, sync_interval=load.sync_interval, streams=load.streams, upkeep_s=load.upkeep_s)
    try:
        await rig.start_broker()
        await rig.make_streams()
        fleet = SimulatedFleet(load.sites, noon_ms=time.time_ns() // 1_000_000)
        driver = LoadDriver(fleet, load.sites, load.connections, "127.0.0.1", rig.port, load.mode)
        rig.register(load.sites, driver.concentrators, behind=load.mode.batch > 1)
        if load.mode.prepared:
            driver.prepare(load.phases)
        await rig.start_workers()
        if load.followed:
            await rig.start_follower()
        await driver.connect()
        await rig.reading()
        return await _measure(load, rig, driver)
    except ExceptionGroup as group:  # of connections that fail alike: the first tells what is wrong
        raise _first(group) from group
    finally:
        rig.stop()


async def _measure(load: Load, rig: LoadRig, driver: LoadDriver) -> Outcome:
    before, begin_s = rig.costs(), time.monotonic()
    await driver.run(load.phases, outages_per_s=load.outages_per_s)
    sending_s, acknowledged = time.monotonic() - begin_s, driver.acknowledged_frames
    await driver.settled()
    await rig.stored(within_s=_DRAINED_S)
    whole_s, after = time.monotonic() - begin_s, rig.costs()
    reports = rig.stop_workers()
    driver.close()
    frames = int(driver.frames.sum())
    if not frames:
        raise LoadError("no frame was due in so short a time: give more seconds or sites")
    lags = [
        (shown_ns - driver.probes[slot, seq]) / 1e6
        for report in reports
        for slot, seq, shown_ns in report["shown"]
        if (slot, seq) in driver.probes
    ]
    used_s = {name: after[name].cpu_s - before[name].cpu_s for name in after}
    p50, p99, largest = np.percentile(lags, (50, 99, 100)).tolist() if lags else (float("nan"),) * 3
    return Outcome(
        comparison=compare(rig.history, driver.frames, driver.grid_counts),
        acknowledged_per_s=acknowledged / sending_s,
        stored_per_s=frames / whole_s,
        cores={name: used / whole_s for name, used in used_s.items()},
        cpu_us_per_frame={name: used / frames * 1e6 for name, used in used_s.items()},
        rss_mb={name: cost.rss_mb for name, cost in after.items()},
        lag_ms=(p50, p99, largest),
        wire_bytes_per_value=driver.sent_bytes / frames / 60,
        history_bytes_per_value=rig.history.size().bytes_per_value,
        duplicates=sum(report["duplicates"] for report in reports),
        refused=sum(sum(report["refused"].values()) for report in reports),
        reconnected=driver.reconnected,
    )


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def phases(frames_per_s: float, ramp_s: float, steady_s: float, burst: Sequence[float]) -> tuple[Phase, ...]:
    """A ramp of five steps up to the rate, the rate, and a burst of (factor, seconds) if given."""
    ramp = tuple(Phase("ramp-up", ramp_s / 5, frames_per_s * step / 5) for step in range(1, 6)) if ramp_s else ()
    steady = (Phase("steady", steady_s, frames_per_s),)
    return (*ramp, *steady, *((Phase("burst", burst[1], frames_per_s * burst[0]),) if burst else ()))
