"""The firmware's meter and relay, each a process of the MicroPython VM on a paced line, pass the device contract."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from edge_agent.drivers import open_device
from edge_agent.model.config import DeviceConfig, SerialSettings
from edge_agent.model.devices import DeviceTimeout
from hil.contract import Bench, MeterContract, Truth, there
from hil.rigs.clock import ManualClock
from hil.rigs.firmware_node import FirmwareNode
from hil.rigs.rtu_proxy import Rates, RtuProxy
from hil.rigs.testing import AgentClock

SETTINGS = SerialSettings(baudrate=460_800)  # fast, so that the test is
UNIT = 7
PROGRAMS = ("meter", "relay")
HZ, VOLTS = 49.871, 230.0
COUNT_V = 0.019  # of the default calibration
WRITES = (6, 16)
STARTS_WITHIN_S = 20.0


class FirmwareBench:
    """A running node as the contract wants it. Agent's time is the test's, the node's own passes by itself."""

    rated_power_w = max_charge_w = max_discharge_w = storage_capacity_wh = 0.0
    commanded_w = None
    truth = Truth(
        inverter_power_w=None,
        meter_power_w=None,
        pv_power_w=None,
        frequency_hz=None,
        voltage_v=None,
        soc=None,
        meter_frequency_hz=HZ,
        meter_voltage_v=VOLTS,
    )

    def __init__(self, line: RtuProxy) -> None:
        self._line, self._before, self._clock = line, len(line.heard), ManualClock()
        self.clock = AgentClock(self._clock)

    @property
    def writes(self) -> int:
        return sum(heard.of_client and heard.data[1] in WRITES for heard in self._line.heard[self._before :])

    def config(self, *, timeout_s: float, read_only: bool) -> DeviceConfig:
        return DeviceConfig(
            name="clamp",
            driver="sunspec",
            serial=self._line.path,
            baudrate=SETTINGS.baudrate,
            unit_id=UNIT,
            timeout_s=timeout_s,
            read_only=read_only,
        )

    def pass_time(self, seconds: float) -> None:
        self._clock.leap(seconds)

    def keep_silent(self, silent: bool) -> None:
        self._line.rates = Rates(lost_reply=float(silent))


@pytest.fixture(scope="module", params=PROGRAMS)
def line(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtuProxy]:
    """Before the node of a program, which lives as long as the module's tests: in an event loop of its own."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    running: Future[tuple[RtuProxy, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    def mains(t: np.ndarray) -> np.ndarray:
        return 32768 + VOLTS * 2**0.5 / COUNT_V * np.cos(2 * np.pi * HZ * t)

    async def serve() -> None:
        settings = {"unit": UNIT, "serial": "node-1", "program": request.param}
        over = asyncio.Event()
        async with (
            RtuProxy(settings=SETTINGS, turn_round_s=0.0) as line,
            FirmwareNode(folder, settings, mains, uart_path=line.server_path),
        ):
            running.set_result((line, asyncio.get_running_loop(), over))
            await over.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if running.done():
                raise
            running.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    line, loop, over = running.result(STARTS_WITHIN_S)
    yield line
    loop.call_soon_threadsafe(over.set)
    thread.join(STARTS_WITHIN_S)


async def ready(bench: FirmwareBench) -> None:
    """Waits until the node shows a frequency: it takes its time to start."""
    while True:
        try:
            device = await open_device(bench.config(timeout_s=0.5, read_only=True), bench.clock)
        except DeviceTimeout:
            continue
        reading = await there(device.meter).read_meter()
        await device.close()
        if reading.frequency_hz.good is not None:
            return


class TestFirmware(MeterContract):
    covers = frozenset({"model 64910", "hil.rigs.firmware_node", *(f"firmware {name}" for name in PROGRAMS)})
    oldest_s = 0.5

    @pytest.fixture
    async def bench(self, line: RtuProxy) -> AsyncIterator[Bench]:
        bench = FirmwareBench(line)
        async with asyncio.timeout(STARTS_WITHIN_S):
            await ready(bench)
        yield bench
        bench.keep_silent(False)
