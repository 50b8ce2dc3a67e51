"""One load put on one rig, and what it cost: the part that the command and the benches share."""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cloud.ingest.worker import UPKEEP_S
from cloud.store.history import History
from hil.load.check import Comparison, compare
from hil.load.driver import LoadDriver, Mode, Phase
from hil.load.fleet import SimulatedFleet
from hil.load.installation import HOST, Installation
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
    storm: bool = False  # at the end every connection is cut at once and comes back, with a frame of each site


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of it. Rates and cores are over the time until the last frame was in the committed history."""

    comparison: Comparison
    acknowledged_per_s: float  # while it was sent
    stored_per_s: float
    cores: dict[str, float]  # by process
    cpu_us_per_frame: dict[str, float]
    rss_mb: dict[str, float]
    lag_ms: tuple[float, float, float] | None  # frame given to the socket -> in the fleet's columns: p50, p99, largest
    wire_bytes_per_value: float
    history_bytes_per_value: float
    duplicates: int | None  # dropped by ingest: sent twice because an acknowledgement was lost
    refused: int
    reconnected: int
    storm_s: float | None = None  # until all connections were back and their frames acknowledged


async def put_on_installation(load: Load, folder: Path) -> Outcome:
    """The same against `vpp-cloud run`, each connection over TLS with credentials of its own.

    Raises LoadError, OSError.
    """
    shutil.rmtree(folder, ignore_errors=True)
    rig = Installation(folder, streams=load.streams)
    try:
        fleet = SimulatedFleet(load.sites, noon_ms=time.time_ns() // 1_000_000)
        driver = LoadDriver(fleet, load.sites, load.connections, HOST, rig.port, load.mode, rig.login)
        await rig.start(load.sites, driver.concentrators)
        if load.mode.prepared:
            driver.prepare(load.phases)
        await driver.connect()
        await rig.reading()
        sent = await _send(load, rig, driver)
        refused = rig.refused()
        driver.close()
        return _outcome(rig.history, driver, sent, lags=[], duplicates=None, refused=refused)
    except ExceptionGroup as group:  # of connections that fail alike: the first tells what is wrong
        raise _first(group) from group
    finally:
        rig.stop()


async def put(load: Load, folder: Path) -> Outcome:
    """Sends to a bare broker in plain text, waits until everything is stored, and compares.

    Raises LoadError, OSError.
    """
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """How the sending went."""

    acknowledged_per_s: float
    whole_s: float
    used_s: dict[str, float]
    rss_mb: dict[str, float]
    storm_s: float | None


async def _measure(load: Load, rig: LoadRig, driver: LoadDriver) -> Outcome:
    sent = await _send(load, rig, driver)
    reports = rig.stop_workers()
    driver.close()
    lags = [
        (shown_ns - driver.probes[slot, seq]) / 1e6
        for report in reports
        for slot, seq, shown_ns in report["shown"]
        if (slot, seq) in driver.probes
    ]
    duplicates = sum(report["duplicates"] for report in reports)
    refused = sum(sum(report["refused"].values()) for report in reports)
    return _outcome(rig.history, driver, sent, lags=lags, duplicates=duplicates, refused=refused)


async def _send(load: Load, rig: LoadRig | Installation, driver: LoadDriver) -> _Sent:
    """Returns when all that was sent is stored."""
    before, begin_s = rig.costs(), time.monotonic()
    await driver.run(load.phases, outages_per_s=load.outages_per_s)
    sending_s, acknowledged = time.monotonic() - begin_s, driver.acknowledged_frames
    await driver.settled()
    storm_s = None
    if load.storm:
        cut_s = time.monotonic()
        await driver.storm()
        await driver.run_rounds(1)
        await driver.settled()
        storm_s = time.monotonic() - cut_s
    await rig.stored(within_s=_DRAINED_S)
    after = rig.costs()
    return _Sent(
        acknowledged_per_s=acknowledged / sending_s,
        whole_s=time.monotonic() - begin_s,
        used_s={name: after[name].cpu_s - before[name].cpu_s for name in after},
        rss_mb={name: cost.rss_mb for name, cost in after.items()},
        storm_s=storm_s,
    )


def _outcome(
    history: History, driver: LoadDriver, sent: _Sent, *, lags: Sequence[float], duplicates: int | None, refused: int
) -> Outcome:
    frames = int(driver.frames.sum())
    if not frames:
        raise LoadError("no frame was due in so short a time: give more seconds or sites")
    p50, p99, largest = np.percentile(lags or (math.nan,), (50, 99, 100)).tolist()
    return Outcome(
        comparison=compare(history, driver.frames, driver.grid_counts),
        acknowledged_per_s=sent.acknowledged_per_s,
        stored_per_s=frames / sent.whole_s,
        cores={name: used / sent.whole_s for name, used in sent.used_s.items()},
        cpu_us_per_frame={name: used / frames * 1e6 for name, used in sent.used_s.items()},
        rss_mb=sent.rss_mb,
        lag_ms=(p50, p99, largest) if lags else None,
        wire_bytes_per_value=driver.sent_bytes / frames / 60,
        history_bytes_per_value=history.size().bytes_per_value,
        duplicates=duplicates,
        refused=refused,
        reconnected=driver.reconnected,
        storm_s=sent.storm_s,
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
