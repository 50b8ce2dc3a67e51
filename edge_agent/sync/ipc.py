"""The socket to the control process: one protobuf message a SEQPACKET datagram, nothing ever empty."""

import asyncio
import contextlib
import logging
import socket

from google.protobuf.message import DecodeError

from protos.vpp.v1.broadcast_pb2 import Broadcast
from protos.vpp.v1.intent_pb2 import Intent
from protos.vpp.v1.local_pb2 import CoordinatorTime, Expectation, Link, ToControl, ToSync
from protos.vpp.v1.site_pb2 import RemoteConfiguration

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 256 * 1024


class ControlSocket:
    """sync's end of the socket pair."""

    def __init__(self, fd: int) -> None:
        """Takes over the descriptor. Raises OSError if it is no socket."""
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._buffer = bytearray(MAX_MESSAGE_BYTES)
        self._unsent: dict[str, ToControl] = {}
        self._something = asyncio.Event()

    async def receive(self) -> ToSync | None:
        """The next message; None when control is gone. Control speaks every cycle: no timeout is needed or right."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                size = await loop.sock_recv_into(self._socket, self._buffer)
            except ConnectionError:
                return None
            if size == 0:
                return None
            try:
                return ToSync.FromString(memoryview(self._buffer)[:size].tobytes())
            except DecodeError:
                log.error("message from control does not parse: bytes=%d", size)

    def put_intent(self, kind: str, intent: Intent) -> None:
        """Sends the intent; it replaces an unsent older one of its kind."""
        self._put(kind, ToControl(intent=intent))

    def put_broadcast(self, kind: str, broadcast: Broadcast) -> None:
        """Sends what was said to a group; it replaces what it said of that kind before and is unsent."""
        self._put(f"group {broadcast.group} {kind}", ToControl(broadcast=broadcast))

    def put_link(self, connected: bool) -> None:
        """Sends whether there is a live session; replaces an unsent older one."""
        self._put("link", ToControl(link=Link(connected=connected)))

    def put_coordinator_time(self, ahead_ms: float, uncertainty_ms: float) -> None:
        """Sends what the coordinator's clock is by the monotonic one; replaces an unsent older one."""
        time = CoordinatorTime(ahead_ms=ahead_ms, uncertainty_ms=uncertainty_ms)
        self._put("coordinator_time", ToControl(coordinator_time=time))

    def put_remote(self, remote: RemoteConfiguration) -> None:
        """Sends what the coordinator sets beyond the owner's file; replaces an unsent older one."""
        self._put("remote", ToControl(remote=remote))

    def put_expectation(self, expected: Expectation) -> None:
        """Sends what the site expects of itself; replaces an unsent older one."""
        self._put("expectation", ToControl(expectation=expected))

    def _put(self, key: str, message: ToControl) -> None:
        self._unsent.pop(key, None)
        self._unsent[key] = message
        self._something.set()

    async def send_all(self) -> None:
        """Sends what was put, until control is gone. A full buffer is waited for: control reads each cycle."""
        loop = asyncio.get_running_loop()
        while True:
            await self._something.wait()
            self._something.clear()
            while self._unsent:
                key = next(iter(self._unsent))
                message = self._unsent.pop(key)
                try:
                    await loop.sock_sendall(self._socket, message.SerializeToString())
                except ConnectionError:
                    return

    def stop_receiving(self) -> None:
        """Makes `receive` return None, as if control had gone."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        self._socket.close()
