"""Broker, coordinator and two ingest workers as processes: a group with sites of both is held at a target."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np

from cloud.roles.foundation import utc_ms
from hil.fleet.apart import LOAD_W, Cloud, living
from hil.fleet.homes import Faults
from hil.run.processes import command, running
from protos import subjects

SITES = 240
SETTLED_S = 30.0
KILLED_S = 50.0
HELD_S = 78.0


async def test_two_workers_hold_a_group_and_a_feeder_in_it_and_one_is_killed(tmp_path: Path) -> None:
    """5 % of the homes are silent and 2 % lie."""
    with running(tmp_path / "logs") as processes:
        cloud = Cloud(tmp_path, processes, SITES, feeder=range(0, SITES, 3))
        first = np.array([subjects.partition(name) in subjects.stream_partitions(0, 2) for name in cloud.names])
        assert 0.3 < first.mean() < 0.7, "both workers have sites"
        assert 0.3 < first[cloud.feeder].mean() < 0.7, "and of the feeder"
        await asyncio.to_thread(cloud.start)
        async with living(cloud, Faults(), seed=3, length_s=HELD_S) as agents:
            most_w = agents.homes.told.power_w[-1]
            target_w = round(0.5 * float(most_w.sum()))
            load_w = LOAD_W * len(cloud.feeder)
            export_w = round(0.35 * float(most_w[cloud.feeder].sum()) - load_w)

            async def vpp(*arguments: str) -> str:
                return await asyncio.to_thread(command, ["vpp-cloud", *arguments, "--data", str(cloud.data.path)])

            limits = ["--import-w", "900000", "--export-w", str(export_w), "--minutes", "9"]
            await vpp("envelope", "set", "--group", "feeder", *limits)
            asked = ["--group", "all", "--power-w", str(target_w), "--minutes", str(HELD_S / 60), "--reason", "test"]
            name = (await vpp("activate", *asked)).split(":")[0]

            async def shown() -> dict[str, Any]:
                found: dict[str, Any] = json.loads(await vpp("dispatch", "show", name, "--json"))
                return found

            begin_ms = (await shown())["start_ms"]
            await asyncio.sleep(KILLED_S - (utc_ms() - begin_ms) / 1000)
            processes.signal("ingest-1", signal.SIGKILL)
            processes.wait("ingest-1", within_s=10.0)
            await asyncio.to_thread(cloud.start_worker, 1)
            async with asyncio.timeout(HELD_S):
                while (record := await shown())["state"] == "active":
                    processes.check()
                    await asyncio.sleep(1.0)
            held = agents.seen.during(begin_ms + 1000 * SETTLED_S, begin_ms + 1000 * KILLED_S)
            after = agents.seen.during(begin_ms + 1000 * KILLED_S, begin_ms + 1000 * HELD_S)
            prices = agents.prices
        said = processes.log("coordinator").read_text()
    for seen in (held, after):
        error = np.abs(seen.sum(axis=1) - target_w) / target_w
        assert np.percentile(error, 95) <= 0.01
        grid_w = seen[:, cloud.feeder].sum(axis=1) - load_w
        assert np.percentile(grid_w, 95) <= export_w + 0.01 * export_w
        assert grid_w.mean() > 0.97 * export_w, "the limit binds"
    assert "TEL_1 did not answer" in said
    assert (record["state"], record["note"]) == ("verified", "")
    assert record["error_p95_w"] <= 0.01 * target_w
    parts = {part["site"]: part["measured_wh"] for part in record["sites"]}
    assert sorted(parts) == cloud.names
    of_killed = [parts[name] for name, stayed in zip(cloud.names, first, strict=True) if not stayed]
    of_other = [parts[name] for name, stayed in zip(cloud.names, first, strict=True) if stayed]
    assert np.mean(of_killed) < 0.6 * np.mean(of_other), "what it had not put into the ledger is missing there"
    assert {len(told) for told in prices.values()} == {1 + record["cycles"]}, "to open, and one a group and cycle"
