"""Two machines, one telemetry stream: one ingests, the other stands by and takes over; each frame is there once."""

from collections.abc import Iterator

import pytest

from cloud.gateway.lease import ensure_bucket
from cloud.ingest.testing import SITES, STREAM, Plant, Server, WorkerProcess, a_batch, eventually

_EACH = 5  # frames in a message


class Machines:
    """Workers of one stream, each known by a name, on one history."""

    def __init__(self, plant: Plant, server: Server) -> None:
        self._plant = plant
        self._sent = 0
        self.first, self.second = (
            WorkerProcess(server.url, plant.folder, STREAM, name) for name in ("first", "second")
        )

    async def start(self) -> None:
        """The first one works and the second stands by."""
        await ensure_bucket(self._plant.connection.jetstream(timeout=10), 1)
        self.first.start()
        await self.send(2)
        await self.stored()
        self.second.start()
        await self.says(self.second, f"stands by for {STREAM}: first has it")

    async def send(self, messages: int) -> None:
        for _ in range(messages):
            for slot, site in enumerate(SITES):
                data = a_batch(slot, self._sent * _EACH + 1, (self._sent + 1) * _EACH)
                await self._plant.sites.send(site, data)
            self._sent += 1

    async def stored(self) -> None:
        await self._plant.stored(self._sent * len(SITES))

    @staticmethod
    async def says(process: WorkerProcess, text: str, times: int = 1) -> None:
        await eventually(lambda: process.said.count(text) >= times, f"a worker says {text!r}")

    def each_frame_is_there_once(self) -> None:
        counts = self._plant.history.counts()
        assert {(slot, count.stored, count.distinct, count.missing) for slot, count in counts.items()} == {
            (slot, self._sent * _EACH, self._sent * _EACH, 0) for slot in range(len(SITES))
        }


@pytest.fixture
def machines(plant: Plant, server: Server) -> Iterator[Machines]:
    machines = Machines(plant, server)
    yield machines
    machines.first.kill()
    machines.second.kill()


async def test_the_second_takes_over_when_the_first_is_killed(machines: Machines) -> None:
    await machines.start()
    await machines.send(3)
    machines.first.kill()
    await machines.send(3)
    await machines.stored()
    assert f"ingest of {STREAM} is done here" in machines.second.said
    machines.first.start()
    await machines.says(machines.first, f"stands by for {STREAM}: second has it")
    machines.each_frame_is_there_once()


async def test_one_that_stood_still_and_was_followed_writes_nothing_any_more(machines: Machines) -> None:
    await machines.start()
    await machines.send(3)
    machines.first.freeze()
    await machines.send(3)
    await machines.stored()  # by the second
    machines.first.thaw()
    await machines.says(machines.first, f"ingest of {STREAM} ends here: ")
    await machines.says(machines.first, f"stands by for {STREAM}: second has it")
    await machines.send(3)
    machines.second.kill()
    await machines.says(machines.first, f"ingest of {STREAM} is done here", times=2)
    await machines.send(3)
    await machines.stored()
    machines.each_frame_is_there_once()
