"""The first cycles of an activation, when no site has heard of a price yet."""

import numpy as np
import pytest

from cloud.dispatch.prices import PriceGrid
from cloud.dispatch.rows import Rows, powers_at
from cloud.dispatch.share import Telemetry
from cloud.dispatch.testing import Split
from cloud.dispatch.tree import Limits

SITES = 20
TARGET_W = 8_000.0
# Batteries that charge below a price and discharge above: the target lies within the step between.
BATTERIES = Rows(
    np.tile(np.array([[9_000], [9_000]], dtype=np.int32), SITES),
    np.tile(np.array([[-4_000], [1_000]], dtype=np.int32), SITES),
)
NOBODY = np.empty(0, dtype=np.int64)
FREE = Limits(np.array([-np.inf]), np.array([np.inf]))


def test_what_sites_did_before_they_heard_a_price_is_no_disturbance() -> None:
    grid = PriceGrid()
    split = Split(BATTERIES, np.zeros(SITES, int), ["all"], [-1], grid=grid, cycle_s=2.0)
    split.open(TARGET_W, FREE)
    power_w = np.zeros(SITES)  # as their schedule has it
    for _ in range(12):
        telemetry = Telemetry(power_w, np.zeros(SITES))
        cycle = split.cycle(NOBODY, BATTERIES.take(NOBODY), np.ones(SITES, bool), telemetry, TARGET_W, FREE)
        power_w = powers_at(BATTERIES, np.full(SITES, grid.position(cycle.prices["all"])))  # in the next cycle
        assert cycle.offset_w == pytest.approx(0.0, abs=0.1 * TARGET_W)
        assert power_w.sum() == pytest.approx(TARGET_W, rel=0.1)
    assert power_w.sum() == pytest.approx(TARGET_W, rel=0.01)
