"""A lease has one holder, who knows in time that it is lost."""

import asyncio
import time
from collections.abc import Callable

import pytest
from nats.aio.client import Client

from cloud.gateway.broker import Broker
from cloud.gateway.lease import BUCKET, Fence, Lease, LeaseLost, ensure_bucket

DEADLINE_S = 30
TTL_S = 2
Make = Callable[..., Lease]


@pytest.fixture
async def make(backend: Client) -> Make:
    await ensure_bucket(backend.jetstream(timeout=10), 1)

    def lease(holder: str, monotonic_s: Callable[[], float] = time.monotonic) -> Lease:
        return Lease(backend, "coordinator", holder, monotonic_s, TTL_S)

    return lease


async def test_a_lease_that_is_released_passes_on_at_once_and_its_fence_rises(make: Make) -> None:
    fences: list[Fence] = []
    told: list[str] = []
    for holder in ("a", "b", "a"):
        lease = make(holder)
        async with asyncio.timeout(DEADLINE_S):
            fences.append(await lease.acquire(told.append))
        assert lease.is_valid
        await lease.release()
        assert not lease.is_valid
    assert fences == sorted(set(fences))
    assert told == []  # nobody was waited for


async def test_while_one_holds_it_the_other_waits_and_has_it_when_the_holder_is_gone(make: Make) -> None:
    first, second = make("first"), make("second")
    told: list[str] = []
    fence = await first.acquire()
    keeping = asyncio.create_task(first.keep())
    waiting = asyncio.create_task(second.acquire(told.append))
    done, _ = await asyncio.wait({waiting, keeping}, timeout=TTL_S + 2)  # longer than a lease that nobody renews
    assert not done
    assert first.is_valid
    assert told == ["first"]
    keeping.cancel()  # as when its process dies
    async with asyncio.timeout(DEADLINE_S):
        assert await waiting > fence
    assert second.is_valid
    assert not first.is_valid  # it gave up before the other began


async def test_a_holder_that_stood_still_learns_that_it_is_lost(make: Make) -> None:
    """Its clock is the only thing that it can trust; here it stands, as in a process that was stopped."""
    frozen_s = time.monotonic()
    first, second = make("first", lambda: frozen_s), make("second")
    await first.acquire()
    async with asyncio.timeout(DEADLINE_S):
        await second.acquire()
        assert first.is_valid  # so it thinks
        with pytest.raises(LeaseLost, match="somebody else has it"):
            await first.keep()
    assert not first.is_valid
    assert second.is_valid


async def test_a_life_before_is_not_waited_for_until_it_runs_out(make: Make) -> None:
    await make("first").acquire()
    begun_s = time.monotonic()
    told: list[str] = []
    async with asyncio.timeout(DEADLINE_S):
        await make("first").acquire(told.append)
    assert told == ["first"]
    assert time.monotonic() - begun_s > TTL_S / 3  # two renewals: long enough to see that nobody makes them


async def test_without_a_broker_the_holder_gives_up(make: Make, broker: Broker, backend: Client) -> None:
    lease = make("first")
    await lease.acquire()
    await broker.stop()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(LeaseLost, match="could not be renewed"):
            await lease.keep()
    await broker.start()


async def test_what_somebody_else_wrote_there_is_no_holder_of_ours(make: Make, backend: Client) -> None:
    await backend.jetstream(timeout=10).publish(f"$KV.{BUCKET}.coordinator", b"nonsense", headers={"Nats-TTL": "1s"})
    told: list[str] = []
    lease = make("first")
    async with asyncio.timeout(DEADLINE_S):
        await lease.acquire(told.append)
    assert told == ["somebody unknown"]
