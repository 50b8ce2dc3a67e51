"""What the tests of ingest share: a broker that can be ended and started again, sites that send, a worker to kill."""

import asyncio
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.js.api import StreamConfig

from cloud.fleet.state import FleetState
from cloud.gateway.lease import Lease
from cloud.gateway.nats_server import find_program
from cloud.ingest.duty import IngestDuty, lease_key
from cloud.ingest.worker import IngestWorker
from cloud.store.history import History
from cloud.store.ledger import LEDGER_FILE, Ledger
from cloud.store.tenure import ALONE, Writer
from protos import frame, subjects

DEADLINE_S = 30.0
STEP_S = 0.02
STREAM = "TEL_0"
SITES = tuple(f"home-{number:02}" for number in range(1, 5))
NOON_MS = 1_790_000_000_000


def utc_ms() -> int:
    return time.time_ns() // 1_000_000


LEASE_S = 2


async def eventually(holds: Callable[[], bool], what: str, within_s: float = DEADLINE_S) -> None:
    """Returns when it holds; fails with `what` when it does not in time."""
    try:
        async with asyncio.timeout(within_s):
            while not holds():  # noqa: ASYNC110 (what is waited for happens in other processes)
                await asyncio.sleep(STEP_S)
    except TimeoutError:
        raise AssertionError(f"not within {within_s:g} s: {what}") from None


class Server:
    """The broker of a test, always on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = -1
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    async def start(self) -> None:
        command = [str(find_program()), "-a", "127.0.0.1", "-p", str(self._port), "-js", "-sd", str(self._folder)]
        log = self._folder / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220 (takes a millisecond)
                [*command, "--ports_file_dir", str(self._folder)], stdout=output, stderr=output
            )
        ports = self._folder / f"{Path(command[0]).name}_{self._process.pid}.ports"
        await eventually(ports.exists, f"broker writes {ports.name}")
        await eventually(lambda: ports.read_text().endswith("}"), "broker writes its ports")
        self._port = int(json.loads(ports.read_text())["nats"][0].rsplit(":", 1)[1])

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=DEADLINE_S)
            self._process = None


class Publisher:
    """What the sites of a test send: frame numbers run on by site, values tell site and number."""

    def __init__(self, connection: Client, stream: str) -> None:
        self._js = connection.jetstream(timeout=DEADLINE_S)
        self._stream = stream
        self.sent = 0

    async def make_stream(self) -> None:
        await self._js.add_stream(StreamConfig(name=self._stream, subjects=["vpp.tel.*.*"]))

    async def delete_stream(self) -> None:
        await self._js.delete_stream(self._stream)

    async def have_sent(self, messages: int) -> None:
        await eventually(lambda: self.sent >= messages, f"{messages} messages sent")

    async def send(self, site: str, data: bytes, *, message_id: str | None = None) -> None:
        """Until the broker has it on disk."""
        subject = subjects.telemetry(subjects.partition_token(site))
        await self._js.publish(subject, data, headers={"Nats-Msg-Id": message_id} if message_id else None)
        self.sent += 1


def columns_of(slot: int, seq: int) -> list[list[float | None]]:
    """Samples that say which frame they are of."""
    powers: list[float | None] = [float(100 * slot + sample) for sample in range(frame.SAMPLES)]
    numbers: list[float | None] = [float(seq)] * frame.SAMPLES
    holes: list[float | None] = [230.0, *[None] * (frame.SAMPLES - 1)]
    return [powers, numbers, [0.5] * frame.SAMPLES, [50.0] * frame.SAMPLES, holes, [0.0] * frame.SAMPLES]


def packed(slot: int, seq: int, t0_ms: int) -> bytes:
    return frame.pack(slot, seq, t0_ms, 100, columns_of(slot, seq))


def a_batch(slot: int, first: int, last: int) -> bytes:
    return frame.batch([packed(slot, seq, NOON_MS + 1000 * seq) for seq in range(first, last + 1)])


class Plant:
    """A coordinator's data folder with its sites, and the workers that a test runs on it."""

    def __init__(self, folder: Path, connection: Client) -> None:
        self.folder = folder
        self.ledger = Ledger(folder / LEDGER_FILE)
        for site in SITES:
            self.ledger.add_site(site, (), now_ms=1)
        self.history = History(folder / "history")
        self.fleet = FleetState()
        self.connection = connection
        self.sites = Publisher(connection, STREAM)

    def worker(self, **more: Any) -> IngestWorker:
        return IngestWorker(
            self.connection,
            STREAM,
            0,
            history=self.history,
            fleet=self.fleet,
            ledger=self.ledger,
            utc_ms=utc_ms,
            **more,
        )

    @asynccontextmanager
    async def running(self, worker: IngestWorker) -> AsyncIterator[IngestWorker]:
        """The worker at work; stopped, and all it has on disk, afterwards."""
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(task, DEADLINE_S)

    async def shown(self, frames: int) -> None:
        """Returns when the fleet state has taken so many frames."""
        await eventually(lambda: int(self.fleet.frames.sum()) == frames, f"{frames} frames shown")

    @property
    def on_disk(self) -> int:
        """The stream's last sequence in the history."""
        position = self.history.position(0)
        return position.last_sequence if position else 0

    async def stored(self, sequence: int) -> None:
        """Returns when the history has come to the sequence."""
        await eventually(lambda: self.on_disk >= sequence, f"message {sequence} on disk")


class WorkerProcess:
    """An ingest worker as a process of its own, to be killed. Started anew it imports nothing anew.

    name: what its lease is known by; without one it has the stream alone.
    """

    def __init__(self, url: str, data: Path, stream: str, name: str | None = None) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self._given = (url, data, stream, name)
        self._log = data / f"worker-{name}.log"
        self._process: ForkServerProcess | None = None

    def start(self) -> None:
        self._log.touch()
        self._process = self._context.Process(target=_worker_main, args=(*self._given, self._log), daemon=True)
        self._process.start()

    def kill(self) -> None:
        """SIGKILL, without a chance to finish anything."""
        if self._process is not None:
            self._process.kill()
            self._process.join(DEADLINE_S)
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: it stands still and does not know."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        assert self._process is not None and self._process.pid is not None, "started"  # noqa: S101, PT018
        os.kill(self._process.pid, which)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    @property
    def said(self) -> str:
        return self._log.read_text()


def _worker_main(url: str, data: Path, stream: str, name: str | None, log: Path) -> None:
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(run_worker(url, data, stream, name))


async def run_worker(url: str, data: Path, stream: str, name: str | None) -> None:
    connection = await nats.connect(url)
    with Ledger(data / LEDGER_FILE) as ledger:

        async def work(writer: Writer) -> None:
            worker = IngestWorker(
                connection,
                stream,
                part=0,
                history=History(data / "history"),
                fleet=FleetState(),
                ledger=ledger,
                utc_ms=utc_ms,
                flush_s=0.02,
                upkeep_s=0.02,
                keep_runs_s=0.02,
                writer=writer,
            )
            await worker.run()

        if name is None:
            await work(ALONE)
        else:
            lease = Lease(connection, lease_key(stream), name, time.monotonic, LEASE_S)
            await IngestDuty(stream, lease, name, work).run()
