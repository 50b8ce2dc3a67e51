"""What can be wrong with stored data, as one line a person can act on."""

from enum import StrEnum


class StoreError(Exception):
    """Stored data that cannot be used; the text says what, where and how to mend it."""


class LedgerError(StoreError):
    """The ledger refuses."""


class LedgerUnavailable(LedgerError):
    """The ledger's database is away: nothing was kept, and the same may be tried again later."""


class Deposed(LedgerError):
    """A command of a process that leads no more: nothing was recorded, nothing may be sent."""


class HistoryError(StoreError):
    """The history refuses."""


class Superseded(StoreError):
    """A part of the history is written by another process by now: nothing of this one's counts any more."""


class ClaimProblem(StrEnum):
    UNKNOWN = "unknown"
    USED = "used"
    EXPIRED = "expired"
    REPLAYED = "replayed"


class ClaimError(LedgerError):
    """A claim token that gives no right to enrol."""

    def __init__(self, problem: ClaimProblem, text: str, site: str | None = None) -> None:
        super().__init__(text)
        self.problem = problem
        self.site = site  # whose claim it is; None for a token that is nobody's


class CredentialsRefused(LedgerError):
    """A site that may have no credentials (any more)."""
