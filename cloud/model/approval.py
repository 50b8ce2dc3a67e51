"""A dispatch that waits for a second person."""

from dataclasses import dataclass
from typing import Final

GRANT_MS: Final = 15 * 60_000  # from its asking


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Asked for when a dispatch was stopped; granted, or denied, by somebody else than who dispatched; used once."""

    number: int
    area: str
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

    @property
    def is_open(self) -> bool:
        """Whether it was neither denied nor used."""
        return self.denied_ms is None and self.used_ms is None

    @property
    def expires_ms(self) -> int:
        """Afterwards it can be neither granted nor used: the dispatch has to be asked for anew."""
        return self.asked_ms + GRANT_MS

    def waits(self, now_ms: int) -> bool:
        """Whether it can be answered."""
        return self.is_open and self.granted_ms is None and now_ms < self.expires_ms

    def state(self, now_ms: int) -> str:
        """What became of it, in words."""
        if self.denied_by:
            return f"denied by {self.denied_by}"
        if self.granted_by:
            return f"{'sent, ' if self.used_ms else ''}granted by {self.granted_by}"
        return "waits" if now_ms < self.expires_ms else "ran out"
