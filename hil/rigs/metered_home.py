"""A home with our fast meter on a paced serial line, and the real agent on both: from mains' waveform to inverter.

The meter's program runs on the MicroPython VM; the inverter is the simulated home, over Modbus TCP. The test, or the
bench, plays sync.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.drivers import open_device
from edge_agent.drivers.rtu import SerialLines
from edge_agent.model.clock import SystemClock
from edge_agent.model.config import AgentConfig, ControlConfig, CoordinatorConfig, DeviceConfig, SerialSettings
from edge_agent.model.devices import Device, PowerControl
from edge_agent.model.values import Admitted
from edge_agent.runtime.agent import Agent
from hil.plant.frequency import Frequency
from hil.rigs.firmware_node import FirmwareNode, Waveform
from hil.rigs.home import serve_home
from hil.rigs.rtu_proxy import RtuProxy
from protos import services
from protos.vpp.v1 import intent_pb2, local_pb2, report_pb2

BAUDRATE = 115200
FOUND_WITHIN_S = 60.0


class Watched:
    """The writable half of a device; tells when a write was acknowledged."""

    def __init__(self, control: PowerControl, tell: Callable[[float], None]) -> None:
        self._control = control
        self._tell = tell

    async def write_power(self, admitted: Admitted, lifetime_s: float) -> None:
        await self._control.write_power(admitted, lifetime_s)
        self._tell(admitted.setpoint.power_w)

    async def release(self) -> None:
        await self._control.release()


@dataclass(slots=True)
class MeteredHome:
    """What stands in the home while the block of `metered_home` lasts."""

    agent: Agent
    node: FirmwareNode
    line: RtuProxy
    writes: list[tuple[float, float]]  # acknowledged ones: (instant of the event loop's clock, power [W])
    sync: socket.socket
    acknowledgements: list[report_pb2.Acknowledgement] = field(default_factory=list)
    _sequence: int = 0

    def arm(self, service: str, contracted_w: int) -> None:
        """`service`: an id, or the path of a file; from now on for an hour."""
        clock_ms, what = SystemClock().utc_ms(), services.load(service)
        self._sequence += 1
        intent = intent_pb2.Intent(
            site="home-01",
            sequence=self._sequence,
            issued_ms=clock_ms,
            valid_from_ms=clock_ms,
            expires_ms=clock_ms + 3_600_000,
            arm=intent_pb2.ArmService(
                award_id=f"award-{self._sequence}",
                service_id=what.id,
                service_version=what.version,
                contracted_w=contracted_w,
                service_toml=services.text(service),
            ),
        )
        self.sync.send(local_pb2.ToControl(intent=intent).SerializeToString())

    def drain(self) -> None:
        """Takes what the agent sent; its acknowledgements are kept."""
        with contextlib.suppress(BlockingIOError):
            while data := self.sync.recv(65536):
                message = local_pb2.ToSync.FromString(data)
                if message.WhichOneof("body") == "acknowledgement":
                    self.acknowledgements.append(message.acknowledgement)

    async def run_until(self, done: Callable[[], bool], timeout_s: float) -> None:
        """Runs the agent's loop. Raises TimeoutError."""
        stop = asyncio.Event()
        running = asyncio.create_task(self.agent.loop.run(stop))
        try:
            async with asyncio.timeout(timeout_s):
                while not done() and not running.done():
                    await asyncio.sleep(0.02)
                    self.drain()
        finally:
            stop.set()
            await running


@asynccontextmanager
async def metered_home(
    folder: Path,
    waveform: Waveform,
    *,
    nominal_hz: int,
    frequency: Frequency,
    meter_priority: int = 1,
    update_key: str = "",
) -> AsyncIterator[MeteredHome]:
    """`waveform` is what the meter samples, `frequency` what the inverter's own register shows.

    meter_priority: 1 before the inverter's register (which has 2), 3 after it. update_key: whose firmware it takes.
    """
    writes: list[tuple[float, float]] = []
    loop, lines = asyncio.get_running_loop(), SerialLines()
    settings = {"unit": 1, "nominal_hz": nominal_hz, "update_key": update_key}
    async with (
        serve_home(frequency=frequency) as home,
        RtuProxy(settings=SerialSettings(baudrate=BAUDRATE), turn_round_s=0.0) as line,
        FirmwareNode(folder / "node", settings, waveform, uart_path=line.server_path, restarts=True) as node,
    ):
        config = AgentConfig(
            site="home-01",
            data_dir=folder / "data",
            coordinator=CoordinatorConfig(claim_file=folder / "claim.toml"),
            control=ControlConfig(rate_hz=50.0, default="idle"),
            devices=(
                DeviceConfig(
                    name="hybrid", driver="sunspec", host="127.0.0.1", port=home.port, unit_id=1, frequency_priority=2
                ),
                DeviceConfig(
                    name="clamp",
                    driver="sunspec",
                    serial=line.path,
                    baudrate=BAUDRATE,
                    unit_id=1,
                    frequency_priority=meter_priority,
                    frequency_only=True,
                ),
            ),
        )

        async def opened(device_config: DeviceConfig) -> Device:
            device = await open_device(device_config, lines=lines)
            if device.control is not None:
                watched = Watched(device.control, lambda power_w: writes.append((loop.time(), power_w)))
                device.control = watched  # type: ignore[misc]
            return device

        agent = Agent(config, open_device=opened, clock=SystemClock(), kick=lambda: None)
        ours, sync = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sync.setblocking(False)
        agent.channel.attach(ours)
        try:
            await agent.site.open_all()
            async with asyncio.timeout(FOUND_WITHIN_S):
                await agent.site.find_missing(lambda: None)  # on a busy machine the first answer may come late
            yield MeteredHome(agent, node, line, writes, sync)
        finally:
            await agent.site.close()
            sync.close()
            ours.close()
