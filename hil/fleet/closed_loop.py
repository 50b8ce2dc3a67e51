"""A target held by broadcast prices over a simulated fleet, with the coordinator's own clearing and correction."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.dispatch.correction import LEAD_S
from cloud.dispatch.prices import Array, PriceGrid
from cloud.dispatch.share import Telemetry
from cloud.dispatch.testing import Split
from cloud.dispatch.tree import Limits
from hil.fleet.homes import STEP_S, Faults, Homes

CYCLE_S: Final = 2.0
SETTLED_S: Final = 60.0  # after the start, from which on errors count
TARGET_S: Final = 300.0  # between two targets
RAMP_S: Final = 60.0  # from one to the next


@dataclass(frozen=True, slots=True)
class Held:
    """What became of it, every half second from `SETTLED_S` on."""

    error_share: Array  # |power - target| / |target|
    deviating: Array  # int64, every cycle: sites counted as not following
    silent: Array
    liars_found: float  # share of the lying sites that are counted so in the end
    wrongly_found: float  # share of the others

    @property
    def p95_pct(self) -> float:
        return 100 * float(np.percentile(self.error_share, 95))


def hold(sites: int, length_s: float, faults: Faults, *, seed: int, corrected: bool = True, workers: int = 1) -> Held:
    """Follows targets that move by up to 15 % within a minute, every five. corrected: False: without telemetry.

    workers: that judge and sum a part of the sites each.
    """
    grid, rng = PriceGrid(), np.random.default_rng(seed + 1)
    homes = Homes(sites, grid, faults, seed=seed, length_s=length_s)
    start = homes.look()
    nodes = np.zeros(sites, dtype=np.int64)
    split = Split(start.rows, nodes, ["all"], [-1], grid=grid, cycle_s=CYCLE_S, workers=workers)
    limits, offers = Limits(np.full(1, -np.inf), np.full(1, np.inf)), np.ones(sites, dtype=bool)
    reach_w = float(start.rows.power_w[-1].sum())
    levels = np.append(0.5, rng.uniform(0.85, 1.15, round(length_s / TARGET_S) + 1))
    targets_w = reach_w * np.cumprod(levels).clip(0.25, 0.75)
    split.open(targets_w[0], limits)
    homes.fallback = np.full(sites, split.steering.fallback)
    errors, deviating, silent = [], [], []
    steps = round(CYCLE_S / STEP_S)
    for number in range(round(length_s / STEP_S)):
        if number % steps == 0:
            seen = homes.look()
            telemetry = Telemetry(
                seen.measured_w if corrected else np.full(sites, np.nan), homes.now_s - seen.last_seen_s
            )
            target_w = _target_w(targets_w, homes.now_s + LEAD_S)
            cycle = split.cycle(seen.changed, seen.rows.take(seen.changed), offers, telemetry, target_w, limits)
            homes.say(np.full(sites, grid.position(cycle.prices["all"])))
            deviating.append(cycle.deviating)
            silent.append(cycle.silent)
        homes.step()
        if homes.now_s > SETTLED_S:
            due_w = _target_w(targets_w, homes.now_s)
            errors.append(abs(float(homes.power_w.sum()) - due_w) / abs(due_w))
    counted_out = split.deviating
    lying = homes.lying & ~homes.silent
    return Held(
        np.array(errors),
        np.array(deviating),
        np.array(silent),
        float(counted_out[lying].mean()) if lying.any() else 0.0,
        float(counted_out[~lying].mean()),
    )


def _target_w(targets_w: Array, at_s: float) -> float:
    number, into_s = divmod(at_s, TARGET_S)
    before, after = targets_w[max(0, int(number) - 1)], targets_w[min(int(number), len(targets_w) - 1)]
    return float(before + (after - before) * min(1.0, into_s / RAMP_S))
