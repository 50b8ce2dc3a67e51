"""What was broadcast to groups that follow an operator's signal, and how their following was scored."""

from collections.abc import Sequence
from dataclasses import replace

from google.protobuf.json_format import Parse

from cloud.model.records import IntentRecord, IntentState
from cloud.model.regulation import RegulationRecord
from cloud.store.audit import AuditLog
from protos.vpp.v1 import intent_pb2

Signal = tuple[int, int]  # UTC [ms], millionths of the contracted power


class RegulationBook(AuditLog):
    """Kept by whoever broadcasts, scored by the coordinator that leads."""

    def add_regulation(self, regulation: RegulationRecord) -> None:
        with self.transaction():
            self._insert("regulations", regulation)
            self.audit(
                "regulation.began",
                actor=regulation.actor,
                subject=regulation.group,
                at_ms=regulation.start_ms,
                regulation=regulation.regulation_id,
                service=regulation.service_id,
                power_w=regulation.power_w,
                end_ms=regulation.end_ms,
            )

    def add_signals(self, regulation_id: str, signals: Sequence[Signal]) -> None:
        """Values that were broadcast, in the order of time."""
        with self.transaction():
            for at_ms, signal_e6 in signals:
                self._execute(
                    "INSERT INTO regulation_signals (regulation_id, at_ms, signal_e6) VALUES (?, ?, ?) "
                    "ON CONFLICT (regulation_id, at_ms) DO UPDATE SET signal_e6 = excluded.signal_e6",
                    (regulation_id, at_ms, signal_e6),
                )
            self._execute(
                "UPDATE regulations SET signals = signals + ? WHERE regulation_id = ?", (len(signals), regulation_id)
            )

    def end_regulation(self, regulation_id: str, end_ms: int) -> None:
        """The signal has ended."""
        self._execute("UPDATE regulations SET end_ms = ?, ended = 1 WHERE regulation_id = ?", (end_ms, regulation_id))

    def put_score(self, scored: RegulationRecord, now_ms: int) -> RegulationRecord:
        """Keeps what a regulation's following was worth."""
        scored = replace(scored, scored_ms=now_ms)
        with self.transaction():
            self._put("regulations", "regulation_id", scored)
            self.audit(
                "regulation.scored",
                actor="coordinator",
                subject=scored.group,
                at_ms=now_ms,
                regulation=scored.regulation_id,
                score=str(scored.score),
                note=scored.note,
            )
        return scored

    def regulation(self, regulation_id: str) -> RegulationRecord | None:
        return self._one(RegulationRecord, "SELECT * FROM regulations WHERE regulation_id = ?", (regulation_id,))

    def regulations(self, limit: int = 200) -> list[RegulationRecord]:
        """Newest first."""
        return self._all(
            RegulationRecord, "SELECT * FROM regulations ORDER BY start_ms DESC, regulation_id LIMIT ?", (limit,)
        )

    def unscored(self, before_ms: int) -> list[RegulationRecord]:
        """Those that were over before then and have no score yet, oldest first."""
        return self._all(
            RegulationRecord,
            "SELECT * FROM regulations WHERE scored_ms IS NULL AND end_ms < ? ORDER BY end_ms, regulation_id",
            (before_ms,),
        )

    def regulation_signals(self, regulation_id: str) -> list[Signal]:
        """What was broadcast, oldest first."""
        return [
            (int(at_ms), int(signal_e6))
            for at_ms, signal_e6 in self._execute(
                "SELECT at_ms, signal_e6 FROM regulation_signals WHERE regulation_id = ? ORDER BY at_ms",
                (regulation_id,),
            ).fetchall()
        ]

    def regulated(self, regulation: RegulationRecord) -> dict[str, tuple[int, int]]:
        """Slot and contracted power [W] of each site that was told its part and did not refuse it."""
        found = self._execute(
            "SELECT s.site, s.slot, i.body FROM intents i JOIN sites s ON s.site = i.site WHERE i.kind = 'service' "
            "AND i.state <> ? AND i.issued_ms BETWEEN ? AND ? AND i.body LIKE ? ORDER BY i.sequence",
            (str(IntentState.REFUSED), regulation.start_ms, regulation.end_ms, f"%{regulation.regulation_id}%"),
        ).fetchall()
        return {site: (int(slot), int(Parse(body, intent_pb2.Intent()).arm.contracted_w)) for site, slot, body in found}

    def schedules(self, site: str, begin_ms: int, end_ms: int) -> list[IntentRecord]:
        """Schedules of a site that may have been in force then, by sequence."""
        return self._all(
            IntentRecord,
            "SELECT * FROM intents WHERE site = ? AND kind = 'schedule' AND state <> ? AND valid_from_ms < ? "
            "AND expires_ms > ? ORDER BY sequence",
            (site, str(IntentState.REFUSED), end_ms, begin_ms),
        )
