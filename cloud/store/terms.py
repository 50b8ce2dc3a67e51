"""Who leads: every term of a leader, and that nobody commands who leads no more."""

from cloud.model.records import Term
from cloud.store.audit import AuditLog
from cloud.store.errors import Deposed


class Terms(AuditLog):
    """Terms are numbered from 1. A ledger that was given one (`term`) commands under it, or not at all."""

    term: int | None = None  # of the leader that uses this ledger; None: commands are a person's own

    def begin_term(self, holder: str, bucket_created_ms: int, revision: int, now_ms: int) -> int:
        """The number of a new term, under which this ledger commands from now on.

        bucket_created_ms, revision: the fence of the lease that its holder just took. Raises Deposed where a newer
        lease has begun a term: its holder was quicker.
        """
        with self.transaction():
            last = self.last_term()
            if last is not None and (bucket_created_ms, revision) <= (last.bucket_created_ms, last.revision):
                raise Deposed(f"the lease of {holder} is older than that of {last.holder}, who leads term {last.term}")
            term = Term(
                term=last.term + 1 if last else 1,
                holder=holder,
                bucket_created_ms=bucket_created_ms,
                revision=revision,
                began_ms=now_ms,
            )
            self._insert("terms", term)
            self.audit("term.begun", actor=holder, subject=str(term.term), at_ms=now_ms, revision=revision)
        self.term = term.term
        return term.term

    def last_term(self) -> Term | None:
        return self._one(Term, "SELECT * FROM terms ORDER BY term DESC LIMIT 1")

    def terms(self) -> list[Term]:
        return self._all(Term, "SELECT * FROM terms ORDER BY term")

    def _check_term(self) -> None:
        """To be called in the transaction of a command. Raises Deposed when somebody else leads by now."""
        if self.term is None:
            return
        last = self.last_term()
        if last is None or last.term != self.term:
            newest = f"term {last.term} of {last.holder}" if last else "no term"
            raise Deposed(f"this process led term {self.term} and leads no more: the ledger is at {newest}")
