"""The market's HTTP face: JSON, UTC ISO times, decimal strings for money, every refusal with a reason."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from hil.market.exchange import CURRENCY, PRODUCTS, Exchange, Refused, Session
from hil.market.recorded import HOUR, OutsideRecording

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
T = TypeVar("T")


class NewSession(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    gate_closure: Instant
    delivery_start: Instant
    delivery_end: Instant


class NewOffer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    product: str
    participant: str
    power_w: int
    price_per_mw_h: str


def create_app(exchange: Exchange, now: Callable[[], datetime]) -> FastAPI:
    """The market as an ASGI application."""
    app = FastAPI(title="Reserve market of the rig", docs_url=None, redoc_url=None)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"reason": str(error)}, status_code=error.status)

    @app.get("/sessions")
    async def sessions() -> list[dict[str, Any]]:
        return [_session(session, now()) for session in exchange.sessions()]

    @app.post("/sessions", status_code=201)
    async def open_session(request: Request) -> dict[str, Any]:
        asked = _body(await request.body(), NewSession)
        instant = now()
        session = exchange.open_session(
            asked.gate_closure.astimezone(UTC),
            asked.delivery_start.astimezone(UTC),
            asked.delivery_end.astimezone(UTC),
            instant,
        )
        return _session(session, instant)

    @app.post("/sessions/{session_id}/offers", status_code=201)
    async def place(session_id: str, request: Request) -> dict[str, str]:
        asked = _body(await request.body(), NewOffer)
        offer = exchange.place(session_id, asked.product, asked.participant, asked.power_w, asked.price_per_mw_h, now())
        return {"offer_id": offer.offer_id}

    @app.get("/sessions/{session_id}/awards")
    async def awards(session_id: str, participant: str = "") -> list[dict[str, Any]]:
        if not participant:
            raise Refused(422, "participant is missing: ?participant=NAME")
        return [
            {
                "offer_id": award.offer_id,
                "product": award.product,
                "power_w": award.power_w,
                "clearing_price_per_mw_h": str(award.clearing_price_per_mw_h),
            }
            for award in exchange.awards(session_id, participant, now())
        ]

    @app.get("/prices")
    async def prices(start: str = "", end: str = "") -> dict[str, Any]:
        try:
            rows = exchange.prices.tariff(*_period(start, end))
        except OutsideRecording as error:
            raise Refused(404, str(error)) from error
        return {
            "mtu_s": int(HOUR.total_seconds()),
            "currency": CURRENCY,
            "unit": f"{CURRENCY}/kWh",
            "rows": [{"start": _iso(row.start), "import": str(row.price), "export": str(row.price)} for row in rows],
        }

    @app.get("/reserve-prices")
    async def reserve_prices(product: str = "", start: str = "", end: str = "") -> dict[str, Any]:
        if product not in PRODUCTS:
            raise Refused(422, f"product {product!r} is not traded here: one of {', '.join(sorted(PRODUCTS))}")
        rows = exchange.prices.reserve_before(*_period(start, end), now())
        return {
            "mtu_s": int(HOUR.total_seconds()),
            "currency": CURRENCY,
            "unit": f"{CURRENCY}/MW/h",
            "rows": [{"start": _iso(row.start), "price": str(row.price)} for row in rows],
        }

    return app


def _session(session: Session, instant: datetime) -> dict[str, Any]:
    return {
        "id": session.session_id,
        "state": session.state(instant),
        "gate_closure": _iso(session.gate_closure),
        "delivery_start": _iso(session.delivery_start),
        "delivery_end": _iso(session.delivery_end),
        "products": [{"id": product, "title": title} for product, title in PRODUCTS.items()],
    }


def _body(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise Refused(422, f"body: {error}") from error


def _period(start: str, end: str) -> tuple[datetime, datetime]:
    try:
        begins, ends = (msgspec.convert(text, Instant) for text in (start, end))
    except msgspec.ValidationError as error:
        raise Refused(422, f"start and end: ISO instants with a time zone ({error})") from error
    if begins >= ends:
        raise Refused(422, "start must be before end")
    return begins.astimezone(UTC), ends.astimezone(UTC)


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
