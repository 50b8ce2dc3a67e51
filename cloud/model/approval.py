"""A dispatch that waits for a second person."""

from dataclasses import dataclass


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
