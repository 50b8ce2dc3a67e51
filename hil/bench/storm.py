"""`vpp-hil bench storm`: every connection breaks at once; how long until all sites are back and nothing is missing.

Each of the sites has a connection of its own, as a home's gateway has (where the machine lets a process have so many
files open; else a few share one), in plain text: `bench security` tells what TLS and credentials cost the broker for
each. The broker is killed and started again, so that it recovers its streams while all of them knock; each sends what
it measured meanwhile (a frame of ten seconds) as soon as it is back. It ends when every site is connected, every frame
acknowledged after the fsync, and each site's newest frame in committed history.
"""

import asyncio
import os
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uvloop

from hil.bench.shares import Meter
from hil.load.check import compare
from hil.load.driver import LoadDriver, Mode
from hil.load.fleet import SimulatedFleet
from hil.load.link import LoadError
from hil.load.rig import LoadRig

_FILES_BESIDE: Final = 500
_AT_ONCE: Final = 256
STREAMS: Final = 4  # of telemetry: a single frame's fsync waits for the one before it on its own stream only
_GENERATOR: Final = "generator"

Say = Callable[[str], None]


def bench_storm(*, sites: int, folder: Path | None, say: Say) -> dict[str, Any]:
    """The figures, by name. Raises LoadError where a site stays away or a frame is lost."""
    folder = folder or Path("run") / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-storm")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the broker inherits it
    connections = min(sites, hard - _FILES_BESIDE)
    if connections < sites:
        say(f"`ulimit -n` is {hard}: some of the {connections} connections serve two sites or more")
    return uvloop.run(_run(sites, connections, folder, say))


async def _run(sites: int, connections: int, folder: Path, say: Say) -> dict[str, Any]:
    rig = LoadRig(folder, sync_interval="always", streams=STREAMS)
    try:
        await rig.start_broker()
        await rig.make_streams()
        fleet = SimulatedFleet(sites, noon_ms=time.time_ns() // 1_000_000)
        driver = LoadDriver(fleet, sites, connections, "127.0.0.1", rig.port, Mode(batch=500))
        rig.register(sites, driver.concentrators)
        await rig.start_workers()
        await rig.reading()
        say(f"{len(driver.concentrators)} connections")
        begin_s = time.monotonic()
        await driver.connect(at_once=_AT_ONCE)
        connect_s = time.monotonic() - begin_s
        await driver.run_rounds(1)
        await driver.settled()
        await rig.stored()
        say("the broker is killed and comes back")
        back_at_s: list[float] = []
        before = {name: cost.cpu_s for name, cost in rig.costs().items() if name != "broker"}  # that one begins anew
        meter = Meter({})
        begin_s = time.monotonic()
        rig.kill_broker()
        await rig.start_broker()
        broker_s = time.monotonic() - begin_s
        async with asyncio.TaskGroup() as coming:
            back = coming.create_task(driver.storm())
            back.add_done_callback(lambda _: back_at_s.append(time.monotonic()))
            coming.create_task(driver.run_rounds(1))
        await driver.settled()
        acknowledged_s = time.monotonic() - begin_s
        await rig.stored()
        storm_s = time.monotonic() - begin_s
        costs = rig.costs()
        shares = meter.read().with_processes({name: cost.cpu_s - before.get(name, 0.0) for name, cost in costs.items()})
        for line in shares.table(sites, "site"):
            say(line)
        product_s = shares.of(*(name for name in costs if name != _GENERATOR))
        rig.stop_workers()
        comparison = compare(rig.history, driver.frames, driver.grid_counts)
        driver.close()
        if not comparison.holds:
            raise LoadError(f"what arrived is not what was sent: {comparison}")
        return {
            "storm_s": round(storm_s, 2),
            "storm_broker_back_s": round(broker_s, 2),
            "storm_all_connected_s": round(back_at_s[0] - begin_s, 2),
            "storm_all_acknowledged_s": round(acknowledged_s, 2),
            "storm_cpu_s": shares.rounded(),
            "storm_product_cpu_s": round(product_s, 2),  # without the generator, which is load
            "first_connect_s": round(connect_s, 2),
            "sites": sites,
            "connections": len(driver.concentrators),
            "frames": comparison.sent,
            "broker_rss_mb": round(costs["broker"].rss_mb),
            "load_after": round(os.getloadavg()[0], 2),
        }
    finally:
        rig.stop()
