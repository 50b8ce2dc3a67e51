"""The desk from session to settlement: real ledger, real market process, real forecasts, plans and judging.

Only the sites are played: a sender that acknowledges, and a history of what such sites would have measured.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import numpy as np
import pytest
from google.protobuf.json_format import MessageToJson

from cloud.config import MarketConfig, OfferConfig
from cloud.markets.client import MarketClient
from cloud.markets.desk import Desk
from cloud.model.records import AwardState, Description, IntentState, SessionStage, Severity
from cloud.store.history import HistorySlice
from cloud.store.ledger import Ledger
from cloud.store.quarters import QUARTER_MS, QuarterHours
from hil.market.testing import MarketProcess
from protos.vpp.v1 import intent_pb2

FAST = ("home-01", "home-02", "home-03")
DROOP = ("home-04", "home-05")
UNKNOWN, SILENT = "home-06", "home-07"  # has not described itself; not heard of for a minute
LAZY = "home-03"  # is armed and does nothing
RATED_W = 5_000.0
EVENT_AFTER_MS = 1_000  # of the delivery: 59.80 Hz from then on
CONFIG = MarketConfig(
    url="http://127.0.0.1",
    currency="USD",
    offers=(
        OfferConfig(product="ffr", service="ercot-ffr", group="fast"),
        OfferConfig(product="droop", service="ieee1547-droop", group="droop"),
    ),
)


def utc_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Sites:
    """Sender, history and fleet of homes that do as they are told; the first one was cut off during the delivery."""

    ledger: Ledger
    schedules: dict[str, intent_pb2.Schedule] = field(default_factory=dict)
    services: dict[str, intent_pb2.ArmService] = field(default_factory=dict)
    valid: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    delivery_start_ms: int = 0
    gap_frames: int = 3  # of the first home: on their way, beside what it measures now

    @property
    def soc(self) -> np.ndarray:
        return np.full(7, 0.6)

    @property
    def last_seen_ms(self) -> np.ndarray:
        seen = np.full(7, utc_ms())
        seen[6] -= 60_000
        return seen

    @property
    def gaps(self) -> np.ndarray:
        """One frame fewer is missing each time somebody looks."""
        gaps = np.zeros(7, dtype=np.int64)
        gaps[0] = self.gap_frames
        self.gap_frames = max(0, self.gap_frames - 1)
        return gaps

    async def send(self, body: object, site: str, kind: str, valid_from_ms: int, expires_ms: int) -> int:
        intent = intent_pb2.Intent()
        if isinstance(body, intent_pb2.Schedule):
            intent.schedule.CopyFrom(body)
            self.schedules[site] = body
        else:
            assert isinstance(body, intent_pb2.ArmService)
            intent.arm.CopyFrom(body)
            self.services[site] = body
        self.valid[site, kind] = (valid_from_ms, expires_ms)
        text = MessageToJson(intent, indent=None, preserving_proto_field_name=True)
        record = self.ledger.record_intent(
            site, kind, valid_from_ms=valid_from_ms, expires_ms=expires_ms, body=text, now_ms=utc_ms()
        )
        self.ledger.update_intent_state(site, kind, record.sequence, IntentState.ACTIVE, "", utc_ms())
        return record.sequence

    def quarter_hours(self, slot: int, t0_ms: int, t1_ms: int) -> QuarterHours:
        start_ms = np.arange(t0_ms, t1_ms, QUARTER_MS)
        return QuarterHours(
            start_ms, np.full(len(start_ms), 150.0), np.full(len(start_ms), 400.0), np.ones(len(start_ms))
        )

    def read(self, slots: Sequence[int], t0_ms: int, t1_ms: int, points: Sequence[str]) -> HistorySlice:
        """Every home follows its schedule; the fast ones answer 0.2 s late, droop homes along their lag."""
        t_ms = np.arange(-(-t0_ms // 100) * 100, t1_ms, 100)
        after_s = (t_ms - self.delivery_start_ms - EVENT_AFTER_MS) / 1000
        columns = {point: np.empty((len(slots), len(t_ms))) for point in points}
        for row, slot in enumerate(slots):
            site = f"home-{slot + 1:02d}"
            schedule = self.schedules[site]
            unit = (t_ms - schedule.start_ms) // 900_000
            power = np.array(schedule.inverter_power_w, dtype=float)[unit]
            if site in FAST and site != LAZY:
                power = power + np.where(after_s >= 0.2, self.services[site].contracted_w, 0)
            if site in DROOP:
                steady = (0.2 - 0.036) / 3 * RATED_W  # IEEE 1547: deadband 0.036 Hz, 5 % of 60 Hz
                power = power + np.where(after_s >= 0, steady * (1 - 10 ** (-np.maximum(after_s, 0) / 5)), 0)
            if slot == 0 and self.gap_frames:
                power[:-10] = np.nan  # of the delivery, its newest second is here already
            if "inverter_power_w" in columns:
                columns["inverter_power_w"][row] = power
            if "frequency_hz" in columns:
                columns["frequency_hz"][row] = np.where(after_s >= 0, 59.80, 60.0)
        return HistorySlice(tuple(slots), 100, t_ms, columns)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.db")
    names = (*FAST, *DROOP, UNKNOWN, SILENT)
    for site in names:
        group = "droop" if site in DROOP else "fast"
        ledger.add_site(site, (group,), utc_ms())
        ledger.add_claim(f"hash of {site}", site, expires_ms=utc_ms() + 60_000, now_ms=utc_ms())
        ledger.use_claim(f"hash of {site}", f"keys of {site}", utc_ms())
        if site != UNKNOWN:
            description = Description(
                agent_version="1",
                rated_power_w=RATED_W,
                max_charge_w=5_000.0,
                max_discharge_w=5_000.0,
                storage_capacity_wh=10_000.0,
                soc_min=0.1,
                soc_max=0.95,
            )
            ledger.set_description(site, description, utc_ms())
    return ledger


async def stage(ledger: Ledger, desk: asyncio.Task[None], *wanted: SessionStage) -> None:
    """Waits until the one session has come so far."""
    deadline = utc_ms() + 60_000
    while True:
        sessions = ledger.market_sessions()
        if sessions and sessions[0].stage in wanted:
            return
        if desk.done():
            await desk
        assert utc_ms() < deadline, sessions
        await asyncio.sleep(0.05)


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def open_session(market: MarketProcess, delivery_s: float) -> tuple[int, int]:
    """Has the market open one; delivery start and end, UTC ms."""
    now = datetime.now(UTC)
    start = now + timedelta(seconds=3)
    times = {
        "gate_closure": now + timedelta(seconds=2),
        "delivery_start": start,
        "delivery_end": start + timedelta(seconds=delivery_s),
    }
    httpx.post(
        f"{market.url}/sessions", json={k: v.isoformat() for k, v in times.items()}, timeout=10
    ).raise_for_status()
    return round(times["delivery_start"].timestamp() * 1000), round(times["delivery_end"].timestamp() * 1000)


async def test_a_session_from_forecast_to_settlement_across_a_restart(market: MarketProcess, ledger: Ledger) -> None:
    sites = Sites(ledger)
    async with MarketClient(market.url, "murmuration") as client:
        start_ms, end_ms = open_session(market, delivery_s=6.0)
        sites.delivery_start_ms = start_ms
        desk = asyncio.create_task(Desk(CONFIG, ledger, sites, sites, sites, client, utc_ms).run())
        await stage(ledger, desk, SessionStage.ARMED, SessionStage.PASSED)
        await stop(desk)
        second = asyncio.create_task(Desk(CONFIG, ledger, sites, sites, sites, client, utc_ms).run())
        await stage(ledger, second, SessionStage.SETTLED, SessionStage.PASSED)
        await stop(second)

    (session,) = ledger.market_sessions()
    assert session.stage is SessionStage.SETTLED
    awards = {award.product: award for award in ledger.awards(session.session_id)}
    # FFR: three fifths of each inverter's rating. Droop: what the curve gives at the product's 0.5 Hz.
    assert awards["ffr"].power_w == 3 * 3_000
    assert awards["droop"].power_w == 2 * int((0.5 - 0.036) / 3 * RATED_W)
    for award in awards.values():
        assert award.state is AwardState.SETTLED
        assert award.clearing_price_per_mw_h == Decimal("465.3")
        shares = ledger.award_shares(award.award_id)
        assert {s.site for s in shares} == set(FAST if award.product == "ffr" else DROOP)

    plan = ledger.plan(session.plan_id or "")
    assert plan is not None
    assert plan.start_ms == start_ms // 900_000 * 900_000
    for planned in plan.sites:
        contracted = sites.services[planned.site].contracted_w
        assert planned.reserve_w[0] == contracted
        assert planned.inverter_power_w[0] + contracted <= RATED_W
        assert list(sites.schedules[planned.site].inverter_power_w) == list(planned.inverter_power_w)
        assert sites.valid[planned.site, "service"] == (start_ms, end_ms)
        assert sites.valid[planned.site, "schedule"][1] == end_ms + 60_000

    hours = Decimal(end_ms - start_ms) / 3_600_000
    for award in awards.values():
        settlement = ledger.settlement(award.award_id)
        assert settlement is not None
        for line in ledger.settlement_lines(award.award_id):
            assert line.samples_missing == 0
            full = Decimal(line.contracted_w) / 10**6 * hours * Decimal("465.3")
            if line.site == LAZY:
                assert not line.delivered
                assert (line.performance_factor, line.capacity_amount) == (Decimal(0), Decimal(0))
                assert line.energy_wh == 0
            else:
                assert line.delivered
                assert line.performance_factor == 1
                assert abs(line.capacity_amount - full) < Decimal("0.01")
                # 3 kW from 1.2 s to 6 s of the delivery; droop's 273 W come to 0.2 Wh
                assert line.energy_wh == (4 if line.site in FAST else 0)
    codes = {(event.code, event.site) for event in ledger.events(limit=500)}
    assert ("desk.site-left-out", UNKNOWN) in codes
    assert ("desk.site-left-out", SILENT) in codes
    assert [e.code for e in ledger.events(least=Severity.ALARM)] == []
    assert {"desk.offered", "desk.awarded", "desk.armed", "desk.active", "desk.settled"} <= {code for code, _ in codes}


async def test_a_session_nobody_can_serve_is_passed_with_the_reasons(market: MarketProcess, tmp_path: Path) -> None:
    empty = Ledger(tmp_path / "empty.db")
    empty.add_site("home-01", ("fast",), utc_ms())
    sites = Sites(empty)
    async with MarketClient(market.url, "murmuration") as client:
        open_session(market, delivery_s=5.0)
        desk = asyncio.create_task(Desk(CONFIG, empty, sites, sites, sites, client, utc_ms).run())
        await stage(empty, desk, SessionStage.PASSED)
        events = {event.code: event for event in empty.events()}
        await stop(desk)
    assert events["desk.site-left-out"].text == "left out of the offer: not enrolled"
    assert "nothing was offered" in events["desk.passed"].text
    assert empty.awards() == []
