"""How the control loop is doing: written to a file that the bench and `vpp-agent status` read."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from edge_agent.model.clock import Clock

_SMALLEST_MS = 0.05
_GROWTH = 1.05  # of one bucket to the next: a quantile is right to 5 %
_BUCKETS = 256  # up to 3 hours
WINDOW_S = 60.0


class Histogram:
    """Durations in buckets of equal ratio; costs the same after a year as after a minute."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._largest_ms = 0.0
        self.count = 0

    def add(self, duration_s: float) -> None:
        ms = duration_s * 1e3
        bucket = 0 if ms <= _SMALLEST_MS else min(_BUCKETS - 1, math.ceil(math.log(ms / _SMALLEST_MS, _GROWTH)))
        self._counts[bucket] += 1
        self.count += 1
        self._largest_ms = max(self._largest_ms, ms)

    def quantile_ms(self, share: float) -> float:
        """The upper edge of the bucket that holds this share of the durations; 0 where there are none."""
        rank, seen = math.ceil(share * self.count), 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= rank:
                return min(self._largest_ms, _SMALLEST_MS * _GROWTH**bucket)
        return 0.0

    def plus(self, other: "Histogram") -> "Histogram":
        """Both together."""
        both = Histogram()
        both._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
        both._largest_ms = max(self._largest_ms, other._largest_ms)
        both.count = self.count + other.count
        return both

    def summary(self, name: str) -> dict[str, float]:
        return {
            f"{name}_ms_p50": round(self.quantile_ms(0.50), 3),
            f"{name}_ms_p99": round(self.quantile_ms(0.99), 3),
            f"{name}_ms_max": round(self._largest_ms, 3),
        }


class RecentHistogram:
    """Durations of the last one to two windows: how it goes now, and not how it went at the start."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends_s = clock.monotonic_s() + WINDOW_S
        self._now = Histogram()
        self._before = Histogram()

    def add(self, duration_s: float) -> None:
        now_s = self._clock.monotonic_s()
        if now_s >= self._ends_s:
            self._before, self._now = self._now, Histogram()
            self._ends_s = now_s + WINDOW_S
        self._now.add(duration_s)

    def summary(self, name: str) -> dict[str, float]:
        return self._now.plus(self._before).summary(name)


class LoopStatistics:
    """Counters of one control process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_s = clock.monotonic_s()
        self.late = RecentHistogram(clock)  # from the tick that was due to the cycle's beginning
        self.cycle = RecentHistogram(clock)  # from the cycle's beginning to its end
        self.cycles = 0
        self.missed = 0  # ticks skipped because a cycle took longer than its period
        self.applied = 0
        self.clipped = 0
        self.refused = 0
        self.held = 0  # changes that the device was spared
        self.write_failures = 0

    def summary(self) -> dict[str, Any]:
        """Everything as numbers."""
        elapsed_s = self._clock.monotonic_s() - self._started_s
        return {
            "pid": os.getpid(),
            "cycles": self.cycles,
            "missed": self.missed,
            **self.late.summary("late"),
            **self.cycle.summary("cycle"),
            "setpoints_applied": self.applied,
            "setpoints_clipped": self.clipped,
            "setpoints_refused": self.refused,
            "setpoints_held": self.held,
            "write_failures": self.write_failures,
            "elapsed_s": round(elapsed_s, 1),
            "cpu_pct": round(100 * time.process_time() / elapsed_s, 2) if elapsed_s > 0 else 0.0,
            "rss_mb": round(resident_bytes() / 1e6, 1),
        }


def resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces the file in one step: a reader finds the old content or the new."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    new.replace(path)
