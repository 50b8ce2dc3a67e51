"""One agent on an inverter behind Modbus RTU, on a paced line: from the frequency's step to the acknowledged write.

What is possible is one cycle (a step can come right after a reading) plus the wire's own time: every character of a
cycle's requests and replies, the silences between them, and the device's turn-round. Both are computed from what was on
the line in the same run. Agent and line share one process here, so what the machine adds is in the figure twice.
"""

import asyncio
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from edge_agent.drivers import open_device
from edge_agent.drivers.rtu import SerialLines
from edge_agent.model.clock import SystemClock
from edge_agent.model.config import AgentConfig, ControlConfig, CoordinatorConfig, DeviceConfig, SerialSettings
from edge_agent.model.devices import Device
from edge_agent.runtime.agent import Agent
from hil.bench.chain import LOW_HZ, STEP_GAP_S
from hil.plant.frequency import Timeline
from hil.plant.household import SteadyHousehold
from hil.rigs.clock import SteadyClock
from hil.rigs.home import serve_home
from hil.rigs.metered_home import Watched
from hil.rigs.rtu_home import on_home
from hil.rigs.rtu_proxy import RtuProxy
from hil.run.processes import ChainError
from protos import services
from protos.vpp.v1 import intent_pb2, local_pb2

SERVICE: Final = str(Path(__file__).parent / "step.toml")
# A slow line is measured all the same: an agent refuses to arm what it cannot begin in time.
PATIENT: Final = {"initiation_s = 0.25": "initiation_s = 5.0", "full_delivery_s = 1.0": "full_delivery_s = 10.0"}
CONTRACTED_W: Final = 3000
THRESHOLD_W: Final = 20.0
TURN_ROUND_S: Final = 0.004
SETTLE_S: Final = 3.0


def bench_rtu(*, baudrate: int, rate_hz: float, seconds: float) -> dict[str, float]:
    """The figures of one line, by name without its baud rate. Raises ChainError."""
    with tempfile.TemporaryDirectory(prefix="vpp-hil-") as folder:
        return asyncio.run(_run(Path(folder), baudrate, rate_hz, seconds))


async def _run(folder: Path, baudrate: int, rate_hz: float, seconds: float) -> dict[str, float]:
    loop, frequency, clock = asyncio.get_running_loop(), Timeline(), SteadyClock()
    ahead_ms = clock.utc_ms() - 1000 * loop.time()
    writes: list[tuple[float, float]] = []  # UTC ms of the acknowledgement, power [W]
    line_settings = SerialSettings(baudrate=baudrate)
    household = SteadyHousehold(load=0.0, pv=0.0)
    async with (
        serve_home(frequency=frequency, household=household, clock=clock) as home,
        RtuProxy(line_settings, on_home(home), turn_round_s=TURN_ROUND_S) as line,
    ):
        device = DeviceConfig(
            name="hybrid", driver="sunspec", serial=line.path, baudrate=baudrate, unit_id=home.unit_id, timeout_s=0.5
        )
        lines = SerialLines()

        async def opened(config: DeviceConfig) -> Device:
            found = await open_device(config, lines=lines)
            if found.control is not None:
                tell = Watched(found.control, lambda power_w: writes.append((1000 * loop.time() + ahead_ms, power_w)))
                found.control = tell  # type: ignore[misc]
            return found

        config = AgentConfig(
            site="home-01",
            data_dir=folder,
            coordinator=CoordinatorConfig(claim_file=folder / "claim.toml"),
            control=ControlConfig(rate_hz=rate_hz, default="idle"),
            devices=(device,),
        )
        agent = Agent(config, open_device=opened, clock=SystemClock(), kick=lambda: None)
        ours, sync = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sync.setblocking(False)
        agent.channel.attach(ours)
        stop = asyncio.Event()
        try:
            await agent.site.open_all()
            if agent.site.silent:
                raise ChainError(f"rtu at {baudrate} baud: the device was not found")
            running = asyncio.create_task(agent.loop.run(stop))
            await asyncio.sleep(SETTLE_S)
            sync.send(_armed(clock.utc_ms()))
            await asyncio.sleep(SETTLE_S)
            if not agent.summary()["services"]:
                raise ChainError(f"rtu at {baudrate} baud: the service was not armed")
            steps = _steps(clock.utc_ms() + 1000, seconds)
            frequency.steps(steps, now_ms=clock.utc_ms())
            heard, cycles, began_s = len(line.heard), agent.cycles, loop.time()
            await asyncio.sleep((steps[-1][0] - clock.utc_ms()) / 1000 + 1)
            cycles, elapsed_s = agent.cycles - cycles, loop.time() - began_s
            frames = line.heard[heard:]
            stop.set()
            await running
        finally:
            stop.set()
            await agent.site.close()
            sync.close()
    exchanges = sum(frame.of_client for frame in frames)
    on_wire_s = (
        sum(len(frame.data) for frame in frames) * line.character_s
        + len(frames) * line.gap_s
        + exchanges * TURN_ROUND_S
    )
    answers = _answers(steps, writes)
    period_ms, wire_ms = 1000 * elapsed_s / cycles, 1000 * on_wire_s / cycles
    p99 = float(np.percentile(answers, 99))
    return {
        "step_to_write_ms_p50": round(float(np.percentile(answers, 50)), 1),
        "step_to_write_ms_p99": round(p99, 1),
        "cycle_ms": round(period_ms, 1),
        "wire_ms": round(wire_ms, 1),
        "over_possible": round(p99 / (period_ms + wire_ms), 3),
        "steps": len(answers),
        "steps_unanswered": len(steps) - len(answers),
        "line_violations": len(line.violations),
    }


def _armed(now_ms: float) -> bytes:
    text = services.text(SERVICE)
    for limit, patient in PATIENT.items():
        text = text.replace(limit, patient)
    service = services.parse(text)
    intent = intent_pb2.Intent(
        site="home-01",
        sequence=1,
        issued_ms=round(now_ms),
        valid_from_ms=round(now_ms),
        expires_ms=round(now_ms) + 3_600_000,
        arm=intent_pb2.ArmService(
            award_id="bench",
            service_id=service.id,
            service_version=service.version,
            contracted_w=CONTRACTED_W,
            service_toml=text,
        ),
    )
    return local_pb2.ToControl(intent=intent).SerializeToString()


def _steps(from_ms: float, seconds: float) -> list[tuple[float, float]]:
    """(UTC ms, Hz): down, up, down, ... at random distances."""
    draw = random.Random(20261128)
    steps: list[tuple[float, float]] = []
    at_ms = from_ms
    while at_ms < from_ms + 1000 * seconds:
        steps.append((at_ms, 60.0 if len(steps) % 2 else LOW_HZ))
        at_ms += 1000 * draw.uniform(*STEP_GAP_S)
    return steps


def _answers(steps: list[tuple[float, float]], writes: list[tuple[float, float]]) -> list[float]:
    """From each step to the first acknowledged write of another power [ms]."""
    found = []
    ends = [at_ms for at_ms, _ in steps[1:]] + [float("inf")]
    for (at_ms, _), end_ms in zip(steps, ends, strict=True):
        before_w = next((power_w for told_ms, power_w in reversed(writes) if told_ms < at_ms), 0.0)
        answer = next(
            (told_ms for told_ms, power_w in writes if told_ms >= at_ms and abs(power_w - before_w) > THRESHOLD_W), None
        )
        if answer is not None and answer < end_ms:
            found.append(answer - at_ms)
    return found
