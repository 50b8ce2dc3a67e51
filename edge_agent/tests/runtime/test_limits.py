"""The owner's limits in the real loop: nothing but the device's own protection overrides them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edge_agent.model.config import ControlConfig
from edge_agent.runtime.testing import Bench

Home = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    @asynccontextmanager
    async def limited(**limits: Any) -> AsyncIterator[Bench]:
        bench = Bench(tmp_path, ControlConfig(**limits))
        try:
            await bench.agent.site.open_all()
            yield bench
        finally:
            bench.close()

    return limited


async def test_export_stays_under_its_limit_also_in_a_frequency_response(home: Home) -> None:
    async with home(export_limit_w=1500.0) as bench:
        bench.schedule([4000])
        await bench.run_for(5.0)
        assert bench.home.power_w == pytest.approx(700.0 + 1500.0), "the home takes 700 W"
        bench.arm("ercot-ffr", 1000)
        bench.home.frequency_hz = lambda now_s: 59.8
        await bench.run_for(5.0)
        assert bench.home.power_w == pytest.approx(2200.0)
        assert bench.snapshots()[-1].grid_power_w == pytest.approx(1500.0)
        bench.home.load_w = 100.0
        await bench.run_for(5.0)
        assert bench.snapshots()[-1].grid_power_w == pytest.approx(1500.0, abs=1.0), "the load has gone"


async def test_import_stays_under_its_limit(home: Home) -> None:
    async with home(import_limit_w=2000.0) as bench:
        bench.schedule([-4000])
        await bench.run_for(5.0)
        assert bench.snapshots()[-1].grid_power_w == pytest.approx(-2000.0)
        bench.home.load_w = 3000.0
        await bench.run_for(5.0)
        assert bench.home.power_w == pytest.approx(1000.0, abs=1.0), "the storage carries what may not be imported"


async def test_backup_reserve_is_kept_from_everything(home: Home) -> None:
    async with home(backup_reserve=0.6) as bench:
        bench.home.soc = 0.55
        bench.schedule([2000])
        bench.arm("ercot-ffr", 2000)
        bench.home.frequency_hz = lambda now_s: 59.8
        await bench.run_for(5.0)
        assert max(power_w for _, power_w in bench.home.trace) <= 0.0
        bench.agent.describe()
        bench.drain()
        description = next(m.description for m in bench.received if m.WhichOneof("body") == "description")
        assert description.soc_min == pytest.approx(0.61), "the coordinator plans above it"


async def test_ramp_limit_holds_for_every_step(home: Home) -> None:
    async with home(ramp_w_per_s=1000.0) as bench:
        bench.schedule([0])
        await bench.run_for(1.0)
        bench.schedule([3000])
        await bench.run_for(5.0)
        steps = [
            (after - before) / (after_s - before_s)
            for (before_s, before), (after_s, after) in pairwise(bench.home.trace)
        ]
        assert bench.home.power_w == 3000.0
        # Written a transaction after it was admitted, so the instants of the trace jitter by that.
        assert max(steps) <= 1000.0 * 1.05
        assert bench.agent.summary()["setpoints_clipped"] >= 55


async def test_a_service_that_the_ramp_limit_makes_late_is_refused(home: Home) -> None:
    async with home(ramp_w_per_s=1000.0) as bench:
        await bench.run_for(1.0)
        bench.arm("ercot-ffr", 3000)
        await bench.run_for(1.0)
        assert bench.acks() == [(1, "REFUSED")]
        reason = next(m.acknowledgement.reason for m in bench.received if m.WhichOneof("body") == "acknowledgement")
        assert "the ramp limit of this site takes 3.00 s" in reason


async def test_a_service_that_the_limits_leave_no_room_for_is_refused(home: Home) -> None:
    async with home(export_limit_w=1000.0, import_limit_w=1000.0) as bench:
        await bench.run_for(1.0)
        bench.arm("ercot-ffr", 3000)
        await bench.run_for(1.0)
        reason = next(m.acknowledgement.reason for m in bench.received if m.WhichOneof("body") == "acknowledgement")
        assert bench.acks() == [(1, "REFUSED")]
        assert reason == "ercot-ffr needs 3000 W of room, and the limits here leave 2000 W"


async def test_writes_are_spared_and_frequency_response_is_not(home: Home) -> None:
    async with home(writes_per_day=240.0) as bench:
        for turn in range(30):
            bench.home.load_w = 700.0 + 200.0 * (turn % 2)
            await bench.run_for(10.0)
        powers = [power_w for _, power_w in bench.home.trace]
        assert sum(before != after for before, after in pairwise(powers)) <= 10, "an hour's worth"
        assert bench.agent.summary()["setpoints_held"] > 0
        assert bench.home.holds_setpoint
        bench.arm("ercot-ffr", 3000)
        await bench.run_for(1.0)
        before_w = bench.home.power_w
        bench.home.frequency_hz = lambda now_s: 59.8
        await bench.run_for(0.3)
        assert bench.home.power_w == pytest.approx(before_w + 3000.0, abs=250.0)
