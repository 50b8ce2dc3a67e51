"""The trading desk: takes every session of the market from forecast to settlement.

    session -> forecast -> plan -> offers -> (gate closure) awards -> final plan -> schedule and service to each site
            -> acknowledgements -> (delivery end, telemetry complete) -> settlement

Each step ends with a write to the ledger and begins from nothing but ledger, market, fleet and history, so a desk that
is started again goes on where the last one stopped. What is repeated after a stop in the middle of a step bears the
same name as before: offers replace themselves at the market, plans, awards and events in the ledger, intents at a site.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from cloud.config import MarketConfig
from cloud.markets import client, delivering, selling
from cloud.markets.arming import IntentSender
from cloud.markets.client import MarketClient, MarketRefused, MarketUnavailable
from cloud.markets.office import POLL_S, Office, Passed, to_ms
from cloud.markets.prices import PriceGap
from cloud.markets.products import ProductError
from cloud.markets.roster import Fleet, History
from cloud.model.records import MarketSession, SessionStage, Severity
from cloud.store.ledger import Ledger

log = logging.getLogger(__name__)

PARTICIPANT = "murmuration"
STEPS = {
    SessionStage.SEEN: selling.make_offers,
    SessionStage.OFFERED: selling.collect_awards,
    SessionStage.AWARDED: delivering.arm,
    SessionStage.ARMED: delivering.settle,
}


class Desk:
    """Trades all sessions of one market. Run it once."""

    def __init__(
        self,
        config: MarketConfig,
        ledger: Ledger,
        history: History,
        fleet: Fleet,
        sender: IntentSender,
        market: MarketClient,
        utc_ms: Callable[[], int],
    ) -> None:
        self._office = Office(
            config=config, ledger=ledger, history=history, fleet=fleet, sender=sender, market=market, utc_ms=utc_ms
        )
        self._market_lost = False

    async def run(self) -> None:
        """Trades until cancelled: first what the ledger says is unfinished, then every session that opens."""
        known: set[str] = set()
        async with asyncio.TaskGroup() as sessions:
            for session in await asyncio.to_thread(self._office.ledger.market_sessions):
                known.add(session.session_id)
                if session.stage in STEPS:
                    sessions.create_task(self._trade(session), name=f"session {session.session_id}")
            while True:
                for opened in await self._open_sessions():
                    if opened.id not in known:
                        known.add(opened.id)
                        sessions.create_task(self._trade(await self._see(opened)), name=f"session {opened.id}")
                await asyncio.sleep(POLL_S)

    async def _open_sessions(self) -> list[client.Session]:
        try:
            sessions = await self._office.market.sessions()
        except (MarketUnavailable, MarketRefused) as error:
            if not self._market_lost:
                log.warning("market lost: %s", error)
            self._market_lost = True
            return []
        if self._market_lost:
            log.info("market is back: %s", self._office.market.url)
        self._market_lost = False
        return [session for session in sessions if session.state == "open"]

    async def _see(self, opened: client.Session) -> MarketSession:
        session = MarketSession(
            session_id=opened.id,
            gate_closure_ms=to_ms(opened.gate_closure),
            delivery_start_ms=to_ms(opened.delivery_start),
            delivery_end_ms=to_ms(opened.delivery_end),
            stage=SessionStage.SEEN,
        )
        await asyncio.to_thread(self._office.ledger.put_market_session, session)
        text = f"market session {opened.id} is open until {opened.gate_closure:%H:%M:%S} UTC"
        await self._office.tell(session, "desk.session-open", text)
        return session

    async def _trade(self, session: MarketSession) -> None:
        """Takes one session as far as it goes."""
        ledger = self._office.ledger
        try:
            while (step := STEPS.get(session.stage)) is not None:
                session = await step(self._office, session)
                await asyncio.to_thread(ledger.put_market_session, session)
        except (Passed, MarketRefused, PriceGap, ProductError) as error:
            if session.stage is SessionStage.ARMED:  # what was delivered stays to be settled
                text = f"session {session.session_id} is not settled, the next start tries again: {error}"
                await self._office.tell(session, "desk.not-settled", text, Severity.ALARM)
                return
            text = f"session {session.session_id}: {error}"
            await self._office.tell(session, "desk.passed", text, Severity.WARNING)
            # The step may have kept a plan already: the ledger's row is the newer one.
            kept = await asyncio.to_thread(ledger.market_session, session.session_id) or session
            await asyncio.to_thread(ledger.put_market_session, replace(kept, stage=SessionStage.PASSED))
