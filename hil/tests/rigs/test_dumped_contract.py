"""A device that `vpp-agent dump` wrote down and the simulator serves again passes the device contract's readings."""

import tomllib
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
import pytest
from msgspec import structs

from edge_agent.commands.dump import dump
from edge_agent.model.config import DeviceConfig
from hil.contract import Bench, InverterContract, MeterContract
from hil.plant.household import SteadyHousehold
from hil.rigs.clock import ManualClock
from hil.rigs.dumped import Dump, DumpedDevice
from hil.rigs.home import serve_home
from hil.rigs.legacy_registers import LegacyLayout
from hil.rigs.served import TcpDevice
from hil.rigs.testing import AgentClock, HomeBench

LAYOUTS = {"701 to 714": None, "101 to 160": LegacyLayout(inverter=101, meter=211)}


class DumpedBench:
    """The served copy. What was true of the original when it was dumped is true of it."""

    commanded_w = None

    def __init__(self, original: HomeBench, served: TcpDevice, clock: ManualClock) -> None:
        self.truth = replace(original.truth)
        self.rated_power_w, self.storage_capacity_wh = original.rated_power_w, original.storage_capacity_wh
        self.max_charge_w, self.max_discharge_w = original.max_charge_w, original.max_discharge_w
        self.clock = AgentClock(clock)
        self._clock, self._served, self._original = clock, served, original

    @property
    def writes(self) -> int:
        return self._served.device.writes

    def config(self, *, timeout_s: float, read_only: bool) -> DeviceConfig:
        of_original = self._original.config(timeout_s=timeout_s, read_only=read_only)
        return structs.replace(of_original, port=self._served.port, unit_id=self._served.unit_id)

    def pass_time(self, seconds: float) -> None:
        self._clock.leap(seconds)

    def keep_silent(self, silent: bool) -> None:
        self._served.device.silent = silent


@pytest.mark.parametrize("bench", LAYOUTS, indirect=True)
class TestDumped(InverterContract, MeterContract):
    covers = frozenset({"hil.rigs.dumped", "hil.rigs.served"})

    @pytest.fixture
    async def bench(self, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
        clock, household = ManualClock(), SteadyHousehold(load=750.0, pv=2000.0)
        layout = LAYOUTS[request.param]
        async with serve_home(household=household, frequency=lambda _: 59.88, clock=clock, layout=layout) as rig:
            original = HomeBench(rig, clock)
            text = await dump(original.config(timeout_s=0.5, read_only=True))
            copy = msgspec.convert(tomllib.loads(text), Dump)
            async with TcpDevice(DumpedDevice(copy), unit_id=copy.unit_id) as served:
                yield DumpedBench(original, served, clock)
