"""One NATS connection that publishes and counts acknowledgements: bytes in, bytes out.

Each message carries an id (Nats-Msg-Id) and waits for the stream's acknowledgement; what was not acknowledged when the
connection broke is sent again under the same id.
"""

import asyncio
import base64
import json
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from cloud.identity.nkey import Nkey

_ACKNOWLEDGED: Final = b'"seq":'
_ERROR: Final = b'"error"'
_CONNECT: Final = {"verbose": False, "pedantic": False, "headers": True, "lang": "load", "version": "1"}


class LoadError(Exception):
    """The broker does not do what it should; the text says what."""


class Login(NamedTuple):
    """How a connection proves who it is, over TLS."""

    trust: ssl.SSLContext
    jwt: str
    user: Nkey


@dataclass(slots=True)
class Sending:
    """Messages under way."""

    data: bytes | memoryview  # their PUB operations
    messages: int  # that are not acknowledged
    frames_each: int


class Link(asyncio.Protocol):
    """A concentrator's connection. on_change: called when acknowledgements came or the connection was lost.

    login: None for a broker in plain text that asks for none.
    """

    def __init__(
        self, name: str, host: str, port: int, on_change: Callable[[], None], login: Login | None = None
    ) -> None:
        self.name = name
        self._host, self._port = host, port
        self._on_change = on_change
        self._greeted: asyncio.Transport
        self._login = login
        self._transport: asyncio.Transport | None = None
        self._greeting: asyncio.Future[dict[str, Any]] | None = None
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
        self._greeting, self._ready = loop.create_future(), None
        self._tail = b""
        await loop.create_connection(lambda: self, self._host, self._port)
        greeting = await self._greeting
        hello = dict(_CONNECT)
        if self._login is not None:
            if not greeting.get("tls_required"):
                raise LoadError(f"the broker at {self._host}:{self._port} offers no TLS; is it the installation's?")
            secured = await loop.start_tls(self._greeted, self, self._login.trust, server_hostname=self._host)
            self._greeted = cast(asyncio.Transport, secured)
            signature = base64.urlsafe_b64encode(self._login.user.sign(greeting["nonce"].encode())).rstrip(b"=")
            hello |= {"jwt": self._login.jwt, "sig": signature.decode()}
        self._ready = loop.create_future()
        self._greeted.write(f"CONNECT {json.dumps(hello)}\r\nPING\r\n".encode())
        await self._ready
        self._transport = transport = self._greeted
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
        if self._greeting is not None and not self._greeting.done():
            self._tail += data
            if self._tail.endswith(b"\r\n"):
                greeting, self._tail = self._tail, b""
                self._greeting.set_result(json.loads(greeting.removeprefix(b"INFO ")))
            return
        if self._ready is not None and not self._ready.done():
            self._tail += data
            if not self._tail.endswith(b"\r\n"):
                return
            if b"-ERR" in self._tail:
                self._ready.set_exception(LoadError(f"the broker says {self._tail[:200]!r}"))
            elif b"PONG" in self._tail:
                self._tail = b""
                self._ready.set_result(None)
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
        for awaited in (self._greeting, self._ready):
            if awaited is not None and not awaited.done():
                awaited.set_exception(error or ConnectionResetError("the broker hangs up"))
        self._on_change()
