"""Many light agents in one process, for the security bench: `python -m hil.bench.security_agents FILE KIND`.

Raw sockets and uvloop, but the product's own waits: what is measured is the coordinator and the broker, not 5,000
copies of a client library. Orders come as lines on standard input, answers go as JSON lines to standard output.
"""

import asyncio
import base64
import hashlib
import json
import random
import ssl
import struct
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloud.identity import nkey
from edge_agent.sync.backoff import Backoff
from edge_agent.sync.enrolment import SUSPICION_CAP_S, SUSPICION_FIRST_S
from edge_agent.sync.process import Pace
from edge_agent.sync.session import CONNECT_TIMEOUT_S
from protos import frame, subjects
from protos.vpp.v1 import site_pb2

_SETTINGS, _HEADERS, _DATA, _RST_STREAM, _GOAWAY = 4, 1, 0, 3, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_SURVIVOR_INTERVAL_S = 0.5
_AT_ONCE = 200


class AgentData(msgspec.Struct, frozen=True):
    """One agent as the bench prepared it."""

    site: str
    jwt: str
    certificate: str


class AgentsFile(msgspec.Struct, frozen=True):
    """What a process of agents is given."""

    host: str
    broker_port: int
    site_port: int
    ca: str
    key: str  # PEM, shared by all: making 5,000 is not what is measured
    agents: list[AgentData]


class Refused(Exception):
    """The broker does not take the credentials."""


def user_key(site: str) -> nkey.Nkey:
    """The same for the bench, which issues for it, and for the agent."""
    raw = hashlib.sha256(f"bench {site}".encode()).digest()
    return nkey.Nkey(Ed25519PrivateKey.from_private_bytes(raw), nkey.USER)


class Agent:
    """Connects, subscribes, and comes back as the product's agent does.

    gate: how many of them use this process's processor at once. Gateways have one each; here a handshake's time limit
    must not run while thousands of others wait for the same one.
    """

    def __init__(
        self,
        data: AgentData,
        file: AgentsFile,
        trust: ssl.SSLContext,
        own: ssl.SSLContext,
        gate: asyncio.Semaphore,
    ) -> None:
        self.site = data.site
        self.jwt = data.jwt
        self._file = file
        self._trust = trust
        self._own = own
        self._gate = gate
        self._user = user_key(data.site)
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter | None = None

    async def connect(self) -> None:
        """To the broker, subscribed to its intents. Raises Refused, OSError, TimeoutError."""
        async with self._gate, asyncio.timeout(CONNECT_TIMEOUT_S):
            self.reader, writer = await asyncio.open_connection(self._file.host, self._file.broker_port)
            try:
                info = json.loads((await self.reader.readline())[5:])
                await writer.start_tls(self._trust, server_hostname=self._file.host)
                signature = base64.urlsafe_b64encode(self._user.sign(info["nonce"].encode())).rstrip(b"=").decode()
                hello = {"verbose": False, "pedantic": False, "jwt": self.jwt, "sig": signature, "lang": "bench"}
                hello |= {"name": self.site, "protocol": 1, "headers": True, "no_responders": True, "version": "1"}
                writer.write(b"CONNECT " + json.dumps(hello).encode() + b"\r\nPING\r\n")
                await self._expect_pong()
                inbox = subjects.inbox_prefix(self.site)
                writer.write(f"SUB vpp.intent.{self.site}.* 1\r\nSUB {inbox}.> 2\r\nPING\r\n".encode())
                await self._expect_pong()
            except BaseException:
                writer.transport.abort()
                raise
        self.writer = writer

    async def _expect_pong(self) -> None:
        while line := await self.reader.readline():
            if line.startswith(b"PONG"):
                return
            if line.startswith(b"-ERR"):
                raise Refused(line.decode())
        raise ConnectionResetError("the broker hung up")

    async def dropped(self) -> None:
        """Returns when the broker, or `cut`, has ended the connection."""
        with suppress(OSError):
            while line := await self.reader.readline():
                if line.startswith(b"PING") and self.writer is not None:
                    self.writer.write(b"PONG\r\n")
        if self.writer is not None:
            self.writer.close()

    def cut(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()

    async def come_back(self, *, renewed: bool) -> None:
        """renewed: with new credentials, once the broker has refused the old ones."""
        pace, doubt = Pace(), Backoff(SUSPICION_FIRST_S, SUSPICION_CAP_S)
        backoff, asking = pace.nats(), pace.grpc()
        await asyncio.sleep(backoff.next_s())
        while True:
            try:
                await self.connect()
                return
            except Refused:
                if not renewed:
                    raise
                await asyncio.sleep(doubt.next_s())
                while True:
                    try:
                        self.jwt = await self._renew()
                        break
                    except (OSError, TimeoutError, asyncio.IncompleteReadError):
                        await asyncio.sleep(asking.next_s())
                backoff.reset()
            except (OSError, TimeoutError):
                await asyncio.sleep(backoff.next_s())

    async def _renew(self) -> str:
        """SiteService.Renew over a connection of its own with the site's certificate: gRPC by hand."""
        request = site_pb2.RenewRequest(nats_public_key=self._user.public).SerializeToString()
        async with self._gate, asyncio.timeout(15.0):
            reader, writer = await asyncio.open_connection(
                self._file.host, self._file.site_port, ssl=self._own, server_hostname=self._file.host
            )
            try:
                writer.write(
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                    + _frame(_SETTINGS, 0, 0, b"")
                    + _frame(_HEADERS, _END_HEADERS, 1, _headers(f"{self._file.host}:{self._file.site_port}"))
                    + _frame(_DATA, _END_STREAM, 1, struct.pack(">BI", 0, len(request)) + request)
                )
                answer = b""
                while True:
                    head = await reader.readexactly(9)
                    kind, flags = head[3], head[4]
                    payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                    if kind == _SETTINGS and not flags & _ACK:
                        writer.write(_frame(_SETTINGS, _ACK, 0, b""))
                    elif kind == _DATA:
                        answer += payload
                    elif kind in (_RST_STREAM, _GOAWAY):
                        raise ConnectionResetError("the site service refuses")
                    if kind in (_HEADERS, _DATA) and flags & _END_STREAM:
                        break
            finally:
                writer.close()
        credentials = site_pb2.Credentials.FromString(answer[5:])
        if not credentials.nats_jwt:
            raise ConnectionResetError("the site service gave no credentials")
        return str(credentials.nats_jwt)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _headers(authority: str) -> bytes:
    """HPACK (RFC 7541), every field literal and without an index."""
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": "/vpp.v1.SiteService/Renew",
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(
        bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in fields.items()
    )


def _contexts(file: AgentsFile, *, own: bool) -> tuple[ssl.SSLContext, list[ssl.SSLContext]]:
    trust = ssl.create_default_context(cadata=file.ca)
    if not own:
        return trust, [trust] * len(file.agents)
    contexts = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.pem"
        for agent in file.agents:
            path.write_text(agent.certificate + file.key)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=file.ca)
            context.load_cert_chain(path)
            context.set_alpn_protocols(["h2"])
            contexts.append(context)
    return trust, contexts


def _say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def _order() -> str:
    line: str = await asyncio.to_thread(sys.stdin.readline)
    return line.strip()


async def _storm(file: AgentsFile) -> None:
    """Orders: "cut" drops all by themselves; "await" waits for the broker to drop all; "out": and for good; "end"."""
    trust, own = await asyncio.to_thread(_contexts, file, own=True)
    gate = asyncio.Semaphore(_AT_ONCE)
    agents = [Agent(data, file, trust, context, gate) for data, context in zip(file.agents, own, strict=True)]
    await asyncio.gather(*(agent.connect() for agent in agents))
    _say(connected=len(agents))
    while (order := await _order()) != "end":
        began = asyncio.get_running_loop().create_future()

        async def ride(agent: Agent, order: str = order, began: "asyncio.Future[float]" = began) -> None:
            await agent.dropped()
            if not began.done():
                began.set_result(time.monotonic())
            if order != "out":
                await agent.come_back(renewed=order == "await")

        riding = [asyncio.create_task(ride(agent)) for agent in agents]
        await asyncio.sleep(0)
        _say(waiting=True)
        if order == "cut":
            for agent in agents:
                agent.cut()
        await asyncio.gather(*riding)
        _say(storm_s=time.monotonic() - await began)


async def _survive(file: AgentsFile) -> None:
    """Telemetry with acknowledgements, for ever; order "mark" answers with the latencies [ms] since the one before."""
    trust, own = _contexts(file, own=False)
    gate = asyncio.Semaphore(_AT_ONCE)
    agents = [Agent(data, file, trust, context, gate) for data, context in zip(file.agents, own, strict=True)]
    latencies_ms: list[float] = []

    async def speak(agent: Agent) -> None:
        assert agent.writer is not None  # noqa: S101 (connected)
        subject, inbox = subjects.telemetry(subjects.partition_token(agent.site)), subjects.inbox_prefix(agent.site)
        body, sequence = [[1.0] * 10] * 6, 0
        await asyncio.sleep(random.uniform(0, _SURVIVOR_INTERVAL_S))
        while True:
            sequence += 1
            payload = frame.batch([frame.pack(0, sequence, 1_700_000_000_000 + 1000 * sequence, 100, body)])
            began_s = time.monotonic()
            agent.writer.write(f"PUB {subject} {inbox}.{sequence} {len(payload)}\r\n".encode() + payload + b"\r\n")
            while not (line := await agent.reader.readline()).startswith(b"MSG"):
                if not line:
                    raise ConnectionResetError("a survivor was dropped")
                if line.startswith(b"PING"):
                    agent.writer.write(b"PONG\r\n")
            await agent.reader.readline()
            latencies_ms.append(1000 * (time.monotonic() - began_s))
            await asyncio.sleep(_SURVIVOR_INTERVAL_S)

    await asyncio.gather(*(agent.connect() for agent in agents))
    speaking = [asyncio.create_task(speak(agent)) for agent in agents]
    _say(connected=len(agents))
    while (await _order()) == "mark":
        _say(latencies_ms=list(latencies_ms), fallen=sum(task.done() for task in speaking))
        latencies_ms.clear()
    for task in speaking:
        task.cancel()


def main() -> None:
    file = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=AgentsFile)
    uvloop.run(_storm(file) if sys.argv[2] == "storm" else _survive(file))


if __name__ == "__main__":
    main()
