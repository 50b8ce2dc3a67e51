"""Clearing at fleet scale: sums of supply functions, prices, local prices behind limits, what each site gives at them.

Functions and limits are drawn from a seed: 8 breakpoints a site between -50 and 300 currency/MWh on the whole grid of
the day-ahead auction; for local prices, feeders of 100 sites each, of which 5 % are at a limit (350 upper and 150 lower
ones of 10,000). The baseline of the same run finds the price by bisection over all sites.
"""

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np

from cloud.dispatch.curve import Curve
from cloud.dispatch.nested import Nested
from cloud.dispatch.prices import Array, PriceGrid
from cloud.dispatch.rows import Rows, powers_at, whole_watts
from cloud.dispatch.tree import Limits, Tree
from hil.run.chain import Say
from hil.run.collect import machine
from hil.run.processes import ChainRefused

BREAKPOINTS: Final = 8
FEEDER_SITES: Final = 100
LIMITED: Final = 0.05
RUNS: Final = 5
_GRID: Final = PriceGrid()
_LOW, _HIGH = -5_000, 30_000  # ticks between which breakpoints lie
Result = TypeVar("Result")


def bench_clearing(*, sites: int, say: Say) -> dict[str, Any]:
    """The figures, by name: medians of a few runs. Raises ChainRefused for a number of sites that makes no sense."""
    if not 1_000 <= sites <= 4_000_000:
        raise ChainRefused(f"--sites {sites}: give 1000 to 4000000")
    steps = [count for count in (1_000, 10_000, 100_000) if count < sites]
    by_size = {}
    for count in [*steps, sites]:
        say(f"bench: {count} sites")
        by_size[str(count)] = _measured(count)
    full = by_size[str(sites)]
    names = {
        "build": "build_1m_ms",
        "clear": "clear_1m_ms",
        "update_1pct": "update_1pct_ms",
        "setpoints": "setpoints_1m_ms",
        "clear_nested": "clear_nested_ms",
    }
    figures = {name: full[f"{key}_ms"] for key, name in names.items()}
    figures["clear_nested_cpu_ms"] = full["clear_nested_cpu_ms"]  # of all threads: what other work does not change
    spent = {key: value for key, value in full.items() if key.endswith("_ms")}
    _print_table(by_size, say)
    return figures | {
        "sites": sites,
        "exact_w": full["residual_w"],
        "nested_residual_w": full["nested_residual_w"],
        "worst_limit_violation_w": full["worst_limit_violation_w"],
        "drift_w": full["drift_w"],
        "nodes_limited": full["nodes_limited"],
        "bisection_over_clear": round(full["bisection_ms"] / full["clear_ms"]),
        "where_the_time_goes_ms": spent,
        "by_sites": by_size,
        "machine": machine(),
    }


def _measured(sites: int) -> dict[str, float]:
    rng = np.random.default_rng(sites)
    rows, changed = functions(rng, sites), rng.choice(sites, max(1, sites // 100), replace=False)
    found: dict[str, float] = {}
    curve = _timed(found, "build", lambda: Curve.of(rows, _GRID))
    low_w, high_w = curve.range_w
    target_w = round(low_w + 0.6 * (high_w - low_w))
    clearing = _timed(found, "clear", lambda: curve.clear(target_w))
    powers_w = _timed(found, "setpoints", lambda: powers_at(rows, clearing.position))
    found["residual_w"] = abs(float(powers_w.sum()) - target_w)
    watts = _timed(found, "whole_watts", lambda: whole_watts(powers_w, 1))
    found["whole_watts_residual_w"] = abs(int(watts.sum()) - target_w)
    _timed(found, "bisection", lambda: _by_bisection(rows, target_w), runs=1)
    fresh = functions(rng, len(changed))
    updating = curve.copy()
    old = rows.take(changed)
    _timed(found, "update_1pct", lambda: updating.update(old, fresh), runs=1)
    for _ in range(20):
        updating.update(fresh, old)
        updating.update(old, fresh)
    updating.update(fresh, old)
    found["drift_w"] = updating.drift_w(curve)
    return {name: round(value, 9) for name, value in (found | _nested(rng, rows, target_w)).items()}


def _nested(rng: np.random.Generator, rows: Rows, target_w: float) -> dict[str, float]:
    feeders = max(1, rows.sites // FEEDER_SITES)
    node = rng.permutation(np.arange(rows.sites) % feeders + 1)
    found: dict[str, float] = {}
    nested = _timed(found, "build_nested", lambda: Nested(rows, node, Tree([-1] + [0] * feeders), _GRID), runs=1)
    lower, upper = np.full(feeders + 1, -np.inf), np.full(feeders + 1, np.inf)
    free = nested.clear(target_w, Limits(lower, upper))
    chosen = rng.permutation(np.arange(1, feeders + 1))[: max(1, round(LIMITED * feeders))]
    high, low = chosen[: -(-7 * len(chosen) // 10)], chosen[-(-7 * len(chosen) // 10) :]
    upper[high] = free.power_w[high] - rng.uniform(5e3, 50e3, len(high))
    lower[low] = free.power_w[low] + rng.uniform(5e3, 50e3, len(low))
    limits = Limits(lower, upper)
    begun_s = time.process_time()
    clearing = _timed(found, "clear_nested", lambda: nested.clear(target_w, limits))
    found["clear_nested_cpu_ms"] = round(1e3 * (time.process_time() - begun_s) / RUNS, 3)
    powers_w = _timed(found, "local_setpoints", lambda: powers_at(rows, clearing.position[node]))
    given_w = np.bincount(node, powers_w, feeders + 1)
    found["nested_residual_w"] = abs(float(powers_w.sum()) - clearing.total.power_w)
    found["worst_limit_violation_w"] = max(0.0, float((given_w - upper).max()), float((lower - given_w).max()))
    found["nodes_limited"] = float(clearing.limited.sum())
    return found


def functions(rng: np.random.Generator, sites: int) -> Rows:
    """Random supply functions, usable on the whole grid."""
    ticks = rng.integers(_LOW - _GRID.first, _HIGH - _GRID.first, (BREAKPOINTS, sites), dtype=np.int32)
    power_w = rng.integers(-5_000, 5_000, (BREAKPOINTS, sites), dtype=np.int32)
    return Rows(np.sort(ticks, axis=0), np.sort(power_w, axis=0))


def _by_bisection(rows: Rows, target_w: float) -> Array:
    low, high = 0.0, _GRID.end
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if powers_at(rows, middle).sum() < target_w else (low, middle)
    return powers_at(rows, high)


def _timed(found: dict[str, float], name: str, work: Callable[[], Result], runs: int = RUNS) -> Result:
    taken = []
    for _ in range(runs):
        begun_s = time.perf_counter()
        result = work()
        taken.append(1e3 * (time.perf_counter() - begun_s))
    found[f"{name}_ms"] = round(float(np.median(taken)), 3)
    return result


def _print_table(by_size: dict[str, dict[str, float]], say: Say) -> None:
    names = [name for name in next(iter(by_size.values())) if name.endswith("_ms")]
    say(f"{'ms at N sites':<18}" + "".join(f"{size:>11}" for size in by_size))
    for name in names:
        say(f"{name.removesuffix('_ms'):<18}" + "".join(f"{figures[name]:>11.2f}" for figures in by_size.values()))
