"""Server-sent events to every open tab: encoded once, the same bytes to all, and nobody waits for a slow one."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import msgspec

log = logging.getLogger(__name__)

QUEUE_MESSAGES = 12  # about three seconds of changes
KEEP_ALIVE_S = 10.0
RECONNECT_MS = 2_000


def encode(event: str, data: object) -> bytes:
    """One server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), msgspec.json.encode(data))


class Subscriber:
    """One tab's queue. When it is full its content is dropped and the tab gets the whole picture anew."""

    def __init__(self, session_hash: str) -> None:
        self.session_hash = session_hash
        self.ended: str | None = None
        self.behind = True  # begins with the whole picture
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_MESSAGES)

    def offer(self, message: bytes) -> None:
        """Queues a message, or drops all if the tab does not keep up."""
        if self.ended is not None or self.behind:
            return
        if self._messages.full():
            self._drop()
            self.behind = True
            self._messages.put_nowait(None)
            return
        self._messages.put_nowait(message)

    def caught_up(self) -> None:
        """The tab gets the whole picture now: from here on changes count again."""
        self._drop()
        self.behind = False

    def end(self, reason: str) -> None:
        """Ends the tab's stream; `reason` is what it is told."""
        if self.ended is None:
            self.ended = reason
            self._drop()
            self._messages.put_nowait(None)

    async def next(self, timeout_s: float) -> bytes | None:
        """The next message; None to look at `ended` and `behind`, also when nothing came in time."""
        try:
            return await asyncio.wait_for(self._messages.get(), timeout_s)
        except TimeoutError:
            return None

    def _drop(self) -> None:
        while not self._messages.empty():
            self._messages.get_nowait()


class Broadcaster:
    """All open tabs.

    picture: encodes the whole state as it is after the last broadcast; for a new tab and one that fell behind.
    """

    def __init__(self, picture: Callable[[], bytes], *, session_check_s: float = 30.0) -> None:
        self._picture = picture
        self._session_check_s = session_check_s
        self._subscribers: set[Subscriber] = set()
        self._closed = False

    @property
    def tabs(self) -> int:
        return len(self._subscribers)

    def publish(self, message: bytes) -> None:
        """Offers one message to every tab."""
        for subscriber in self._subscribers:
            subscriber.offer(message)

    def end_session(self, session_hash: str) -> None:
        """Ends the streams of a session that logged out."""
        for subscriber in self._subscribers:
            if subscriber.session_hash == session_hash:
                subscriber.end("logged-out")

    def close(self) -> None:
        """Ends every stream, now and from now on: the server stops."""
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.end("stopping")

    async def stream(self, session_hash: str, session_valid: Callable[[], bool]) -> AsyncIterator[bytes]:
        """The bytes of one tab's stream, until its session or the server ends.

        session_valid: asked every `session_check_s` in a thread; False ends the stream.
        """
        loop = asyncio.get_running_loop()
        subscriber = Subscriber(session_hash)
        self._subscribers.add(subscriber)
        if self._closed:
            subscriber.end("stopping")
        check_at_s = loop.time() + self._session_check_s
        try:
            yield b"retry: %d\n\n" % RECONNECT_MS
            while subscriber.ended is None:
                if subscriber.behind:
                    subscriber.caught_up()
                    message: bytes | None = self._picture()
                else:
                    message = await subscriber.next(min(KEEP_ALIVE_S, max(0.0, check_at_s - loop.time())))
                if subscriber.ended is None and loop.time() >= check_at_s:
                    check_at_s = loop.time() + self._session_check_s
                    if not await asyncio.to_thread(session_valid):
                        subscriber.end("logged-out")
                        break
                if not subscriber.behind and subscriber.ended is None:
                    yield b": alive\n\n" if message is None else message
            yield encode("end", {"reason": subscriber.ended})
        finally:
            self._subscribers.discard(subscriber)
