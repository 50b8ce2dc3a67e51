"""The emergency stop: to every site as an intent that the broker keeps, and to whole groups as a broadcast as well.

A group hears the broadcast at once; whoever was away finds the intent when it comes back. A site stays stopped until it
is told otherwise, so that nothing has to go on working for the stop to hold.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from nats.aio.client import Client

from cloud.gateway.broadcasts import BroadcastNotSent, BroadcastSender
from cloud.gateway.intents import IntentNotSent, IntentSender
from cloud.identity.signing import CommandSigner
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger
from protos.vpp.v1 import intent_pb2

KEPT_MS: Final = 366 * 24 * 3600 * 1000  # at the broker, for a gateway that comes back after so long
BROADCAST_MS: Final = 60_000
_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Who was told, and who was not and why."""

    groups: list[str] = field(default_factory=list)
    sites: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


async def order(
    nc: Client,
    signer: CommandSigner,
    ledger: Ledger,
    *,
    stop: bool,
    reason: str,
    sites: Iterable[str],
    groups: Sequence[str],
    actor: str,
    utc_ms: Callable[[], int],
) -> Told:
    """Stops sites, or lifts their stop (`stop` False). One that fails does not keep the others.

    ledger: one of its own, that belongs to no leader: a stop is a person's, whoever leads.
    sites: every site meant, those of the groups among them. actor: who orders it, for the audit log.
    """
    intents, broadcasts = IntentSender(nc, signer, ledger, utc_ms), BroadcastSender(nc, signer, ledger, utc_ms)
    now_ms = utc_ms()
    told, body = Told(), intent_pb2.StopOrder(stop=stop, reason=reason)
    for group in groups:
        try:
            await broadcasts.send(body, group, now_ms + BROADCAST_MS, actor=actor)
            told.groups.append(group)
        except (BroadcastNotSent, LedgerError) as error:
            told.failures.append(f"group {group}: {error}")
    turns = asyncio.Semaphore(_AT_ONCE)

    async def tell(site: str) -> None:
        async with turns:
            try:
                await intents.send(body, site, "stop", now_ms, now_ms + KEPT_MS, actor=actor)
                told.sites.append(site)
            except (IntentNotSent, LedgerError) as error:
                told.failures.append(f"site {site}: {error}")

    await asyncio.gather(*(tell(site) for site in dict.fromkeys(sites)))
    return told
