"""The audit log's table: entries are added in the transaction of what they tell of, and never touched again."""

from collections.abc import Iterator
from typing import Final

from cloud.model.audit import GENESIS, AuditCheckpoint, AuditEntry, Detail, canonical, entry_hash
from cloud.store.database import LedgerDatabase

_PAGE: Final = 1000
_LAST: Final = 2**63 - 1
COORDINATOR: Final = "coordinator"


class AuditLog(LedgerDatabase):
    """Appends to the log and reads it. The table itself refuses updates and deletions."""

    def audit(self, action: str, *, actor: str, subject: str, at_ms: int, **detail: Detail) -> AuditEntry:
        """Adds an entry behind the last one. Inside `transaction()` it is there exactly if the rest is."""
        with self.transaction():
            last = self.last_audit_entry()
            number = last.number + 1 if last else 1
            previous_hash = last.entry_hash if last else GENESIS
            text = canonical(detail)
            entry = AuditEntry(
                number=number,
                at_ms=at_ms,
                actor=actor,
                action=action,
                subject=subject,
                detail=text,
                previous_hash=previous_hash,
                entry_hash=entry_hash(
                    number=number,
                    at_ms=at_ms,
                    actor=actor,
                    action=action,
                    subject=subject,
                    detail=text,
                    previous_hash=previous_hash,
                ),
            )
            self._insert("audit_entries", entry)
        return entry

    def last_audit_entry(self) -> AuditEntry | None:
        return self._one(AuditEntry, "SELECT * FROM audit_entries ORDER BY number DESC LIMIT 1")

    def audit_entries(self, after: int = 0) -> Iterator[AuditEntry]:
        """Entries after number `after`, in order, read page by page."""
        while True:
            page = self._all(
                AuditEntry, "SELECT * FROM audit_entries WHERE number > ? ORDER BY number LIMIT ?", (after, _PAGE)
            )
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].number

    def latest_audit_entries(
        self, *, before: int | None, actor: str = "", action: str = "", limit: int
    ) -> list[AuditEntry]:
        """The newest first, before number `before`; of actors and actions that begin so."""
        return self._all(
            AuditEntry,
            "SELECT * FROM audit_entries WHERE number < ? AND substr(actor, 1, ?) = ? AND substr(action, 1, ?) = ? "
            "ORDER BY number DESC LIMIT ?",
            (_LAST if before is None else before, len(actor), actor, len(action), action, limit),
        )

    def add_audit_checkpoint(self, checkpoint: AuditCheckpoint) -> None:
        self._insert("audit_checkpoints", checkpoint)

    def audit_checkpoints(self) -> list[AuditCheckpoint]:
        return self._all(AuditCheckpoint, "SELECT * FROM audit_checkpoints ORDER BY number")

    def last_audit_checkpoint(self) -> AuditCheckpoint | None:
        return self._one(AuditCheckpoint, "SELECT * FROM audit_checkpoints ORDER BY number DESC LIMIT 1")
