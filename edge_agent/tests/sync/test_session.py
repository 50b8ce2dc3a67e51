"""The session against a real broker: in order, once, through outages."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.js import JetStreamContext

from edge_agent.model.clock import SystemClock
from edge_agent.sync.backoff import Backoff
from edge_agent.sync.journal import Journal, ReportKind, read_status
from edge_agent.sync.keys import Keys
from edge_agent.sync.session import Session
from edge_agent.sync.state import State
from edge_agent.tests.sync.counterparts import DEADLINE_S, Broker, Coordinator, Proxy, until
from protos import frame, subjects
from protos.vpp.v1.site_pb2 import Credentials
from protos.vpp.v1.telemetry_pb2 import Batch

T0_MS = 1_700_000_000_000
COLUMNS = [[1.0] * 10] * 6


class Site:
    """A session with its journal, and what it says."""

    def __init__(
        self, folder: Path, keys: Keys, credentials: Credentials, drain_frames_per_s: float = 100_000.0
    ) -> None:
        self.folder = folder
        self.journal = Journal(folder, "home-01", State(folder), SystemClock())
        self.links: asyncio.Queue[bool] = asyncio.Queue()
        self.intents: asyncio.Queue[tuple[str, bytes, bool]] = asyncio.Queue()
        self.broadcasts: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.refusals: asyncio.Queue[None] = asyncio.Queue()
        self.session = Session(
            site="home-01",
            keys=keys,
            credentials=credentials,
            journal=self.journal,
            on_intent=lambda *what: self.intents.put_nowait(what),
            on_broadcast=lambda *what: self.broadcasts.put_nowait(what),
            on_notice=lambda data: None,
            on_link=self.links.put_nowait,
            on_refusal=lambda: self.refusals.put_nowait(None),
            backoff=Backoff(0.05, 0.2),
            drain_frames_per_s=drain_frames_per_s,
            ack_timeout_s=2.0,
        )

    def measure(self, frames: int) -> None:
        for _ in range(frames):
            seq = self.journal.next_seq
            self.journal.append_frame(lambda s: frame.pack(7, s, T0_MS + 1000 * s, 100, COLUMNS), T0_MS + 1000 * seq)
        self.session.wake()

    async def link(self) -> bool:
        return await asyncio.wait_for(self.links.get(), DEADLINE_S)

    async def drained(self) -> None:
        await self.session.finish(DEADLINE_S)
        assert read_status(self.folder).frames_waiting == 0


@pytest.fixture
async def proxy(broker: Broker) -> AsyncIterator[Proxy]:
    proxy = Proxy(broker.port)
    yield proxy
    await proxy.stop()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def sequence(payload: bytes) -> list[int]:
    return [f.seq for f in Batch.FromString(payload).frames]


@contextlib.asynccontextmanager
async def running(site: Site) -> AsyncIterator[Site]:
    task = asyncio.create_task(site.session.run())
    try:
        yield site
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        site.journal.close()


async def credentials(coordinator: Coordinator, keys: Keys, url: str = "") -> Credentials:
    coordinator.nats_url = url
    return coordinator.credentials(await keys.certificate_request("home-01"), keys.nats_public)


async def test_a_backlog_is_sent_in_order_and_forgotten(
    tmp_path: Path, keys: Keys, broker: Broker, coordinator: Coordinator
) -> None:
    async with running(Site(tmp_path, keys, await credentials(coordinator, keys))) as site:
        site.measure(1203)
        assert await site.link() is True
        await site.drained()
        assert [f.seq for f in await broker.frames()] == list(range(1, 1204))
        assert [subject for subject, _ in await broker.stored("TEL_0")] == [
            subjects.telemetry(subjects.partition_token("home-01"))
        ] * 3


async def test_after_an_outage_live_telemetry_goes_at_once_and_the_backlog_at_its_rate(
    tmp_path: Path, keys: Keys, broker: Broker, coordinator: Coordinator
) -> None:
    """At 10 frames a second the second batch of the backlog would come after 50 s: the test does not wait for it."""
    site = Site(tmp_path, keys, await credentials(coordinator, keys), drain_frames_per_s=10.0)
    async with broker.backend() as backend:
        seen = await backend.subscribe("vpp.tel.>")
        await backend.flush()
        site.measure(1203)
        async with running(site):
            assert await site.link() is True
            assert sequence((await seen.next_msg(timeout=DEADLINE_S)).data) == list(range(1, 501))
            for live in ([1204], [1205, 1206]):
                site.measure(len(live))
                assert sequence((await seen.next_msg(timeout=DEADLINE_S)).data) == live
            await until(lambda: read_status(tmp_path).frames_waiting == 703)
            await broker.kill()
            assert await site.link() is False
    async with running(Site(tmp_path, keys, await credentials(coordinator, keys))) as again:
        await broker.start()
        assert await again.link() is True
        again.measure(1)
        await again.drained()
        sent = [f.seq for f in await broker.frames()]
    assert sorted(sent) == list(range(1, 1208))
    waited = [seq for seq in sent if seq <= 1203]
    assert waited == sorted(waited)


async def test_a_lost_acknowledgement_stores_nothing_twice(
    tmp_path: Path, keys: Keys, broker: Broker, coordinator: Coordinator, proxy: Proxy
) -> None:
    url = await proxy.start()
    async with (
        running(Site(tmp_path, keys, await credentials(coordinator, keys, url))) as site,
        broker.backend() as backend,
    ):
        assert await site.link() is True
        seen = await backend.subscribe("vpp.tel.>")
        await backend.flush()
        proxy.answers.clear()
        site.measure(3)
        await seen.next_msg(timeout=DEADLINE_S)  # the broker has the batch
        site.measure(2)  # must not change what is in flight
        proxy.cut()
        proxy.answers.set()
        assert await site.link() is False
        assert await site.link() is True
        await site.drained()
        assert [f.seq for f in await broker.frames()] == [1, 2, 3, 4, 5]
        assert read_status(tmp_path).frames_acknowledged == 5
        assert proxy.connections == 2


async def test_new_credentials_are_taken_up_also_when_a_publish_swallows_the_cancellation(
    tmp_path: Path,
    keys: Keys,
    broker: Broker,
    coordinator: Coordinator,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As asyncio.wait_for of Python 3.11 does, on which nats-py's publish stands, where the answer comes with it."""
    publish, begun = JetStreamContext.publish, asyncio.Event()

    async def forgetful(self: JetStreamContext, *arguments: Any, **options: Any) -> Any:
        asking = asyncio.ensure_future(publish(self, *arguments, **options))
        begun.set()
        while not asking.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({asking})
        return asking.result()

    monkeypatch.setattr(JetStreamContext, "publish", forgetful)
    url = await proxy.start()
    async with running(Site(tmp_path, keys, await credentials(coordinator, keys, url))) as site:
        assert await site.link() is True
        proxy.answers.clear()
        site.measure(3)
        await asyncio.wait_for(begun.wait(), DEADLINE_S)
        site.session.use(await credentials(coordinator, keys))
        await asyncio.sleep(0.1)  # the session asks its lanes to end
        proxy.answers.set()
        site.measure(2)
        await site.drained()
        assert sorted(f.seq for f in await broker.frames()) == [1, 2, 3, 4, 5]


async def test_a_broker_killed_in_mid_stream_costs_nothing(
    tmp_path: Path, keys: Keys, broker: Broker, coordinator: Coordinator
) -> None:
    async with running(Site(tmp_path, keys, await credentials(coordinator, keys))) as site:
        assert await site.link() is True
        for _ in range(2):
            site.measure(40)
            site.journal.append_report(ReportKind.EVENT, f"e{site.journal.next_seq}", b"event")
            await asyncio.sleep(0)
            await broker.kill()
            site.measure(700)
            assert await site.link() is False
            await broker.start()
            assert await site.link() is True
        site.measure(1)
        await site.drained()
        assert sorted(f.seq for f in await broker.frames()) == list(range(1, 1482))
        assert [data for _, data in await broker.stored("REPORT")] == [b"event", b"event"]


async def test_a_stream_that_is_not_there_yet_is_waited_for(
    tmp_path: Path, keys: Keys, broker: Broker, coordinator: Coordinator
) -> None:
    async with broker.backend() as backend:
        await backend.jetstream().delete_stream("TEL_0")
        await backend.jetstream().delete_stream("REPORT")
        async with running(Site(tmp_path, keys, await credentials(coordinator, keys))) as site:
            tries = await backend.subscribe("vpp.tel.>")
            await backend.flush()
            site.measure(2)
            await tries.next_msg(timeout=DEADLINE_S)
            assert read_status(tmp_path).frames_waiting == 2
            await broker.make_streams()
            await site.drained()
            assert [f.seq for f in await broker.frames()] == [1, 2]


async def test_the_current_intent_and_live_ones_arrive(
    tmp_path: Path, keys: Keys, broker: Broker, coordinator: Coordinator
) -> None:
    async with broker.backend() as backend:
        stream = backend.jetstream()
        await stream.publish("vpp.intent.home-01.service", b"old")
        await stream.publish("vpp.intent.home-01.service", b"current")
        await stream.publish("vpp.intent.home-02.service", b"another site's")
        async with running(Site(tmp_path, keys, await credentials(coordinator, keys))) as site:
            assert await asyncio.wait_for(site.intents.get(), DEADLINE_S) == ("service", b"current", False)
            assert await site.link() is True
            await stream.publish("vpp.intent.home-01.schedule", b"live")
            assert await asyncio.wait_for(site.intents.get(), DEADLINE_S) == ("schedule", b"live", True)
            assert site.intents.empty()


async def test_what_is_said_to_the_sites_groups_arrives_also_when_they_change(
    tmp_path: Path, keys: Keys, broker: Broker, coordinator: Coordinator
) -> None:
    async with broker.backend() as backend:
        site = Site(tmp_path, keys, await credentials(coordinator, keys))
        async with running(site):
            assert await site.link() is True
            site.session.follow(["fast", "not-its-own"])  # the broker refuses the other, and only that

            async def say_until_heard() -> None:
                while site.broadcasts.empty():  # not before the session listens anew
                    await backend.publish(subjects.broadcast("not-its-own", "price"), b"another group's")
                    await backend.publish(subjects.broadcast("fast", "price"), b"first")
                    await backend.flush()
                    await asyncio.sleep(0.01)

            await asyncio.wait_for(say_until_heard(), DEADLINE_S)
            await backend.publish(subjects.broadcast("fast", "stop"), b"last")
            heard: list[tuple[str, bytes]] = []
            while not heard or heard[-1][1] != b"last":
                heard.append(await asyncio.wait_for(site.broadcasts.get(), DEADLINE_S))
            assert set(heard) == {("vpp.group.fast.price", b"first"), ("vpp.group.fast.stop", b"last")}
            assert site.links.empty()


async def test_the_newest_supply_function_is_published_and_again_after_an_outage(
    tmp_path: Path, keys: Keys, broker: Broker, coordinator: Coordinator
) -> None:
    async with running(Site(tmp_path, keys, await credentials(coordinator, keys))) as site:
        site.session.offer(b"old")
        site.session.offer(b"new")
        assert await site.link() is True
        async with broker.backend() as backend:
            seen = await backend.subscribe("vpp.sup.>")
            await backend.flush()
            site.session.offer(b"newer")
            message = await seen.next_msg(timeout=DEADLINE_S)
            if message.data == b"new":  # the link is told before the first one is
                message = await seen.next_msg(timeout=DEADLINE_S)
            assert (message.subject, message.data) == (
                subjects.supply_function(subjects.partition_token("home-01")),
                b"newer",
            )
        await broker.kill()
        assert await site.link() is False
        await broker.start()
        async with broker.backend() as backend:
            seen = await backend.subscribe("vpp.sup.>")
            await backend.flush()
            # It may have been told before this listens: a credential renewal is a new connection, too.
            site.session.use(await credentials(coordinator, keys))
            assert (await seen.next_msg(timeout=DEADLINE_S)).data == b"newer"


async def test_credentials_that_run_out_are_replaced_without_loss(
    tmp_path: Path, keys: Keys, broker: Broker, coordinator: Coordinator
) -> None:
    coordinator.life_s = 4.0  # whole seconds in a JWT: three to four
    async with running(Site(tmp_path, keys, await credentials(coordinator, keys))) as site:
        assert await site.link() is True
        site.measure(5)
        assert await site.link() is False  # the broker ended it, and nats-py has closed for good
        await asyncio.wait_for(site.refusals.get(), DEADLINE_S)
        site.measure(5)
        coordinator.life_s = 3600.0
        site.session.use(await credentials(coordinator, keys))
        assert await site.link() is True
        await site.drained()
        assert [f.seq for f in await broker.frames()] == list(range(1, 11))


async def test_refused_credentials_are_not_tried_again_before_there_are_others(
    tmp_path: Path, keys: Keys, broker: Broker, coordinator: Coordinator, proxy: Proxy
) -> None:
    """Thousands with credentials of a retired key would keep the broker from those that have new ones."""
    url = await proxy.start()
    coordinator.life_s = -10.0
    async with running(Site(tmp_path, keys, await credentials(coordinator, keys, url))) as site:
        await asyncio.wait_for(site.refusals.get(), DEADLINE_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):  # five attempts at its usual pace
                while proxy.connections == 1:
                    await site.refusals.get()
        assert proxy.connections == 1
        coordinator.life_s = 3600.0
        site.session.use(await credentials(coordinator, keys, url))
        assert await site.link() is True
        assert proxy.connections == 2


async def test_renewed_credentials_are_taken_up_without_an_interruption_to_be_seen(
    tmp_path: Path, keys: Keys, broker: Broker, coordinator: Coordinator, proxy: Proxy
) -> None:
    url = await proxy.start()
    async with running(Site(tmp_path, keys, await credentials(coordinator, keys, url))) as site:
        assert await site.link() is True
        site.measure(5)
        site.session.use(await credentials(coordinator, keys, broker.url))  # elsewhere: around the proxy
        site.measure(5)
        await site.drained()
        assert [f.seq for f in await broker.frames()] == list(range(1, 11))
        # A live session on the other way in: what is published now arrives, though the first way is cut.
        proxy.cut()
        async with broker.backend() as backend:
            await backend.jetstream().publish("vpp.intent.home-01.service", b"new")
        assert (await asyncio.wait_for(site.intents.get(), DEADLINE_S))[1] == b"new"
        assert site.links.empty()


async def test_a_broker_without_tls_gets_no_credentials(tmp_path: Path, keys: Keys, coordinator: Coordinator) -> None:
    said: asyncio.Queue[bytes] = asyncio.Queue()

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.10.0","nonce":"abc","auth_required":true,"headers":true}\r\n')
        said.put_nowait(await reader.read())
        writer.close()

    server = await asyncio.start_server(impostor, "127.0.0.1", 0)
    async with server:
        url = f"tls://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with running(Site(tmp_path, keys, await credentials(coordinator, keys, url))) as site:
            assert await asyncio.wait_for(said.get(), DEADLINE_S) == b""
            assert site.links.empty()


async def test_nothing_that_is_said_live_falls_between_the_old_credentials_and_the_new(
    tmp_path: Path, keys: Keys, broker: Broker, coordinator: Coordinator
) -> None:
    """The new connection listens before the old one is closed: every live intent of a steady stream is heard."""
    async with running(Site(tmp_path, keys, await credentials(coordinator, keys))) as site, broker.backend() as backend:
        assert await site.link() is True
        subject, sent, stop = subjects.intent("home-01", "schedule"), 0, asyncio.Event()

        async def speak() -> None:
            nonlocal sent
            while not stop.is_set():
                await backend.publish(subject, str(sent).encode())
                await backend.flush()
                sent += 1

        speaking = asyncio.create_task(speak())
        for _ in range(3):
            so_far = sent
            site.session.use(await credentials(coordinator, keys))
            await until(lambda so_far=so_far: sent > so_far + 50)  # type: ignore[misc]
        stop.set()
        await speaking
        heard: set[int] = set()
        async with asyncio.timeout(DEADLINE_S):
            while sent - 1 not in heard:
                _, data, live = await site.intents.get()
                if live:
                    heard.add(int(data))
        assert heard == set(range(sent))
        assert site.links.empty()
