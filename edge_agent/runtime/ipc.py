"""The control process's end of the socket to sync: SEQPACKET, one message a datagram, never waited for.

Snapshots are dropped and counted when sync does not keep up. Everything else is kept, in order, until it could be sent,
also while there is no sync at all.
"""

import socket
from collections import deque

KEPT = 10_000  # messages waiting at most; an agent on its own for weeks must not grow for ever
_AT_ONCE = 64  # messages taken in one cycle
_LARGEST_BYTES = 1 << 18


class Channel:
    """What control sends to sync and takes from it."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._waiting: deque[bytes] = deque()
        self._buffer = bytearray(_LARGEST_BYTES)
        self.snapshots_sent = 0
        self.snapshots_dropped = 0
        self.messages_dropped = 0  # the oldest of those waiting, when there were too many

    @property
    def waiting(self) -> int:
        """Messages that are kept until they can be sent."""
        return len(self._waiting)

    def attach(self, end: socket.socket) -> None:
        """A new sync is at the other end; the channel owns the socket from here."""
        self.detach()
        end.setblocking(False)
        self._socket = end

    def detach(self) -> None:
        """Closes the socket; sync at the other end reads end of file and leaves."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, message: bytes) -> None:
        """Sends, or keeps until it can be sent."""
        if len(self._waiting) >= KEPT:
            self._waiting.popleft()
            self.messages_dropped += 1
        self._waiting.append(message)
        self.flush()

    def flush(self) -> None:
        """Sends what waits, as far as the socket takes it."""
        while self._waiting and self._try_send(self._waiting[0]):
            self._waiting.popleft()

    def send_snapshot(self, message: bytes) -> None:
        """Sends now or drops."""
        self.flush()
        if not self._waiting and self._try_send(message):
            self.snapshots_sent += 1
        else:
            self.snapshots_dropped += 1

    def receive(self) -> list[bytes]:
        """What sync sent since the last call, at most so much that a cycle stays short."""
        messages: list[bytes] = []
        while self._socket is not None and len(messages) < _AT_ONCE:
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                break
            except OSError:
                size = 0
            if not size:  # sync has gone; its supervisor brings a new one
                self.detach()
                break
            messages.append(bytes(self._buffer[:size]))
        return messages

    def _try_send(self, message: bytes) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.send(message)
        except BlockingIOError:
            return False
        except OSError:
            self.detach()
            return False
        return True
