"""The agent's real drivers and loop on served homes: what may be armed on which frequency, and the owner's limits."""

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from edge_agent.drivers import open_device
from edge_agent.model.clock import SystemClock
from edge_agent.model.config import AgentConfig, ControlConfig, CoordinatorConfig, DeviceConfig
from edge_agent.runtime.agent import Agent
from hil.plant.household import SteadyHousehold
from hil.rigs.home import serve_home
from protos import services
from protos.vpp.v1 import intent_pb2, local_pb2, report_pb2

DEADLINE_S = 20
FAST = ControlConfig(rate_hz=50.0)


class Site:
    """An agent beside its devices, and what it says to sync."""

    def __init__(self, folder: Path, devices: tuple[DeviceConfig, ...], control: ControlConfig) -> None:
        self.clock = SystemClock()
        config = AgentConfig(
            site="home-01",
            data_dir=folder,
            coordinator=CoordinatorConfig(claim_file=folder / "claim.toml"),
            control=control,
            devices=devices,
        )
        self.agent = Agent(config, open_device=open_device, clock=self.clock, kick=self._heard)
        ours, self.sync = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sync.setblocking(False)
        self.agent.channel.attach(ours)
        self.acknowledged: list[report_pb2.Acknowledgement] = []
        self.over = asyncio.Event()
        self.loop: asyncio.Task[None] | None = None
        self._cycle = asyncio.Event()

    def _heard(self) -> None:
        while True:
            try:
                message = local_pb2.ToSync.FromString(self.sync.recv(1 << 16))
            except BlockingIOError:
                break
            if message.WhichOneof("body") == "acknowledgement":
                self.acknowledged.append(message.acknowledgement)
        self._cycle.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not holds():
                self._cycle.clear()
                await self._cycle.wait()

    async def stop(self) -> None:
        """Lets go of the devices; a second time does nothing."""
        self.over.set()
        if self.loop is not None:
            await self.loop
            self.loop = None
            await self.agent.loop.release()
            await self.agent.site.close()

    def arm(self, sequence: int) -> None:
        service = services.load("ercot-ffr")
        now_ms = self.clock.utc_ms()
        intent = intent_pb2.Intent(
            site="home-01",
            sequence=sequence,
            issued_ms=now_ms,
            valid_from_ms=now_ms,
            expires_ms=now_ms + 60_000,
            arm=intent_pb2.ArmService(
                award_id="award-1",
                service_id=service.id,
                service_version=service.version,
                contracted_w=1000,
                service_toml=services.text(service.id),
            ),
        )
        self.sync.send(local_pb2.ToControl(intent=intent).SerializeToString())


@asynccontextmanager
async def running(folder: Path, *devices: DeviceConfig, control: ControlConfig = FAST) -> AsyncIterator[Site]:
    site = Site(folder, devices, control)
    await site.agent.site.open_all()
    site.loop = asyncio.create_task(site.agent.loop.run(site.over))
    try:
        yield site
    finally:
        await site.stop()
        site.agent.channel.detach()
        site.sync.close()


def swinging(utc_ms: float) -> float:
    seconds = utc_ms / 1000
    return 60.0 + 0.02 * math.sin(seconds * 2.0) + 0.01 * math.sin(seconds * 7.0)


def register(utc_ms: float) -> float:
    """The same, renewed every 0.5 s."""
    return swinging(math.floor(utc_ms / 500) * 500)


def device(name: str, port: int, *, frequency_priority: int, frequency_only: bool = False) -> DeviceConfig:
    return DeviceConfig(
        name=name,
        driver="sunspec",
        host="127.0.0.1",
        port=port,
        frequency_priority=frequency_priority,
        frequency_only=frequency_only,
    )


async def test_slow_register_refuses_what_a_fast_meter_makes_possible(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        hybrid = await stack.enter_async_context(serve_home(frequency=register))
        meter = await stack.enter_async_context(serve_home(frequency=swinging))

        slow = await stack.enter_async_context(
            running(tmp_path / "slow", device("hybrid", hybrid.port, frequency_priority=5))
        )
        await slow.until(lambda: _measured(slow))
        slow.arm(1)
        await slow.until(lambda: bool(slow.acknowledged))
        refused = slow.acknowledged[0]
        assert refused.state == refused.STATE_REFUSED
        assert "ercot-ffr must begin within 0.25 s, and frequency from hybrid comes up to 0." in refused.reason
        await slow.stop()

        fast = await stack.enter_async_context(
            running(
                tmp_path / "fast",
                device("hybrid", hybrid.port, frequency_priority=5),
                device("clamp", meter.port, frequency_priority=1, frequency_only=True),
            )
        )
        await fast.until(lambda: _measured(fast))
        fast.arm(1)
        await fast.until(lambda: len(fast.acknowledged) == 2)
        accepted, active = fast.acknowledged
        assert accepted.state == accepted.STATE_ACCEPTED
        assert active.state == active.STATE_ACTIVE
        summary = fast.agent.summary()
        assert summary["frequency_source"] == "clamp"
        assert summary["frequency_sources"]["clamp"]["interval_s"] < 0.1
        assert 0.3 < summary["frequency_sources"]["hybrid"]["interval_s"] < 0.7


async def test_export_stays_under_its_limit(tmp_path: Path) -> None:
    """A sunny home that would export 2.5 kW may export 800 W: the inverter curtails."""
    control = ControlConfig(rate_hz=50.0, default="idle", soc_max=0.5, export_limit_w=800.0)
    async with AsyncExitStack() as stack:
        home = await stack.enter_async_context(serve_home(household=SteadyHousehold(pv=3000.0, load=500.0)))
        site = await stack.enter_async_context(
            running(tmp_path, device("hybrid", home.port, frequency_priority=5), control=control)
        )

        def exports_all_it_may() -> bool:
            snapshot = site.agent.loop.snapshot
            return snapshot is not None and abs((snapshot.grid_power_w.good or 0.0) - 800.0) < 10.0

        await site.until(exports_all_it_may)
        assert abs(home.plant.grid_w - 800.0) < 20.0
        merged = site.agent.loop.merged
        assert merged is not None
        assert abs(merged.setpoint.power_w - 1300.0) < 20.0


def _measured(site: Site) -> bool:
    sources = site.agent.summary()["frequency_sources"]
    return bool(sources) and all(source["measured"] for source in sources.values())
