"""A simulated home passes the device contract, driven by the agent's own driver over TCP and on a paced serial line."""

from collections.abc import AsyncIterator

import pytest
from msgspec import structs

from edge_agent.model.config import DeviceConfig, SerialSettings
from hil.contract import Bench, DeviceContract
from hil.plant.household import SteadyHousehold
from hil.rigs.clock import ManualClock
from hil.rigs.home import HomeRig, serve_home
from hil.rigs.registers import MODELS
from hil.rigs.rtu_home import on_home
from hil.rigs.rtu_proxy import RtuProxy
from hil.rigs.testing import HomeBench

HOUSEHOLD = SteadyHousehold(load=750.0, pv=2000.0)
SETTINGS = SerialSettings(baudrate=460_800)  # fast, so that the test is
WRITE = 16


class SerialHomeBench(HomeBench):
    """The home at the other end of a serial line, which hears what is written to it."""

    def __init__(self, rig: HomeRig, clock: ManualClock) -> None:
        super().__init__(rig, clock)
        self._answer, self._silent, self._heard = on_home(rig), False, 0
        self.path = ""

    @property
    def writes(self) -> int:
        return self._heard

    def serve(self, request: bytes) -> bytes | None:
        if self._silent:
            return None
        self._heard += request[1] == WRITE
        return self._answer(request)

    def config(self, *, timeout_s: float, read_only: bool) -> DeviceConfig:
        over_tcp = super().config(timeout_s=timeout_s, read_only=read_only)
        return structs.replace(over_tcp, host=None, port=502, serial=self.path, baudrate=SETTINGS.baudrate)

    def keep_silent(self, silent: bool) -> None:
        self._silent = silent


class TestSimulatedHome(DeviceContract):
    covers = frozenset({"driver sunspec", "hil.rigs.home", *(f"model {model}" for model in MODELS)})

    @pytest.fixture
    async def bench(self) -> AsyncIterator[Bench]:
        clock = ManualClock()
        async with serve_home(household=HOUSEHOLD, frequency=lambda _: 59.876, clock=clock) as rig:
            yield HomeBench(rig, clock)


class TestSimulatedHomeOnASerialLine(DeviceContract):
    covers = frozenset({"hil.rigs.rtu_home", "hil.rigs.rtu_proxy"})

    @pytest.fixture
    async def bench(self) -> AsyncIterator[Bench]:
        clock = ManualClock()
        async with serve_home(household=HOUSEHOLD, frequency=lambda _: 59.876, clock=clock) as rig:
            bench = SerialHomeBench(rig, clock)
            async with RtuProxy(SETTINGS, bench.serve, turn_round_s=0.0) as line:
                bench.path = line.path
                yield bench
                assert line.violations == []
