"""Plans, market sessions, offers, awards and what they came to."""

from collections.abc import Sequence
from decimal import Decimal

from cloud.model.records import (
    AwardRecord,
    AwardShare,
    AwardState,
    MarketSession,
    OfferRecord,
    PlanRecord,
    Settlement,
    SettlementLine,
)
from cloud.store.database import LedgerDatabase
from cloud.store.errors import LedgerError


class Trades(LedgerDatabase):
    """What was planned, sold and paid. A put replaces the row of the same id, so that it may be repeated."""

    def put_plan(self, plan: PlanRecord) -> None:
        self._put("plans", "plan_id", plan)

    def plan(self, plan_id: str) -> PlanRecord | None:
        return self._one(PlanRecord, "SELECT * FROM plans WHERE plan_id = ?", (plan_id,))

    def plans(self, limit: int = 50) -> list[PlanRecord]:
        """The latest plans, newest first."""
        return self._all(PlanRecord, "SELECT * FROM plans ORDER BY created_ms DESC, plan_id LIMIT ?", (limit,))

    def put_market_session(self, session: MarketSession) -> None:
        self._put("market_sessions", "session_id", session)

    def market_session(self, session_id: str) -> MarketSession | None:
        return self._one(MarketSession, "SELECT * FROM market_sessions WHERE session_id = ?", (session_id,))

    def market_sessions(self) -> list[MarketSession]:
        """All sessions, by beginning of delivery."""
        return self._all(MarketSession, "SELECT * FROM market_sessions ORDER BY delivery_start_ms, session_id")

    def put_offer(self, offer: OfferRecord) -> None:
        self._put("offers", "offer_id", offer)

    def offers(self, session_id: str | None = None) -> list[OfferRecord]:
        return self._all(
            OfferRecord,
            "SELECT * FROM offers WHERE ? IS NULL OR session_id = ? ORDER BY created_ms, offer_id",
            (session_id, session_id),
        )

    def put_award(self, award: AwardRecord, shares: Sequence[AwardShare]) -> None:
        """Keeps the award and its parts together. Raises LedgerError where the parts are not the award."""
        if any(share.award_id != award.award_id for share in shares):
            raise LedgerError(f"award {award.award_id}: a share belongs to another award")
        total_w = sum(share.contracted_w for share in shares)
        if total_w != award.power_w:
            raise LedgerError(f"award {award.award_id}: shares sum to {total_w} W, awarded are {award.power_w} W")
        with self.transaction():
            self._put("awards", "award_id", award)
            self._execute("DELETE FROM award_shares WHERE award_id = ?", (award.award_id,))
            for share in shares:
                self._insert("award_shares", share)

    def set_award_state(self, award_id: str, state: AwardState) -> None:
        """Raises LedgerError for an unknown award."""
        changed = self._execute("UPDATE awards SET state = ? WHERE award_id = ?", (str(state), award_id)).rowcount
        if changed == 0:
            raise LedgerError(f"award {award_id} is unknown")

    def award(self, award_id: str) -> AwardRecord | None:
        return self._one(AwardRecord, "SELECT * FROM awards WHERE award_id = ?", (award_id,))

    def awards(self, session_id: str | None = None) -> list[AwardRecord]:
        """Awards of a session, or all, by beginning of delivery."""
        return self._all(
            AwardRecord,
            "SELECT * FROM awards WHERE ? IS NULL OR session_id = ? ORDER BY delivery_start_ms, award_id",
            (session_id, session_id),
        )

    def award_shares(self, award_id: str) -> list[AwardShare]:
        return self._all(AwardShare, "SELECT * FROM award_shares WHERE award_id = ? ORDER BY site", (award_id,))

    def add_settlement(self, settlement: Settlement, lines: Sequence[SettlementLine]) -> bool:
        """Keeps a settlement with its lines and marks the award settled; False when it was settled before.

        A settlement is final: a second one changes nothing. Raises LedgerError where a total is not, to the last
        digit, the sum of its parts.
        """
        _check_sums(settlement, lines)
        with self.transaction():
            if self.settlement(settlement.award_id) is not None:
                return False
            self._insert("settlements", settlement)
            for line in lines:
                self._insert("settlement_lines", line)
            self.set_award_state(settlement.award_id, AwardState.SETTLED)
        return True

    def settlement(self, award_id: str) -> Settlement | None:
        return self._one(Settlement, "SELECT * FROM settlements WHERE award_id = ?", (award_id,))

    def settlements(self) -> list[Settlement]:
        return self._all(Settlement, "SELECT * FROM settlements ORDER BY settled_ms, award_id")

    def settlement_lines(self, award_id: str) -> list[SettlementLine]:
        return self._all(SettlementLine, "SELECT * FROM settlement_lines WHERE award_id = ? ORDER BY site", (award_id,))


def _check_sums(settlement: Settlement, lines: Sequence[SettlementLine]) -> None:
    for name in ("capacity_amount", "energy_amount", "total_amount"):
        total, parts = getattr(settlement, name), sum((getattr(line, name) for line in lines), Decimal(0))
        if total != parts:
            raise LedgerError(f"settlement {settlement.award_id}: {name} is {total}, its lines sum to {parts}")
    parts_and_whole: tuple[Settlement | SettlementLine, ...] = (settlement, *lines)
    for whole in parts_and_whole:
        if whole.capacity_amount + whole.energy_amount != whole.total_amount:
            raise LedgerError(f"settlement {settlement.award_id}: capacity and energy do not make {whole.total_amount}")
    if any(line.award_id != settlement.award_id for line in lines):
        raise LedgerError(f"settlement {settlement.award_id}: a line belongs to another award")
