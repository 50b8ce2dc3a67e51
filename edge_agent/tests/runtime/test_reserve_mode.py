"""A service with a reserve mode in the real loop: what the storage has left decides, and it is told."""

import pytest

from edge_agent.runtime.testing import Bench


async def test_reserve_mode_begins_and_ends_with_the_charge_and_is_told(bench: Bench) -> None:
    """FCR of 3 kW on 10 kWh between 0.1 and 0.95: 5 minutes are 2.5 % of charge, 10 minutes 5 %."""
    await bench.agent.site.open_all()
    bench.home.frequency_hz = lambda now_s: 49.9
    bench.schedule([0])
    bench.arm("fcr", 3000)
    bench.home.soc = 0.1 + 0.03
    await bench.run_for(10.0)
    assert "service.reserve_mode" not in bench.codes()
    assert bench.home.power_w == pytest.approx(1500.0)

    bench.home.soc = 0.1 + 0.024
    await bench.run_for(150.0)
    assert [e.text for e in bench.events() if e.code == "service.reserve_mode"] == [
        "fcr: reserve mode begins, storage has 4.8 min of the contracted power"
    ]
    assert bench.home.power_w == pytest.approx(750.0, abs=15.0), "half way to the mean, which is all there was"

    bench.home.soc = 0.95 - 0.04
    await bench.run_for(1.0)
    assert bench.codes().count("service.reserve_mode") == 1, "not over before there are ten minutes both ways"
    bench.home.soc = 0.5
    await bench.run_for(1.0)
    assert bench.codes().count("service.reserve_mode") == 2
    await bench.run_for(160.0)
    assert bench.home.power_w == pytest.approx(1500.0)
