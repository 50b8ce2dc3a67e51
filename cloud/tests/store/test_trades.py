"""Plans, awards and settlements: money to the last digit, every step repeatable."""

from dataclasses import replace
from decimal import Decimal

import pytest

from cloud.model.records import (
    ApiToken,
    AwardRecord,
    AwardShare,
    AwardState,
    LogInSession,
    MarketSession,
    OfferRecord,
    PlanRecord,
    SessionStage,
    Settlement,
    SettlementLine,
    SitePlan,
)
from cloud.store.errors import LedgerError
from cloud.store.ledger import Ledger

PLAN = PlanRecord(
    plan_id="plan-1",
    created_ms=1,
    start_ms=900_000,
    mtu_s=900,
    sites=(
        SitePlan(
            site="home-01",
            inverter_power_w=(100, -200),
            load_w=(300.5, 0.1),
            pv_w=(0.0, 1e-9),
            soc=(0.5, 0.4, 0.3),
            reserve_w=(2000, 2000),
        ),
    ),
)
SESSION = MarketSession(
    session_id="s-1", gate_closure_ms=5, delivery_start_ms=10, delivery_end_ms=20, stage=SessionStage.SEEN
)
OFFER = OfferRecord(
    offer_id="o-1",
    session_id="s-1",
    product="ffr",
    service_id="ercot-ffr",
    group="fast",
    power_w=5000,
    price_per_mw_h=Decimal("3.10"),
    currency="USD",
    created_ms=2,
)
AWARD = AwardRecord(
    award_id="a-1",
    session_id="s-1",
    offer_id="o-1",
    product="ffr",
    service_id="ercot-ffr",
    service_toml='id = "ercot-ffr"\n',
    group="fast",
    power_w=5000,
    clearing_price_per_mw_h=Decimal("12.3400"),
    currency="USD",
    delivery_start_ms=10,
    delivery_end_ms=20,
)
SHARES = [
    AwardShare(award_id="a-1", site="home-01", contracted_w=3000),
    AwardShare(award_id="a-1", site="home-02", contracted_w=2000),
]


def line(site: str, capacity: str, energy: str) -> SettlementLine:
    return SettlementLine(
        award_id="a-1",
        site=site,
        contracted_w=2500,
        capacity_wh=1250,
        performance_error=0.0123456789012345,
        performance_factor=Decimal("0.985"),
        delivered=True,
        samples=1800,
        samples_missing=0,
        energy_wh=-3,
        capacity_amount=Decimal(capacity),
        energy_amount=Decimal(energy),
        total_amount=Decimal(capacity) + Decimal(energy),
    )


LINES = [line("home-01", "0.10", "-0.01"), line("home-02", "0.20", "0.00")]
SETTLEMENT = Settlement(
    award_id="a-1",
    settled_ms=30,
    currency="USD",
    capacity_amount=Decimal("0.30"),
    energy_amount=Decimal("-0.01"),
    total_amount=Decimal("0.29"),
)


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    """With sites that can trade."""
    for site in ("home-01", "home-02"):
        ledger.add_site(site, ("fast",), now_ms=1)
    ledger.put_plan(PLAN)
    ledger.put_market_session(SESSION)
    ledger.put_offer(OFFER)
    return ledger


def test_what_is_put_twice_is_there_once_and_equal(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.put_plan(PLAN)
        ledger.put_market_session(replace(SESSION, stage=SessionStage.AWARDED, plan_id="plan-1"))
        ledger.put_offer(OFFER)
        ledger.put_award(AWARD, SHARES)
    assert (ledger.plan("plan-1"), ledger.plans()) == (PLAN, [PLAN])
    assert ledger.market_sessions() == [replace(SESSION, stage=SessionStage.AWARDED, plan_id="plan-1")]
    assert ledger.offers("s-1") == ledger.offers() == [OFFER]
    assert ledger.awards("s-1") == ledger.awards() == [AWARD]
    assert ledger.award_shares("a-1") == SHARES
    assert str(ledger.awards()[0].clearing_price_per_mw_h) == "12.3400"  # as it was, digit by digit
    assert ledger.awards("s-2") == []


def test_shares_must_make_the_award(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="sum to 3000 W"):
        ledger.put_award(AWARD, SHARES[:1])
    assert ledger.award("a-1") is None


def test_a_settlement_is_final(ledger: Ledger) -> None:
    ledger.put_award(AWARD, SHARES)
    assert ledger.add_settlement(SETTLEMENT, LINES)
    assert not ledger.add_settlement(replace(SETTLEMENT, settled_ms=99), LINES)
    assert ledger.settlement("a-1") == SETTLEMENT
    assert ledger.settlements() == [SETTLEMENT]
    assert ledger.settlement_lines("a-1") == LINES
    award = ledger.award("a-1")
    assert award is not None
    assert award.state is AwardState.SETTLED


def test_a_settlement_that_is_a_cent_off_is_refused(ledger: Ledger) -> None:
    ledger.put_award(AWARD, SHARES)
    off = replace(SETTLEMENT, capacity_amount=Decimal("0.31"), total_amount=Decimal("0.30"))
    with pytest.raises(LedgerError, match=r"capacity_amount is 0\.31, its lines sum to 0\.30"):
        ledger.add_settlement(off, LINES)
    crooked = [replace(LINES[0], total_amount=Decimal("0.10")), replace(LINES[1], total_amount=Decimal("0.19"))]
    with pytest.raises(LedgerError, match="do not make"):
        ledger.add_settlement(SETTLEMENT, crooked)
    assert ledger.settlements() == []


def test_log_in_links_work_once_and_sessions_end(ledger: Ledger) -> None:
    ledger.add_user("anna", ("operator",), password_hash=None, now_ms=1)
    with pytest.raises(LedgerError, match="exists already"):
        ledger.add_user("anna", (), password_hash=None, now_ms=2)
    ledger.add_log_in_token("t1", "anna", expires_ms=10, now_ms=1)
    ledger.add_log_in_token("t2", "anna", expires_ms=10, now_ms=1)
    link = ledger.log_in_token("t1", 9)
    assert link is not None
    assert link.username == "anna"
    assert ledger.log_in_token("t2", 10) is None  # over
    ledger.use_log_in_tokens("anna", 9)
    assert (ledger.log_in_token("t1", 9), ledger.log_in_token("t2", 9)) == (None, None)  # used
    session = LogInSession(session_hash="h", username="anna", created_ms=5, expires_ms=50)
    ledger.add_log_in_session(session)
    assert ledger.log_in_session("h", 49) == session
    assert ledger.log_in_session("h", 50) is None
    ledger.set_password("anna", "$argon2id$...")  # ends all sessions
    assert ledger.log_in_session("h", 6) is None
    ledger.add_log_in_session(session)
    ledger.end_log_in_session("h")
    assert ledger.log_in_session("h", 6) is None


def test_the_newest_audit_entries_by_who_and_what(ledger: Ledger) -> None:
    for actor, action in (("user:ada", "log-in"), ("user:ada", "stop"), ("user:eve", "log-in")):
        ledger.audit(action, actor=actor, subject="x", at_ms=1)

    def found(before: int | None = None, **wanted: str) -> list[tuple[str, str]]:
        entries = ledger.latest_audit_entries(before=before, limit=3, **wanted)
        return [(entry.actor[-3:], entry.action) for entry in entries]

    assert found() == [("eve", "log-in"), ("ada", "stop"), ("ada", "log-in")]
    assert found(actor="user:a") == [("ada", "stop"), ("ada", "log-in")]
    assert found(action="log") == [("eve", "log-in"), ("ada", "log-in")]
    last = ledger.last_audit_entry()
    assert last is not None
    assert found(before=last.number, actor="user:") == [("ada", "stop"), ("ada", "log-in")]


def test_accounts_and_tokens(ledger: Ledger) -> None:
    ledger.add_user("ada", ("viewer",), password_hash="h", now_ms=1)
    ledger.set_roles("ada", ("admin", "viewer"))
    ledger.set_second_factor("ada", "sealed", confirmed_ms=2)
    assert [ledger.take_second_factor("ada", step) for step in (5, 5, 4, 6)] == [True, False, False, True]
    user = ledger.user("ada")
    assert user is not None
    assert (user.roles, user.second_factor, user.totp_last_step) == (("admin", "viewer"), True, 6)
    token = ApiToken(token_hash="t", name="n", scopes=("view",), created_by="user:ada", created_ms=1, expires_ms=9)
    ledger.add_api_token(token)
    with pytest.raises(LedgerError, match="exists already"):
        ledger.add_api_token(token)
    ledger.api_token_used("t", 3)
    assert ledger.api_token("t", 8) == replace(token, used_ms=3)
    assert ledger.api_token("t", 9) is None
    ledger.revoke_api_token("n", 4)
    assert ledger.api_token("t", 5) is None
    with pytest.raises(LedgerError, match="unknown or revoked"):
        ledger.revoke_api_token("n", 5)
