"""The lean parser against nats-py's own: the same operations, cut anywhere, give the same messages."""

import random
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from cloud.ingest.lean import LeanParser, Sink

OURS, OTHERS = 7, 8


class Heard:
    """What nats-py would have been told, in order."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, bytes, bytes, bytes]] = []
        self.other: list[str] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.messages.append((sid, subject, reply, data))

    async def _process_ping(self) -> None:
        self.other.append("ping")

    async def _process_pong(self) -> None:
        self.other.append("pong")

    async def _process_err(self, text: str) -> None:
        self.other.append(text)


def operation(dice: random.Random) -> bytes:
    data = dice.choice([b"", b"\r\n", b"MSG a 7 b 3\r\nabc\r\n", b"PING\r\n", dice.randbytes(dice.randrange(200))])
    sid = dice.choice([OURS, OURS, OTHERS])
    reply = dice.choice([b" $JS.ACK.S.c.1.5.5.9.0", b" $JS.ACK.S.c.1.6.6.9.0", b""])
    headers = b"NATS/1.0\r\nNats-Msg-Id: x-1\r\n\r\n"
    return dice.choice(
        [
            b"MSG vpp.tel.9.s %d%s %d\r\n%s\r\n" % (sid, reply, len(data), data),
            b"HMSG vpp.tel.9.s %d%s %d %d\r\n%s%s\r\n"
            % (sid, reply, len(headers), len(headers) + len(data), headers, data),
            b"PING\r\n",
            b"PONG\r\n",
            b"+OK\r\n",
            b"-ERR 'Permissions Violation'\r\n",
        ]
    )


async def told(parser: Any, data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(data)]
    for begin, end in pairwise(edges):
        await parser.parse(data[begin:end])


@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150)
async def test_cut_anywhere_it_gives_what_nats_py_gives(dice: random.Random) -> None:
    data = b"".join(operation(dice) for _ in range(dice.randrange(12)))
    cuts = [dice.randrange(len(data) + 1) for _ in range(dice.randrange(9))]
    plain, lean, sink = Heard(), Heard(), Sink()
    await told(Parser(plain), data, cuts)
    parser = LeanParser(cast(Client, lean))
    parser.give(OURS, sink)
    await told(parser, data, cuts)
    ours = [one for one in plain.messages if one[0] == OURS and one[2]]
    assert list(zip(sink.subjects, sink.replies, sink.data, strict=True)) == [one[1:] for one in ours]
    assert lean.messages == [one for one in plain.messages if one not in ours]
    assert lean.other == plain.other


async def test_what_is_no_protocol_is_an_error_and_a_new_connection_begins_anew() -> None:
    parser = LeanParser(cast(Client, Heard()))
    with pytest.raises(ProtocolError):
        await parser.parse(b"MSG a 7 b many\r\n")
    parser.reset()
    with pytest.raises(ProtocolError):
        await parser.parse(b"x" * 10_000)
    parser.reset()
    sink = Sink()
    parser.give(OURS, sink)
    await parser.parse(b"MSG s 7 r 3\r\nab")
    parser.reset()  # the rest of that message is gone with its connection
    await parser.parse(b"MSG s 7 r 3\r\nxyz\r\n")
    assert sink.data == [b"xyz"]


def test_nats_py_still_has_its_parser_where_it_is_taken_from() -> None:
    client = Client()
    assert type(client._ps) is Parser
    assert LeanParser.on(client) is client._ps is LeanParser.on(client)
    assert client._ps.nc is client
