"""A simulated fleet under a coordinator in processes: broker, two ingest workers, coordinator, real messages.

The homes (hil/fleet/homes.py) live at the wall clock. Each sends its own telemetry frames and supply functions, is told
by an intent whose price to follow, and hears the prices that are broadcast, as agents do.
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from nats.aio.client import Client
from nats.aio.msg import Msg

from cloud.data_folder import DataFolder
from cloud.dispatch.prices import MILLION, Array, Price, PriceGrid
from cloud.gateway.link import Link, own_login
from cloud.gateway.ports import free_port
from cloud.identity.keyring import open_keyring
from cloud.roles.foundation import utc_ms
from cloud.store.ledger import Ledger
from hil.fleet.homes import STEP_S, Faults, Homes
from hil.run.processes import Processes, wait_until
from protos import frame, subjects
from protos.vpp.v1 import broadcast_pb2, intent_pb2
from protos.vpp.v1.supply_pb2 import SupplyFunction
from protos.vpp.v1.telemetry_pb2 import Batch, Frame

HOST: Final = "127.0.0.1"
LOAD_W: Final = 400.0  # of each home
STREAMS: Final = 2
_INTERVAL_MS: Final = 100
_FRAME_S: Final = 1.0
_START_S: Final = 60.0
_VALID_S: Final = 300
_GRID: Final = PriceGrid()


@dataclass(slots=True)
class Seen:
    """What the fleet really did, every half second."""

    utc_ms: list[int] = field(default_factory=list)
    inverter_w: list[Array] = field(default_factory=list)  # [sites]

    def during(self, begin_ms: float, end_ms: float) -> Array:
        """float64 [instants, sites]."""
        return np.array([w for at, w in zip(self.utc_ms, self.inverter_w, strict=True) if begin_ms <= at < end_ms])


class Cloud:
    """The processes on one data folder. feeder: numbers of the sites that are in the group "feeder" too."""

    def __init__(self, folder: Path, processes: Processes, sites: int, feeder: Collection[int]) -> None:
        self.data = DataFolder(folder / "cloud")
        self.names = [f"home-{number:03}" for number in range(sites)]
        self.feeder = np.array(sorted(feeder))
        self._processes = processes
        port = free_port(HOST)
        listen = f'[listen]\nhost = "{HOST}"\nbroker_port = {port}\n'
        self.urls = [f"tls://{HOST}:{port}"]
        messaging = f"[messaging]\nurls = {json.dumps(self.urls)}\ntelemetry_streams = {STREAMS}\n"
        self._config = folder / "cloud.toml"
        self._config.write_text(listen + messaging)
        self._broker_config = folder / "broker.toml"
        self._broker_config.write_text(listen)

    def start(self) -> None:
        """Raises ChainError."""
        with self.data.owned():
            self._keyring = open_keyring(
                self.data.keys, (HOST,), now=datetime.now(UTC), passphrase=self.data.passphrase(make=True)
            )
            self._register()
        self._run("broker", "--role", "broker", config=self._broker_config)
        self._run("coordinator", "--role", "coordinator")
        for part in range(STREAMS):
            self.start_worker(part)

    def start_worker(self, part: int) -> None:
        of = subjects.stream_partitions(part, STREAMS)
        self._run(f"ingest-{part}", "--role", "ingest", "--partitions", f"{of.start}-{of.stop - 1}")

    def _run(self, name: str, *arguments: str, config: Path | None = None) -> None:
        log = self._processes.log(name)
        before = log.read_text().count("serves: ") if log.exists() else 0
        settings = ["--data", str(self.data.path), "--config", str(config or self._config)]
        self._processes.start(name, ["vpp-cloud", "run", *settings, *arguments])
        wait_until(
            lambda: log.read_text().count("serves: ") > before,
            f"{name} serves",
            within_s=_START_S,
            processes=self._processes,
        )

    def _register(self) -> None:
        Ledger(self.data.ledger).close()
        now_ms = utc_ms()
        insert = "INSERT INTO sites (site, slot, groups, created_ms, enrolled_ms) VALUES (?, ?, ?, ?, ?)"
        fed = set(self.feeder.tolist())
        rows = [
            (name, slot, json.dumps(["all", "feeder"] if slot in fed else ["all"]), now_ms, now_ms)
            for slot, name in enumerate(self.names)
        ]
        with sqlite3.connect(self.data.ledger) as connection:
            connection.executemany(insert, rows)
        connection.close()

    async def connect(self) -> Client:
        link = Link(self.urls, own_login(self._keyring, lambda: datetime.now(UTC)), self._keyring.authority_file)
        return await link.connect("homes")


class Agents:
    """All homes' agents, on one connection."""

    def __init__(self, nc: Client, names: list[str], faults: Faults, *, seed: int, length_s: float) -> None:
        self._nc = nc
        self._names = names
        self.homes = Homes(len(names), _GRID, faults, seed=seed, length_s=length_s)
        self._slot = {name: slot for slot, name in enumerate(names)}
        self._tokens = [subjects.partition_token(name) for name in names]
        self._group = np.full(len(names), "", dtype=object)
        self._position = np.full(len(names), np.nan)
        self.prices: dict[str, list[Price]] = {}
        self.seen = Seen()
        self._seq = utc_ms() // 1000

    async def run(self) -> None:
        """Until cancelled."""
        await self._nc.subscribe("vpp.group.*.price", cb=self._hear)
        await self._nc.subscribe("vpp.intent.*.price", cb=self._follow)
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        await self._tell(np.arange(len(self._names)))
        samples: list[Array] = []
        while True:
            self.homes.step()
            self.seen.utc_ms.append(utc_ms())
            self.seen.inverter_w.append(self.homes.power_w.copy())
            samples.append(self.homes.power_w.copy())
            await self._tell(self.homes.look().changed)
            if len(samples) == round(_FRAME_S / STEP_S):
                await self._report(samples)
                samples = []
            due_s += STEP_S
            await asyncio.sleep(max(0.0, due_s - loop.time()))

    async def _report(self, samples: list[Array]) -> None:
        """A frame of each home that is not silent."""
        self._seq += 1
        each = frame.SAMPLES // len(samples)
        first_ms = (utc_ms() - frame.SAMPLES * _INTERVAL_MS) // _INTERVAL_MS * _INTERVAL_MS
        flat = [0.5], [50.0], [230.0], [0.0]
        for slot in np.flatnonzero(~self.homes.silent).tolist():
            inverter = [float(sample[slot]) for sample in samples for _ in range(each)]
            grid = [power_w - LOAD_W for power_w in inverter]
            columns = [grid, inverter, *(one * frame.SAMPLES for one in flat)]
            packed = frame.pack(slot, self._seq, first_ms, _INTERVAL_MS, columns)
            batch = Batch(frames=[Frame.FromString(packed)])
            await self._nc.publish(subjects.telemetry(self._tokens[slot]), batch.SerializeToString())

    async def _tell(self, slots: Array) -> None:
        """The supply functions of these homes, which have changed."""
        rows, now_ms = self.homes.told, utc_ms()
        for slot in slots.tolist():
            powers = rows.power_w[:, slot]
            message = SupplyFunction(
                site=slot,
                seq=now_ms // 100 % (1 << 31),
                at_ms=now_ms,
                valid_s=_VALID_S,
                lower_w=int(powers[0]),
                upper_w=int(powers[-1]),
                energy_up_wh=1,
                energy_down_wh=1,
                ticks=(rows.ticks[:, slot] + _GRID.first).tolist(),
                power_w=powers.tolist(),
            )
            await self._nc.publish(subjects.supply_function(self._tokens[slot]), message.SerializeToString())

    async def _follow(self, message: Msg) -> None:
        intent = intent_pb2.Intent.FromString(intent_pb2.SignedIntent.FromString(message.data).intent)
        slot = self._slot[intent.site]
        self._group[slot] = intent.price.group
        fallback = _GRID.position(Price(intent.price.fallback_ticks, 0.0, 0.0))
        self.homes.fallback = np.where(np.arange(len(self._names)) == slot, fallback, self.homes.fallback)

    async def _hear(self, message: Msg) -> None:
        said = broadcast_pb2.Broadcast.FromString(broadcast_pb2.SignedBroadcast.FromString(message.data).broadcast)
        price = Price(said.price.ticks, said.price.step_share_e6 / MILLION, said.price.tick_fraction_e6 / MILLION)
        self.prices.setdefault(said.group, []).append(price)
        self._position[self._group == said.group] = _GRID.position(price)
        self.homes.say(np.where(np.isnan(self._position), self.homes.fallback, self._position))


@asynccontextmanager
async def living(cloud: Cloud, faults: Faults, *, seed: int, length_s: float) -> AsyncIterator[Agents]:
    """The homes, as long as the block lasts."""
    nc = await cloud.connect()
    agents = Agents(nc, cloud.names, faults, seed=seed, length_s=length_s)
    task = asyncio.create_task(agents.run())
    try:
        yield agents
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await nc.close()
