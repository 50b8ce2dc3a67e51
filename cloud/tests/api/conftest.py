import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from cloud.api.access import first_log_in_link
from cloud.api.testing import PASSWORD, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.ledger.close()


@pytest.fixture
async def visitor(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that nobody has logged in."""
    transport = httpx.ASGITransport(app=world.app, client=("192.0.2.7", 40_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://console.test") as client:
        yield client


@dataclasses.dataclass(frozen=True)
class Welcome:
    """The path of a fresh one-time link and a form that it takes."""

    path: str
    form: dict[str, str]


@pytest.fixture
def welcome(world: World) -> Welcome:
    link = first_log_in_link(world.ledger, "http://console.test", world.now)
    assert link is not None
    form = {"username": "ada", "password": PASSWORD, "repeat": PASSWORD}
    return Welcome(link.removeprefix("http://console.test"), form)


@pytest.fixture
async def operator(visitor: httpx.AsyncClient, welcome: Welcome) -> httpx.AsyncClient:
    """A browser that is logged in as ada."""
    answer = await visitor.post(welcome.path, data=welcome.form)
    assert answer.status_code == 303
    return visitor


@pytest.fixture
def lenient(tmp_path: Path) -> World:
    """A console that lets roles be in force without a second factor."""
    return World(tmp_path / "lenient", allow_password_only=True)


@pytest.fixture
async def program(world: World) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=world.app, client=("192.0.2.8", 40_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://console.test") as client:
        yield client
