"""A vehicle's stay at its charger: what went into it, what is still missing, and how fast it really charges.

Most chargers tell that a vehicle is there and what it draws, and nothing of what it needs: that the owner says, as
energy from plugging in to a time. What went in is counted by the charger's own counter where it has one, for it goes on
while nobody listens, else from its power. An agent that does not know what came before it counts from nothing:
the vehicle gets more than it needs rather than less.
"""

import math
from dataclasses import dataclass, replace

from edge_agent.model.devices import ChargerReading
from edge_agent.model.values import Quality, Sample

LONGEST_GAP_S = 60.0  # between two readings, over which the power before is taken to have gone on
SETTLED_S = 30.0  # from a command to the power that a vehicle then draws
LEARNING_S = 60.0
NEARLY = 0.9
LEAST_SHARE = 0.1  # what draws less than this of what it is offered is full, or has its own reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """The owner's wish for a stay."""

    energy_wh: float  # into the vehicle, at the charger's terminals
    ready_at_ms: int  # UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """What is known of the place at the charger."""

    at_s: float  # of the last reading
    plugged: bool = False
    drawn_wh: float = 0.0  # since the vehicle came
    power_w: float = 0.0  # as last read
    session_wh: float = math.nan  # the charger's own counter, as last read
    wants: Wants | None = None
    share: float = 1.0  # of what it is offered, that a vehicle draws; the last one's for the next


def follow(
    stay: Stay,
    reading: ChargerReading,
    wants: Wants | None,
    *,
    most_w: float,
    told_w: float | None,
    told_for_s: float,
    now_s: float,
) -> Stay:
    """The stay after a reading.

    wants: of a vehicle that comes now; one that stands there keeps what was wanted when it came.
    most_w: what the charger can offer, a magnitude; what a vehicle takes of that is learned where it is offered nearly.
    told_w: what the charger obeys now [W], since `told_for_s`; None: its own default.
    """
    gap_s = max(0.0, min(LONGEST_GAP_S, now_s - stay.at_s))
    power_w, session_wh = reading.power_w.good, reading.session_wh.good
    if reading.plugged is False:
        return Stay(at_s=now_s, share=stay.share)
    if reading.plugged is None:
        return replace(stay, at_s=now_s)
    if not stay.plugged:
        told_wh = session_wh if session_wh is not None else math.nan
        return Stay(at_s=now_s, plugged=True, power_w=power_w or 0.0, session_wh=told_wh, wants=wants, share=stay.share)
    if session_wh is None or math.isnan(stay.session_wh):
        more_wh = max(0.0, -stay.power_w) * gap_s / 3600.0
    else:  # a counter that fell has begun anew
        more_wh = session_wh - stay.session_wh if session_wh >= stay.session_wh else session_wh
    share = stay.share
    if told_w is not None and -told_w >= NEARLY * most_w and told_for_s >= SETTLED_S and power_w is not None:
        seen = min(1.0, power_w / told_w)
        if seen >= LEAST_SHARE:
            share += (seen - share) * (1.0 - math.exp(-gap_s / LEARNING_S))
    return replace(
        stay,
        at_s=now_s,
        drawn_wh=stay.drawn_wh + more_wh,
        power_w=power_w if power_w is not None else stay.power_w,
        session_wh=session_wh if session_wh is not None else stay.session_wh,
        share=share,
    )


def completed(reading: ChargerReading, stay: Stay, utc_ms: int) -> ChargerReading:
    """The reading with what the owner wants, where the charger does not tell itself."""
    wants = stay.wants
    if wants is None or not stay.plugged or reading.needed_wh.good is not None:
        return reading
    at_s = reading.power_w.at_s
    return replace(
        reading,
        needed_wh=Sample(max(0.0, wants.energy_wh - stay.drawn_wh), Quality.GOOD, at_s),
        ready_in_s=Sample((wants.ready_at_ms - utc_ms) / 1e3, Quality.GOOD, at_s),
    )
