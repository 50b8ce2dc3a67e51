"""A market that misbehaves is told in words."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cloud.markets.client import MarketClient, MarketRefused, MarketUnavailable


@asynccontextmanager
async def answering(reply: bytes | None) -> AsyncIterator[str]:
    """A server that gives every request the same answer; None: none at all. Its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            if reply is None:
                await reader.read()  # until the client gives up
            else:
                writer.write(reply)
                await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (status.encode(), len(body), body)


@pytest.mark.parametrize(
    ("reply", "error", "text"),
    [
        pytest.param(http("409 Conflict", b'{"reason": "too late"}'), MarketRefused, "too late", id="reason"),
        pytest.param(http("404 Not Found", b"<html>"), MarketRefused, "HTTP 404", id="no reason"),
        pytest.param(http("503 Busy", b""), MarketUnavailable, "HTTP 503", id="server error"),
        pytest.param(http("200 OK", b"<html>"), MarketUnavailable, "cannot be read", id="not JSON"),
        pytest.param(http("200 OK", b'[{"id": "s"}]'), MarketUnavailable, "state", id="a key is missing"),
        pytest.param(http("302 Found", b""), MarketUnavailable, "HTTP 302", id="redirect"),
        pytest.param(b"nonsense\r\n\r\n", MarketUnavailable, "GET /sessions", id="not HTTP"),
        pytest.param(None, MarketUnavailable, "GET /sessions", id="silence"),
    ],
)
async def test_every_failure_names_the_call(reply: bytes | None, error: type[Exception], text: str) -> None:
    async with answering(reply) as url, MarketClient(url, "us", timeout_s=0.3) as client:
        with pytest.raises(error, match=text) as caught:
            await client.sessions()
        assert url in str(caught.value)


async def test_a_session_without_a_time_zone_is_not_believed() -> None:
    body = (
        b'[{"id": "s", "state": "open", "gate_closure": "2026-01-01T00:00:00", "delivery_start": '
        b'"2026-01-01T00:00:00Z", "delivery_end": "2026-01-01T01:00:00Z", "products": []}]'
    )
    async with answering(http("200 OK", body)) as url, MarketClient(url, "us") as client:
        with pytest.raises(MarketUnavailable, match="gate_closure"):
            await client.sessions()
