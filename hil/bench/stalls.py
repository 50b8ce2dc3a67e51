"""An ingest worker of very many sites while it is asked for shares: how long its event loop stands still.

The worker's own `Shares` answers a step a cycle on full columns, 1 % of the sites having told a new function; beside it
a ticker in the same loop notes by how much it comes too late. What the loop does for telemetry is not part of it.
"""

import asyncio
import json
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cloud.dispatch.prices import Array, PriceGrid
from cloud.dispatch.rows import Rows, powers_at
from cloud.fleet.supply import BREAKPOINTS, SupplyColumns
from cloud.ingest.shares import Shares
from cloud.store.ledger import LEDGER_FILE, Ledger
from hil.bench.clearing import functions
from protos import subjects
from protos.vpp.v1 import steer_pb2

CYCLES: Final = 5
_TICK_S: Final = 0.001
_NOW_MS: Final = 1_800_000_000_000
_STREAM: Final = subjects.telemetry_stream(0)
_GRID: Final = PriceGrid()


@dataclass(slots=True)
class _Fleet:
    """What a worker sees of its sites."""

    steered_power_w: Array
    grid_power_w: Array
    last_seen_ms: Array

    def reserve(self, slots: int) -> None:
        """All are there."""


def bench_stalls(sites: int) -> dict[str, float]:
    """The figures, by name: of the first answer, which reads registry and functions, and of those after it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / LEDGER_FILE
        Ledger(path).close()
        with sqlite3.connect(path) as connection:
            connection.executemany(
                "INSERT INTO sites (site, slot, groups, created_ms, enrolled_ms) VALUES (?, ?, ?, 1, 1)",
                ((f"home-{slot}", slot, json.dumps(["all"])) for slot in range(sites)),
            )
        connection.close()
        with Ledger(path) as ledger:
            return asyncio.run(_measured(sites, ledger))


async def _measured(sites: int, ledger: Ledger) -> dict[str, float]:
    rng = np.random.default_rng(sites)
    columns = SupplyColumns(_GRID)
    columns.reserve(sites)
    columns.rows = _wide(functions(rng, sites))
    columns.seq[:sites], columns.until_ms[:sites] = 1, 2 * _NOW_MS
    fleet = _Fleet(np.zeros(sites), np.zeros(sites), np.full(sites, _NOW_MS))
    streams = {_STREAM: subjects.stream_partitions(0, 1)}
    shares = Shares(columns=columns, fleet=fleet, ledger=ledger, utc_ms=lambda: _NOW_MS, streams=lambda: streams)
    steer = steer_pb2.Steer(activation="a", group="all", end_ms=2 * _NOW_MS, cycle_ms=2000)
    position = 2.0 * (10_000 - _GRID.first)
    tick = round(position / 2)
    steer.nodes.add(group="all", heard=position, exact_low=tick - 32, exact_high=tick + 32)
    stalls: list[float] = []
    ticking = asyncio.create_task(_tick(stalls))
    figures, steps = {}, []
    for cycle in range(CYCLES + 1):
        changed = rng.choice(sites, sites // 100, replace=False)
        news = _wide(functions(rng, len(changed)))
        columns.rows.ticks[:, changed], columns.rows.power_w[:, changed] = news.ticks, news.power_w
        columns.seq[changed] += 1
        fleet.steered_power_w = np.concatenate(
            [powers_at(columns.rows.take(slice(b, b + 50_000)), position) for b in range(0, sites, 50_000)]
        )[:sites]
        await asyncio.sleep(2 * _TICK_S)
        stalls.clear()
        steer.sequence, steer.step = cycle + 1, cycle > 0
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        await shares.answer(_STREAM, steer)
        took = {"ms": 1e3 * (time.perf_counter() - begun_s), "cpu_ms": 1e3 * (time.process_time() - cpu_s)}
        await asyncio.sleep(2 * _TICK_S)
        took["longest_stall_ms"] = 1e3 * max(stalls, default=0.0)
        if cycle == 0:
            figures = {f"share_first_{name}": round(value, 1) for name, value in took.items()}
        else:
            steps.append(took)
    ticking.cancel()
    figures |= {f"share_{name}": round(float(np.median([step[name] for step in steps])), 1) for name in steps[0]}
    return figures


async def _tick(stalls: list[float]) -> None:
    """How much later than asked for the loop comes back each time [s]."""
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + _TICK_S
        await asyncio.sleep(_TICK_S)
        stalls.append(loop.time() - due_s)


def _wide(rows: Rows) -> Rows:
    last = np.minimum(np.arange(BREAKPOINTS), len(rows.ticks) - 1)
    return Rows(rows.ticks[last], rows.power_w[last])
