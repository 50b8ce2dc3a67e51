"""A simulated home, driven by the agent's own driver, passes the device contract."""

from collections.abc import AsyncIterator

import pytest

from hil.contract import Bench, DeviceContract
from hil.plant.household import SteadyHousehold
from hil.rigs.clock import ManualClock
from hil.rigs.home import serve_home
from hil.rigs.testing import HomeBench


class TestSimulatedHome(DeviceContract):
    @pytest.fixture
    async def bench(self) -> AsyncIterator[Bench]:
        clock = ManualClock()
        household = SteadyHousehold(load=750.0, pv=2000.0)
        async with serve_home(household=household, frequency=lambda _: 59.876, clock=clock) as rig:
            yield HomeBench(rig, clock)
