"""`vpp-hil bench ingest`: what a frame costs from the socket to committed history, and what a question to it costs.

Rates are of real frames over real connections (hil/load) on a broker that acknowledges after the fsync; `cores_total`
is broker and ingest together, the generator stands beside it. A run counts only if what arrived is what was sent.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import uvloop
from matplotlib.figure import Figure

from cloud.ingest.decode import decode
from cloud.model.telemetry import POINTS, SCALES, Array
from cloud.store.history import History
from cloud.store.rollups import QUARTER_MS, QUARTERS
from cloud.store.segments import DAY_MS, Position, Segments
from hil.bench.ingest_steps import Steps, batched_steps, single_steps
from hil.data import recordings
from hil.load.driver import Mode, Phase
from hil.load.fleet import FRAME_MS, SimulatedFleet
from hil.load.link import LoadError
from hil.load.trial import Load, Outcome, put

RATE: Final = 100_000.0  # frames a second that are to be carried
_CONNECTIONS: Final = 200
_GROUP_SITES: Final = 100_000
_OTHER_SITES: Final = 20_000  # in the six other days
_QUERIES: Final = 5
_ROLLED_SITES: Final = 50
_STEADY_S: Final = 8.0  # before ten times the rate
_TEN_TIMES_S: Final = 6.0
_UPKEEP_S: Final = 5.0
_SINGLE_RATE: Final = 1.15 * RATE  # offered, so that the seconds until the last is stored do not decide

Say = Callable[[str], None]


def bench_ingest(*, sites: int, seconds: float, folder: Path | None, say: Say) -> dict[str, Any]:
    """The figures, by name. Raises LoadError where frames were lost or doubled."""
    folder = folder or Path("run") / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-ingest")
    folder.mkdir(parents=True, exist_ok=True)
    pa.set_cpu_count(1)
    figures: dict[str, Any] = {"load_before": round(os.getloadavg()[0], 2), "cores": os.cpu_count(), "sites": sites}
    base = Load(sites=sites, connections=_CONNECTIONS, phases=(Phase("steady", seconds, RATE),))
    batched = _trial("in batches of 500", base, folder, say)
    figures |= {
        "frames_per_s_durable": round(batched.stored_per_s),
        "frames_per_s_acknowledged": round(batched.acknowledged_per_s),
        "cores_total": round(_cores(batched), 3),
        "cores_broker": round(batched.cores["broker"], 3),
        "cores_ingest": round(_cores(batched) - batched.cores["broker"], 3),
        "cores_generator": round(batched.cores["generator"], 3),
        "state_lag_ms_p50": round(_lag_ms(batched)[0], 1),
        "state_lag_ms_p99": round(_lag_ms(batched)[1], 1),
        "bytes_per_value_wire": round(batched.wire_bytes_per_value, 3),
        "bytes_per_value_history": round(batched.history_bytes_per_value, 3),
    }
    figures |= _overload(base, folder, say)
    short = replace(base, sites=min(sites, 100_000), phases=(Phase("most", seconds / 2, float("inf")),))
    most = _trial("as many as will go", short, folder, say)
    figures |= {"frames_per_s_durable_max": round(most.stored_per_s), "cores_total_max": round(_cores(most), 3)}
    two = _trial("as many as will go, two streams and workers", replace(short, streams=2), folder, say)
    figures |= {
        "frames_per_s_two_workers": round(two.stored_per_s),
        "cpu_us_per_frame_one_worker": round(_us(most), 2),
        "cpu_us_per_frame_two_workers": round(_us(two), 2),
    }
    single = replace(
        short,
        phases=(Phase("steady", 2 * seconds, _SINGLE_RATE),),
        mode=Mode(batch=1, prepared=True),
        sync_interval="1s",
        sites=50_000,
    )
    alone = _trial("one message a frame, synced each second", single, folder, say)
    figures |= {
        "frames_per_s_durable_single": round(alone.stored_per_s),
        "cores_total_single": round(_cores(alone), 3),
        "cores_single": {name: round(cores, 3) for name, cores in alone.cores.items()},
        "cpu_us_per_frame_single": round(_us(alone), 2),
        "state_lag_ms_p99_single": round(_lag_ms(alone)[1], 1),
    }
    synced = replace(single, sites=2000, phases=(Phase("steady", 3.0, 1000.0),), sync_interval="always")
    figures["frames_per_s_single_synced_each"] = round(
        _trial("one message a frame, synced each", synced, folder, say).stored_per_s
    )
    cost = {sites: (batched.stored_per_s, _cores(batched))}
    for number in (1000, 10_000, 100_000):
        few = replace(base, sites=number, phases=(Phase("steady", 10.0, number / 10),))
        outcome = _trial(f"{number} sites, a frame each ten seconds", few, folder, say)
        cost[number] = (outcome.acknowledged_per_s, _cores(outcome))
    figures["cores_by_sites"] = {str(number): round(cores, 4) for number, (_, cores) in sorted(cost.items())}
    figures["plot"] = str(_plot(cost, folder / "cost-by-sites.svg"))
    say("where the time goes")
    figures["us_per_frame"] = steps = batched_steps()
    figures["us_per_frame_single"] = single_steps()
    say("sums by the quarter hour")
    figures["rollup_bytes_per_row"] = round(rollup_bytes_per_row(folder / "rollups"), 2)
    say("questions to the history")
    figures |= history_queries(folder / "queries")
    figures["next_limit"] = _next_limit(steps)
    figures["load_after"] = round(os.getloadavg()[0], 2)
    return figures


def _overload(base: Load, folder: Path, say: Say) -> dict[str, Any]:
    """Ten times the rate for a while, and upkeep all along: what is too much waits at the senders and in the stream."""
    phases = (Phase("steady", _STEADY_S, RATE), Phase("ten times", _TEN_TIMES_S, 10 * RATE))
    outcome = _trial("ten times as many", replace(base, phases=phases, upkeep_s=_UPKEEP_S, followed=True), folder, say)
    return {
        "ingest_rss_mb": round(max(mb for name, mb in outcome.rss_mb.items() if name.startswith("ingest"))),
        "overload_rss_mb": {name: round(mb) for name, mb in outcome.rss_mb.items()},
        "overload_acknowledged_per_s": round(outcome.acknowledged_per_s),
        "overload_stored_per_s": round(outcome.stored_per_s),
    }


def _trial(what: str, load: Load, folder: Path, say: Say) -> Outcome:
    say(what)
    outcome = uvloop.run(put(load, folder / "trial"))
    if not outcome.comparison.holds:
        raise LoadError(f"{what}: what arrived is not what was sent: {outcome.comparison}")
    return outcome


def _lag_ms(outcome: Outcome) -> tuple[float, float, float]:
    if outcome.lag_ms is None:
        raise LoadError("no worker told when frames came into its columns")
    return outcome.lag_ms


def _cores(outcome: Outcome) -> float:
    """Broker and ingest."""
    return sum(cores for name, cores in outcome.cores.items() if name != "generator")


def _us(outcome: Outcome) -> float:
    return sum(us for name, us in outcome.cpu_us_per_frame.items() if name != "generator")


def _next_limit(steps: Steps) -> str:
    ours = {name: us for name, us in steps.items() if not name.startswith("generator")}
    largest = max(ours, key=lambda name: ours[name])
    return f"{largest}: {ours[largest]:.2f} of {sum(ours.values()):.2f} us a frame in one worker; then a second stream"


def _plot(cost: dict[int, tuple[float, float]], path: Path) -> Path:
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    sites = sorted(cost)
    axes.loglog(sites, [cost[number][1] for number in sites], "o-", color="#1f5f8b")
    axes.set_xlabel("sites, a frame of ten samples each ten seconds")
    axes.set_ylabel("cores of broker and ingest")
    axes.grid(True, which="both", alpha=0.3)
    for number in sites:
        axes.annotate(f"{cost[number][1]:.3f}", (number, cost[number][1]), textcoords="offset points", xytext=(4, -12))
    figure.savefig(path)
    return path


def rollup_bytes_per_row(folder: Path) -> float:
    """A day of simulated sites, sample by sample into the history and summed up by its own upkeep."""
    history = History(folder)
    day_ms = (time.time_ns() // 1_000_000 // DAY_MS - 1) * DAY_MS
    simulated = SimulatedFleet(_ROLLED_SITES, noon_ms=day_ms + DAY_MS // 2)
    slots = np.arange(_ROLLED_SITES)
    per_hour = 3_600_000 // FRAME_MS
    for hour in range(24):
        messages = [
            simulated.records(slots, seq + 1, day_ms + seq * FRAME_MS).tobytes()
            for seq in range(hour * per_hour, (hour + 1) * per_hour)
        ]
        frames, _ = decode(messages, day_ms + 2 * DAY_MS)
        history.append(0, Position(0, 1, hour + 1), hour + 1, frames)
    history.upkeep(0, day_ms + 3 * DAY_MS)
    return history.rollup_size().bytes_per_row


def history_queries(folder: Path) -> dict[str, Any]:
    """A week at 15 minutes: one site's, and of a day the sum of 100,000. Rolled up from recorded profiles."""
    history = History(folder)
    segments = Segments(history.place, QUARTERS)
    first_ms = (time.time_ns() // 1_000_000 // DAY_MS - 8) * DAY_MS
    files = []
    for day in range(7):
        sites = _GROUP_SITES if day == 6 else _OTHER_SITES
        tables = _days_quarters(sites, first_ms + day * DAY_MS)
        files += segments.write(0, Position(0, 1, day + 1), day + 1, tables)
    members = np.arange(_GROUP_SITES)

    def site() -> int:
        with closing(history.series([777], first_ms, first_ms + 7 * DAY_MS)) as answer:
            return sum(len(batch) for batch in answer)

    def group() -> int:
        powers = ("grid_power_w", "inverter_power_w", "pv_power_w")
        last = first_ms + 6 * DAY_MS
        with closing(history.series(members, last, last + DAY_MS, powers, summed=True)) as answer:
            return sum(len(batch) for batch in answer)

    site_ms, group_ms = _fastest_ms(site, 7 * 96), _fastest_ms(group, 96)
    return {
        "history_query_ms": {"one site, one week": round(site_ms, 1), "100,000 sites, one day": round(group_ms, 1)},
        "history_query_site_ms": round(site_ms, 1),
        "history_query_group_ms": round(group_ms, 1),
    }


def _fastest_ms(query: Callable[[], int], rows: int) -> float:
    best = float("inf")
    for _ in range(_QUERIES):
        begin = time.perf_counter()
        if query() != rows:
            raise LoadError("a question to the history is answered in part")
        best = min(best, time.perf_counter() - begin)
    return best * 1000


def _days_quarters(sites: int, day_ms: int) -> Iterator[pa.Table]:
    """Rows of QUARTERS for a day of sites that live recorded homes, in whole slots."""
    draw = np.random.default_rng(day_ms % 1000 + sites)
    homes = [recordings.fontana_home(number) for number in range(1, recordings.HOMES + 1)]
    hour = np.arange(96) // 4 + day_ms // DAY_MS % 20 * 24
    load = np.array([home.load_wh[hour] for home in homes])
    pv = np.array([home.pv_w_per_kw[hour] for home in homes])
    n = QUARTER_MS // 1000
    for first in range(0, sites, 1000):
        slot = np.arange(first, min(first + 1000, sites))
        home = draw.integers(0, len(homes), len(slot))
        size = np.exp(draw.normal(0.0, 0.4, (len(slot), 1)))
        load_w = load[home] * size * np.exp(draw.normal(0.0, 0.3, (len(slot), 96)))
        pv_w = pv[home] * draw.uniform(0, 12, (len(slot), 1)) * draw.uniform(0.6, 1.0, (len(slot), 96))
        soc = np.clip(0.5 + np.cumsum(pv_w - load_w, axis=1) / 4 / 10_000, 0.1, 0.95)
        means = (
            pv_w - load_w,
            pv_w,
            soc,
            50.0 + np.cumsum(draw.normal(0.0, 0.002, 96)) + np.zeros((len(slot), 1)),
            230.0 + draw.normal(0.0, 1.5, (len(slot), 96)),
            pv_w,
        )
        yield _quarter_rows(slot, day_ms, means, n, draw)


def _quarter_rows(slot: Array, day_ms: int, means: tuple[Array, ...], n: int, draw: np.random.Generator) -> pa.Table:
    rows = len(slot) * 96
    columns: dict[str, Array] = {
        "slot": np.repeat(slot, 96).astype(np.int32),
        "start_ms": np.tile(day_ms + np.arange(96) * QUARTER_MS, len(slot)),
        "interval_ms": np.full(rows, 1000, dtype=np.int32),
    }
    for point, scale, mean in zip(POINTS, SCALES.tolist(), means, strict=True):
        counts = mean.ravel() / scale
        spread = np.abs(draw.normal(0.0, 1.0, (2, rows))) * (np.abs(counts) * 0.15 + 2)
        columns[f"{point}_n"] = np.full(rows, n, dtype=np.int32)
        columns[f"{point}_sum"] = np.rint(counts * n).astype(np.int64)
        columns[f"{point}_min"] = np.floor(counts - spread[0]).astype(np.int32)
        columns[f"{point}_max"] = np.ceil(counts + spread[1]).astype(np.int32)
    return pa.table([columns[name] for name in QUARTERS.schema.names], schema=QUARTERS.schema)
