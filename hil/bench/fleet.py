"""The coordinator's live core over a whole fleet: columns, one cycle of dispatch, a target held, a broadcast heard.

`fleet_error_p95_pct` is of a simulated fleet (hil/fleet): 5 % of the sites fall silent, 2 % do not do what they say,
the others lag, are biased and tell late what has changed. Its baseline is the same fleet without what is measured.
"""

import cProfile
import pstats
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from cloud.dispatch.prices import PriceGrid
from cloud.dispatch.rows import Rows, powers_at
from cloud.dispatch.share import Telemetry
from cloud.dispatch.testing import Split
from cloud.dispatch.tree import Limits
from cloud.fleet.groups import PERCENTILES, aggregate
from cloud.fleet.supply import SupplyColumns
from hil.bench.broadcast import bench_broadcast
from hil.bench.clearing import functions
from hil.bench.stalls import bench_stalls
from hil.fleet.closed_loop import CYCLE_S, hold
from hil.fleet.homes import Faults
from hil.run.chain import Say
from hil.run.collect import machine
from hil.run.processes import ChainRefused
from protos.vpp.v1.supply_pb2 import SupplyFunction

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
SIMULATED: Final = 20_000
SIMULATED_S: Final = 1_200.0
_PARTS: Final = {
    ("correction.py", "step"): "of_it_judging_sites_ms",
    ("node_sums.py", "update"): "of_it_updating_sums_ms",
    ("share.py", "tell"): "of_it_telling_sums_ms",
    ("nested.py", "clear"): "of_it_clearing_ms",
}
WORKERS: Final = 2
_REPORTS: Final = 20_000
_NOW_MS: Final = 1_800_000_000_000
_GRID: Final = PriceGrid()


def bench_fleet(*, sites: int, say: Say) -> dict[str, Any]:
    """The figures, by name. Raises ChainRefused for a number of sites that makes no sense."""
    if not 1_000 <= sites <= 2_000_000:
        raise ChainRefused(f"--sites {sites}: give 1000 to 2000000")
    by_size = {}
    for count in [*(size for size in SIZES if size < sites), sites]:
        say(f"bench: a cycle of {count} sites")
        by_size[str(count)] = _cycle(count)
    names = list(next(iter(by_size.values())))
    say(f"{'at N sites':<22}" + "".join(f"{size:>12}" for size in by_size))
    for name in names:
        say(f"{name:<22}" + "".join(f"{figures[name]:>12.2f}" for figures in by_size.values()))
    say(f"bench: {SIMULATED} simulated sites held at a target for {SIMULATED_S:.0f} s")
    held = hold(SIMULATED, SIMULATED_S, Faults(), seed=1)
    apart = hold(SIMULATED, SIMULATED_S, Faults(), seed=1, workers=WORKERS)
    alone = hold(SIMULATED, SIMULATED_S, Faults(), seed=1, corrected=False)
    full = by_size[str(sites)]
    say(f"bench: the event loop of an ingest worker of {sites} sites while it sums up")
    stalls = bench_stalls(sites)
    for name, value in stalls.items():
        say(f"{name:<28}{value:>12.1f}")
    return {
        "fleet_error_p95_pct": round(held.p95_pct, 3),
        "fleet_error_p95_pct_2_workers": round(apart.p95_pct, 3),
        "fleet_error_p95_pct_uncorrected": round(alone.p95_pct, 3),
        "liars_found_share": round(held.liars_found, 3),
        "wrongly_found_share": round(held.wrongly_found, 5),
        "messages_per_cycle_1k": by_size[str(SIZES[0])]["messages_per_cycle"],
        "messages_per_cycle": full["messages_per_cycle"],
        "cycle_ms": full["cycle_ms"],
        "aggregate_1m_ms": full["aggregate_ms"],
        "percentiles_1m_ms": full["percentiles_ms"],
        "supply_bytes_per_site": full["supply_bytes_per_site"],
        "supply_reports_per_s": round(_reports_per_s()),
        **stalls,
        **bench_broadcast(say),
        "sites": sites,
        "where_the_time_goes_ms": {name: value for name, value in full.items() if name.endswith("_ms")},
        "by_sites": by_size,
        "machine": machine(),
    }


def _cycle(sites: int) -> dict[str, float]:
    """A cycle in which 1 % of the sites tell a new function, 5 % are silent and 2 % do something else."""
    rng = np.random.default_rng(sites)
    rows = functions(rng, sites)
    split = Split(rows, np.zeros(sites, np.int64), ["all"], [-1], grid=_GRID, cycle_s=CYCLE_S)
    told = Rows(rows.ticks.copy(), rows.power_w.copy())
    limits, offers = Limits(np.full(1, -np.inf), np.full(1, np.inf)), np.ones(sites, bool)
    quiet_s = np.where(rng.random(sites) < 0.05, 60.0, 1.0)
    elsewhere = rng.random(sites) < 0.02
    target_w = 0.2 * float(rows.power_w[-1].sum())
    split.open(target_w, limits)
    measured_w, taken = np.zeros(sites), []
    for _ in range(5):
        changed = rng.choice(sites, max(1, sites // 100), replace=False)
        news: Rows = functions(rng, len(changed))
        telemetry = Telemetry(measured_w, quiet_s)
        begun_s = time.perf_counter()
        cycle = split.cycle(changed, news, offers, telemetry, target_w, limits)
        taken.append(1e3 * (time.perf_counter() - begun_s))
        told.ticks[:, changed], told.power_w[:, changed] = news.ticks, news.power_w
        done_w = powers_at(told, _GRID.position(cycle.prices["all"]))
        measured_w = np.where(elsewhere, measured_w, done_w)
    column, some = measured_w, np.sort(rng.choice(sites, sites // 10, replace=False))
    figures: dict[str, float] = {"cycle_ms": round(float(np.median(taken)), 2)}
    profile = cProfile.Profile()
    profile.runcall(split.cycle, changed, news, offers, Telemetry(measured_w, quiet_s), target_w, limits)
    for (file, _, function), (_, _, _, spent_s, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if (name := _PARTS.get((Path(file).name, function))) is not None:
            figures[name] = round(1e3 * spent_s, 2)
    for name, slots, percentiles in (
        ("aggregate_ms", None, ()),
        ("percentiles_ms", None, PERCENTILES),
        ("a_tenth_of_them_ms", some, PERCENTILES),
    ):
        begun_s = time.perf_counter()
        aggregate(column, slots, percentiles)
        figures[name] = round(1e3 * (time.perf_counter() - begun_s), 2)
    columns = SupplyColumns(_GRID)
    columns.reserve(sites)
    figures["bytes_of_a_share"] = float(split.bytes)
    return figures | {"supply_bytes_per_site": columns.bytes_per_site, "messages_per_cycle": float(len(cycle.prices))}


def _reports_per_s() -> float:
    """Supply functions taken in a second of one core."""
    rng = np.random.default_rng(1)
    rows = functions(rng, _REPORTS)
    messages = [
        SupplyFunction(
            site=slot,
            seq=1,
            at_ms=_NOW_MS,
            valid_s=300,
            lower_w=-5_000,
            upper_w=5_000,
            energy_up_wh=4_000,
            energy_down_wh=4_000,
            ticks=(rows.ticks[:, slot] + _GRID.first).tolist(),
            power_w=rows.power_w[:, slot].tolist(),
        ).SerializeToString()
        for slot in range(_REPORTS)
    ]
    columns = SupplyColumns(_GRID)
    columns.reserve(_REPORTS)
    begun_s = time.perf_counter()
    for start in range(0, _REPORTS, 500):
        columns.update(np.arange(start, start + 500), messages[start : start + 500], _NOW_MS)
    return _REPORTS / (time.perf_counter() - begun_s)
