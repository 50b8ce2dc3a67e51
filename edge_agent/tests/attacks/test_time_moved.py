"""Time moved by an hour under the agent, by false NTP or by hand: no old command comes to life, none dies early."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.runtime.testing import Bench
from edge_agent.sync.clock import CoordinatorClock, measured
from edge_agent.tests.attacks.doors import NOW_MS, Site, broadcast, intent

HOUR_MS = 3_600_000


class Machine:
    """A gateway whose system clock can be moved; the monotonic one cannot."""

    now_s = 1000.0
    moved_ms = 0

    def monotonic_s(self) -> float:
        return self.now_s

    def utc_ms(self) -> int:
        return round(NOW_MS + 1e3 * (self.now_s - 1000.0)) + self.moved_ms


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def site(tmp_path: Path, machine: Machine) -> Site:
    """It has measured the coordinator's clock, as each answer of the coordinator makes it do."""
    clock = CoordinatorClock(machine)
    clock.take(measured(machine.now_s - 0.02, machine.now_s, NOW_MS))
    return Site(tmp_path, clock)


def test_an_expired_command_does_not_come_to_life_when_the_clock_goes_back(site: Site, machine: Machine) -> None:
    machine.now_s += HOUR_MS / 1e3
    machine.moved_ms = -HOUR_MS  # by its own clock it is the minute of the command again
    site.hear(intent().SerializeToString())
    site.hear_group(broadcast().SerializeToString())
    assert site.moved == []
    [reason] = site.refusals()
    assert "expired" in reason


def test_a_valid_command_is_followed_when_the_clock_goes_on(site: Site, machine: Machine) -> None:
    machine.moved_ms = HOUR_MS
    site.hear(intent().SerializeToString())
    site.hear_group(broadcast().SerializeToString())
    assert site.moved == ["setpoint 5", "price 5"]


@pytest.fixture
async def benches(tmp_path: Path) -> AsyncIterator[tuple[Bench, Bench]]:
    """Two of the same home."""
    folders = [tmp_path / name for name in ("left alone", "attacked")]
    for folder in folders:
        folder.mkdir()
    one, other = (Bench(folder) for folder in folders)
    yield one, other
    one.close()
    other.close()


@pytest.mark.parametrize("moved_ms", [HOUR_MS, -HOUR_MS])
async def test_the_device_is_told_the_same_at_the_same_instants(benches: tuple[Bench, Bench], moved_ms: int) -> None:
    for bench, by_ms in zip(benches, (0, moved_ms), strict=True):
        await bench.agent.site.open_all()
        bench.say_coordinator_time(bench.clock.utc_ms())
        bench.schedule([100, 200], mtu_s=60, end_s=120.0)
        bench.arm("ercot-ffr", 1000, start_s=40.0, end_s=50.0)
        await bench.run_for(20.0)
        bench.clock.set_utc(bench.clock.utc_ms() + by_ms)
        await bench.run_for(130.0)
    alone, attacked = benches
    assert {200.0, 100.0} <= {power_w for _, power_w in alone.home.trace}
    assert attacked.home.trace == alone.home.trace
    assert attacked.acks() == alone.acks()
