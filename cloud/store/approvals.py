"""Dispatches that wait for a second person, and who let them through."""

import json
from dataclasses import replace
from typing import Final

from cloud.model.approval import Approval
from cloud.store.audit import AuditLog
from cloud.store.errors import LedgerError

LIMITS_SET: Final = "limits.set"


class Approvals(AuditLog):
    """Every step is in the audit log."""

    def ask_approval(self, area: str, from_w: float, to_w: float, reason: str, now_ms: int, actor: str) -> Approval:
        with self.transaction():
            (number,) = self._execute("SELECT coalesce(max(number), 0) + 1 FROM approvals").fetchone()
            asked = Approval(
                number=number, area=area, from_w=from_w, to_w=to_w, reason=reason, asked_by=actor, asked_ms=now_ms
            )
            self._insert("approvals", asked)
            self._note("dispatch.stopped", asked, actor, now_ms)
        return asked

    def approval(self, number: int) -> Approval | None:
        return self._one(Approval, "SELECT * FROM approvals WHERE number = ?", (number,))

    def approvals(self, *, area: str | None = None, since_ms: int = 0) -> list[Approval]:
        """Those asked for since then, the newest first."""
        return self._all(
            Approval,
            "SELECT * FROM approvals WHERE (:area IS NULL OR area = :area) AND asked_ms >= :since ORDER BY number DESC",
            {"area": area, "since": since_ms},
        )

    def answer_approval(self, number: int, *, grant: bool, now_ms: int, actor: str) -> Approval:
        """Raises LedgerError where there is nothing to answer, or who asks answers himself."""
        with self.transaction():
            asked = self.approval(number)
            if asked is None:
                raise LedgerError(f"approval {number}: there is none; see vpp-cloud approve list")
            if not asked.is_open or asked.granted_ms is not None:
                raise LedgerError(f"approval {number}: was answered before; see vpp-cloud approve list")
            if now_ms >= asked.expires_ms:
                raise LedgerError(f"approval {number}: ran out; whoever wants it asks anew")
            if grant and actor == asked.asked_by:
                raise LedgerError(f"approval {number}: {actor} asked for it, and cannot grant it; ask somebody else")
            if grant:
                answered = replace(asked, granted_by=actor, granted_ms=now_ms)
            else:
                answered = replace(asked, denied_by=actor, denied_ms=now_ms)
            self._put("approvals", "number", answered)
            self._note("dispatch.granted" if grant else "dispatch.denied", answered, actor, now_ms)
        return answered

    def use_approval(self, granted: Approval, now_ms: int) -> None:
        with self.transaction():
            self._put("approvals", "number", replace(granted, used_ms=now_ms))
            self._note("dispatch.approved_sent", granted, granted.asked_by, now_ms)

    def note_limits(self, limits: str, now_ms: int, actor: str) -> bool:
        """Puts the fleet's limits into the audit log, unless they are what was put there last; whether they changed."""
        with self.transaction():
            row = self._execute(
                "SELECT detail FROM audit_entries WHERE action = ? ORDER BY number DESC LIMIT 1", (LIMITS_SET,)
            ).fetchone()
            if row is not None and json.loads(row[0]).get("limits") == limits:
                return False
            self.audit(LIMITS_SET, actor=actor, subject="fleet guard", at_ms=now_ms, limits=limits)
        return True

    def _note(self, action: str, approval: Approval, actor: str, now_ms: int) -> None:
        self.audit(
            action,
            actor=actor,
            subject=approval.area,
            at_ms=now_ms,
            approval=approval.number,
            from_w=round(approval.from_w),
            to_w=round(approval.to_w),
            reason=approval.reason,
        )
