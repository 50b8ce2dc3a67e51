"""A real nats-server with JetStream on a free loopback port, and a connection to it."""

from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from cloud.ingest.testing import Plant, Server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path / "broker")
    try:
        await server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[Client]:
    client = await nats.connect(
        server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, ping_interval=1, error_cb=_quiet
    )
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def plant(tmp_path: Path, connection: Client) -> AsyncIterator[Plant]:
    folder = tmp_path / "data"
    folder.mkdir()
    plant = Plant(folder, connection)
    await plant.sites.make_stream()
    yield plant
    plant.ledger.close()


async def _quiet(_: Exception) -> None:
    """The library logs each lost connection by itself."""
