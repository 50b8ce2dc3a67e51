"""Least times of running and resting, and the longest that a load is kept waiting."""

import math
from dataclasses import dataclass

from edge_agent.model.devices import FlexiblePlate
from edge_agent.model.values import PowerBounds, Proposal

DRAWS_SHARE = 0.5  # of the least that it can draw: from here on it runs
SOURCE = "least times"


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The owner's, or the device's."""

    min_run_s: float = 0.0
    min_off_s: float = 0.0
    max_off_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Whether it runs, and since when."""

    runs: bool
    since_s: float = -math.inf  # it was so when it was first seen: nobody knows


def follow(run: Run | None, power_w: float, plate: FlexiblePlate, now_s: float) -> Run:
    """After a reading of its power."""
    runs = -power_w >= DRAWS_SHARE * plate.least_draw_w
    if run is None:
        # How long it has rested is not known: from now on it is counted.
        return Run(runs=runs, since_s=-math.inf if runs else now_s)
    return run if run.runs is runs else Run(runs=runs, since_s=now_s)


def rests(run: Run, times: Times, now_s: float) -> Proposal | None:
    """It has not rested for long enough to begin again."""
    left_s = run.since_s + times.min_off_s - now_s
    if run.runs or left_s <= 0:
        return None
    return Proposal(
        source=SOURCE, bounds=PowerBounds(lower_w=0.0, upper_w=0.0), note=f"rests for {_span(left_s)} at least"
    )


def goes_on(run: Run, times: Times, plate: FlexiblePlate, now_s: float) -> Proposal | None:
    """It has not run for long enough to end, or was kept from running for too long."""
    for_s = now_s - run.since_s
    if not run.runs and math.isfinite(times.max_off_s) and for_s >= times.max_off_s:
        must = PowerBounds(lower_w=-plate.max_draw_w, upper_w=-plate.max_draw_w)
        return Proposal(source=SOURCE, bounds=must, note=f"it was kept from running for {_span(for_s)}")
    if run.runs and for_s < times.min_run_s:
        still = PowerBounds(lower_w=-plate.max_draw_w, upper_w=-plate.least_draw_w)
        return Proposal(source=SOURCE, bounds=still, note=f"runs for {_span(times.min_run_s - for_s)} more at least")
    return None


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
