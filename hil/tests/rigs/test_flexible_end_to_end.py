"""A home with a vehicle and a tank, `vpp-agent run` on it, a real broker between it and whoever says the price."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.tests.sync.counterparts import Authority, Broker, Coordinator, utc_ms
from hil.plant.household import SteadyHousehold
from hil.rigs.flexible_home import ROD_W, FlexibleDevices, WithFlexible
from hil.rigs.home import HomeRig, serve_home
from protos import frame, subjects
from protos.vpp.v1 import broadcast_pb2, intent_pb2

SITE, GROUP = "home-01", "fast"
MOST_W, FALLBACK_W = 11_040.0, 6.0 * 3 * 230.0
WITHIN_S = 60.0
ALL_POINTS = (*frame.POINTS, *frame.FLEXIBLE_POINTS)


class Home:
    """The devices, the agent as a user starts it, and the coordinator's word."""

    def __init__(
        self, folder: Path, coordinator: Coordinator, devices: FlexibleDevices, hybrid: HomeRig, skipped: list[float]
    ) -> None:
        """skipped: by how many seconds the clock of charger and rod was put forward."""
        self.devices, self._hybrid, self.skipped = devices, hybrid, skipped
        self._folder, self._coordinator = folder, coordinator
        self._sequence = 0
        self._agent: asyncio.subprocess.Process | None = None
        (folder / "claim.toml").write_text(coordinator.claim(SITE))

    @property
    def car_w(self) -> float:
        return self.devices.wallbox.power_w

    @property
    def tank_w(self) -> float:
        return self.devices.rod.power_w

    def configure(self, owner: str = "") -> None:
        at_once = "min_run_s = 0\nmin_off_s = 0\n"
        (self._folder / "agent.toml").write_text(
            f'site = "{SITE}"\ndata_dir = "data"\ntime_zone = "UTC"\n[coordinator]\nclaim_file = "claim.toml"\n'
            '[control]\ndefault = "idle"\n[control.guard]\nstart_spread_s = 0.0\n'
            f'[[devices]]\nname = "hybrid"\ndriver = "sunspec"\nhost = "{self._hybrid.host}"\n'
            f"port = {self._hybrid.port}\n{self.devices.agent_toml(owner=at_once + owner)}{at_once}"
        )

    async def command(self, name: str, *arguments: str) -> str:
        """What `vpp-agent NAME` prints."""
        config = str(self._folder / "agent.toml")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "edge_agent.cli", name, "--config", config, *arguments, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await process.communicate()
        assert process.returncode == 0
        return printed.decode()

    async def start(self) -> None:
        await self.command("check-config")
        with (self._folder / "agent.log").open("ab") as log:
            self._agent = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "edge_agent.cli", "run", "--config", str(self._folder / "agent.toml"),
                stderr=log, start_new_session=True,
            )  # fmt: skip
        async with asyncio.timeout(WITHIN_S):
            await self._coordinator.descriptions.get()

    async def kill(self) -> None:
        """kill -9 of control and sync."""
        if self._agent is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._agent.pid, signal.SIGKILL)
            await self._agent.wait()

    async def stop(self) -> None:
        """As systemd does."""
        assert self._agent is not None
        self._agent.terminate()
        async with asyncio.timeout(WITHIN_S):
            assert await self._agent.wait() == 0

    async def follow_price(self) -> None:
        now_ms = utc_ms()
        self._sequence += 1
        following = intent_pb2.Intent(
            site=SITE,
            sequence=self._sequence,
            issued_ms=now_ms,
            valid_from_ms=now_ms,
            expires_ms=now_ms + 3_600_000,
            price=intent_pb2.FollowPrice(group=GROUP, fallback_ticks=5_000),
        )
        await self._coordinator.publish("price", following)

    async def say(self, ticks: int) -> None:
        """A broadcast price."""
        now_ms = utc_ms()
        self._sequence += 1
        message = broadcast_pb2.Broadcast(
            group=GROUP,
            sequence=self._sequence,
            issued_ms=now_ms,
            expires_ms=now_ms + 600_000,
            price=broadcast_pb2.Price(ticks=ticks),
        )
        async with self._coordinator.broker.backend() as client:
            await client.publish(subjects.broadcast(GROUP, "price"), self._coordinator.sign_broadcast(message))

    async def why(self, device: str) -> str:
        """By `status`."""
        control = json.loads(await self.command("status", "--json"))["control"]
        return str({each["name"]: each["why"] for each in control["flexible"]}[device])

    async def until_telemetry_shows(self, wanted: dict[str, float]) -> None:
        """Waits for a frame whose last sample has all of these, and the energy of the stay."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                newest = (await self._coordinator.broker.frames())[-1]
                columns = frame.unpack(newest.SerializeToString())[4]
                shown = {name: column[-1] for (name, _), column in zip(ALL_POINTS, columns, strict=False)}
                session_wh = shown.get("ev_session_wh") or 0.0
                if wanted.items() <= shown.items() and 0.0 < session_wh <= self.devices.car.drawn_wh + 1.0:
                    return
                await asyncio.sleep(0.5)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for what the devices do."""
        try:
            async with asyncio.timeout(WITHIN_S):
                while True:
                    if condition():
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            log = (self._folder / "agent.log").read_text()[-3000:]
            raise AssertionError(f"{what}: car {self.car_w:.0f} W, tank {self.tank_w:.0f} W\n{log}") from None

    async def says(self, ticks: int, condition: Callable[[], bool], what: str) -> None:
        """The price, again and again as a coordinator does, until the devices do it."""
        until = asyncio.create_task(self.until(condition, what))
        while not until.done():
            await self.say(ticks)
            await asyncio.wait((until,), timeout=2.0)
        await until


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    authority = Authority()
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker", authority)
    coordinator = Coordinator(authority, broker)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        await broker.start()
        stack.push_async_callback(broker.kill)
        await broker.make_streams()
        await coordinator.start()
        stack.push_async_callback(coordinator.stop)
        skipped = [0.0]
        devices = FlexibleDevices(lambda: loop.time() + skipped[0])
        await devices.listen(stack)
        household = WithFlexible(SteadyHousehold(load=500.0), devices)
        hybrid = await stack.enter_async_context(serve_home(household=household))
        made = Home(tmp_path, coordinator, devices, hybrid, skipped)
        stack.push_async_callback(made.kill)
        yield made


async def test_price_ready_by_comfort_and_a_dead_agent(home: Home) -> None:
    home.configure()
    await home.start()
    await home.follow_price()
    await home.says(9_000, lambda: (home.car_w, home.tank_w) == (0.0, 0.0), "dear: both wait")
    await home.says(1_000, lambda: (home.car_w, home.tank_w) == (-MOST_W, -ROD_W), "cheap: both draw")
    told = await home.command("status")
    assert "wallbox: charging 11.0 kW: the price that was broadcast" in told

    await home.until_telemetry_shows({"ev_power_w": -MOST_W, "flexible_load_power_w": -ROD_W, "ev_connected": 1.0})

    home.devices.tank.temperature_c = 47.0
    await home.says(9_000, lambda: home.car_w == 0.0 and home.tank_w == -ROD_W, "dear, and the tank is too cold")
    async with asyncio.timeout(WITHIN_S):  # it drew for the price a moment before
        while await home.why("tank") != "below the owner's comfort":
            pass

    await home.kill()
    assert home.car_w == 0.0, "what it was told stands for a minute"
    home.skipped[0] += 61.0
    assert home.car_w == pytest.approx(-FALLBACK_W), "then its own fail-safe applies"
    assert home.devices.rod.commanded_w is None

    soon = datetime.now(UTC) + timedelta(minutes=2)
    home.configure(owner=f'ready_by = "{soon:%H:%M}"\nenergy_wh = 2000\n')
    await home.start()
    await home.says(9_000, lambda: home.car_w == -MOST_W, "dear, and it has to be ready")
    told = await home.command("status")
    assert f"it charges now, or it is not ready in time; ready by {soon:%H:%M} needs" in told
    assert home.devices.wallbox.lasts_s() == 60.0

    await home.stop()
    assert home.devices.wallbox.commanded_w is None
    assert home.devices.wallbox.lasts_s() == 0.0, "it charges as by itself, and no timer runs"
