"""What waits for a second person: a dispatch that was stopped, or a change of limits."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

GRANT_MS: Final = 15 * 60_000  # of a dispatch, from its asking
CHANGE_MS: Final = 7 * 24 * 3_600_000  # of a change of limits


class Limits(StrEnum):
    """Whose limits a change is of."""

    SITE = "site"  # what is set at a site from afar (protos/remote.py)
    FLEET = "fleet guard"  # [fleet_guard] of the coordinator's configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Asked for when a dispatch was stopped, or when limits are to change; granted, or denied, by somebody else.

    A dispatch is let through once; a change comes into force as it is granted.
    """

    number: int
    area: str  # that a dispatch would move; of a change the site, or the fleet guard
    from_w: float
    to_w: float
    reason: str
    asked_by: str
    asked_ms: int
    granted_by: str | None = None
    granted_ms: int | None = None
    denied_by: str | None = None
    denied_ms: int | None = None
    used_ms: int | None = None
    limits: Limits | None = None  # None: a dispatch
    change: str | None = None  # what the limits are to be: TOML of a site, JSON of the fleet guard

    @property
    def is_open(self) -> bool:
        """Whether it was neither denied nor used."""
        return self.denied_ms is None and self.used_ms is None

    @property
    def expires_ms(self) -> int:
        """Afterwards it can be neither granted nor used: it has to be asked for anew."""
        return self.asked_ms + (GRANT_MS if self.limits is None else CHANGE_MS)

    def waits(self, now_ms: int) -> bool:
        """Whether it can be answered."""
        return self.is_open and self.granted_ms is None and now_ms < self.expires_ms

    def state(self, now_ms: int) -> str:
        """What became of it, in words."""
        if self.denied_by:
            return f"denied by {self.denied_by}"
        if self.granted_by:
            done = "sent, " if self.limits is None else "set, "
            return f"{done if self.used_ms else ''}granted by {self.granted_by}"
        return "waits" if now_ms < self.expires_ms else "ran out"


def person(actor: str) -> str:
    """Who somebody is, whether he asks by command, in the console or through a file of his."""
    return actor.partition(":")[2] or actor
