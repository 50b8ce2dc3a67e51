"""One NATS connection that publishes and counts acknowledgements: bytes in, bytes out.

Each message carries an id (Nats-Msg-Id) and waits for the stream's acknowledgement; what was not acknowledged when the
connection broke is sent again under the same id.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

_ACKNOWLEDGED: Final = b'"seq":'
_ERROR: Final = b'"error"'
_CONNECT: Final = json.dumps({"verbose": False, "pedantic": False, "headers": True, "lang": "load", "version": "1"})


class LoadError(Exception):
    """The broker does not do what it should; the text says what."""


@dataclass(slots=True)
class Sending:
    """Messages under way."""

    data: bytes | memoryview  # their PUB operations
    messages: int  # that are not acknowledged
    frames_each: int


class Link(asyncio.Protocol):
    """A concentrator's connection. on_change: called when acknowledgements came or the connection was lost."""

    def __init__(self, name: str, host: str, port: int, on_change: Callable[[], None]) -> None:
        self.name = name
        self._host, self._port = host, port
        self._on_change = on_change
        self._transport: asyncio.Transport | None = None
        self._ready: asyncio.Future[None] | None = None
        self._tail = b""
        self._pending: deque[Sending] = deque()
        self._inbox = f"_INBOX_{name}.a"
        self.acknowledged_frames = 0
        self.acknowledged = 0
        self.sent_bytes = 0
        self.failure: str | None = None

    @property
    def connected(self) -> bool:
        return self._transport is not None

    @property
    def under_way(self) -> int:
        """Messages that are not acknowledged."""
        return sum(sending.messages for sending in self._pending)

    async def open(self) -> None:
        """Connects, and sends again what was under way. Raises OSError, LoadError."""
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        self._tail = b""
        transport, _ = await loop.create_connection(lambda: self, self._host, self._port)
        await self._ready
        self._transport = transport
        transport.write(f"SUB {self._inbox} 1\r\n".encode())
        for sending in self._pending:
            transport.write(sending.data)

    def close(self) -> None:
        """As a power cut at the concentrator: what is under way stays so."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def publish(self, subject: str, message_id: str, payload: bytes | memoryview, frames: int) -> None:
        headers = f"NATS/1.0\r\nNats-Msg-Id: {message_id}\r\n\r\n"
        total = len(headers) + len(payload)
        head = f"HPUB {subject} {self._inbox} {len(headers)} {total}\r\n{headers}".encode()
        self._send(Sending(b"".join((head, payload, b"\r\n")), 1, frames), len(payload))

    def publish_many(self, operations: memoryview, messages: int) -> None:
        """Whole PUB operations of one frame each, with `reply` as their reply subject."""
        self._send(Sending(operations, messages, 1), len(operations))

    @property
    def reply(self) -> str:
        return self._inbox

    def _send(self, sending: Sending, size: int) -> None:
        self._pending.append(sending)
        self.sent_bytes += size
        if self._transport is not None:
            self._transport.write(sending.data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._greeted = cast(asyncio.Transport, transport)  # uvloop's are of another class

    def data_received(self, data: bytes) -> None:
        if self._ready is not None and not self._ready.done():
            self._tail += data
            if not self._tail.endswith(b"\r\n"):
                return
            if self._tail.startswith(b"INFO "):
                self._greeted.write(f"CONNECT {_CONNECT}\r\nPING\r\n".encode())
                self._tail = b""
            elif b"PONG" in self._tail:
                self._tail = b""
                self._ready.set_result(None)
            else:
                self._ready.set_exception(LoadError(f"the broker says {self._tail[:200]!r}"))
            return
        if b"PING\r\n" in data:
            self._greeted.write(b"PONG\r\n")
        if _ERROR in data or data.startswith(b"-ERR"):
            self.failure = f"{self.name}: the broker answers {data[:300]!r}"
        whole = self._tail + data
        number = whole.count(_ACKNOWLEDGED)
        self._tail = whole[-(len(_ACKNOWLEDGED) - 1) :]
        self.acknowledged += number
        while number:
            first = self._pending[0]
            taken = min(number, first.messages)
            first.messages -= taken
            number -= taken
            self.acknowledged_frames += taken * first.frames_each
            if not first.messages:
                self._pending.popleft()
        if self.acknowledged:
            self._on_change()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error or ConnectionResetError("the broker hangs up"))
        self._on_change()
