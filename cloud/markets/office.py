"""What every step of a session needs: ledger, market, fleet, time, and a voice."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from cloud.config import MarketConfig
from cloud.markets.arming import IntentSender
from cloud.markets.client import MarketClient, MarketRefused, MarketUnavailable, Tariff
from cloud.markets.planning import Window
from cloud.markets.prices import PriceGap
from cloud.markets.roster import Fleet, History, LiveSites, Roster, call_roll
from cloud.model.records import EventRecord, MarketSession, PlanRecord, Severity
from cloud.store.ledger import Ledger

log = logging.getLogger(__name__)

POLL_S = 0.5
LEVELS = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.ALARM: logging.ERROR}

T = TypeVar("T")


class Passed(Exception):
    """There is nothing more to do in a session; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """The desk's means, shared by its steps."""

    config: MarketConfig
    ledger: Ledger
    history: History
    fleet: Fleet
    sender: IntentSender
    market: MarketClient
    utc_ms: Callable[[], int]

    async def tell(
        self,
        session: MarketSession,
        code: str,
        text: str,
        severity: Severity = Severity.INFO,
        *,
        site: str | None = None,
        about: str = "",
    ) -> None:
        """Records an event, once per session, code, site and what it is `about`, however often the step is repeated."""
        event = EventRecord(
            site=site,
            event_id=":".join(filter(None, (session.session_id, code, about))),
            at_ms=self.utc_ms(),
            severity=severity,
            code=code,
            text=text,
        )
        if await asyncio.to_thread(self.ledger.add_event, event):
            log.log(LEVELS[severity], "%s%s", f"{site}: " if site else "", text)

    async def until(self, instant_ms: int) -> None:
        """Waits for an instant, UTC."""
        while (left_ms := instant_ms - self.utc_ms()) > 0:  # noqa: ASYNC110 (wall time may step)
            await asyncio.sleep(min(POLL_S, left_ms / 1000))

    async def patiently(self, ask: Callable[[], Awaitable[T]], until_ms: int, *, refused_until_ms: int = 0) -> T:
        """The market's answer, asked again while it cannot be reached; a refusal is final from refused_until_ms on.

        Raises MarketRefused, and Passed where there was no answer until `until_ms`.
        """
        while True:
            try:
                return await ask()
            except MarketUnavailable as error:
                if self.utc_ms() >= until_ms:
                    raise Passed(f"no answer in time: {error}") from error
            except MarketRefused:
                if self.utc_ms() >= refused_until_ms:
                    raise
            await asyncio.sleep(POLL_S)

    async def tariff(self, start_ms: int, end_ms: int) -> Tariff:
        """Energy prices of [start_ms, end_ms): the ledger's where the configuration names a tariff, else the market's.

        Raises MarketRefused, MarketUnavailable, PriceGap.
        """
        name = self.config.tariff
        if name is None:
            return await self.market.tariff(utc(start_ms), utc(end_ms))
        kept = await asyncio.to_thread(self.ledger.tariff, name)
        if kept is None:
            raise PriceGap(f"[market] tariff {name!r} is not in the ledger: give it by `vpp-cloud tariff import`")
        if kept.currency != self.config.currency:
            raise PriceGap(f"tariff {name!r} is in {kept.currency}, the market in {self.config.currency}")
        rates = await asyncio.to_thread(self.ledger.tariff_rates, name, start_ms, end_ms)
        return Tariff(
            mtu_s=kept.interval_ms // 1000,
            currency=kept.currency,
            unit=f"{kept.currency}/kWh",
            rows=tuple(
                Tariff.Row(start=utc(rate.start_ms), import_price=rate.import_price, export_price=rate.export_price)
                for rate in rates
            ),
        )

    async def roll(self, window: Window) -> Roster:
        """Who can take part now."""
        # The live columns belong to this event loop; the reading of history does not.
        live = LiveSites(soc=self.fleet.soc.copy(), last_seen_ms=self.fleet.last_seen_ms.copy(), now_ms=self.utc_ms())

        def call() -> Roster:
            return call_roll(self.ledger.sites(), self.config.offers, live, self.history, window.start_ms)

        return await asyncio.to_thread(call)

    def plan_of(self, session: MarketSession) -> PlanRecord:
        """The session's plan so far. Raises Passed where the ledger has none."""
        plan = self.ledger.plan(session.plan_id) if session.plan_id is not None else None
        if plan is None:
            raise Passed("the ledger has no plan for it")
        return plan


def window_of(session: MarketSession) -> Window:
    return Window.around(session.delivery_start_ms, session.delivery_end_ms)


def utc(instant_ms: int) -> datetime:
    return datetime.fromtimestamp(instant_ms / 1000, UTC)


def to_ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)
