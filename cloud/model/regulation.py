"""A regulation contract as it was carried out, and what its following was worth, as the ledger keeps it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RegulationRecord:
    """A group that followed an operator's signal for a time. What the score is made of is None before it is scored.

    Scores are 0..1, 1 is best; correlation, delay and precision are there where the service's operator has them.
    """

    regulation_id: str  # the award_id of its sites' services
    group: str
    service_id: str
    service_version: int
    service_toml: str
    power_w: int  # contracted, of the group together
    start_ms: int
    end_ms: int  # of the signal, or else of the contract
    actor: str
    ended: bool = False  # the signal has ended: it is not followed any more
    signals: int = 0  # values that were broadcast
    scored_ms: int | None = None
    score: float | None = None  # one less the error, by the operator's own score or else by the service's envelope
    correlation: float | None = None
    delay: float | None = None
    precision: float | None = None
    coverage: float | None = None  # share of the sites' time that was measured
    note: str = ""  # why there is no score
