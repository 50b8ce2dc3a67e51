"""Messages of one subscription straight out of the socket's bytes, at a tenth of what nats-py takes for each.

nats-py keeps the connection: TLS, credentials, reconnects, everything that is not a message of a subscription that was
given to us. It has no way to hand over a parser, so this file is the one that reaches for its private `_ps`; nats-py is
pinned below its next major version, and cloud/tests/ingest/test_lean.py tells when a release moves it.
"""

import re
from functools import lru_cache
from typing import Final

from nats.aio.client import Client
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

# Only what carries a reply subject: the rest are the broker's own words, a few, and nats-py's to read.
_MSG: Final = re.compile(rb"MSG (\S+) (\d+) (\S+) (\d+)\r\n")
_HMSG: Final = re.compile(rb"HMSG (\S+) (\d+) (\S+) (\d+) (\d+)\r\n")
_H: Final = ord("H")
_ALIKE: Final = rb"MSG (\S+) %d (\S+) %d\r\n(.{%d})\r\n"
_MOST_ALIKE_BYTES: Final = 4096  # above, one by one costs nothing to speak of
_LINE_BYTES: Final = 4096 + 512  # a control line, and an error's text
_CRLF: Final = 2


class Sink:
    """Messages of one subscription, in the order they came."""

    __slots__ = ("data", "replies", "subjects")

    def __init__(self) -> None:
        self.subjects: list[bytes] = []
        self.replies: list[bytes] = []
        self.data: list[bytes] = []

    def arrived(self) -> None:
        """Called when messages were added."""


class LeanParser(Parser):
    """Takes the place of a connection's parser; what is not for a sink goes to nats-py's own, whole."""

    def __init__(self, connection: Client) -> None:
        self._sinks: dict[bytes, Sink] = {}
        self._rest = b""
        super().__init__(connection)

    @classmethod
    def on(cls, connection: Client) -> "LeanParser":
        """The connection's parser; put in at the first call, in between two operations."""
        parser = connection._ps
        if isinstance(parser, LeanParser):
            return parser
        lean = cls(connection)
        lean._rest = bytes(parser.buf) if parser.buf else b""
        connection._ps = lean
        return lean

    def give(self, subscription: int, sink: Sink) -> None:
        """Messages with a reply subject of the subscription (its number) go to the sink from now on."""
        self._sinks[b"%d" % subscription] = sink

    def take_back(self, subscription: int) -> None:
        self._sinks.pop(b"%d" % subscription, None)

    def reset(self) -> None:
        """The connection begins anew."""
        self._rest = b""
        super().reset()

    async def parse(self, data: bytes = b"") -> None:
        """Everything whole in what has come; the rest waits. Raises ProtocolError."""
        data = self._rest + data if self._rest else bytes(data)
        position, end, sinks = 0, len(data), self._sinks
        touched: set[Sink] = set()
        size_before, mixed = -1, False
        while position < end:
            headed = data[position] == _H
            found = (_HMSG if headed else _MSG).match(data, position)
            if found and (sink := sinks.get(found[2])) is not None:
                begin = found.end()
                size = int(found[5 if headed else 4])
                stop = begin + size
                if stop + _CRLF > end:
                    break
                sink.subjects.append(found[1])
                sink.replies.append(found[3])
                sink.data.append(data[begin + int(found[4]) if headed else begin : stop])
                touched.add(sink)
                position = stop + _CRLF
                if size == size_before and not headed and not mixed and size <= _MOST_ALIKE_BYTES:
                    stop = _take_alike(data, position, sink, int(found[2]), size)
                    mixed, position = stop == position, stop
                size_before = size
                continue
            stop = _operation_end(data, position)
            if stop > end:
                break
            self._rest = data[stop:]  # what nats-py does may look at us
            await super().parse(data[position:stop])
            position = stop
        self._rest = data[position:]
        for sink in touched:
            sink.arrived()


def _take_alike(data: bytes, position: int, sink: Sink, subscription: int, size: int) -> int:
    """Many messages of one size at once, if nothing else stands between them; where the last one ends."""
    found = list(_alike(subscription, size).finditer(data, position))
    if not found:
        return position
    subjects, replies, payloads = zip(*[one.groups() for one in found], strict=True)
    whole = sum(map(len, subjects)) + sum(map(len, replies)) + len(found) * _framing(subscription, size)
    if position + whole != found[-1].end():
        return position
    sink.subjects += subjects
    sink.replies += replies
    sink.data += payloads
    return found[-1].end()


@lru_cache(maxsize=256)
def _alike(subscription: int, size: int) -> re.Pattern[bytes]:
    return re.compile(_ALIKE % (subscription, size, size), re.DOTALL)


@lru_cache(maxsize=256)
def _framing(subscription: int, size: int) -> int:
    """Bytes of a message beside its two subjects, data included."""
    return len(b"MSG  %d  %d\r\n\r\n" % (subscription, size)) + size


def _operation_end(data: bytes, position: int) -> int:
    """Where the operation that begins at `position` ends; beyond the data where it is not whole yet."""
    line_end = data.find(b"\r\n", position)
    if line_end < 0:
        if len(data) - position > _LINE_BYTES:
            raise ProtocolError("nats: unknown protocol")
        return len(data) + 1
    stop = line_end + _CRLF
    if data.startswith((b"MSG ", b"HMSG "), position):
        size = data[position:line_end].rsplit(None, 1)[-1]
        if not size.isdigit():
            raise ProtocolError("nats: malformed MSG")
        stop += int(size) + _CRLF
    return stop
