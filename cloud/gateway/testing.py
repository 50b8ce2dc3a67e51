"""Helpers of the gateway's tests."""

from dataclasses import dataclass, field
from typing import Protocol

from nats.aio.client import Client

from cloud.identity.nkey import Nkey


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
