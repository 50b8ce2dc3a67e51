"""The site's frequency: its sources in their order, the one in use, and what is told when that changes."""

import math
from dataclasses import dataclass
from typing import Any

from edge_agent.control.frequency import Chosen, Reading, Watch, choose, misfit
from edge_agent.model.clock import Clock
from edge_agent.model.devices import InverterReading, MeterReading
from edge_agent.model.values import Sample
from edge_agent.runtime.messages import Reporter, Severity
from edge_agent.runtime.sources import Source, aged
from protos.services import GRID_RANGE_HZ, Service

TOLD_AFTER_S = 1.0  # a glitch is not worth telling
_NOTHING = MeterReading()


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequencySource:
    """One half of a device, as a source of frequency."""

    name: str
    priority: int  # 1 is best
    source: Source[InverterReading] | Source[MeterReading]


class GridFrequency:
    """Chooses a frequency each cycle."""

    def __init__(self, *, clock: Clock, reporter: Reporter, period_s: float, nominal_v: float | None) -> None:
        self._clock = clock
        self._reporter = reporter
        self._period_s = period_s
        self._nominal_v = nominal_v
        self._watches: dict[str, Watch] = {}
        self._told: str | None = None  # the source in use as last told; None: none was ever
        self._other_since_s: float | None = None
        self._blind_since_s: float | None = None
        self.chosen = Chosen(frequency_hz=_NOTHING.frequency_hz)

    def look(self, sources: list[FrequencySource], now_s: float) -> Sample:
        """The frequency that may be acted upon now, else why there is none. `sources`: best first."""
        readings = []
        for each in sources:
            reading, healthy = each.source.reading or _NOTHING, each.source.healthy
            sample = reading.frequency_hz
            if math.isnan(sample.value) and not sample.reason:  # it has no such register, or was never read
                continue
            readings.append(
                Reading(
                    source=each.name,
                    frequency_hz=aged(sample, healthy=healthy, now_s=now_s),
                    voltage_v=aged(reading.voltage_v, healthy=healthy, now_s=now_s),
                    interval_s=reading.frequency_interval_s if isinstance(reading, MeterReading) else None,
                )
            )
        self._watches, self.chosen = choose(self._watches, readings, now_s=now_s, nominal_v=self._nominal_v)
        self._tell(now_s)
        return self.chosen.frequency_hz

    def misfit(self, service: Service, *, swing_s: float) -> str:
        """Why a service cannot be armed on the frequency there is; empty where it can, or nobody knows yet.

        swing_s: what the site's own ramp limit needs for the contracted power [s].
        """
        now_s = self._clock.monotonic_s()
        hz = self.chosen.frequency_hz.good
        if hz is not None and abs(hz - service.nominal_hz) > GRID_RANGE_HZ:
            return f"{service.id} is for a grid of {service.nominal_hz} Hz, this one has {hz:.2f} Hz"
        if self.chosen.source:
            watch = self._watches[self.chosen.source]
            return misfit(service, watch.timing, self.chosen.source, period_s=self._period_s, swing_s=swing_s)
        blind = self._blind_since_s is not None and now_s - self._blind_since_s >= TOLD_AFTER_S
        if blind and not self.chosen.silent:  # a silent device may answer again
            return f"{service.id}: no frequency can be acted upon: {self.chosen.frequency_hz.reason}"
        return ""

    def summary(self) -> dict[str, Any]:
        """For people: the source in use, what is wrong with the others, and how late each one is."""
        return {
            "frequency_source": self.chosen.source or None,
            "frequency_doubts": dict(self.chosen.doubts),
            "frequency_sources": {
                name: {
                    "interval_s": round(watch.timing.interval_s, 3),
                    "age_s": round(watch.timing.age_s, 3),
                    "measured": watch.timing.measured,
                }
                for name, watch in self._watches.items()
            },
        }

    def _tell(self, now_s: float) -> None:
        source = self.chosen.source
        if source:
            self._blind_since_s = None
        elif self._blind_since_s is None:
            self._blind_since_s = now_s
        if source == self._told or (self._told is None and not source and self.chosen.silent):
            self._other_since_s = None
            return
        if self._told is None and source:
            self._told = source  # the first one is no news
            return
        if self._other_since_s is None:
            self._other_since_s = now_s
        # A device that is merely silent is told of as such.
        if now_s - self._other_since_s < TOLD_AFTER_S or (not source and self.chosen.silent):
            return
        doubts = "; ".join(f"{name}: {doubt}" for name, doubt in self.chosen.doubts.items())
        if source:
            text = f"frequency comes from {source}" + (f" ({doubts})" if doubts else "")
            self._reporter.event("frequency.source", Severity.INFO, text)
        else:
            self._reporter.event("frequency.doubted", Severity.WARNING, f"no frequency is acted upon: {doubts}")
        self._told, self._other_since_s = source, None
