"""The emergency stop as the console and its API send it."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from cloud.dispatch import asking
from cloud.gateway.stopping import Told
from cloud.store.ledger import Ledger


class SendStop(Protocol):
    """`cloud.gateway.stopping.order` on the console's connection."""

    async def __call__(
        self, *, stop: bool, reason: str, sites: Sequence[str], groups: Sequence[str], actor: str
    ) -> Told: ...


class Emergency:
    """Stops, and lifts."""

    def __init__(self, ledger: Ledger, send: SendStop) -> None:
        self._ledger = ledger
        self._send = send

    async def order(
        self, *, stop: bool, reason: str, sites: Sequence[str], groups: Sequence[str], everybody: bool, actor: str
    ) -> Told:
        """Who was told. Raises DispatchRefused, LedgerError."""
        why = asking.checked_reason(reason)
        found, names = await self.whom(sites, groups, everybody=everybody)
        return await self._send(stop=stop, reason=why, sites=found, groups=names, actor=actor)

    async def whom(
        self, sites: Sequence[str], groups: Sequence[str], *, everybody: bool
    ) -> tuple[list[str], list[str]]:
        """Sites and groups that are meant. Raises DispatchRefused, LedgerError."""
        return asking.whom(await asyncio.to_thread(self._ledger.sites), sites, groups, everybody=everybody)
