"""The loop keeps its rate, never catches up with a burst, and counts what it missed."""

import asyncio
import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from edge_agent.model.clock import VirtualClock
from edge_agent.runtime.process import REAL_TIME_PRIORITY
from edge_agent.runtime.statistics import WINDOW_S, Histogram, RecentHistogram, write_json
from edge_agent.runtime.testing import Bench
from edge_agent.runtime.watchdog import KICK_EVERY_S, HardwareWatchdog, Watchdog
from protos.settings import SettingsError


async def test_rate_is_kept(bench: Bench) -> None:
    await bench.agent.site.open_all()
    await bench.run_for(10.0)
    summary = bench.agent.summary()
    assert summary["cycles"] == pytest.approx(200, abs=1)
    assert summary["missed"] == 0
    assert bench.kicks == summary["cycles"]


async def test_a_long_cycle_skips_ticks_instead_of_catching_up(bench: Bench) -> None:
    await bench.agent.site.open_all()
    await bench.run_for(1.0)
    bench.home.reads.clear()
    bench.home.stall_s = 1.0
    await bench.run_for(3.0)
    gaps = [after - before for before, after in pairwise(bench.home.reads)]
    assert gaps[0] == pytest.approx(1.0, abs=0.06)
    assert min(gaps[1:]) > 0.04, "no burst"
    assert bench.agent.summary()["missed"] == pytest.approx(19, abs=1)
    assert bench.agent.summary()["late_ms_max"] == pytest.approx(950, abs=60)


def test_histogram_quantiles() -> None:
    histogram = Histogram()
    assert histogram.quantile_ms(0.99) == 0.0
    for i in range(1, 1001):
        histogram.add(i / 1e5)  # 0.01 .. 10 ms
    assert histogram.quantile_ms(0.50) == pytest.approx(5.0, rel=0.06)
    assert histogram.quantile_ms(0.99) == pytest.approx(9.9, rel=0.06)
    assert histogram.quantile_ms(1.0) == pytest.approx(10.0)
    histogram.add(1e9)
    assert histogram.summary("late")["late_ms_max"] == 1e12


def test_recent_figures_forget_the_start() -> None:
    clock = VirtualClock()
    recent = RecentHistogram(clock)
    recent.add(1.0)
    clock.now_s += WINDOW_S
    recent.add(0.001)
    assert recent.summary("late")["late_ms_max"] == 1000.0
    clock.now_s += WINDOW_S
    recent.add(0.002)
    assert recent.summary("late")["late_ms_max"] == 2.0
    assert recent.summary("late")["late_ms_p50"] == pytest.approx(1.0, rel=0.06)


def test_statistics_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "control.json"
    write_json(file, {"cycles": 1})
    write_json(file, {"cycles": 2})
    assert file.read_text() == '{\n "cycles": 2\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["control.json"]


def test_watchdog_speaks_the_service_managers_protocol(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(5.0)
        clock = VirtualClock()
        watchdog = Watchdog({"NOTIFY_SOCKET": path}, clock)
        watchdog.ready()
        watchdog.kick()
        watchdog.kick()
        clock.now_s += KICK_EVERY_S
        watchdog.kick()
        watchdog.stopping(orderly=True)
        assert [manager.recv(100) for _ in range(4)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"STOPPING=1"]
        watchdog.close()


def test_watchdog_survives_a_manager_that_is_gone(tmp_path: Path) -> None:
    watchdog = Watchdog({"NOTIFY_SOCKET": str(tmp_path / "nobody")}, VirtualClock())
    watchdog.kick()
    watchdog.stopping(orderly=True)
    watchdog.close()
    assert not (tmp_path / "nobody").exists()


async def test_nothing_kicks_while_a_cycle_hangs(bench: Bench) -> None:
    await bench.agent.site.open_all()
    await bench.run_for(1.0)
    kicks = bench.kicks
    bench.home.hanging = asyncio.Event()
    running = asyncio.create_task(bench.agent.loop.run(asyncio.Event()))
    await bench.home.hanging.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert bench.kicks == kicks


@pytest.mark.parametrize("orderly", [True, False])
def test_hardware_watchdog_is_kicked_by_cycles_and_let_go_only_in_order(tmp_path: Path, orderly: bool) -> None:
    """A file stands for the device: what the agent writes there is all that the device would see."""
    device, clock = tmp_path / "watchdog", VirtualClock()
    device.write_bytes(b"")
    watchdog = Watchdog({}, clock, HardwareWatchdog(device))
    watchdog.kick()
    assert device.read_bytes() == b""  # not started yet: finding devices may take its time
    watchdog.ready()
    for _ in range(12):
        clock.now_s += KICK_EVERY_S / 4
        watchdog.kick()
    watchdog.stopping(orderly=orderly)
    watchdog.close()
    assert device.read_bytes() == b"\0\0\0" + (b"V" if orderly else b"")


def test_a_hardware_watchdog_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"hardware_watchdog: .*/nothing is not there"):
        Watchdog.of_this_process(VirtualClock(), tmp_path / "nothing")


@pytest.mark.parametrize("granted", [0, REAL_TIME_PRIORITY])
def test_priority_is_real_time_only_where_granted_and_never_inherited(granted: int) -> None:
    program = (
        "import contextlib, os, resource, subprocess, sys\n"
        "from edge_agent.runtime.process import take_priority\n"
        "with contextlib.suppress(ValueError, PermissionError):\n"  # not everybody may raise the limit
        f"    resource.setrlimit(resource.RLIMIT_RTPRIO, ({granted}, {granted}))\n"
        "got = take_priority()\n"
        "child = subprocess.run([sys.executable, '-c', 'import os; print(os.sched_getscheduler(0))'], "
        "capture_output=True, text=True)\n"
        "print(got, os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK, child.stdout.strip())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    got, policy, of_child = done.stdout.split()
    assert int(of_child) == os.SCHED_OTHER, done.stderr
    assert int(policy) == (os.SCHED_RR if got == "True" else os.SCHED_OTHER)
    assert ("does not run in real time" in done.stderr) == (got == "False")
    assert granted or got == "False"
