"""The limits at the grid connection (the owner's, the network operator's), as what they leave at the inverter. Pure.

The meter sees the inverter less the home's load. What the home takes is followed with a short lag, because inverter
and meter are not read at the same instant and a step of the inverter would look like one of the load.
"""

from dataclasses import dataclass
from math import exp, floor, isfinite

from edge_agent.model.intent import Envelope
from edge_agent.model.values import PowerBounds

LAG_S = 0.5  # network operators give an exporter seconds to come back under its limit
FORGOTTEN_S = 5.0  # without a reading the load is not known any more

UNLIMITED_W = 1e9  # beyond anything behind a grid connection of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Limits at the grid meter, magnitudes [W]; None: there is none."""

    export_limit_w: float | None = None
    import_limit_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the home takes, as followed so far; positive when consuming."""

    load_w: float = 0.0
    at_s: float = float("-inf")  # of the last reading


def granted(envelope: Envelope, now_s: float) -> Connection:
    """What the grid operator allows now; nothing is limited before the first and after the last of its units."""
    unit = floor((now_s - envelope.start_s) / envelope.mtu_s)
    if not 0 <= unit < len(envelope.export_limit_w):
        return Connection()
    return Connection(export_limit_w=envelope.export_limit_w[unit], import_limit_w=envelope.import_limit_w[unit])


def tighter(one: Connection, other: Connection) -> Connection:
    """The limits of both."""
    return Connection(
        export_limit_w=_lower(one.export_limit_w, other.export_limit_w),
        import_limit_w=_lower(one.import_limit_w, other.import_limit_w),
    )


def relaxed(held: Connection, asked: Connection, most_w: float, widest_w: float) -> Connection:
    """What stands where others are asked for than were held: narrower at once, wider by at most `most_w`.

    widest_w: a limit that was taken away ends there, for it binds nothing any more.
    """
    return Connection(
        export_limit_w=_relaxed(held.export_limit_w, asked.export_limit_w, most_w, widest_w),
        import_limit_w=_relaxed(held.import_limit_w, asked.import_limit_w, most_w, widest_w),
    )


def follow(load: Load, inverter_w: float | None, grid_w: float | None, now_s: float) -> Load:
    """The load after this cycle's readings; either may be missing."""
    if inverter_w is None or grid_w is None:
        return load
    seen_w = inverter_w - grid_w
    if not isfinite(seen_w):
        return load
    if not _known(load, now_s):
        return Load(load_w=seen_w, at_s=now_s)
    weight = 1.0 - exp(-(now_s - load.at_s) / LAG_S)
    return Load(load_w=load.load_w + weight * (seen_w - load.load_w), at_s=now_s)


def at_inverter(connection: Connection, load: Load, now_s: float) -> PowerBounds | None:
    """What the inverter may do; None where nothing is limited.

    While the load is not known, exporting is limited as if there were none, and taking power is not allowed at all.
    """
    export_w, import_w = connection.export_limit_w, connection.import_limit_w
    if export_w is None and import_w is None:
        return None
    known = _known(load, now_s)
    upper_w, lower_w = UNLIMITED_W, -UNLIMITED_W
    if export_w is not None:
        upper_w = export_w + (load.load_w if known else 0.0)
    if import_w is not None:
        lower_w = load.load_w - import_w if known else 0.0
    return PowerBounds(lower_w=min(lower_w, upper_w), upper_w=upper_w)


def _known(load: Load, now_s: float) -> bool:
    return 0.0 <= now_s - load.at_s <= FORGOTTEN_S


def _relaxed(held_w: float | None, asked_w: float | None, most_w: float, widest_w: float) -> float | None:
    if held_w is None:
        return asked_w
    if asked_w is None:
        wider_w = held_w + most_w
        return wider_w if wider_w < widest_w else None
    return min(asked_w, held_w + most_w)


def _lower(one_w: float | None, other_w: float | None) -> float | None:
    if one_w is None or other_w is None:
        return one_w if other_w is None else other_w
    return min(one_w, other_w)
