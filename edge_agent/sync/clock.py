"""The coordinator's time, as this gateway knows it: schedules begin by it, whatever the system clock is set to.

Each answer of the coordinator bears its time, so a request that left at b and was answered at a (monotonic) says that
coordinator less monotonic is its time less (a + b) / 2, to within (a - b) / 2 either side. Between measurements the
gateway's crystal may run off, and the best measurement is the one whose bound, grown by its age, is the narrowest.
"""

from dataclasses import dataclass

from edge_agent.model.clock import Clock

DRIFT = 100e-6  # of a cheap crystal over all temperatures, s a s
STEP_MS = 250.0  # the system clock was set, rather than slewed, if it moved so far against the monotonic one in a tick


@dataclass(frozen=True, slots=True)
class Measurement:
    """One exchange with the coordinator."""

    at_s: float  # monotonic
    ahead_ms: float  # the coordinator's UTC less the monotonic clock
    bound_ms: float  # either side, then

    def uncertainty_ms(self, now_s: float) -> float:
        """Either side, now."""
        return self.bound_ms + 1e3 * DRIFT * (now_s - self.at_s)


def measured(before_s: float, after_s: float, coordinator_ms: float) -> Measurement:
    """From the instants (monotonic) of a request and its answer, and the time that the answer bears."""
    middle_s = (before_s + after_s) / 2
    return Measurement(middle_s, coordinator_ms - 1e3 * middle_s, 1e3 * (after_s - before_s) / 2)


def better(held: Measurement | None, new: Measurement) -> Measurement:
    """The one that says more, at the instant of the new one."""
    if held is None or new.bound_ms <= held.uncertainty_ms(new.at_s):
        return new
    return held


class CoordinatorClock:
    """A Clock whose UTC is the coordinator's; the system's until the coordinator has been heard."""

    def __init__(self, system: Clock) -> None:
        self._system = system
        self._system_ahead_ms = self._ahead_ms()
        self.best: Measurement | None = None

    def take(self, new: Measurement) -> bool:
        """Whether the measurement is better than what was known."""
        best = better(self.best, new)
        changed = best is not self.best
        self.best = best
        return changed

    def monotonic_s(self) -> float:
        return self._system.monotonic_s()

    def utc_ms(self) -> int:
        if self.best is None:
            return self._system.utc_ms()
        return round(1e3 * self._system.monotonic_s() + self.best.ahead_ms)

    def offset_ms(self) -> float:
        """The system's UTC less the coordinator's; 0 while that is not known."""
        return 0.0 if self.best is None else self._ahead_ms() - self.best.ahead_ms

    def uncertainty_ms(self) -> float:
        """Of this clock, either side; infinite while the coordinator has not been heard."""
        return float("inf") if self.best is None else self.best.uncertainty_ms(self._system.monotonic_s())

    def stepped_ms(self) -> float:
        """How far the system clock was set since this was asked before; 0 where it only ran."""
        before, self._system_ahead_ms = self._system_ahead_ms, self._ahead_ms()
        step_ms = self._system_ahead_ms - before
        return step_ms if abs(step_ms) >= STEP_MS else 0.0

    def _ahead_ms(self) -> float:
        return self._system.utc_ms() - 1e3 * self._system.monotonic_s()
