import numpy as np
import pytest

from cloud.dispatch.prices import Array, PriceGrid
from cloud.dispatch.rows import Rows, powers_at
from cloud.dispatch.share import Telemetry
from cloud.dispatch.testing import Split
from cloud.dispatch.tree import Limits

GRID = PriceGrid(0, 1000)
NOBODY = np.empty(0, np.int64)
FREE = Limits(np.full(2, -np.inf), np.full(2, np.inf))


class Loop:
    """Sites 0 to 9, each 0 to 1000 W over prices 0 to 1000; 0 to 4 are behind a feeder of their own."""

    def __init__(self, workers: int = 2) -> None:
        self.rows = Rows(np.tile([[0], [1000]], 10).astype(np.int32), np.tile([[0], [1000]], 10).astype(np.int32))
        node = np.repeat([1, 0], 5)
        self.node = node
        self.split = Split(self.rows, node, ["all", "feeder"], [-1, 0], grid=GRID, cycle_s=2.0, workers=workers)
        self.power_w = np.zeros(10)
        self.quiet_s = np.zeros(10)
        self.offers = np.ones(10, dtype=bool)
        self.stuck: dict[int, float] = {}
        self.split.open(0.0, FREE)

    def run(self, target_w: float, cycles: int = 40, limits: Limits = FREE) -> Array:
        """The powers in the end. Every site does at once what its price says, but for those that do not."""
        for _ in range(cycles):
            cycle = self.split.cycle(
                NOBODY, self.rows.take(NOBODY), self.offers, Telemetry(self.power_w, self.quiet_s), target_w, limits
            )
            position = np.array([GRID.position(cycle.prices[name]) for name in self.split.steering.names])[self.node]
            self.power_w = powers_at(self.rows, position)
            for site, power_w in self.stuck.items():
                self.power_w[site] = power_w
            self.last = cycle
        return self.power_w


def test_a_fleet_that_does_as_it_says_is_at_its_target() -> None:
    assert Loop().run(5000.0) == pytest.approx(np.full(10, 500.0), abs=0.01)


def test_one_that_is_stuck_is_counted_with_what_it_does() -> None:
    loop = Loop()
    loop.stuck[9] = 0.0
    assert loop.run(4500.0).sum() == pytest.approx(4500.0, abs=1.0)
    assert loop.split.deviating.tolist() == [False] * 9 + [True]
    del loop.stuck[9]
    assert loop.run(4500.0) == pytest.approx(np.full(10, 450.0), abs=1.0)
    assert not loop.split.deviating.any()


def test_a_bias_is_taken_out_and_nobody_is_blamed() -> None:
    loop = Loop()
    loop.run(5000.0)
    for _ in range(30):
        cycle = loop.split.cycle(
            NOBODY, loop.rows.take(NOBODY), loop.offers, Telemetry(loop.power_w - 30.0, loop.quiet_s), 5000.0, FREE
        )
        loop.power_w = powers_at(loop.rows, GRID.position(cycle.prices["all"]))
    assert (loop.power_w - 30.0).sum() == pytest.approx(5000.0, abs=10.0)
    assert not loop.split.deviating.any()


def test_a_silent_site_is_taken_to_be_at_its_fallback() -> None:
    loop = Loop()
    loop.split.open(2000.0, FREE)  # everybody falls back to 200 W
    loop.quiet_s[0] = 60.0
    loop.run(6000.0)
    assert loop.power_w[1:].sum() == pytest.approx(5800.0, abs=1.0)
    assert loop.last.silent == 1


def test_who_offers_nothing_is_counted_with_what_it_measures() -> None:
    loop = Loop()
    loop.offers[3], loop.stuck[3] = False, -700.0
    assert loop.run(4000.0).sum() == pytest.approx(4000.0, abs=1.0)
    assert not loop.split.deviating.any()


def test_a_feeder_at_its_limit_sees_a_price_of_its_own() -> None:
    loop = Loop()
    limits = Limits(np.array([-np.inf, 0.0]), np.array([np.inf, 1000.0]))
    power_w = loop.run(5000.0, limits=limits)
    assert power_w == pytest.approx(np.repeat([200.0, 800.0], 5), abs=0.1)
    told = {name: price.ticks + price.tick_fraction for name, price in loop.last.prices.items()}
    assert told == pytest.approx({"all": 800.0, "feeder": 200.0}, abs=0.1)


def test_beyond_reach_it_does_not_wind_up() -> None:
    loop = Loop()
    loop.run(20_000.0, cycles=200)
    assert not loop.last.cleared.total.feasible
    assert loop.run(5000.0, cycles=20).sum() == pytest.approx(5000.0, abs=5.0)
