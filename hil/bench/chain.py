"""The chain under frequency steps: how fast, how late, how heavy, and whether a frame was lost.

Every home is armed with a service that has no lag of its own (step.toml) and the rig makes the frequency at every
device jump at instants that bear no relation to the agents' cycles. A response time runs from the jump at the device
to the register write from which its power moves (the inverter's own lag and ramp excluded), on the rig's clock.
The baseline of the same run is a bare Modbus client on an idle rig: one read and one write, no agent.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from pymodbus.client import AsyncModbusTcpClient

from hil.rigs.recording import load_recording, responses
from hil.run.chain import Chain, Offer, Say, Timing, chain
from hil.run.collect import book_keeping, machine
from hil.run.processes import ChainError, ChainRefused, cpu_s, past, wait_until

OFFERS: Final = (Offer(product="droop", service=str(Path(__file__).parent / "step.toml"), group="bench"),)
LOW_HZ: Final = 59.7  # everything is asked for
LEVEL_HZ: Final = 59.85
STEP_GAP_S: Final = (0.4, 0.9)  # between jumps: longer than a response, unrelated to the cycle
THRESHOLD_W: Final = 20.0
ROUND_TRIPS: Final = 400
LEAST_S: Final = 5.0
MOST_S: Final = 3600.0


def bench_chain(*, homes: int, seconds: float, folder: Path | None, say: Say) -> dict[str, Any]:
    """The figures, by name. Raises ChainError, ChainRefused."""
    check_seconds(seconds)
    folder = folder or Path("run") / f"bench-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
    with chain(folder.absolute(), homes=homes, scenario="underfrequency", say=say, offers=OFFERS) as running:
        running.start_rig()
        bare = asyncio.run(_bare_round_trips(running.rig["homes"][0]))
        running.start_coordinator()
        running.register_homes()
        running.start_agents()
        running.wait_online()
        start, _ = running.open_session(Timing(quiet_before_s=10, quiet_after_s=seconds, event_s=0))
        running.wait_armed()
        steps = frequency_steps(start + timedelta(seconds=5), seconds)
        running.tell_rig({"steps": steps})
        say(f"bench: {len(steps)} frequency steps at {homes} homes in {seconds:.0f} s")
        used = _measure_processes(running, steps[0][0] / 1000, steps[-1][0] / 1000)
        wait_until(past(steps[-1][0] / 1000 + 2), "steps over", within_s=seconds + 60, processes=running.processes)
        times, unanswered = response_times(running, steps)
        late = [running.agent_statistics(site)["late_ms_p99"] for site in running.sites]
        period_ms = 1000 / running.agent_rate_hz
        book = book_keeping(running)
    if unanswered:
        say(f"bench: {unanswered} of {times.size + unanswered} steps were not answered within a second")
    p50, p99 = np.percentile(times, [50, 99])
    floor_ms = period_ms + 2 * bare["p99"]
    return {
        "response_ms_p50": round(float(p50), 1),
        "response_ms_p99": round(float(p99), 1),
        "response_ms_max": round(float(times.max()), 1),
        "responses": int(times.size),
        "responses_missing": unanswered,
        "bare_round_trip_ms_p50": round(bare["p50"], 2),
        "bare_round_trip_ms_p99": round(bare["p99"], 2),
        "response_p99_over_floor": round(float(p99) / floor_ms, 3),
        "loop_late_ms_p99": max(late),
        "frames_sent": book.sent,
        "frames_stored": book.stored,
        "frames_lost": book.missing,
        "frames_duplicate": book.duplicate,
        "bytes_per_value": round(book.bytes_per_value_wire, 3),
        "bytes_per_value_disk": round(book.bytes_per_value_disk, 3),
        **used,
        "homes": homes,
        "rate_hz": running.agent_rate_hz,
        "machine": machine(),
    }


def check_seconds(seconds: float) -> None:
    """Raises ChainRefused."""
    if not LEAST_S <= seconds <= MOST_S:
        raise ChainRefused(f"--seconds {seconds:g}: give {LEAST_S:g} to {MOST_S:g}")


def frequency_steps(begin: datetime, seconds: float) -> list[tuple[float, float]]:
    """(UTC ms, Hz): down, up, down, ... at random distances."""
    draw = random.Random(20261123)
    at_ms, steps, low = begin.timestamp() * 1000, [], True
    end_ms = at_ms + 1000 * seconds
    while at_ms < end_ms:
        steps.append((at_ms, LOW_HZ if low else 60.0))
        at_ms += 1000 * draw.uniform(*STEP_GAP_S)
        low = not low
    return steps if not low else [*steps, (at_ms, 60.0)][: len(steps) + 1]


def response_times(
    running: Chain, steps: Sequence[tuple[float, float]], *, sites: Sequence[str] | None = None
) -> tuple[np.ndarray[Any, Any], int]:
    """From each step to the write that answers it [ms], at these homes or all, and how many were not answered."""
    recording = load_recording(running.save_recording())
    jumps = recording.crossings(LEVEL_HZ, from_ms=steps[0][0] - 1, to_ms=steps[-1][0] + 1)
    if not jumps:
        raise ChainError("the rig made no frequency step")
    found = [
        response.to_command_ms
        for device in recording.homes.values()
        if sites is None or device.site in sites
        for response in responses(device, jumps, threshold_w=THRESHOLD_W)
    ]
    answered = np.array([ms for ms in found if ms is not None])
    if not answered.size:
        raise ChainError("no home answered a frequency step")
    return answered, len(found) - answered.size


def _measure_processes(running: Chain, begin_s: float, end_s: float) -> dict[str, float]:
    """Memory and CPU of the agents' processes while the steps run."""
    wait_until(past(begin_s), "steps begin", within_s=120, processes=running.processes)
    agents = [psutil.Process(running.processes.pid(name)) for name in running.processes.names("agent-")]
    syncs = [child for agent in agents for child in agent.children()]
    before = [cpu_s(p) for p in (*agents, *syncs)]
    started = time.monotonic()
    wait_until(past(end_s), "steps end", within_s=end_s - begin_s + 60, processes=running.processes)
    elapsed_s = time.monotonic() - started
    used = sum(cpu_s(p) for p in (*agents, *syncs)) - sum(before)
    return {
        "agent_control_rss_mb": round(max(p.memory_info().rss for p in agents) / 1e6, 1),
        "agent_sync_rss_mb": round(max(p.memory_info().rss for p in syncs) / 1e6, 1),
        "cpu_pct_per_agent": round(100 * used / elapsed_s / len(agents), 2),
    }


async def _bare_round_trips(home: dict[str, Any]) -> dict[str, float]:
    """A bare client's read of 100 registers, the first ones of the map, in milliseconds."""
    client = AsyncModbusTcpClient(home["host"], port=home["port"], timeout=1, retries=0)
    if not await client.connect():
        raise ChainError(f"the rig does not answer on port {home['port']}")
    taken = []
    try:
        for _ in range(ROUND_TRIPS):
            begin = time.perf_counter()
            reply = await client.read_holding_registers(40000, count=100, device_id=home["unit_id"])
            if reply.isError():
                raise ChainError(f"the rig answered {reply}")
            taken.append(1000 * (time.perf_counter() - begin))
            await asyncio.sleep(0.002)
    finally:
        client.close()
    p50, p99 = np.percentile(taken, [50, 99])
    return {"p50": float(p50), "p99": float(p99)}
