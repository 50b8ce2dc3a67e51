"""What a load is put on: a broker with telemetry streams, a registry of simulated sites, and ingest workers."""

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nats
import psutil
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from cloud.gateway.nats_server import find_program
from cloud.ingest.worker import UPKEEP_S
from cloud.store.history import History
from cloud.store.ledger import LEDGER_FILE, Ledger
from hil.bench.shares import peak_rss_mb
from hil.load.driver import Concentrator, site_name
from hil.load.link import LoadError
from protos import subjects

_START_S: Final = 60.0
_STEP_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds of a process, and the most memory it ever held."""

    cpu_s: float
    rss_mb: float


def costs_of(pids: Mapping[str, int]) -> dict[str, Cost]:
    """By name of each process."""
    costs = {}
    for name, pid in pids.items():
        times = psutil.Process(pid).cpu_times()
        costs[name] = Cost(times.user + times.system, peak_rss_mb(pid))
    return costs


def insert_sites(ledger: Path, sites: Iterable[tuple[str, int, str | None]]) -> None:
    """Name, slot and concentrator of each into a ledger, made if it is missing. Past the audit: they are no homes."""
    Ledger(ledger).close()
    now_ms = time.time_ns() // 1_000_000
    with sqlite3.connect(ledger) as connection:
        connection.executemany(
            "INSERT INTO sites (site, slot, groups, created_ms, concentrator) VALUES (?, ?, '[]', ?, ?)",
            ((site, slot, now_ms, concentrator) for site, slot, concentrator in sites),
        )
    connection.close()


def register(ledger: Path, sites: int, concentrators: Sequence[Concentrator], *, behind: bool = True) -> None:
    """Sites of the load, behind their concentrators or not; slots as the simulated fleet has them."""
    of_site: dict[int, str] = {}
    for one in concentrators:
        of_site.update(dict.fromkeys(one.sites.tolist(), one.name) if behind else {})
    insert_sites(
        ledger,
        (
            *((one.name, sites + number, None) for number, one in enumerate(concentrators)),
            *((site_name(slot), slot, of_site.get(slot)) for slot in range(sites)),
        ),
    )


async def stored(connection: Client, history: History, streams: int, within_s: float) -> None:
    """Returns when the history has everything that the streams have. Raises LoadError."""
    for part in range(streams):
        stream = subjects.telemetry_stream(part)
        last = (await connection.jsm(timeout=10).stream_info(stream)).state.last_seq

        def complete(part: int = part, sequence: int = last) -> bool:
            position = history.position(part)
            return not sequence or (position is not None and position.last_sequence >= sequence)

        await until(complete, f"{stream} is not in the history up to {last}", within_s, 0.1)


async def until(holds: Callable[[], bool], what: str, within_s: float = _START_S, step_s: float = _STEP_S) -> None:
    """Returns when it holds. Raises LoadError with `what` is wrong."""
    try:
        async with asyncio.timeout(within_s):
            while not holds():  # noqa: ASYNC110 (what is waited for happens in other processes)
                await asyncio.sleep(step_s)
    except TimeoutError:
        raise LoadError(f"{what} within {within_s:.0f} s") from None


class LoadRig:
    """Started and stopped as one. Its folder holds everything."""

    def __init__(
        self, folder: Path, *, sync_interval: str = "always", streams: int = 1, upkeep_s: float = UPKEEP_S
    ) -> None:
        self.folder = folder
        self._sync_interval = sync_interval
        self._streams = streams
        self._upkeep_s = upkeep_s
        self._server: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[str]] = []
        self._follower: subprocess.Popen[str] | None = None
        self.port = 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def history(self) -> History:
        return History(self.folder / "history")

    async def start_broker(self) -> None:
        """JetStream on disk; an acknowledgement comes after the fsync. Raises LoadError."""
        config = self.folder / "nats-server.conf"
        port = self.port or -1
        config.write_text(
            f"host: 127.0.0.1\nport: {port}\nmax_connections: 100000\nping_interval: 30s\n"
            f"jetstream {{ store_dir: {json.dumps(str(self.folder / 'jetstream'))}, "
            f"sync_interval: {self._sync_interval}, max_file_store: 64GB }}\n"
        )
        program = await asyncio.to_thread(find_program)
        with (self.folder / "nats-server.log").open("ab") as log:
            self._server = subprocess.Popen(  # noqa: ASYNC220 (takes a millisecond)
                [str(program), "-c", str(config), "--ports_file_dir", str(self.folder)], stdout=log, stderr=log
            )
        ports = self.folder / f"{program.name}_{self._server.pid}.ports"
        await until(lambda: ports.exists() and ports.read_text().endswith("}"), "the broker does not start")
        self.port = int(json.loads(ports.read_text())["nats"][0].rsplit(":", 1)[1])

    async def make_streams(self) -> None:
        connection = await nats.connect(self.url)
        try:
            for group in range(self._streams):
                await connection.jetstream(timeout=10).add_stream(
                    StreamConfig(
                        name=subjects.telemetry_stream(group),
                        subjects=subjects.telemetry_stream_subjects(group, self._streams),
                        storage=StorageType.FILE,
                        discard=DiscardPolicy.OLD,
                        max_bytes=16 << 30,
                        duplicate_window=120,
                    )
                )
        finally:
            await connection.close()

    def register(self, sites: int, concentrators: Sequence[Concentrator], *, behind: bool = True) -> None:
        """Sites of the load in the ledger, behind their concentrators or not."""
        register(self.folder / LEDGER_FILE, sites, concentrators, behind=behind)

    async def start_workers(self) -> None:
        """Raises LoadError."""
        for part in range(self._streams):
            given = (subjects.telemetry_stream(part), str(part), str(self._report(part)), str(self._upkeep_s))
            self._workers.append(await self._start("hil.load.worker", f"worker-{part}", *given))

    async def start_follower(self) -> None:
        """One that looks on at every stream. Raises LoadError."""
        self._follower = await self._start("hil.load.follower", "follower", str(self._streams))

    async def _start(self, module: str, name: str, *given: str) -> subprocess.Popen[str]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: ASYNC220 (takes a millisecond)
                [sys.executable, "-m", module, self.url, str(self.folder), *given],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None  # noqa: S101 (a pipe)
        if await asyncio.to_thread(process.stdout.readline) != "ready\n":
            process.kill()
            raise LoadError(f"the process {name} does not start: see {self.folder / f'{name}.log'}")
        return process

    async def reading(self) -> None:
        """Returns when every worker reads its stream: a large registry takes it a while. Raises LoadError."""
        connection = await nats.connect(self.url)
        try:
            async with asyncio.timeout(_START_S):
                for group in range(self._streams):
                    while not (  # noqa: ASYNC110 (what is waited for happens in the broker)
                        await connection.jsm(timeout=10).stream_info(subjects.telemetry_stream(group))
                    ).state.consumer_count:
                        await asyncio.sleep(_STEP_S)
        except TimeoutError:
            raise LoadError(f"an ingest worker does not read within {_START_S:.0f} s") from None
        finally:
            await connection.close()

    async def stored(self, within_s: float = _START_S) -> None:
        """Returns when the history has everything that the streams have. Raises LoadError."""
        connection = await nats.connect(self.url)
        try:
            await stored(connection, self.history, self._streams, within_s)
        finally:
            await connection.close()

    def costs(self) -> dict[str, Cost]:
        """Of each process so far, the generator's own included."""
        named = {"generator": os.getpid()}
        if self._server is not None:
            named["broker"] = self._server.pid
        if self._follower is not None:
            named["view"] = self._follower.pid
        named.update({f"ingest {part}": worker.pid for part, worker in enumerate(self._workers)})
        return costs_of(named)

    def stop_workers(self) -> list[dict[str, Any]]:
        """Ends the workers; what each reports. Raises LoadError."""
        for worker in self._workers:
            worker.terminate()
        reports = []
        for part, worker in enumerate(self._workers):
            try:
                code = worker.wait(_START_S)
            except subprocess.TimeoutExpired as error:
                raise LoadError(f"an ingest worker does not end within {_START_S:.0f} s") from error
            if code != 0:
                raise LoadError(f"an ingest worker failed: see {self.folder / f'worker-{part}.log'}")
            reports.append(json.loads(self._report(part).read_text()))
        self._workers = []
        return reports

    def kill_broker(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait(_START_S)
            self._server = None

    def stop(self) -> None:
        """Ends everything that was started."""
        for process in (*self._workers, *([self._follower] if self._follower else [])):
            process.kill()
            process.wait(_START_S)
        self._workers, self._follower = [], None
        self.kill_broker()

    def _report(self, part: int) -> Path:
        return self.folder / f"worker-{part}.json"
