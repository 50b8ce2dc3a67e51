"""How long a broadcast takes to 2,000 connected gateways, and what an agent then needs to believe it.

Counted: from `BroadcastSender.send` (ledger, signature, broker) to the bytes at each gateway's socket, over plain TCP
on this machine, plus the 99th percentile of verifying and parsing one, which each gateway does on its own processor.
`python -m hil.bench.broadcast PORT CLIENTS` is half of the gateways: bare sockets that note when a message came.
"""

import asyncio
import json
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import nats
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nats.aio.client import Client

from cloud.gateway.broadcasts import BroadcastSender
from cloud.identity.signing import CommandSigner
from cloud.ingest.testing import Server
from cloud.store.ledger import LEDGER_FILE, Ledger
from hil.run.chain import Say
from protos import subjects
from protos.vpp.v1 import broadcast_pb2

GATEWAYS: Final = 2_000
CYCLES: Final = 30
CYCLE_S: Final = 0.5
_PROCESSES: Final = 2
_GROUP: Final = "bench"
_MESSAGE: Final = re.compile(rb"MSG \S+ \d+ (\d+)\r\n")


def bench_broadcast(say: Say, *, gateways: int = GATEWAYS) -> dict[str, Any]:
    """broadcast_to_agent_ms_p50 and _p99, and of what they are made."""
    say(f"bench: {CYCLES} broadcasts to {gateways} connected gateways")
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder), gateways))


async def _measure(folder: Path, gateways: int) -> dict[str, Any]:
    server = Server(folder / "broker")
    await server.start()
    clients: list[subprocess.Popen[bytes]] = []
    try:
        port = server.url.rsplit(":", 1)[1]
        command = [sys.executable, "-m", "hil.bench.broadcast", port, str(gateways // _PROCESSES)]
        clients += [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(_PROCESSES)]  # noqa: ASYNC220 (a bench's own)
        for client in clients:
            assert client.stdout is not None  # noqa: S101
            await asyncio.to_thread(client.stdout.readline)  # all are subscribed
        nc = await nats.connect(server.url)
        try:
            sent_ns, key = await _broadcast(nc, folder)
        finally:
            await nc.close()
        answers = [json.loads((await asyncio.to_thread(client.communicate, b"end\n", 60))[0]) for client in clients]
    finally:
        for client in clients:
            client.kill()
            client.wait()
        server.kill()
    verify_ms = _verification_ms([bytes.fromhex(data) for answer in answers for data in answer["first"]], key)
    late = [
        (at_ns - sent_ns[int(number)]) / 1e6
        for answer in answers
        for number, times in answer["at_ns"].items()
        for at_ns in times
    ]
    p50, p99 = np.percentile(late, [50, 99])
    return {
        "broadcast_to_agent_ms_p50": round(float(p50) + float(np.median(verify_ms)), 2),
        "broadcast_to_agent_ms_p99": round(float(p99) + float(np.percentile(verify_ms, 99)), 2),
        "broadcast_verify_ms_p99": round(float(np.percentile(verify_ms, 99)), 3),
        "broadcasts_received_share": round(len(late) / (CYCLES * (gateways // _PROCESSES * _PROCESSES)), 6),
        "gateways": gateways,
    }


async def _broadcast(nc: Client, folder: Path) -> tuple[dict[int, int], Ed25519PublicKey]:
    private = Ed25519PrivateKey.generate()
    sent_ns: dict[int, int] = {}
    with Ledger(folder / LEDGER_FILE) as ledger:
        sender = BroadcastSender(nc, CommandSigner(private), ledger, lambda: time.time_ns() // 1_000_000)
        for number in range(CYCLES + 1):  # the first one opens what is opened once
            body = broadcast_pb2.Regulation(signal_e6=number)
            sent_ns[number] = time.monotonic_ns()
            await sender.send(body, _GROUP, time.time_ns() // 1_000_000 + 10_000)
            await nc.flush()
            await asyncio.sleep(CYCLE_S)
    return sent_ns, private.public_key()


def _verification_ms(messages: list[bytes], key: Ed25519PublicKey) -> list[float]:
    taken = []
    for data in messages * 20:
        begun_s = time.perf_counter()
        signed = broadcast_pb2.SignedBroadcast.FromString(data)
        key.verify(signed.signature, subjects.BROADCAST_SIGNED_AS + signed.broadcast)
        broadcast_pb2.Broadcast.FromString(signed.broadcast)
        taken.append(1e3 * (time.perf_counter() - begun_s))
    return taken


def _gateways(port: int, count: int) -> dict[str, Any]:
    """Subscribes `count` sockets, notes when each message came to each, until a line comes on standard input."""
    subject = subjects.broadcast(_GROUP, "regulation").encode()
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", port))
        one.recv(4096)
        one.sendall(b'CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"1"}\r\n')
        one.sendall(b"SUB " + subject + b" 1\r\nPING\r\n")
        while not one.recv(4096).endswith(b"PONG\r\n"):
            pass
        one.setblocking(False)
        sockets[one.fileno()] = one
        poll.register(one.fileno(), select.EPOLLIN)
    sys.stdout.write("subscribed\n")
    sys.stdout.flush()
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    heard: dict[int, list[tuple[int, bytes]]] = {descriptor: [] for descriptor in sockets}
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == sys.stdin.fileno():
                return _sorted(heard)
            data = sockets[descriptor].recv(65536)
            heard[descriptor].append((time.monotonic_ns(), data))
            if data.startswith(b"PING"):
                sockets[descriptor].sendall(b"PONG\r\n")


def _sorted(heard: dict[int, list[tuple[int, bytes]]]) -> dict[str, Any]:
    """When each broadcast was complete at each socket, by its number; and one copy of each."""
    at_ns: dict[int, list[int]] = {}
    first: list[str] = []
    for pieces in heard.values():
        unread = b""
        for when, data in pieces:
            unread += data
            while (found := _MESSAGE.search(unread)) and len(unread) >= found.end() + int(found[1]) + 2:
                end = found.end() + int(found[1])
                payload, unread = unread[found.end() : end], unread[end + 2 :]
                signed = broadcast_pb2.SignedBroadcast.FromString(payload)
                number = broadcast_pb2.Broadcast.FromString(signed.broadcast).regulation.signal_e6
                if number and number not in at_ns:
                    first.append(payload.hex())
                if number:
                    at_ns.setdefault(number, []).append(when)
    return {"at_ns": at_ns, "first": first}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_gateways(int(sys.argv[1]), int(sys.argv[2]))) + "\n")
