"""The reader of a stream against a real broker: in order, without a gap, from where it was left."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from cloud.ingest import reader as reader_module
from cloud.ingest.reader import Arrival, StreamClosed, StreamReader
from cloud.ingest.testing import DEADLINE_S, eventually

STREAM = "READ"


async def fill(connection: Client, numbers: range, *, max_msgs: int | None = None) -> None:
    js = connection.jetstream(timeout=DEADLINE_S)
    if numbers.start == 1:
        await js.add_stream(StreamConfig(name=STREAM, subjects=["read.*"], max_msgs=max_msgs))
    await asyncio.gather(*(js.publish("read.x", b"%d" % number) for number in numbers))


async def read(reader: StreamReader, until: int) -> tuple[list[int], list[Arrival]]:
    """Numbers of messages up to a stream sequence, and the arrivals they came in."""
    messages: list[int] = []
    seen: list[Arrival] = []
    async with asyncio.timeout(DEADLINE_S), aclosing(reader.arrivals()) as arrivals:
        async for arrival in arrivals:
            seen.append(arrival)
            messages.extend(arrival.sequences)
            if messages and messages[-1] >= until:
                break
    return messages, seen


@pytest.mark.parametrize("pull_bytes", [1_000_000, 1_000], ids=["pulls end by number", "pulls end by size"])
async def test_a_backlog_of_many_pulls_is_read_in_order(
    connection: Client, monkeypatch: pytest.MonkeyPatch, pull_bytes: int
) -> None:
    monkeypatch.setattr(reader_module, "PULL_MESSAGES", 40)
    monkeypatch.setattr(reader_module, "PULL_BYTES", pull_bytes)
    await fill(connection, range(1, 301))
    messages, seen = await read(StreamReader(connection, STREAM), 300)
    assert messages == list(range(1, 301))
    assert not any(arrival.anew or arrival.expired for arrival in seen)
    assert sum(not len(arrival) for arrival in seen) == 1  # one consumer read it all


async def test_reading_goes_on_after_the_last_kept_message(connection: Client) -> None:
    await fill(connection, range(1, 31))
    _, seen = await read(StreamReader(connection, STREAM), 10)
    created_ns = seen[0].created_ns
    again = StreamReader(connection, STREAM, created_ns=created_ns, last_sequence=10)
    messages, seen = await read(again, 30)
    assert messages == list(range(11, 31))
    assert not seen[0].anew


async def test_pulls_that_end_without_a_message_are_renewed(
    connection: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "PULL_S", 0.02)
    pulls = 0
    publish = connection.publish

    async def counted(subject: str, *more: Any, **named: Any) -> None:
        nonlocal pulls
        pulls += "CONSUMER.MSG.NEXT" in subject
        await publish(subject, *more, **named)

    monkeypatch.setattr(connection, "publish", counted)
    await fill(connection, range(1, 2))

    async def renewed(number: int) -> None:
        await eventually(lambda: pulls >= number, "pulls renewed")

    reading = asyncio.create_task(read(StreamReader(connection, STREAM), 5))
    for number in range(2, 6):
        await renewed(pulls + 4)
        await fill(connection, range(number, number + 1))
    messages, seen = await reading
    assert messages == [1, 2, 3, 4, 5]
    assert [bytes(data) for arrival in seen for data in arrival.data] == [b"1", b"2", b"3", b"4", b"5"]
    assert sum(not len(arrival) for arrival in seen) == 1  # one consumer read it all


async def test_what_the_stream_let_go_unread_is_told(connection: Client) -> None:
    await fill(connection, range(1, 51), max_msgs=20)
    _, seen = await read(StreamReader(connection, STREAM), 31)
    late = StreamReader(connection, STREAM, created_ns=seen[0].created_ns, last_sequence=10)
    messages, seen = await read(late, 50)
    assert seen[0].expired == 20  # 11 to 30
    assert messages == list(range(31, 51))


async def test_a_stream_set_back_to_an_earlier_state_is_read_from_the_beginning(connection: Client) -> None:
    await fill(connection, range(1, 6))
    _, seen = await read(StreamReader(connection, STREAM), 5)
    ahead = StreamReader(connection, STREAM, created_ns=seen[0].created_ns, last_sequence=9)
    messages, seen = await read(ahead, 5)
    assert seen[0].anew
    assert messages == [1, 2, 3, 4, 5]


async def test_a_connection_closed_for_good_is_an_error(connection: Client) -> None:
    await fill(connection, range(1, 2))
    reading = asyncio.create_task(read(StreamReader(connection, STREAM), 2))
    await connection.close()
    with pytest.raises(StreamClosed):
        await reading


async def test_a_stream_that_does_not_exist_yet_is_awaited(connection: Client) -> None:
    reading = asyncio.create_task(read(StreamReader(connection, STREAM), 3))
    await fill(connection, range(1, 4))
    messages, _ = await reading
    assert messages == [1, 2, 3]
