"""The status page over real sockets: what it says, and to whom."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.model.clock import SystemClock
from edge_agent.sync.page import StatusPage, open_page
from edge_agent.tests.sync.agent import Agent
from edge_agent.tests.sync.counterparts import DEADLINE_S, Coordinator
from protos.settings import SettingsError


async def get(port: int, request: str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") -> str:
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request.encode())
        answer = await reader.read()
        writer.close()
    return answer.decode()


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    control = {
        "written_utc_ms": SystemClock().utc_ms(),
        "setpoint_w": -500.0,
        "setpoint_source": "schedule",
        "services": [
            {
                "service": "<b>evil</b>",
                "award_id": "a",
                "contracted_w": 1000,
                "phase": "ready",
                "share": 0.0,
                "note": "",
            }
        ],
        "linked": True,
    }
    (tmp_path / "control.json").write_text(json.dumps(control))
    server = await open_page(StatusPage("home-01", tmp_path, SystemClock(), control_pid=-1), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_it_says_what_the_site_does_and_why(port: int) -> None:
    answer = await get(port)
    assert answer.startswith("HTTP/1.1 200 OK\r\n")
    assert "asked for -500 W (draws 500 W), by the coordinator&#x27;s schedule" in answer
    assert "The coordinator is connected." in answer
    assert "0 of 0 frames wait" in answer
    assert "Refresh: 5\r\n" in answer


async def test_nothing_on_it_is_from_elsewhere_and_nothing_runs(port: int) -> None:
    answer = await get(port)
    assert "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline';" in answer
    body = answer.partition("\r\n\r\n")[2]
    assert not any(word in body for word in ("http:", "https:", "src=", "href=", "<script", "<b>"))
    assert "&lt;b&gt;evil" in body


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421"),
        ("GET / HTTP/1.1\r\n\r\n", "421"),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "421"),
        ("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
        ("GET /journal.db HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n", "404"),
        ("GET / HTTP/1.1\r\nHost: [::1]:8480\r\n\r\n", "200"),
        ("x" * 20_000, ""),
    ],
)
async def test_other_requests(port: int, request_text: str, status: str) -> None:
    answer = await get(port, request_text)
    assert answer.startswith(f"HTTP/1.1 {status}" if status else "")
    assert bool(answer) == bool(status)


async def test_a_visitor_who_says_nothing_holds_nobody_up(port: int) -> None:
    _, silent = await asyncio.open_connection("127.0.0.1", port)
    assert "200 OK" in await get(port)
    silent.close()


async def test_a_port_in_use_is_refused_in_one_line(port: int, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"status_page: cannot listen on 127\.0\.0\.1:{port}"):
        await open_page(StatusPage("home-01", tmp_path, SystemClock(), control_pid=-1), "127.0.0.1", port)


async def test_sync_serves_it_and_asks_control_for_fresh_figures(agent: Agent, coordinator: Coordinator) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    agent.config.write_text(agent.config.read_text() + f"\n[status_page]\nport = {port}\n")
    agent.claim_file.write_text(coordinator.claim("home-01"))
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, asked.set)
    try:
        await agent.start()
        assert await agent.link() is True
        answer = await get(port)
        async with asyncio.timeout(DEADLINE_S):
            await asked.wait()
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
    assert "<title>Site home-01</title>" in answer
    assert (await agent.control_goes())[0] == 0
