"""What the coordinator asked for begins and ends at its instants, whatever becomes of the gateway's own clock."""

from datetime import UTC, datetime

import pytest

from edge_agent.runtime.testing import Bench

HOUR_MS = 3_600_000
CYCLE_S = 0.05 + 0.004  # one cycle and its transactions


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def changes(bench: Bench) -> list[tuple[float, float]]:
    """(instant, power) of each change of what the device was told, from the first scheduled power on."""
    told: list[tuple[float, float]] = []
    for at_s, power_w in bench.home.trace:
        if power_w in (100, 200, 300, 400) and (not told or told[-1][1] != power_w):
            told.append((at_s, power_w))
    return told


@pytest.mark.parametrize(
    "midnight",
    [
        pytest.param("2028-02-29T00:00:00", id="into the leap day"),
        pytest.param("2028-03-01T00:00:00", id="out of the leap day"),
        pytest.param("2027-03-14T10:00:00", id="California's clocks go forward"),
        pytest.param("2027-10-31T01:00:00", id="Europe's clocks go back"),
        pytest.param("2027-01-01T00:00:00", id="new year"),
    ],
)
async def test_market_time_units_change_on_time_across_calendar_boundaries(bench: Bench, midnight: str) -> None:
    await bench.agent.site.open_all()
    boundary_ms = ms(midnight)
    bench.clock.set_utc(boundary_ms - 60_000)
    begin_s = bench.clock.now_s
    bench.schedule([100, 200, 300, 400], mtu_s=30, end_s=120.0)
    await bench.run_for(119.0)
    found = changes(bench)
    assert [power_w for _, power_w in found] == [100, 200, 300, 400]
    for index, (at_s, _) in enumerate(found):
        assert 0 <= at_s - (begin_s + 30 * index) <= 2 * CYCLE_S


@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS, 90_000, -400])
async def test_a_step_of_the_system_clock_moves_nothing_that_is_held(bench: Bench, step_ms: int) -> None:
    await bench.agent.site.open_all()
    begin_s = bench.clock.now_s
    bench.say_coordinator_time(bench.clock.utc_ms())
    bench.schedule([100, 200], mtu_s=60, end_s=120.0)
    bench.arm("ercot-ffr", 1000, start_s=40.0, end_s=50.0)
    await bench.run_for(20.0)
    bench.clock.set_utc(bench.clock.utc_ms() + step_ms)
    await bench.run_for(60.0)
    assert [(round(at_s - begin_s), power_w) for at_s, power_w in changes(bench)] == [(0, 100), (60, 200)]
    assert bench.acks() == [(1, "ACTIVE"), (2, "ACTIVE"), (2, "EXPIRED")]


async def test_what_was_heard_with_a_wrong_clock_is_put_right_when_the_coordinator_is_measured(bench: Bench) -> None:
    """A gateway without a battery starts two hours late; its intents come before it knows better."""
    await bench.agent.site.open_all()
    begin_s, truth_ms = bench.clock.now_s, bench.clock.utc_ms()
    bench.schedule([100, 200], mtu_s=60, end_s=120.0)
    bench.arm("ercot-ffr", 1000, start_s=40.0, end_s=50.0)
    bench.clock.set_utc(truth_ms - 2 * HOUR_MS)
    await bench.run_for(10.0)
    assert bench.acks() == []  # both begin in two hours, it believes
    bench.say_coordinator_time(truth_ms + 10_000)
    await bench.run_for(60.0)
    assert [(round(at_s - begin_s), power_w) for at_s, power_w in changes(bench)] == [(10, 100), (60, 200)]
    assert bench.acks() == [(1, "ACTIVE"), (2, "ACTIVE"), (2, "EXPIRED")]
