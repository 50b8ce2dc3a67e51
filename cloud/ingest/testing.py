"""What the tests of ingest share: a broker that can be ended and started again, sites that send, a worker to kill."""

import asyncio
import json
import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.js.api import StreamConfig

from cloud.fleet.state import FleetState
from cloud.gateway.nats_server import find_program
from cloud.ingest.worker import IngestWorker
from cloud.store.history import History
from cloud.store.ledger import LEDGER_FILE, Ledger
from protos import frame, subjects

DEADLINE_S = 30.0
STEP_S = 0.02


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


class WorkerProcess:
    """An ingest worker as a process of its own, to be killed. Started anew it imports nothing anew."""

    def __init__(self, url: str, data: Path, stream: str) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self._given = (url, data, stream)
        self._log = data / "worker.log"
        self._process: ForkServerProcess | None = None

    def start(self) -> None:
        self._process = self._context.Process(target=_worker_main, args=(*self._given, self._log), daemon=True)
        self._process.start()

    def kill(self) -> None:
        """SIGKILL, without a chance to finish anything."""
        if self._process is not None:
            self._process.kill()
            self._process.join(DEADLINE_S)
            self._process = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    @property
    def said(self) -> str:
        return self._log.read_text()


def _worker_main(url: str, data: Path, stream: str, log: Path) -> None:
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    asyncio.run(run_worker(url, data, stream))


async def run_worker(url: str, data: Path, stream: str) -> None:
    connection = await nats.connect(url)
    with Ledger(data / LEDGER_FILE) as ledger:
        worker = IngestWorker(
            connection,
            stream,
            part=0,
            history=History(data / "history"),
            fleet=FleetState(),
            ledger=ledger,
            utc_ms=lambda: time.time_ns() // 1_000_000,
            flush_s=0.02,
            upkeep_s=0.02,
        )
        await worker.run()
