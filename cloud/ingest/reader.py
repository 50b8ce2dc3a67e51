"""A JetStream stream, in order and without a gap, from where it was left: by a pull consumer that acknowledges nothing.

The position is the caller's to keep, together with what it made of the messages: that is what makes each count once.
Whatever goes wrong in between (the broker restarts, the consumer is forgotten, a message is not delivered) ends the
consumer, and the next one begins after the last message that was handed over.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError

from cloud.ingest.lean import LeanParser, Sink

log = logging.getLogger(__name__)

PULL_MESSAGES: Final = 5000
PULL_BYTES: Final = 2 * 1024 * 1024  # several of the largest messages; what a worker makes of them is held tenfold
PULLS: Final = 2  # overlapping, so that the broker always has one to serve
PULL_S: Final = 5.0
GATHER_S: Final = 0.02
ANSWER_S: Final = 5.0  # for requests to the broker
INACTIVE_S: Final = 30.0
LINK_CHECK_S: Final = 0.2
RETRY_S: Final = (0.1, 0.5, 1.0, 2.0)
_NO_LIMIT: Final = 0
# How a pull with a limit of bytes ends; other ends of status 409 are the consumer's.
_PULL_ENDS: Final = {("409", "batch completed"), ("409", "message size exceeds maxbytes")}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class StreamClosed(Exception):
    """The connection is closed for good: nothing more can be read through it."""


class _Broken(Exception):
    """The consumer is of no use any more; the text says why."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Messages that follow the ones before, as columns."""

    created_ns: int  # the stream's creation
    anew: bool  # the stream counts from the beginning again: it was made anew, or set back to an earlier state
    expired: int  # messages between the last ones and these that the stream let go before they were read
    sequences: Sequence[int]  # in the stream
    subjects: Sequence[bytes]
    data: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.data)

    def names(self) -> list[str]:
        """The subjects, to be read by people."""
        return [name_of(subject) for subject in self.subjects]


def name_of(subject: bytes) -> str:
    return subject.decode(errors="replace")


class StreamReader:
    """Reads one stream from a position on.

    created_ns, last_sequence: of the last message that the caller keeps; 0, 0 for none.
    """

    def __init__(
        self,
        connection: Client,
        stream: str,
        *,
        created_ns: int = 0,
        last_sequence: int = 0,
        only: Sequence[str] = (),
    ) -> None:
        """only: subjects that are wanted; none: all."""
        self._only = list(only)
        self._connection = connection
        self._stream = stream
        self._created_ns = created_ns
        self._last_sequence = last_sequence
        self._disturbed = False

    async def arrivals(self) -> AsyncGenerator[Arrival, None]:
        """All messages from the position on, as they come, for ever. Raises StreamClosed.

        Every consumer begins with an arrival without messages, so that `anew` is known before anything else happens.
        The next messages are asked for when the caller comes back for them.
        """
        failures = 0
        while True:
            await self._connected()
            try:
                async with aclosing(self._one_consumer()) as arrivals:
                    async for arrival in arrivals:
                        yield arrival
                        if len(arrival):
                            failures = 0
                            self._recovered()
            except (_Broken, TimeoutError, nats.errors.Error, JetStreamError) as error:
                self._disturbance(error)
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1

    async def _one_consumer(self) -> AsyncGenerator[Arrival, None]:
        anew, expired = await self._find_position()
        yield Arrival(self._created_ns, anew, expired, (), (), ())
        consumer = f"reader-{secrets.token_hex(8)}"
        inbox = _Inbox(self._connection.new_inbox())  # a new one: what was asked by an earlier reader never gets here
        # Nothing is dropped for being slow: no more is under way than was asked for.
        subscription = await self._connection.subscribe(
            inbox.subject, cb=inbox.put, pending_msgs_limit=_NO_LIMIT, pending_bytes_limit=_NO_LIMIT
        )
        parser = LeanParser.on(self._connection)
        parser.give(subscription._id, inbox)
        manager = self._connection.jsm(timeout=ANSWER_S)
        try:
            await manager.add_consumer(
                self._stream,
                ConsumerConfig(
                    name=consumer,
                    ack_policy=AckPolicy.NONE,
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=self._last_sequence + 1,
                    mem_storage=True,
                    inactive_threshold=INACTIVE_S,
                    filter_subjects=self._only or None,
                ),
            )
            async with aclosing(self._pulled(consumer, inbox)) as pulled:
                async for sequences, subjects, data in pulled:
                    self._last_sequence = sequences[-1]
                    yield Arrival(self._created_ns, False, 0, sequences, subjects, data)
        finally:
            parser.take_back(subscription._id)
            with suppress(nats.errors.Error, JetStreamError, TimeoutError):
                await subscription.unsubscribe()
            if self._connection.is_connected:
                with suppress(nats.errors.Error, JetStreamError, TimeoutError):
                    await self._connection.jsm(timeout=1.0).delete_consumer(self._stream, consumer)

    async def _find_position(self) -> tuple[bool, int]:
        """Whether the stream counts anew, and how much was let go; the position is right afterwards."""
        try:
            info = await self._connection.jsm(timeout=ANSWER_S).stream_info(self._stream)
        except NotFoundError as error:
            raise _Broken("the stream does not exist") from error
        if info.created is None:
            raise _Broken("the broker does not tell when the stream was made")
        created_ns = (info.created - _EPOCH) // timedelta(microseconds=1) * 1000
        known = self._created_ns != 0
        anew = known and (created_ns != self._created_ns or info.state.last_seq < self._last_sequence)
        if anew:
            log.error(
                "stream %s was made anew or set back: kept up to %d of the one before, it now ends at %d",
                self._stream,
                self._last_sequence,
                info.state.last_seq,
            )
        if anew or not known:
            self._last_sequence = 0
        self._created_ns = created_ns
        expired = max(0, info.state.first_seq - self._last_sequence - 1) if known and not anew else 0
        if expired:
            log.error("stream %s: %d messages were let go before they were read", self._stream, expired)
            self._last_sequence += expired
        return anew, expired

    async def _pulled(
        self, consumer: str, inbox: "_Inbox"
    ) -> AsyncGenerator[tuple[Sequence[int], list[bytes], list[bytes]], None]:
        """Messages in the order of the consumer's own count, which has no gaps. Raises _Broken where it has."""
        ask = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}"
        request = json.dumps({"batch": PULL_MESSAGES, "max_bytes": PULL_BYTES, "expires": round(PULL_S * 1e9)}).encode()
        delivered = 0  # by the consumer's count
        room = 0  # messages that the open pulls may still bring
        while True:
            while room <= PULL_MESSAGES * (PULLS - 1):
                await self._connection.publish(ask, request, reply=inbox.subject)
                room += PULL_MESSAGES
            await self._received(inbox)
            if len(inbox.data) < PULL_MESSAGES:
                await asyncio.sleep(GATHER_S)  # many at once cost little more than one
            subjects, replies, data, ends = inbox.take()
            for end in ends:
                room -= _left_of_pull(end)
            if not data:
                continue
            sequences = _sequences(replies, consumer, delivered)
            delivered += len(data)
            room -= len(data)
            yield sequences, subjects, data

    async def _received(self, inbox: "_Inbox") -> None:
        """Returns when something came. Raises _Broken when nothing can come any more, TimeoutError when nothing does.

        A broker that was away has forgotten the consumer and its pulls; waiting for their end would only lose time.
        """
        reconnects = self._connection.stats["reconnects"]
        async with asyncio.timeout(PULL_S + ANSWER_S):
            while not await inbox.wait(LINK_CHECK_S):
                if not self._connection.is_connected or self._connection.stats["reconnects"] != reconnects:
                    raise _Broken("the connection to the broker was lost")

    async def _connected(self) -> None:
        """Waits for the connection, which comes back by itself. Raises StreamClosed when it will not."""
        while not self._connection.is_connected:
            if self._connection.is_closed:
                raise StreamClosed(f"stream {self._stream}: the connection to the broker is closed")
            await asyncio.sleep(LINK_CHECK_S)

    def _disturbance(self, error: Exception) -> None:
        if not self._disturbed:
            log.warning("stream %s: reading interrupted after %d: %r", self._stream, self._last_sequence, error)
        self._disturbed = True

    def _recovered(self) -> None:
        if self._disturbed:
            log.info("stream %s: reading again", self._stream)
        self._disturbed = False


class _Inbox(Sink):
    """What the broker sent and nobody has taken yet. Ends of pulls come through nats-py, messages past it."""

    __slots__ = ("_arrived", "_ends", "subject")

    def __init__(self, subject: str) -> None:
        super().__init__()
        self.subject = subject
        self._ends: list[Msg] = []
        self._arrived = asyncio.Event()

    async def put(self, message: Msg) -> None:
        self._ends.append(message)
        self._arrived.set()

    def arrived(self) -> None:
        self._arrived.set()

    async def wait(self, timeout_s: float) -> bool:
        """Whether something is there, at the latest after the timeout."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        return self._arrived.is_set()

    def take(self) -> tuple[list[bytes], list[bytes], list[bytes], list[Msg]]:
        """Subjects, replies and data of messages, and ends of pulls."""
        self._arrived.clear()
        taken = self.subjects, self.replies, self.data, self._ends
        self.subjects, self.replies, self.data, self._ends = [], [], [], []
        return taken


def _sequences(replies: list[bytes], consumer: str, delivered: int) -> Sequence[int]:
    """The stream's numbers of messages that follow `delivered` by the consumer's count. Raises _Broken for a gap."""
    first, last = _numbers(replies[0], consumer), _numbers(replies[-1], consumer)
    if first[0] != delivered + 1 or last[0] != delivered + len(replies):
        raise _Broken(f"deliveries {first[0]} to {last[0]}, {len(replies)} in number, came after {delivered}")
    if last[1] - first[1] + 1 == len(replies):
        return range(first[1], last[1] + 1)
    return [_numbers(reply, consumer)[1] for reply in replies]


def _numbers(reply: bytes, consumer: str) -> tuple[int, int]:
    """The consumer's and the stream's number of a message, from its acknowledgement subject.

    `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<ns>.<pending>`, or with domain and account
    before the stream.
    """
    tokens = reply.split(b".")
    first = 2 if len(tokens) == 9 else 4
    if len(tokens) < first + 7 or tokens[first + 1] != consumer.encode():
        raise _Broken(f"a message of another consumer: {reply!r}")
    return int(tokens[first + 4]), int(tokens[first + 3])


def _left_of_pull(message: Msg) -> int:
    """How many messages a pull that ended before it was full did not bring. Raises _Broken if the consumer is gone."""
    headers: dict[str, Any] = dict(message.headers or {})
    status, description = headers.get("Status", ""), headers.get("Description", "")
    if status != "408" and (status, description.lower()) not in _PULL_ENDS:
        raise _Broken(f"the broker ends the pull: {status} {description}".strip())
    return int(headers.get("Nats-Pending-Messages", 0))
