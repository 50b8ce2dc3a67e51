"""What was asked of sites, what they answered, what happened, and how far each stream was read."""

import hashlib

from cloud.model.records import NOT_SENT, EventRecord, IntentRecord, IntentState, Severity, StreamOffset
from cloud.store.audit import COORDINATOR
from cloud.store.errors import LedgerError
from cloud.store.rows import to_row
from cloud.store.terms import Terms
from protos import subjects

# Acknowledgements of the agent's two processes may cross: a state is only ever replaced by a later one.
_RANK = {
    IntentState.ISSUED: 0,
    IntentState.RECEIVED: 1,
    IntentState.ACCEPTED: 2,
    IntentState.ACTIVE: 3,
    IntentState.REFUSED: 4,
    IntentState.EXPIRED: 4,
    IntentState.RELEASED: 4,
}


class Journal(Terms):
    """Intents, events and stream offsets."""

    def record_intent(
        self,
        site: str,
        kind: str,
        *,
        valid_from_ms: int,
        expires_ms: int,
        body: str,
        now_ms: int,
        actor: str = COORDINATOR,
    ) -> IntentRecord:
        """The intent under the next sequence number of its site and kind, recorded before it is sent.

        body: the intent's body as protobuf JSON. Raises LedgerError for an unknown site or kind, or one that would
        be over before it begins; Deposed in a process that leads no more.
        """
        if kind not in subjects.INTENT_KINDS:
            raise LedgerError(f"intent kind {kind!r}: one of {', '.join(subjects.INTENT_KINDS)}")
        if expires_ms <= valid_from_ms:
            raise LedgerError(f"intent {kind} for {site!r}: expires before it is valid")
        with self.transaction():
            self._check_term()
            if self._execute("SELECT 1 FROM sites WHERE site = ?", (site,)).fetchone() is None:
                raise LedgerError(f"site {site!r} is unknown: add it with vpp-cloud site add")
            (sequence,) = self._execute(
                "SELECT coalesce(max(sequence), 0) + 1 FROM intents WHERE site = ? AND kind = ?", (site, kind)
            ).fetchone()
            record = IntentRecord(
                site=site,
                kind=kind,
                sequence=sequence,
                issued_ms=now_ms,
                valid_from_ms=valid_from_ms,
                expires_ms=expires_ms,
                body=body,
                updated_ms=now_ms,
            )
            self._insert("intents", record)
            self.audit(
                "intent.issued",
                actor=actor,
                subject=site,
                at_ms=now_ms,
                kind=kind,
                sequence=sequence,
                valid_from_ms=valid_from_ms,
                expires_ms=expires_ms,
                body_sha256=hashlib.sha256(body.encode()).hexdigest(),
            )
        return record

    def update_intent_state(
        self, site: str, kind: str, sequence: int, state: IntentState, reason: str, at_ms: int
    ) -> bool:
        """Whether the state is news: it is not when the intent is unknown or has come as far already."""
        with self.transaction():
            known = self.intent(site, kind, sequence)
            if known is None or _RANK[state] <= _RANK[known.state]:
                return False
            self._execute(
                "UPDATE intents SET state = ?, reason = ?, updated_ms = ? WHERE site = ? AND kind = ? AND sequence = ?",
                (str(state), reason, at_ms, site, kind, sequence),
            )
            if state is IntentState.REFUSED:
                self.audit(
                    "intent.refused",
                    actor=f"site:{site}",
                    subject=site,
                    at_ms=at_ms,
                    kind=kind,
                    sequence=sequence,
                    reason=reason,
                )
        return True

    def set_intent_not_sent(self, site: str, kind: str, sequence: int, at_ms: int) -> None:
        """The broker did not take the intent: whoever asked for it was told so, and it must not come into force."""
        with self.transaction():
            self._execute(
                "UPDATE intents SET state = ?, reason = ?, updated_ms = ? WHERE site = ? AND kind = ? AND sequence = ?",
                (str(IntentState.REFUSED), NOT_SENT, at_ms, site, kind, sequence),
            )
            self.audit("intent.not-sent", actor=COORDINATOR, subject=site, at_ms=at_ms, kind=kind, sequence=sequence)

    def reserve_broadcasts(self, group: str, count: int, now_ms: int) -> range:
        """Sequence numbers of a group that nobody else was ever given, nor will be: higher than all before them.

        They follow the clock in milliseconds, so that a ledger that came from a backup does not repeat any.
        Raises Deposed in a process that leads no more.
        """
        with self.transaction():
            self._check_term()
            row = self._execute('SELECT bound FROM broadcast_sequences WHERE "group" = ?', (group,)).fetchone()
            first = max(now_ms, row[0] if row else 0)
            self._execute(
                'INSERT INTO broadcast_sequences ("group", bound) VALUES (?, ?) '
                'ON CONFLICT ("group") DO UPDATE SET bound = excluded.bound',
                (group, first + count),
            )
        return range(first, first + count)

    def latest_intent(self, site: str, kind: str) -> IntentRecord | None:
        """The newest intent of a site and kind."""
        return self._one(
            IntentRecord,
            "SELECT * FROM intents WHERE site = ? AND kind = ? ORDER BY sequence DESC LIMIT 1",
            (site, kind),
        )

    def intent(self, site: str, kind: str, sequence: int) -> IntentRecord | None:
        return self._one(
            IntentRecord,
            "SELECT * FROM intents WHERE site = ? AND kind = ? AND sequence = ?",
            (site, kind, sequence),
        )

    def intents(self, *, site: str | None = None, kind: str | None = None, limit: int = 1000) -> list[IntentRecord]:
        """Intents of a site or kind, or all, newest first."""
        return self._all(
            IntentRecord,
            "SELECT * FROM intents WHERE (:site IS NULL OR site = :site) AND (:kind IS NULL OR kind = :kind) "
            "ORDER BY issued_ms DESC, sequence DESC, site, kind LIMIT :limit",
            {"site": site, "kind": kind, "limit": limit},
        )

    def latest_intents(self, kind: str | None = None) -> list[IntentRecord]:
        """The newest intent of every site, of each kind or of one."""
        return self._all(
            IntentRecord,
            "SELECT i.* FROM intents i JOIN (SELECT site, kind, max(sequence) AS sequence FROM intents "
            "WHERE :kind IS NULL OR kind = :kind GROUP BY site, kind) newest USING (site, kind, sequence) "
            "ORDER BY i.site, i.kind",
            {"kind": kind},
        )

    def add_event(self, event: EventRecord) -> bool:
        """Whether the event is new: its site and id were not recorded before."""
        row = {name: value for name, value in to_row(event).items() if name != "number"}
        names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        known = "SELECT 1 FROM events WHERE coalesce(site, '') = coalesce(:site, '') AND event_id = :event_id"
        sql = f"INSERT INTO events ({names}) SELECT {marks} WHERE NOT EXISTS ({known})"
        return self._execute(sql, row).rowcount == 1

    def events(
        self,
        *,
        after: int | None = None,
        site: str | None = None,
        least: Severity = Severity.INFO,
        limit: int = 200,
    ) -> list[EventRecord]:
        """Events in order of recording: the first `limit` ones after number `after`, or else the last `limit` ones.

        least: leaves out what is less severe.
        """
        wanted = list(Severity)[list(Severity).index(least) :]
        marks = ", ".join("?" for _ in wanted)
        where = f"number > ? AND (? IS NULL OR site = ?) AND severity IN ({marks})"
        values = [after or 0, site, site, *map(str, wanted), limit]
        order = "DESC" if after is None else "ASC"
        found = self._all(EventRecord, f"SELECT * FROM events WHERE {where} ORDER BY number {order} LIMIT ?", values)
        return found[::-1] if after is None else found

    def stream_offset(self, stream: str) -> StreamOffset | None:
        return self._one(StreamOffset, "SELECT * FROM stream_offsets WHERE stream = ?", (stream,))

    def set_stream_offset(self, offset: StreamOffset) -> None:
        """To be called in the transaction that keeps what was read."""
        self._put("stream_offsets", "stream", offset)
