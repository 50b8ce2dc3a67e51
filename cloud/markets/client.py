"""The market's HTTP API from the participant's side. Its own types; every refusal and outage in words."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, TypeVar

import httpx
import msgspec

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
T = TypeVar("T")
TIMEOUT_S = 5.0


class MarketRefused(Exception):
    """The market understood and will not; says what and why. Sending it again changes nothing."""


class MarketUnavailable(Exception):
    """The market does not answer, or not in its own terms; may pass."""


class Product(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    title: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """An auction for one delivery period."""

    id: str
    state: Literal["open", "cleared", "closed"]
    gate_closure: Instant
    delivery_start: Instant
    delivery_end: Instant
    products: tuple[Product, ...]


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """Energy prices in [currency/kWh]; each row holds for mtu_s from its start."""

    class Row(msgspec.Struct, frozen=True, kw_only=True, rename={"import_price": "import", "export_price": "export"}):
        start: Instant
        import_price: Decimal
        export_price: Decimal

    mtu_s: int
    currency: str
    unit: str
    rows: tuple[Row, ...]


class ReservePrices(msgspec.Struct, frozen=True, kw_only=True):
    """Clearing prices of past hours in [currency per MW and hour]."""

    class Row(msgspec.Struct, frozen=True, kw_only=True):
        start: Instant
        price: Decimal

    mtu_s: int
    currency: str
    unit: str
    rows: tuple[Row, ...]


class Award(msgspec.Struct, frozen=True, kw_only=True):
    """What the market bought of an offer."""

    offer_id: str
    product: str
    power_w: int
    clearing_price_per_mw_h: Decimal


class _Placed(msgspec.Struct, frozen=True):
    offer_id: str


class _Refusal(msgspec.Struct, frozen=True):
    reason: str


class MarketClient:
    """One participant's session with the market. Close it, or use it as an asynchronous context manager.

    Every call raises MarketUnavailable where the market cannot be reached within the time limit or answers what
    cannot be read, and MarketRefused where it says no.
    """

    def __init__(self, url: str, participant: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url
        self.participant = participant
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout_s, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def sessions(self) -> list[Session]:
        """All sessions the market knows."""
        return await self._ask("GET", "/sessions", list[Session])

    async def tariff(self, start: datetime, end: datetime) -> Tariff:
        """Energy prices of every row that touches [start, end)."""
        return await self._ask("GET", "/prices", Tariff, params={"start": _iso(start), "end": _iso(end)})

    async def reserve_prices(self, product: str, start: datetime, end: datetime) -> ReservePrices:
        """Clearing prices of the hours between that are over."""
        params = {"product": product, "start": _iso(start), "end": _iso(end)}
        return await self._ask("GET", "/reserve-prices", ReservePrices, params=params)

    async def offer(self, session_id: str, product: str, power_w: int, price_per_mw_h: Decimal) -> str:
        """Places an offer, replacing this participant's earlier one for the product; its id."""
        body = {
            "product": product,
            "participant": self.participant,
            "power_w": power_w,
            "price_per_mw_h": f"{price_per_mw_h:f}",
        }
        return (await self._ask("POST", f"/sessions/{session_id}/offers", _Placed, json=body)).offer_id

    async def awards(self, session_id: str) -> list[Award]:
        """What was bought of this participant's offers; refused until the session has cleared."""
        params = {"participant": self.participant}
        return await self._ask("GET", f"/sessions/{session_id}/awards", list[Award], params=params)

    async def _ask(self, method: str, path: str, answer: type[T], **request: Any) -> T:
        what = f"market {self.url}: {method} {path}"
        try:
            response = await self._http.request(method, path, **request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise MarketUnavailable(f"{what}: {error or type(error).__name__}") from error
        if 400 <= response.status_code < 500:
            raise MarketRefused(f"{what}: {_reason(response)}")
        if not response.is_success:
            raise MarketUnavailable(f"{what}: HTTP {response.status_code}")
        try:
            return msgspec.json.decode(response.content, type=answer)
        except msgspec.DecodeError as error:
            raise MarketUnavailable(f"{what}: an answer that cannot be read ({error})") from error


def _reason(response: httpx.Response) -> str:
    try:
        return msgspec.json.decode(response.content, type=_Refusal).reason
    except msgspec.DecodeError:
        return f"HTTP {response.status_code}"


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()
