"""How long a broadcast takes to 2,000 connected gateways, and what an agent then needs to believe it.

Counted: from `BroadcastSender.send` (ledger, signature, broker) to the bytes at each gateway's socket, over plain TCP
on this machine, plus the 99th percentile of verifying and parsing one, which each gateway does on its own processor.
`python -m hil.bench.broadcast PORT CLIENTS` is half of the gateways: bare sockets on which the kernel notes when bytes
came (SO_TIMESTAMPNS). They are read when the cycle is over, so that reading takes nothing from what is measured.
"""

import asyncio
import json
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
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
_FIRST_PINGS_S: Final = 4.0  # the broker pings each new client once; what comes beside a message hides its instant
_PROCESSES: Final = 2
_GROUP: Final = "bench"
_SO_TIMESTAMPNS: Final = 35  # <asm-generic/socket.h>; a struct timespec of the wall clock comes with the bytes
_ORDER: Final = b"read\n"
_MESSAGE: Final = re.compile(rb"MSG \S+ \d+ (\d+)\r\n")


def bench_broadcast(say: Say, *, gateways: int = GATEWAYS, cycles: int = CYCLES) -> dict[str, Any]:
    """broadcast_to_agent_ms_p50 and _p99, and of what they are made."""
    say(f"bench: {cycles} broadcasts to {gateways} connected gateways")
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder), gateways, cycles))


async def _measure(folder: Path, gateways: int, cycles: int) -> dict[str, Any]:
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
            sent_ns, handed_ns, key = await _broadcast(nc, folder, clients, cycles)
        finally:
            await nc.close()
        answers = [json.loads((await asyncio.to_thread(client.communicate, b"end\n", 60))[0]) for client in clients]
    finally:
        for client in clients:
            client.kill()
            client.wait()
        server.kill()
    verify_ms = _verification_ms([bytes.fromhex(data) for answer in answers for data in answer["first"]], key)
    arrived: dict[int, list[int]] = {}
    for answer in answers:
        for number, times in answer["at_ns"].items():
            arrived.setdefault(int(number), []).extend(times)
    late = [(at_ns - sent_ns[number]) / 1e6 for number, times in arrived.items() for at_ns in times]
    p50, p99 = np.percentile(late, [50, 99])
    handed_ms = [(handed_ns[number] - sent_ns[number]) / 1e6 for number in arrived]
    fan_out_ms = [(max(times) - min(times)) / 1e6 for times in arrived.values()]
    return {
        "broadcast_to_agent_ms_p50": round(float(p50) + float(np.median(verify_ms)), 2),
        "broadcast_to_agent_ms_p99": round(float(p99) + float(np.percentile(verify_ms, 99)), 2),
        "broadcast_sender_ms_p50": round(float(np.median(handed_ms)), 2),  # ledger, signature, into the socket
        "broadcast_fan_out_ms_p50": round(float(np.median(fan_out_ms)), 2),  # from the first gateway to the last
        "broadcast_fan_out_ms_p99": round(float(np.percentile(fan_out_ms, 99)), 2),
        "broadcast_verify_ms_p99": round(float(np.percentile(verify_ms, 99)), 3),
        "broadcasts_received_share": round(len(late) / (cycles * (gateways // _PROCESSES * _PROCESSES)), 6),
        "gateways": gateways,
    }


async def _broadcast(
    nc: Client, folder: Path, clients: Sequence["subprocess.Popen[bytes]"], cycles: int
) -> tuple[dict[int, int], dict[int, int], Ed25519PublicKey]:
    """By number, when each was asked for and when it had gone to the broker's socket; and the key they bear."""
    private = Ed25519PrivateKey.generate()
    sent_ns: dict[int, int] = {}
    handed_ns: dict[int, int] = {}
    with Ledger(folder / LEDGER_FILE) as ledger:
        sender = BroadcastSender(nc, CommandSigner(private), ledger, lambda: time.time_ns() // 1_000_000)
        for _ in range(round(_FIRST_PINGS_S / CYCLE_S)):
            await asyncio.sleep(CYCLE_S)
            for client in clients:
                await asyncio.to_thread(_have_read, client)
        for number in range(cycles + 1):  # the first one opens what is opened once
            body = broadcast_pb2.Regulation(signal_e6=number)
            sent_ns[number] = time.time_ns()
            await sender.send(body, _GROUP, time.time_ns() // 1_000_000 + 10_000)
            handed_ns[number] = time.time_ns()
            await nc.flush()
            await asyncio.sleep(CYCLE_S)
            for client in clients:
                await asyncio.to_thread(_have_read, client)
    return sent_ns, handed_ns, private.public_key()


def _have_read(client: "subprocess.Popen[bytes]") -> None:
    assert client.stdin is not None  # noqa: S101 (a pipe)
    assert client.stdout is not None  # noqa: S101 (a pipe)
    client.stdin.write(_ORDER)
    client.stdin.flush()
    client.stdout.readline()


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
    """Subscribes `count` sockets, reads them whenever it is told to, until another line comes on standard input."""
    subject = subjects.broadcast(_GROUP, "regulation").encode()
    sockets = []
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", port))
        one.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        one.recv(4096)
        one.sendall(b'CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"1"}\r\n')
        one.sendall(b"SUB " + subject + b" 1\r\nPING\r\n")
        while not one.recv(4096).endswith(b"PONG\r\n"):
            pass
        one.setblocking(False)
        sockets.append(one)
    heard: list[list[tuple[int, bytes]]] = [[] for _ in sockets]
    _say("subscribed")
    while sys.stdin.readline().encode() == _ORDER:
        for one, pieces in zip(sockets, heard, strict=True):
            _read(one, pieces)
        _say("read")
    return _sorted(heard)


def _read(one: socket.socket, pieces: list[tuple[int, bytes]]) -> None:
    """What has come, and when the last of it came [UTC ns]."""
    try:
        data, notes, _, _ = one.recvmsg(65536, 64)
    except BlockingIOError:
        return
    (at_ns,) = [
        seconds * 1_000_000_000 + nanoseconds
        for _, kind, note in notes
        if kind == _SO_TIMESTAMPNS
        for seconds, nanoseconds in [struct.unpack("qq", note)]
    ]
    pieces.append((at_ns, data))
    if data.startswith(b"PING"):
        one.sendall(b"PONG\r\n")


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def _sorted(heard: list[list[tuple[int, bytes]]]) -> dict[str, Any]:
    """When each broadcast was complete at each socket, by its number; and one copy of each."""
    at_ns: dict[int, list[int]] = {}
    first: list[str] = []
    for pieces in heard:
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
