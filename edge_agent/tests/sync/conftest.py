from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_agent.tests.sync.agent import Agent
from edge_agent.tests.sync.counterparts import Authority, Broker, Coordinator


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def broker(tmp_path: Path, authority: Authority) -> AsyncIterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder, authority)
    await broker.start()
    await broker.make_streams()
    yield broker
    await broker.kill()


@pytest.fixture
async def coordinator(authority: Authority, broker: Broker) -> AsyncIterator[Coordinator]:
    coordinator = Coordinator(authority, broker)
    await coordinator.start()
    yield coordinator
    await coordinator.stop()


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    agent = Agent(tmp_path)
    yield agent
    await agent.kill()
