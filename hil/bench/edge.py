"""One agent at 50 Hz on a rig's device: how fast it answers, how late its loop is, how heavy it is, while its other
process loses the broker and finds it again, and its forecast's model runs; another agent at 20 Hz beside it for the CPU
time of the usual rate.

A response time runs from the frequency's step at the device to the acknowledged write, on the rig's clock. The bare
timer loop that the loop's lateness is compared with runs in the same minutes. What plays in virtual time comes last and
side by side. A part that fails is named in `failed`, and costs the figures of no other.
"""

import contextlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

import hil
from edge_agent.runtime.process import REAL_TIME_PRIORITY
from hil.bench.chain import OFFERS, check_seconds, frequency_steps, response_times
from hil.bench.outage import bench_outage
from hil.bench.parts import Part, measured
from hil.bench.rtu import bench_rtu
from hil.bench.services import bench_services
from hil.run.chain import Chain, Say, Timing, chain
from hil.run.collect import book_keeping, machine
from hil.run.processes import ChainError, ChainRefused, cpu_s, past, wait_until

FAST, USUAL = "home-01", "home-02"
RATES_HZ: Final[Mapping[str, float]] = {FAST: 50.0, USUAL: 20.0}
RTU_RATES_HZ: Final[Mapping[int, float]] = {115_200: 20.0, 19_200: 10.0}
RTU_S: Final = 15.0
FROZEN_S: Final = 8.0  # of the broker; the session gives it up after about 6
THAWED_S: Final = 6.0
INSTALL_WITHIN_S: Final = 600.0
MODEL_EVERY_S: Final = 4.0  # of each agent's forecast; in the field 15 minutes


def bench_edge(*, seconds: float, outage_hours: float, install: bool, folder: Path | None, say: Say) -> dict[str, Any]:
    """The figures, by name; `failed`: why a part has none, by part. Raises ChainRefused."""
    check_seconds(seconds)
    if not 0 <= outage_hours <= 168:
        raise ChainRefused(f"--outage-hours {outage_hours:g}: give 0 to 168")
    _grant_real_time()
    folder = (folder or Path("run") / f"bench-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}").absolute()
    timed: dict[str, Part] = {"loop at 50 Hz": lambda: _loop_figures(folder, seconds, say)}
    for baudrate, rate_hz in RTU_RATES_HZ.items():
        timed[f"paced serial line at {baudrate} baud, {rate_hz:g} Hz"] = partial(_rtu_figures, baudrate, rate_hz)
    if install:
        timed["fresh environment with the extra edge"] = lambda: {"edge_install_mb": edge_install_mb()}
    figures, failed = measured(timed, say)
    virtual: dict[str, Part] = {"services on their recordings, in virtual time": lambda: bench_services([], say=say)}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as beside:
        if outage_hours:
            outage = beside.submit(bench_outage, folder / "outage", outage_hours)
            virtual[f"{outage_hours:g} h without the cloud, in virtual time, begun beside them"] = outage.result
        more, failed_too = measured(virtual, say)
    return {**figures, **more, "failed": failed | failed_too, "machine": machine()}


def _grant_real_time() -> None:
    """To what this process starts, as the unit of `vpp-agent install` does; where it may not, they run without."""
    with contextlib.suppress(ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_RTPRIO, (REAL_TIME_PRIORITY, REAL_TIME_PRIORITY))


def _loop_figures(folder: Path, seconds: float, say: Say) -> dict[str, Any]:
    with chain(
        folder,
        homes=2,
        scenario="underfrequency",
        say=say,
        offers=OFFERS,
        rates_hz=RATES_HZ,
        forecast_every_s=MODEL_EVERY_S,
    ) as running:
        running.start_rig()
        running.start_coordinator()
        running.register_homes()
        running.start_agents()
        running.wait_online()
        start, _ = running.open_session(Timing(quiet_before_s=10, quiet_after_s=seconds, event_s=0))
        running.wait_armed()
        steps = frequency_steps(start + timedelta(seconds=5), seconds)
        running.tell_rig({"steps": steps})
        begin_s, end_s = steps[0][0] / 1000, steps[-1][0] / 1000
        say(f"bench: {len(steps)} frequency steps in {seconds:.0f} s at {RATES_HZ[FAST]:.0f} Hz, sync reconnecting")
        wait_until(past(begin_s), "steps begin", within_s=120, processes=running.processes)
        timer = subprocess.Popen(
            [sys.executable, "-m", "hil.bench.timer", str(RATES_HZ[FAST]), str(seconds)], stdout=subprocess.PIPE
        )
        try:
            used = _measure(running, end_s)
            bare = json.loads(timer.communicate(timeout=seconds + 60)[0])
        finally:
            timer.kill()
            timer.wait()
        wait_until(past(end_s + 2), "steps over", within_s=seconds + 60, processes=running.processes)
        times, unanswered = response_times(running, steps, sites=[FAST])
        told = running.agent_statistics(FAST)
        late, expected = told["late_ms_p99"], told["expected"] or {"times": 0, "source": "none"}
        log = running.processes.log(f"agent-{FAST}").read_text(errors="replace")
        book = book_keeping(running)
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "step_to_write_ms_p50": round(float(p50), 1),
        "step_to_write_ms_p99": round(float(p99), 1),
        "step_to_write_ms_max": round(float(times.max()), 1),
        "steps": int(times.size),
        "steps_unanswered": unanswered,
        "loop_late_ms_p99": late,
        "timer_late_ms_p99": round(bare["p99"], 3),
        "loop_jitter_ratio": round(late / bare["p99"], 2),
        "model_runs": expected["times"],
        "model_source": expected["source"] + (f": {expected['note']}" if expected.get("note") else ""),
        "tls_reconnects": log.count("session live") - 1,
        "frames_lost": book.missing,
        "frames_duplicate": book.duplicate,
        **used,
        "rate_hz": RATES_HZ[FAST],
        "real_time": "does not run in real time" not in log,
    }


def _measure(running: Chain, end_s: float) -> dict[str, float]:
    """Memory and CPU of the processes until the steps end, the broker standing still every now and then."""
    control = {site: psutil.Process(running.processes.pid(f"agent-{site}")) for site in RATES_HZ}
    sync = {site: process.children()[0] for site, process in control.items()}
    before, started_s = cpu_s(control[USUAL]), time.monotonic()
    while datetime.now(UTC).timestamp() < end_s:
        with running.without_coordinator(frozen=True):
            _wait(running, min(end_s, datetime.now(UTC).timestamp() + FROZEN_S))
        _wait(running, min(end_s, datetime.now(UTC).timestamp() + THAWED_S))
    used_s, elapsed_s = cpu_s(control[USUAL]) - before, time.monotonic() - started_s
    return {
        "control_rss_mb": round(max(p.memory_info().rss for p in control.values()) / 1e6, 1),
        "sync_rss_mb": round(max(p.memory_info().rss for p in sync.values()) / 1e6, 1),
        "cpu_pct_20hz": round(100 * used_s / elapsed_s, 2),
    }


def _rtu_figures(baudrate: int, rate_hz: float) -> dict[str, Any]:
    figures = bench_rtu(baudrate=baudrate, rate_hz=rate_hz, seconds=RTU_S)
    return {f"rtu_{name}_{baudrate}": value for name, value in figures.items()}


def _wait(running: Chain, until_s: float) -> None:
    wait_until(past(until_s), "time passes", within_s=120, processes=running.processes)


def edge_install_mb() -> float:
    """What the extra `edge` puts on a gateway beside Python itself. Raises ChainError."""
    source = Path(hil.__file__).parent.parent
    if not (source / "pyproject.toml").exists():
        raise ChainError("edge_install_mb: needs the sources; run it in a checkout, or with --no-install")
    with tempfile.TemporaryDirectory() as folder:
        copy, target = Path(folder) / "source", Path(folder) / "site-packages"
        unwanted = shutil.ignore_patterns("node_modules", "__pycache__", "tests", "*.egg-info")
        for package in ("protos", "edge_agent", "cloud", "hil"):
            shutil.copytree(source / package, copy / package, ignore=unwanted)
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(source / file, copy / file)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        done = subprocess.run(
            [*command, "--target", str(target), f"{copy}[edge]"],
            capture_output=True,
            text=True,
            timeout=INSTALL_WITHIN_S,
            check=False,
        )
        if done.returncode != 0:
            raise ChainError(f"edge_install_mb: pip ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
        return round(sum(file.stat().st_size for file in target.rglob("*") if file.is_file()) / 1e6, 1)
