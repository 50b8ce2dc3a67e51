"""Helpers of the gateway's tests."""

import asyncio
import os
import select
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from nats.aio.client import Client

from cloud.identity.nkey import Nkey

HOST: Final = "127.0.0.1"


def utc_now() -> datetime:
    return datetime.now(UTC)


async def gone(pid: int, within_s: float) -> None:
    """Returns when the process has ended. Raises TimeoutError."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = await asyncio.to_thread(select.select, [descriptor], [], [], within_s)
    finally:
        os.close(descriptor)
    if not ready:
        raise TimeoutError(f"process {pid} still runs")


@dataclass
class SiteClient:
    """A site's connection, and what the broker objected to."""

    nc: Client
    errors: list[str] = field(default_factory=list)

    async def objections(self) -> list[str]:
        """What the broker said up to now: its answer to a ping comes after its errors.

        The client writes a ping ahead of what it has buffered, so the second one is the one that counts.
        """
        await self.nc.flush(5)
        await self.nc.flush(5)
        found, self.errors[:] = list(self.errors), []
        return found


class SiteConnect(Protocol):
    """Connects to the broker as a site."""

    async def __call__(self, site: str, groups: tuple[str, ...] = (), signer: Nkey = ...) -> SiteClient: ...
