"""From the mains' waveform to the inverter: the meter on the VM, a paced serial line, the agent, a simulated home."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.drivers import open_device
from edge_agent.drivers.rtu import SerialLines
from edge_agent.model.clock import SystemClock
from edge_agent.model.config import AgentConfig, ControlConfig, CoordinatorConfig, DeviceConfig, SerialSettings
from edge_agent.model.devices import Device, PowerControl
from edge_agent.model.values import Admitted
from edge_agent.runtime.agent import Agent
from hil.plant.mains import FrequencySteps
from hil.rigs.firmware_node import FirmwareNode
from hil.rigs.home import serve_home
from hil.rigs.rtu_proxy import RtuProxy
from hil.run.processes import ChainError
from protos import services
from protos.vpp.v1 import intent_pb2, local_pb2

SERVICE: Final = str(Path(__file__).parent / "step.toml")
CONTRACTED_W: Final = 3000
ANSWERED_PU: Final = 0.9


class _Watched:
    """The writable half of a device; tells when a write was acknowledged."""

    def __init__(self, control: PowerControl, tell: Callable[[float], None]) -> None:
        self._control = control
        self._tell = tell

    async def write_power(self, admitted: Admitted, lifetime_s: float) -> None:
        await self._control.write_power(admitted, lifetime_s)
        self._tell(admitted.setpoint.power_w)

    async def release(self) -> None:
        await self._control.release()


async def setpoint_times(folder: Path, count: int, *, gap_s: float = 0.45) -> NDArray[np.float64]:
    """From each step of the waveform to the acknowledged write of at least 90 % of what is due [ms].

    Steps are of 0.5 Hz and the service wants everything at 0.2 Hz, as a containment service would in such a step: the
    estimate is there before the window is past the step. Raises ChainError where a step is not answered.
    """
    steps = FrequencySteps(count, 60.0, 59.5, gap_s)
    writes: list[tuple[float, float]] = []
    loop = asyncio.get_running_loop()
    node_settings = {"unit": 1, "nominal_hz": 60}
    async with (
        serve_home(frequency=lambda _: 60.0) as home,
        RtuProxy(settings=SerialSettings(baudrate=115200), turn_round_s=0.0) as line,
        FirmwareNode(folder / "node", node_settings, steps, uart_path=line.server_path) as node,
    ):
        config = AgentConfig(
            site="home-01",
            data_dir=folder / "data",
            coordinator=CoordinatorConfig(claim_file=folder / "claim.toml"),
            control=ControlConfig(rate_hz=50.0, default="idle"),
            devices=(
                DeviceConfig(
                    name="hybrid", driver="sunspec", host="127.0.0.1", port=home.port, unit_id=1, frequency_priority=0
                ),
                DeviceConfig(
                    name="clamp",
                    driver="sunspec",
                    serial=line.path,
                    baudrate=115200,
                    unit_id=1,
                    frequency_priority=1,
                    frequency_only=True,
                ),
            ),
        )
        lines = SerialLines()

        async def opened(device_config: DeviceConfig) -> Device:
            device = await open_device(device_config, lines=lines)
            if device.control is not None:
                watched = _Watched(device.control, lambda power_w: writes.append((loop.time(), power_w)))
                device.control = watched  # type: ignore[misc]
            return device

        agent = Agent(config, open_device=opened, clock=SystemClock(), kick=lambda: None)
        ours, sync = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sync.setblocking(False)
        agent.channel.attach(ours)
        stop = asyncio.Event()
        await agent.site.open_all()
        sync.send(_arm(agent_clock_ms=SystemClock().utc_ms()))
        running = asyncio.create_task(agent.loop.run(stop))
        try:
            while not running.done() and loop.time() - node.started_s < steps.end_s:
                await asyncio.sleep(0.02)
                _drain(sync)
        finally:
            stop.set()
            await running
            await agent.site.close()
            sync.close()
            ours.close()
    return _answers(steps, [(at_s - node.started_s, power_w) for at_s, power_w in writes])


def _arm(agent_clock_ms: int) -> bytes:
    service = services.load(SERVICE)
    intent = intent_pb2.Intent(
        site="home-01",
        sequence=1,
        issued_ms=agent_clock_ms,
        valid_from_ms=agent_clock_ms,
        expires_ms=agent_clock_ms + 3_600_000,
        arm=intent_pb2.ArmService(
            award_id="bench",
            service_id=service.id,
            service_version=service.version,
            contracted_w=CONTRACTED_W,
            service_toml=services.text(SERVICE),
        ),
    )
    return local_pb2.ToControl(intent=intent).SerializeToString()


def _drain(sync: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while sync.recv(65536):
            pass


def _answers(steps: FrequencySteps, writes: list[tuple[float, float]]) -> NDArray[np.float64]:
    times = []
    resting_w = float(np.median([power_w for at_s, power_w in writes if at_s < steps.at_s[0]]))  # the PV's
    for at_s, hz in zip(steps.at_s, steps.hz, strict=True):
        due = 1.0 if hz < 59.8 else 0.0
        answered_s = next(
            (
                when_s
                for when_s, power_w in writes
                if when_s > at_s and abs((power_w - resting_w) / CONTRACTED_W - due) <= 1 - ANSWERED_PU
            ),
            float("inf"),
        )
        if answered_s - at_s > steps.gap_s:
            raise ChainError(f"a step to {hz} Hz at {at_s:.3f} s was not answered: {len(writes)} writes")
        times.append(1000 * (answered_s - at_s))
    return np.array(times)
