"""What waits for a second person: dispatches and changes of limits, who let them through, and the limits in force."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from cloud.model.approval import CHANGE_MS, Approval, Limits, person
from cloud.store.errors import LedgerError
from cloud.store.registry import Registry

LIMITS_SET: Final = "limits.set"
FLEET: Final = "fleet guard"
_DAY_MS: Final = 24 * 3_600_000


class Approvals(Registry):
    """Every step is in the audit log."""

    def ask_approval(self, area: str, from_w: float, to_w: float, reason: str, now_ms: int, actor: str) -> Approval:
        """Of a dispatch."""
        with self.transaction():
            asked = Approval(
                number=self._next_number(),
                area=area,
                from_w=from_w,
                to_w=to_w,
                reason=reason,
                asked_by=actor,
                asked_ms=now_ms,
            )
            self._insert("approvals", asked)
            self._note("dispatch.stopped", asked, actor, now_ms)
        return asked

    def ask_change(self, limits: Limits, area: str, change: str, reason: str, now_ms: int, actor: str) -> Approval:
        """Of limits, which stay as they are until it is granted. The same change that waits already is not asked again.

        area: the site, or FLEET. Raises LedgerError for an unknown site.
        """
        with self.transaction():
            if limits is Limits.SITE and self.site(area) is None:
                raise LedgerError(f"site {area!r} is unknown: see vpp-cloud site list")
            for known in self.approvals(area=area):
                if known.limits is limits and known.change == change and known.waits(now_ms):
                    return known
            asked = Approval(
                number=self._next_number(),
                area=area,
                from_w=0.0,
                to_w=0.0,
                reason=reason,
                asked_by=actor,
                asked_ms=now_ms,
                limits=limits,
                change=change,
            )
            self._insert("approvals", asked)
            self._note("limits.asked", asked, actor, now_ms)
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

    def recent_approvals(self, now_ms: int) -> list[Approval]:
        """Those that wait and those asked for within a day, the newest first."""
        found = self.approvals(since_ms=now_ms - CHANGE_MS)
        return [each for each in found if each.waits(now_ms) or now_ms - each.asked_ms < _DAY_MS]

    def may_grant(self, actor: str, asked: Approval) -> bool:
        """Whether he is somebody else than who asked, or the only one there is."""
        return person(actor) != person(asked.asked_by) or self.single_operator()

    def answer_approval(self, number: int, *, grant: bool, now_ms: int, actor: str) -> Approval:
        """A change of limits that is granted is in force with it.

        Raises LedgerError where there is nothing to answer, or who asks answers himself (`single_operator` lets him).
        """
        with self.transaction():
            asked = self.approval(number)
            if asked is None:
                raise LedgerError(f"approval {number}: there is none; see vpp-cloud approve list")
            if not asked.is_open or asked.granted_ms is not None:
                raise LedgerError(f"approval {number}: was answered before; see vpp-cloud approve list")
            if now_ms >= asked.expires_ms:
                raise LedgerError(f"approval {number}: ran out; whoever wants it asks anew")
            if grant and not self.may_grant(actor, asked):
                raise LedgerError(
                    f"approval {number}: {asked.asked_by} asked for it, and cannot grant it; ask somebody else"
                )
            what = "dispatch" if asked.limits is None else "limits"
            if not grant:
                denied = replace(asked, denied_by=actor, denied_ms=now_ms)
                self._put("approvals", "number", denied)
                self._note(f"{what}.denied", denied, actor, now_ms)
                return denied
            granted = replace(asked, granted_by=actor, granted_ms=now_ms)
            if granted.limits is not None:
                granted = replace(granted, used_ms=now_ms)
            self._put("approvals", "number", granted)
            alone = person(actor) == person(asked.asked_by)
            self._note(f"{what}.granted", granted, actor, now_ms, single_operator=alone)
            if granted.limits is Limits.SITE:
                self.configure_site(granted.area, granted.change or "", now_ms, granted.asked_by)
            elif granted.limits is Limits.FLEET:
                self.set_fleet_limits(granted.change or "", now_ms, granted.asked_by)
        return granted

    def use_approval(self, granted: Approval, now_ms: int) -> None:
        with self.transaction():
            self._put("approvals", "number", replace(granted, used_ms=now_ms))
            self._note("dispatch.approved_sent", granted, granted.asked_by, now_ms)

    def fleet_limits(self) -> str | None:
        """The fleet guard's limits in force, as JSON of [fleet_guard]; None before the first start of a coordinator."""
        row = self._execute(
            "SELECT detail FROM audit_entries WHERE action = ? ORDER BY number DESC LIMIT 1", (LIMITS_SET,)
        ).fetchone()
        return str(json.loads(row[0])["limits"]) if row is not None else None

    def set_fleet_limits(self, limits: str, now_ms: int, actor: str) -> None:
        """Puts them in force, without asking anybody."""
        self.audit(LIMITS_SET, actor=actor, subject=FLEET, at_ms=now_ms, limits=limits)

    def single_operator(self) -> bool:
        """Whether whoever asks may grant it himself."""
        limits = self.fleet_limits()
        return limits is not None and json.loads(limits).get("single_operator") is True

    def guard_states(self, sender: str) -> dict[str, bytes]:
        """What `keep_guard_states` kept for this sender, by name."""
        rows = self._execute("SELECT name, state FROM guard_states WHERE sender = ?", (sender,)).fetchall()
        return {name: state.encode() for name, state in rows}

    def keep_guard_states(self, sender: str, states: Mapping[str, bytes]) -> None:
        """Where the fleet guard's accounts stand, for the process that takes over; over what was kept by name."""
        with self.transaction():
            for name, state in states.items():
                self._execute(
                    "INSERT INTO guard_states (sender, name, state) VALUES (?, ?, ?) "
                    "ON CONFLICT (sender, name) DO UPDATE SET state = excluded.state",
                    (sender, name, state.decode()),
                )

    def _next_number(self) -> int:
        (number,) = self._execute("SELECT coalesce(max(number), 0) + 1 FROM approvals").fetchone()
        return int(number)

    def _note(self, action: str, approval: Approval, actor: str, now_ms: int, *, single_operator: bool = False) -> None:
        detail: dict[str, Any] = {"approval": approval.number, "reason": approval.reason}
        if approval.limits is None:
            detail |= {"from_w": round(approval.from_w), "to_w": round(approval.to_w)}
        else:
            detail |= {"limits": str(approval.limits), "change": approval.change or ""}
        if single_operator:
            detail["single_operator"] = True
        self.audit(action, actor=actor, subject=approval.area, at_ms=now_ms, **detail)
