"""A process that does not ingest sees the fleet as it is now, and only what its sites may say."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from nats.aio.client import Client

from cloud.fleet.state import FleetState
from cloud.ingest.follower import FleetFollower
from cloud.ingest.testing import Publisher, eventually, packed
from cloud.store.ledger import LEDGER_FILE, Ledger
from protos import frame


async def test_it_begins_with_what_comes_now(tmp_path: Path, connection: Client) -> None:
    with Ledger(tmp_path / LEDGER_FILE) as ledger:
        for site in ("home-01", "home-02"):
            ledger.add_site(site, (), now_ms=1)
        sites, fleet = Publisher(connection, "TEL_0"), FleetState()
        await sites.make_stream()
        now_ms = time.time_ns() // 1_000_000 // 1000 * 1000
        for seq in range(1, 50):
            await sites.send("home-01", frame.batch([packed(0, seq, now_ms - 60_000 + seq * 1000)]))
        follower = FleetFollower(connection, "TEL_0", fleet=fleet, ledger=ledger, utc_ms=lambda: now_ms)
        task = asyncio.create_task(follower.run())
        seq = 50
        while not fleet.frames.sum():  # it is there once it shows something
            await sites.send("home-01", frame.batch([packed(0, seq, now_ms)]))
            seq += 1
        assert fleet.frames.sum() <= seq - 50  # what was there before is the history's
        await sites.send("home-02", frame.batch([packed(0, seq + 1, now_ms)]))  # says it is another
        await sites.send("home-02", frame.batch([packed(1, 1, now_ms)]))
        await eventually(lambda: fleet.capacity > 1 and fleet.frames[1] == 1, "the second site is shown")
        assert fleet.inverter_power_w[1] == 1.0
        assert fleet.frames[0] <= seq - 50
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
