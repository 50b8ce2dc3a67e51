"""A regulation signal to a group: one broadcast a cycle whatever the group's size, and each site's part, seldom.

A site's part of the contracted power is in proportion to what its agent told it can give in every direction that the
service has. Parts are looked at again every few minutes: sites come, go and are replaced.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from cloud.dispatch.dispatcher import BroadcastSender, IntentSender
from cloud.gateway.broadcasts import BroadcastNotSent
from cloud.gateway.intents import IntentNotSent
from cloud.markets.apportion import pro_rata
from cloud.model.records import Site
from cloud.model.regulation import RegulationRecord
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger
from cloud.store.regulations import Signal
from protos import services
from protos.services import Service
from protos.vpp.v1 import broadcast_pb2, intent_pb2

log = logging.getLogger(__name__)

REFRESH_S: Final = 300.0
AGAIN_S: Final = 15.0  # where a site could not be told, or waits for a second person
_MILLION: Final = 1_000_000
KEPT_MS: Final = 10_000  # of the signal, between two times that it goes into the ledger
_AT_ONCE: Final = 32


def participation(sites: Sequence[Site], service: Service, power_w: int) -> dict[str, int]:
    """Watts of each site that takes part; together `power_w`.

    Raises ValueError where the sites together cannot give so much.
    """
    upward, downward = service.directions
    able: dict[str, int] = {}
    for site in sites:
        told = site.description
        if told is None or site.enrolled_ms is None or site.revoked_ms is not None:
            continue
        up_w = told.max_discharge_w if upward else told.rated_power_w
        down_w = told.max_charge_w if downward else told.rated_power_w
        able[site.site] = int(min(told.rated_power_w, up_w, down_w))
    most_w = sum(able.values())
    if power_w > most_w:
        raise ValueError(f"{len(able)} sites can give {most_w} W together, not {power_w} W")
    return {site: share for site, share in pro_rata(able, power_w).items() if share > 0}


class Regulation:
    """One contract while it runs."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        intents: IntentSender,
        broadcasts: BroadcastSender,
        group: str,
        service_toml: str,
        power_w: int,
        award_id: str,
        end_ms: int,
        utc_ms: Callable[[], int],
        actor: str,
    ) -> None:
        """service_toml: of a service that follows a signal. actor: who asks. Raises ValueError for another service."""
        service = services.parse(service_toml)
        if service.signal is None:
            raise ValueError(f"service {service.id} answers the frequency; name one that follows a signal")
        self._service, self._signal = service, service.signal
        self._ledger, self._intents, self._broadcasts = ledger, intents, broadcasts
        self._group, self._toml, self._power_w, self._award_id = group, service_toml, power_w, award_id
        self._end_ms, self._utc_ms = end_ms, utc_ms
        self._actor = actor
        self._parts: dict[str, int] = {}
        self._arming: asyncio.Task[dict[str, str]] | None = None
        self._due_s = -math.inf
        self._mute = False
        self._unkept: list[Signal] = []  # broadcast, and not in the ledger yet
        self._kept_ms = 0
        self.messages = 0

    async def run(self, signal: AsyncIterator[float]) -> None:
        """Says each value of the signal (share of the contract, -1..1) when it comes, until it or the contract ends.

        Raises ValueError where the sites cannot give what was contracted.
        """
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._ledger.add_regulation, self._record())
        try:
            async for share in signal:
                now_ms = self._utc_ms()
                if now_ms >= self._end_ms:
                    return
                await self._keep_armed(loop.time())
                await self._say(share, now_ms)
        finally:
            if self._arming is not None:
                self._arming.cancel()
                await asyncio.gather(self._arming, return_exceptions=True)
            await self._keep(self._utc_ms())
            end_ms = min(self._utc_ms() + round(1000 * self._signal.interval_s), self._end_ms)
            await asyncio.to_thread(self._ledger.end_regulation, self._award_id, end_ms)

    def _record(self) -> RegulationRecord:
        return RegulationRecord(
            regulation_id=self._award_id,
            group=self._group,
            service_id=self._service.id,
            service_version=self._service.version,
            service_toml=self._toml,
            power_w=self._power_w,
            start_ms=self._utc_ms(),
            end_ms=self._end_ms,
            actor=self._actor,
        )

    async def _keep(self, now_ms: int) -> None:
        """Puts into the ledger what was broadcast since the last time."""
        kept, self._unkept, self._kept_ms = self._unkept, [], now_ms
        if kept:
            await asyncio.to_thread(self._ledger.add_signals, self._award_id, kept)

    async def _keep_armed(self, now_s: float) -> None:
        """The parts are told before the first value; later ones beside the signal, which does not wait."""
        if self._arming is None and now_s >= self._due_s:
            self._arming = asyncio.create_task(self.arm())
            if not self._parts:
                await asyncio.wait([self._arming])
        if self._arming is not None and self._arming.done():
            failures, self._arming = self._arming.result(), None
            self._due_s = now_s + (AGAIN_S if failures else REFRESH_S)
            for site, why in list(failures.items())[:1]:
                log.warning("%d sites were not told their part: %s: %s", len(failures), site, why)

    async def _say(self, share: float, now_ms: int) -> None:
        body = broadcast_pb2.Regulation(signal_e6=round(max(-1.0, min(1.0, share)) * _MILLION))
        until_ms = min(now_ms + round(1000 * self._signal.hold_s), self._end_ms)
        try:
            await self._broadcasts.send(body, self._group, until_ms, actor=self._actor)
        except BroadcastNotSent as error:
            if not self._mute:
                log.warning("the signal was not said: %s", error)
            self._mute = True  # the next one follows in seconds; sites let go by themselves
        else:
            self.messages += 1
            self._mute = False
            self._unkept.append((now_ms, body.signal_e6))
            if now_ms - self._kept_ms >= KEPT_MS:
                await self._keep(now_ms)

    async def arm(self) -> dict[str, str]:
        """Tells each site its part where that is new; which could not be told, and why."""
        sites = [site for site in await asyncio.to_thread(self._ledger.sites) if self._group in site.groups]
        parts = participation(sites, self._service, self._power_w)
        turn, failures = asyncio.Semaphore(_AT_ONCE), {}

        async def tell(site: str, contracted_w: int) -> None:
            body = intent_pb2.ArmService(
                award_id=self._award_id,
                service_id=self._service.id,
                service_version=self._service.version,
                contracted_w=contracted_w,
                service_toml=self._toml,
                group=self._group,
            )
            async with turn:
                try:
                    await self._intents.send(body, site, "service", self._utc_ms(), self._end_ms, actor=self._actor)
                except (IntentNotSent, LedgerError) as error:
                    failures[site] = str(error)
                else:
                    self._parts[site] = contracted_w

        async with asyncio.TaskGroup() as group:
            for site, contracted_w in parts.items():
                if self._parts.get(site) != contracted_w:
                    group.create_task(tell(site, contracted_w))
        return failures
