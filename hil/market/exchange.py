"""The market itself: sessions, offers, refusals and awards. No HTTP; time comes with every call."""

import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from hil.market.auction import Bid, clear, rival_ladder
from hil.market.recorded import OutsideRecording, RecordedPrices

PRODUCTS = {"ffr": "Fast frequency response, up", "droop": "Frequency droop, both directions"}
CURRENCY = "USD"
DEMAND_W = 1_000_000  # of each product in each session
PRICE_LIMIT = Decimal("10000")
_PRICE = re.compile(r"\d{1,9}(\.\d{1,2})?")
_PARTICIPANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class Refused(Exception):
    """The market will not; `status` is HTTP's word for why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    offer_id: str
    product: str
    participant: str
    power_w: int
    price_per_mw_h: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Award:
    offer_id: str
    product: str
    participant: str
    power_w: int
    clearing_price_per_mw_h: Decimal


@dataclass(slots=True, kw_only=True)
class Session:
    """One auction for one delivery period. Offers are taken until gate closure; then it clears, once."""

    session_id: str
    gate_closure: datetime
    delivery_start: datetime
    delivery_end: datetime
    offers: dict[str, Offer] = field(default_factory=dict)
    awards: list[Award] | None = None

    def state(self, now: datetime) -> str:
        if now < self.gate_closure:
            return "open"
        return "cleared" if now < self.delivery_end else "closed"


class Exchange:
    """All sessions. In memory: a market that is restarted has forgotten them."""

    def __init__(self, prices: RecordedPrices, *, demand_w: int = DEMAND_W) -> None:
        self.prices = prices
        self._demand_w = demand_w
        self._sessions: dict[str, Session] = {}

    def sessions(self) -> list[Session]:
        return list(self._sessions.values())

    def open_session(
        self, gate_closure: datetime, delivery_start: datetime, delivery_end: datetime, now: datetime
    ) -> Session:
        """A new session. Raises Refused for times out of order or beyond the recorded prices."""
        if not now < gate_closure <= delivery_start < delivery_end:
            raise Refused(400, "times must be in order: now < gate_closure <= delivery_start < delivery_end")
        try:
            self.prices.reserve(delivery_start, delivery_end)
        except OutsideRecording as error:
            raise Refused(400, str(error)) from error
        session = Session(
            # A restarted market must not give an old session's name to a new one.
            session_id=f"{delivery_start:%Y%m%dt%H%M%S}-{secrets.token_hex(3)}",
            gate_closure=gate_closure,
            delivery_start=delivery_start,
            delivery_end=delivery_end,
        )
        self._sessions[session.session_id] = session
        return session

    def place(
        self, session_id: str, product: str, participant: str, power_w: int, price_text: str, now: datetime
    ) -> Offer:
        """Takes an offer; a participant's later offer for the same product replaces its earlier one.

        Replacing rather than adding lets a participant that does not know whether its offer arrived send it again.
        Raises Refused.
        """
        session = self._session(session_id)
        if session.state(now) != "open":
            raise Refused(409, f"session {session_id}: the gate closed at {session.gate_closure.isoformat()}")
        if product not in PRODUCTS:
            raise Refused(422, f"product {product!r} is not traded here: one of {', '.join(sorted(PRODUCTS))}")
        if not _PARTICIPANT.fullmatch(participant):
            raise Refused(422, f"participant {participant!r}: 1 to 63 letters, digits, _ or -")
        if power_w < 1:
            raise Refused(422, f"power_w is {power_w}: at least 1 W, as a magnitude")
        if not _PRICE.fullmatch(price_text):
            raise Refused(
                422, f"price_per_mw_h is {price_text!r}: a decimal string, not negative, with at most two decimals"
            )
        if (price := Decimal(price_text)) > PRICE_LIMIT:
            raise Refused(422, f"price_per_mw_h is {price_text}: at most {PRICE_LIMIT}")
        offer = Offer(
            offer_id=f"{session_id}-{product}-{participant}",
            product=product,
            participant=participant,
            power_w=power_w,
            price_per_mw_h=price,
        )
        session.offers[offer.offer_id] = offer
        return offer

    def awards(self, session_id: str, participant: str, now: datetime) -> list[Award]:
        """What the participant won. Raises Refused before the gate closed, or for an unknown session."""
        session = self._session(session_id)
        if session.state(now) == "open":
            raise Refused(409, f"session {session_id} clears at {session.gate_closure.isoformat()}")
        if session.awards is None:
            session.awards = self._clear(session)
        return [award for award in session.awards if award.participant == participant]

    def _session(self, session_id: str) -> Session:
        if session_id not in self._sessions:
            raise Refused(404, f"session {session_id!r} is unknown")
        return self._sessions[session_id]

    def _clear(self, session: Session) -> list[Award]:
        """Clears each product against the recorded price of the hour in which delivery begins."""
        recorded = self.prices.reserve(session.delivery_start, session.delivery_end)[0].price
        awards = []
        for product in PRODUCTS:
            offers = [offer for offer in session.offers.values() if offer.product == product]
            bids = [
                Bid(offer_id=o.offer_id, power_w=o.power_w, price_per_mw_h=o.price_per_mw_h) for o in offers
            ] + rival_ladder(self._demand_w, recorded)
            result = clear(bids, self._demand_w)
            awards += [
                Award(
                    offer_id=offer.offer_id,
                    product=product,
                    participant=offer.participant,
                    power_w=result.awarded_w[offer.offer_id],
                    clearing_price_per_mw_h=result.price_per_mw_h,
                )
                for offer in offers
                if offer.offer_id in result.awarded_w
            ]
        return awards
