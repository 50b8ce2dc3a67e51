"""Signs checkpoints of the audit log while the coordinator runs and when it stops, after it has checked the log."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from cloud.identity.audit import AuditSigner, verify
from cloud.model.audit import GENESIS, AuditCheckpoint, AuditEntry, hash_as
from cloud.model.records import EventRecord, Severity
from cloud.store.ledger import Ledger

log = logging.getLogger(__name__)

EVERY: Final = 100  # entries
_LOOK_S: Final = 2.0


class Notary:
    """The one who signs. A log that does not verify is not signed: an alarm says where it was changed."""

    def __init__(self, ledger: Ledger, signer: AuditSigner, utc_ms: Callable[[], int]) -> None:
        self._ledger = ledger
        self._signer = signer
        self._utc_ms = utc_ms
        self._alarmed = False
        self._signing = threading.Lock()  # a stop may sign while the thread of a cancelled look still runs

    async def run(self) -> None:
        """Sign for ever: at once, because commands may have added entries meanwhile, then whenever EVERY are new."""
        await asyncio.to_thread(self.check)
        least = 1
        while True:
            await asyncio.to_thread(self.sign, least)
            least = EVERY
            await asyncio.sleep(_LOOK_S)

    def check(self) -> None:
        """Verifies the whole log once."""
        entries = self._ledger.audit_entries()
        found = verify(entries, self._ledger.audit_checkpoints(), self._signer.public_key)
        self._alarm([str(finding) for finding in found])

    def sign(self, least: int = 1) -> bool:
        """Whether a checkpoint was signed: at least `least` entries are new, and they follow from the last one."""
        with self._signing:
            return self._sign(least)

    def _sign(self, least: int) -> bool:
        last = self._ledger.last_audit_entry()
        before = self._ledger.last_audit_checkpoint()
        signed = before.number if before else 0
        if last is None or last.number - signed < least or self._alarmed:
            return False
        # From the entry that the last checkpoint stands at: a link that was cut there shows.
        start = max(0, signed - 1)
        fresh = list(self._ledger.audit_entries(start))
        if found := _broken(fresh, start, before):
            self._alarm([found])
            return False
        checkpoint = self._signer.checkpoint(fresh[-1], self._utc_ms())
        self._ledger.add_audit_checkpoint(checkpoint)
        # Outside of the ledger, too: `vpp-cloud audit verify --anchor` takes it from here.
        log.info("audit checkpoint: anchor=%d:%s", checkpoint.number, checkpoint.entry_hash)
        return True

    def _alarm(self, found: list[str]) -> None:
        if not found:
            return
        self._alarmed = True
        text = f"the audit log was tampered with: {'; '.join(found[:3])}; run `vpp-cloud audit verify`"
        log.critical("%s", text)
        now_ms = self._utc_ms()
        self._ledger.add_event(
            EventRecord(
                site=None,
                event_id=f"audit.broken-{now_ms}",
                at_ms=now_ms,
                severity=Severity.ALARM,
                code="audit.broken",
                text=text,
            )
        )


def _broken(fresh: Sequence[AuditEntry], start: int, signed: AuditCheckpoint | None) -> str:
    """Where the entries after number `start` do not follow from the last checkpoint; empty when they do."""
    if signed is not None and (not fresh or fresh[0].entry_hash != signed.entry_hash):
        return f"entry {signed.number} is not the one that was signed"
    previous_hash = GENESIS if signed is None else fresh[0].previous_hash
    for number, entry in enumerate(fresh, start + 1):
        if entry.number != number or entry.previous_hash != previous_hash or hash_as(entry, number) != entry.entry_hash:
            return f"entry {number} does not follow from the one before"
        previous_hash = entry.entry_hash
    return ""
