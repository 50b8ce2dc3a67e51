"""The stream of a tab: slow tabs, log-out, sessions that end, a server that stops. With a real server and sockets."""

import asyncio
import datetime as dt
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud.api.access import first_log_in_link
from cloud.api.serve import ListenError, bind, serve
from cloud.api.stream import QUEUE_MESSAGES, Broadcaster
from cloud.api.testing import DEADLINE_S, PASSWORD, World, served


@asynccontextmanager
async def logged_in(world: World, address: str) -> AsyncIterator[httpx.AsyncClient]:
    link = first_log_in_link(world.ledger, address, world.now)
    assert link is not None
    async with httpx.AsyncClient(base_url=address, timeout=DEADLINE_S) as client:
        await client.post(link, data={"username": "ada", "password": PASSWORD, "repeat": PASSWORD})
        yield client


async def until(event: str, lines: AsyncIterator[str]) -> dict[str, Any]:
    """The data of the next such event."""
    async with asyncio.timeout(DEADLINE_S):
        async for line in lines:
            if line == f"event: {event}":
                data: dict[str, Any] = json.loads((await anext(lines)).removeprefix("data: "))
                return data
    raise AssertionError(f"the stream ended without {event}")


async def rest(lines: AsyncIterator[str]) -> list[str]:
    async with asyncio.timeout(DEADLINE_S):
        return [line async for line in lines if line]


async def test_log_out_ends_the_streams_of_its_session_only(world: World) -> None:
    async with served(world) as address, logged_in(world, address) as client:
        async with client.stream("GET", "/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.aiter_lines()
            await until("picture", lines)
            async with httpx.AsyncClient(base_url=address, timeout=DEADLINE_S) as other:
                await other.post("/log-in", data={"username": "ada", "password": PASSWORD})
                await other.post("/log-out")
            await until("change", lines)
            await client.post("/log-out")
            assert await until("end", lines) == {"reason": "logged-out"}
            assert await rest(lines) == []
        assert (await client.get("/events")).status_code == 401


async def test_a_session_that_ran_out_ends_the_stream(tmp_path: Path) -> None:
    world = World(tmp_path, session_check_s=0.05)
    async with (
        served(world) as address,
        logged_in(world, address) as client,
        client.stream("GET", "/events") as stream,
    ):
        lines = stream.aiter_lines()
        await until("picture", lines)
        world.now += dt.timedelta(hours=12)
        assert await until("end", lines) == {"reason": "logged-out"}
        assert await rest(lines) == []


async def test_stopping_ends_every_stream_and_frees_the_port(world: World) -> None:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(world.app, "127.0.0.1", 0, listening=port.set_result))
    address = f"http://127.0.0.1:{await asyncio.wait_for(port, DEADLINE_S)}"
    async with logged_in(world, address) as client, client.stream("GET", "/events") as stream:
        lines = stream.aiter_lines()
        await until("picture", lines)
        serving.cancel()
        assert await until("end", lines) == {"reason": "stopping"}
        assert await rest(lines) == []
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(serving, DEADLINE_S)
    bind("127.0.0.1", port.result()).close()


async def test_a_port_in_use_is_one_clear_line(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ListenError, match=r"cannot listen on 127\.0\.0\.1:\d+ .*console_port"):
            await serve(world.app, "127.0.0.1", taken.getsockname()[1], listening=lambda _: None)


async def test_serving_leaves_signal_handlers_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[int] = []
    monkeypatch.setattr("signal.signal", lambda number, _: touched.append(number))
    async with served(world) as address, httpx.AsyncClient(base_url=address, timeout=DEADLINE_S) as client:
        assert (await client.get("/log-in")).status_code == 200
    assert touched == []


class Tab:
    """A tab that reads when it is told to."""

    def __init__(self, broadcaster: Broadcaster) -> None:
        self._stream = broadcaster.stream("session", lambda: True)

    async def read(self) -> bytes:
        return await asyncio.wait_for(anext(self._stream), DEADLINE_S)

    async def close(self) -> None:
        await self._stream.aclose()  # type: ignore[attr-defined]


async def test_a_slow_tab_gets_the_whole_picture_again_and_holds_up_nobody() -> None:
    counter: Iterator[int] = iter(range(100))
    broadcaster = Broadcaster(lambda: b"picture %d" % next(counter))
    quick, slow = Tab(broadcaster), Tab(broadcaster)
    assert [(await tab.read(), await tab.read())[1] for tab in (quick, slow)] == [b"picture 0", b"picture 1"]
    heard = []
    for number in range(QUEUE_MESSAGES + 3):
        broadcaster.publish(b"change %d" % number)
        heard.append(await quick.read())
    assert heard == [b"change %d" % number for number in range(QUEUE_MESSAGES + 3)]
    assert await slow.read() == b"picture 2"
    broadcaster.publish(b"change")
    assert await slow.read() == b"change"
    for tab in (quick, slow):
        await tab.close()
    assert broadcaster.tabs == 0


async def test_a_tab_that_comes_while_the_server_stops_is_told_so() -> None:
    broadcaster = Broadcaster(lambda: b"picture")
    broadcaster.close()
    tab = Tab(broadcaster)
    assert (await tab.read()).startswith(b"retry:")
    assert b'"stopping"' in await tab.read()
    await tab.close()
