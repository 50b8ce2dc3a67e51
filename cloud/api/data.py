"""The JSON API: the same data as the pages, for programs. Power is positive towards the grid, times are UTC."""

import datetime as dt
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from cloud.api.live import Live
from cloud.api.sessions import CallViewer
from cloud.model.records import Severity
from cloud.store.ledger import Ledger

API_PREFIX = "/api/v1"


class ServiceState(BaseModel):
    service: str
    state: str
    contracted_w: int


class SiteState(BaseModel):
    """The newest of a site; null where nothing is known."""

    site: str
    groups: list[str]
    link: str
    age_s: float | None
    soc: float | None
    inverter_power_w: float | None
    grid_power_w: float | None
    pv_power_w: float | None
    frequency_hz: float | None
    ev_power_w: float | None  # of its chargers: what they draw is negative
    ev_connected: int | None  # vehicles that stand there
    ev_session_wh: float | None  # into them since they came
    flexible_load_power_w: float | None  # of its loads that can wait
    service: ServiceState | None


class Event(BaseModel):
    number: int
    at: dt.datetime
    severity: Severity
    site: str | None
    code: str
    text: str


class SettlementLine(BaseModel):
    site: str
    contracted_w: int
    capacity_wh: int
    performance_error: float
    performance_factor: Decimal
    delivered: bool
    samples: int
    samples_missing: int
    energy_wh: int
    capacity_amount: Decimal
    energy_amount: Decimal
    total_amount: Decimal


class Settlement(BaseModel):
    """What an award came to: the sum of its lines. Amounts are decimal strings."""

    award_id: str
    settled_at: dt.datetime
    currency: str
    capacity_amount: Decimal
    energy_amount: Decimal
    total_amount: Decimal
    lines: list[SettlementLine]


class Health(BaseModel):
    broker: bool
    sites: int
    online: int
    tabs: int


def data_router(ledger: Ledger, live: Live) -> APIRouter:
    """Routes of the API; each needs a session and answers 401 without one."""
    router = APIRouter(responses={401: {"description": "No session"}})

    @router.get("/health")
    async def health(_: CallViewer) -> Health:
        """Whether the coordinator's parts are up."""
        system = live.system()
        return Health(broker=system.broker, sites=system.sites, online=system.online, tabs=live.broadcaster.tabs)

    @router.get("/sites")
    async def sites(_: CallViewer) -> list[SiteState]:
        """Every site's newest values."""
        system, roster, columns = live.system(), live.roster(), live.columns()
        flexible = live.flexible()
        states = []
        for index, site in enumerate(roster.sites):
            service, state = columns.service[index], columns.service_state[index]
            states.append(
                SiteState(
                    site=site,
                    groups=roster.groups[index],
                    link=system.links[columns.link[index]],
                    age_s=_scaled(columns.age_ms[index], 1000),
                    soc=_scaled(columns.soc_permille[index], 1000),
                    inverter_power_w=columns.inverter_power_w[index],
                    grid_power_w=columns.grid_power_w[index],
                    pv_power_w=columns.pv_power_w[index],
                    frequency_hz=_scaled(columns.frequency_mhz[index], 1000),
                    ev_power_w=flexible.ev_power_w[index],
                    ev_connected=flexible.ev_connected[index],
                    ev_session_wh=flexible.ev_session_wh[index],
                    flexible_load_power_w=flexible.flexible_load_power_w[index],
                    service=None
                    if service is None or state is None
                    else ServiceState(
                        service=system.services[service],
                        state=system.states[state],
                        contracted_w=columns.contracted_w[index] or 0,
                    ),
                )
            )
        return states

    @router.get("/events")
    def events(
        _: CallViewer,
        after: Annotated[int | None, Query(ge=0, description="only events recorded after this number")] = None,
        site: str | None = None,
        least: Annotated[Severity, Query(description="leaves out what is less severe")] = Severity.INFO,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> list[Event]:
        """Events in order of recording: the last ones, or the first ones after a number."""
        return [
            Event(
                number=event.number or 0,
                at=_utc(event.at_ms),
                severity=event.severity,
                site=event.site,
                code=event.code,
                text=event.text,
            )
            for event in ledger.events(after=after, site=site, least=least, limit=limit)
        ]

    @router.get("/settlements")
    def settlements(_: CallViewer) -> list[Settlement]:
        """What awards came to, per site and in sum."""
        return [
            Settlement(
                award_id=settlement.award_id,
                settled_at=_utc(settlement.settled_ms),
                currency=settlement.currency,
                capacity_amount=settlement.capacity_amount,
                energy_amount=settlement.energy_amount,
                total_amount=settlement.total_amount,
                lines=[
                    SettlementLine(**{name: getattr(line, name) for name in SettlementLine.model_fields})
                    for line in ledger.settlement_lines(settlement.award_id)
                ],
            )
            for settlement in ledger.settlements()
        ]

    return router


def _scaled(value: int | None, per_unit: int) -> float | None:
    return None if value is None else value / per_unit


def _utc(utc_ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(utc_ms / 1000, dt.UTC)
