"""The whole sync process against a real broker and real gRPC."""

import asyncio
import stat

from edge_agent.sync.journal import read_status
from edge_agent.tests.sync.agent import Agent
from edge_agent.tests.sync.counterparts import DEADLINE_S, Broker, Coordinator
from protos import subjects

T0_MS = 1_700_000_000_000


async def test_enrols_once_configures_and_delivers(agent: Agent, broker: Broker, coordinator: Coordinator) -> None:
    agent.claim_file.write_text(coordinator.claim("home-01"))
    await agent.start()
    await agent.describe(rated_power_w=5000.0)
    assert await agent.link() is True
    async with asyncio.timeout(DEADLINE_S):
        site, description = await coordinator.descriptions.get()
    assert (site, description.rated_power_w) == ("home-01", 5000.0)
    await agent.event("e1")
    code, stderr = await agent.control_goes()
    assert code == 0, stderr
    assert [subject for subject, _ in await broker.stored("REPORT")] == [
        subjects.event(subjects.partition_token("home-01"))
    ]
    for name in ("client.key", "nats.nk", "credentials.json", "journal.db"):
        assert stat.S_IMODE((agent.data_dir / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(agent.data_dir.stat().st_mode) == 0o700
    assert read_status(agent.data_dir).events_waiting == 0
