"""Parts stop in the reverse order of their start, and one that ends by itself is noticed."""

import asyncio
from collections.abc import Callable

import pytest

from cloud.parts import PartFailed, Parts


async def test_stop_is_the_reverse_of_the_start() -> None:
    order: list[str] = []

    def noting(name: str) -> Callable[[], asyncio.Future[None]]:
        async def stop() -> None:
            order.append(name)

        return lambda: asyncio.ensure_future(stop())

    async def serve() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("task")

    parts = Parts()
    parts.on_stop("first", noting("first"))
    parts.run("task", serve())
    parts.on_stop("last", noting("last"))
    await asyncio.sleep(0)
    await parts.stop()
    assert order == ["last", "task", "first"]


async def test_part_that_fails_is_told_and_the_others_still_stop() -> None:
    stopped = asyncio.Event()

    async def fail() -> None:
        raise RuntimeError("disk full")

    async def fail_to_stop() -> None:
        raise RuntimeError("no")

    async def stop() -> None:
        stopped.set()

    parts = Parts()
    parts.on_stop("first", stop)
    parts.on_stop("stubborn", fail_to_stop)
    parts.run("worker", fail())
    with pytest.raises(RuntimeError, match="disk full"):
        await parts.until(asyncio.Event())
    await parts.stop()
    assert stopped.is_set()


async def test_part_that_ends_by_itself_is_a_failure() -> None:
    async def end() -> None:
        return

    parts = Parts()
    parts.run("worker", end())
    with pytest.raises(PartFailed, match="worker has ended by itself"):
        await parts.until(asyncio.Event())
    await parts.stop()


async def test_event_ends_the_wait_and_none_is_a_timeout() -> None:
    parts = Parts()
    event = asyncio.Event()
    event.set()
    await parts.until(event)
    with pytest.raises(TimeoutError):
        await parts.until(asyncio.Event(), within_s=0)


async def test_a_librarys_own_cancellation_while_it_stops_keeps_nobody_and_is_not_ours() -> None:
    stopped = asyncio.Event()

    async def broken() -> None:
        raise asyncio.CancelledError  # as nats-py's close lets it out when its transport is gone

    async def well() -> None:
        stopped.set()

    parts = Parts()
    parts.on_stop("well", well)
    parts.on_stop("broken", broken)
    await parts.stop()
    assert stopped.is_set()


async def test_a_stop_that_is_cancelled_ends() -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    parts = Parts()
    parts.on_stop("hangs", hang)
    stopping = asyncio.create_task(parts.stop())
    await begun.wait()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
