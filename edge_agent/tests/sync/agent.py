"""The sync process as control sees it: a child and a socket."""

import asyncio
import os
import socket
import sys
from pathlib import Path

from edge_agent.tests.sync.counterparts import DEADLINE_S
from protos.vpp.v1.broadcast_pb2 import Broadcast
from protos.vpp.v1.intent_pb2 import Intent
from protos.vpp.v1.local_pb2 import CoordinatorTime, SnapshotReport, ToControl, ToSync
from protos.vpp.v1.report_pb2 import Acknowledgement, Event
from protos.vpp.v1.site_pb2 import SiteDescription
from protos.vpp.v1.supply_pb2 import SupplyFunction

CONFIG = """
site = "{site}"
data_dir = "data"
[coordinator]
claim_file = "claim.toml"
[[devices]]
name = "hybrid"
driver = "sunspec"
host = "127.0.0.1"
port = 15020
"""


class Agent:
    """`python -m edge_agent.sync` with a folder, and the other end of its socket."""

    def __init__(self, folder: Path, site: str = "home-01") -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.claim_file = folder / "claim.toml"
        self.config = folder / "agent.toml"
        self.config.write_text(CONFIG.format(site=site))
        self._process: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None
        self._received: list[ToControl] = []
        self.stderr = b""
        self._stderr_task: asyncio.Task[bytes] | None = None

    async def start(self, *, disk_takes: int | None = None) -> None:
        """disk_takes: bytes of a file, and no more; a limit of the process stands for a full disk.

        Set by a launcher and not by preexec_fn: that would fork, and run gRPC's fork handlers, where a test has gRPC.
        """
        launcher = () if disk_takes is None else ("prlimit", f"--fsize={disk_takes}")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._socket = ours
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *launcher,
                sys.executable,
                "-m",
                "edge_agent.sync",
                "--config",
                str(self.config),
                "--fd",
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stderr=asyncio.subprocess.PIPE,
            )
        assert self._process.stderr is not None
        self._stderr_task = asyncio.create_task(self._process.stderr.read())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def _send(self, message: ToSync) -> None:
        await self.send_raw(message.SerializeToString())

    async def send_raw(self, data: bytes) -> None:
        assert self._socket is not None
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def describe(self, rated_power_w: float = 5000.0) -> None:
        await self._send(ToSync(description=SiteDescription(rated_power_w=rated_power_w)))

    async def snapshot(self, at_ms: int, frequency_hz: float) -> None:
        await self._send(ToSync(snapshot=SnapshotReport(at_ms=at_ms, frequency_hz=frequency_hz)))

    async def event(self, event_id: str) -> None:
        await self._send(
            ToSync(event=Event(event_id=event_id, at_ms=1, severity=Event.SEVERITY_INFO, code="test.event"))
        )

    async def acknowledge(self, event_id: str, sequence: int) -> None:
        done = Acknowledgement(event_id=event_id, kind="service", sequence=sequence, state=Acknowledgement.STATE_ACTIVE)
        await self._send(ToSync(acknowledgement=done))

    async def link(self) -> bool:
        """The next word about the session."""
        return (await self._next("link")).link.connected

    async def intent(self) -> Intent:
        """The next intent forwarded."""
        return (await self._next("intent")).intent

    async def broadcast(self) -> Broadcast:
        """The next broadcast forwarded."""
        return (await self._next("broadcast")).broadcast

    async def supply(self, supply: SupplyFunction) -> None:
        await self._send(ToSync(supply=supply))

    async def coordinator_time(self) -> CoordinatorTime:
        """The next word about the coordinator's clock."""
        return (await self._next("coordinator_time")).coordinator_time

    async def _next(self, body: str) -> ToControl:
        assert self._socket is not None
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for index, message in enumerate(self._received):
                    if message.WhichOneof("body") == body:
                        return self._received.pop(index)
                data = await asyncio.get_running_loop().sock_recv(self._socket, 65536)
                assert data, f"sync ended: {(await self.ended())}"
                self._received.append(ToControl.FromString(data))

    async def ended(self) -> tuple[int, str]:
        """Exit code and stderr, once it has ended."""
        assert self._process is not None
        assert self._stderr_task is not None
        async with asyncio.timeout(DEADLINE_S):
            self.stderr = await self._stderr_task
            return await self._process.wait(), self.stderr.decode()

    async def control_goes(self) -> tuple[int, str]:
        """Closes control's end; exit code and stderr of sync."""
        self.hang_up()
        return await self.ended()

    def hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def kill(self) -> None:
        """kill -9, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, 9)
            await self._process.wait()
        if self._stderr_task is not None:
            self.stderr = await self._stderr_task
        self.hang_up()
