"""What a run did, as frozen values: the report, the printed summary and the exit code are made from these alone."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeResult:
    """One home's part. Power [W], positive towards the grid; `contracted_w` is a magnitude."""

    site: str
    service_id: str
    contracted_w: int
    plan_w: float  # scheduled inverter power when the recording began
    promised_w: float  # the service's largest share of the contracted power, by the measured frequency
    delivered_w: float  # beyond the schedule at that moment
    energy_wh: int  # delivered beyond the schedule over the delivery
    performance_error: float  # mean distance from what was due, share of the contracted power
    performance_factor: Decimal
    delivered: bool  # within the service's limits
    capacity_amount: Decimal
    energy_amount: Decimal
    total_amount: Decimal
    responses_ms: tuple[float, ...]  # device side: from a crossing to the power register having moved


@dataclass(frozen=True, slots=True, kw_only=True)
class BookKeeping:
    """Telemetry frames, counted at both ends."""

    sent: int  # made by the agents, from their journals
    stored: int  # once in history, from the files themselves
    missing: int
    thinned: int  # merged into others at the gateways, for want of room
    duplicate: int
    bytes_per_value_wire: float
    bytes_per_value_disk: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The fleet over the delivery, on one grid of instants."""

    t_s: Array  # seconds from the moment the recording began
    frequency_hz: Array
    power_w: Array  # sum of the inverters
    baseline_w: Array  # sum of the schedules
    promised_w: Array  # baseline plus what the armed services promised at the measured frequency


@dataclass(frozen=True, slots=True, kw_only=True)
class HomeSeries:
    """One home over the event."""

    site: str
    service_id: str
    t_s: Array
    power_w: Array
    promised_w: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerAnswer:
    """One home's answer to its trigger, from the rig's recording at the device."""

    site: str
    t_ms: Array  # from the crossing of the threshold at the device
    share: Array  # delivered beyond what was delivered at the crossing, share of the contracted power
    full_within_ms: float  # what the service allows


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A whole run."""

    started: datetime
    machine: str
    scenario: str
    currency: str
    delivery_start: datetime
    delivery_end: datetime
    played_at: datetime
    prices: dict[str, Decimal]  # product -> clearing price per MW h
    services: dict[str, str]  # service id -> title
    thresholds_hz: dict[str, float]  # service id -> the lowest frequency at which its answer begins
    homes: tuple[HomeResult, ...]
    total_amount: Decimal  # as the settlements say, in sum
    book: BookKeeping
    fleet: Series
    per_home: tuple[HomeSeries, ...]
    answers: tuple[TriggerAnswer, ...]

    @property
    def failures(self) -> list[str]:
        """Why this run is not a success; empty if it is one."""
        failures = [
            f"{h.site} missed its service's limits: mean error {100 * h.performance_error:.1f} % of contract"
            for h in self.homes
            if not h.delivered
        ]
        if not self.homes:
            failures.append("nothing was awarded")
        if sum((h.total_amount for h in self.homes), Decimal(0)) != self.total_amount:
            failures.append("the homes' amounts do not sum to the settlement")
        if self.book.missing:
            failures.append(f"{self.book.missing} telemetry frames are missing")
        if self.book.duplicate:
            failures.append(f"{self.book.duplicate} telemetry frames are stored twice")
        return failures

    def responses_ms(self, service_id: str | None = None) -> Array:
        """Response times of all homes, or of those with one service."""
        return np.array([r for h in self.homes if service_id in (None, h.service_id) for r in h.responses_ms])
