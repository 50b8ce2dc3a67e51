"""What the coordinator said to a whole group, as the control process keeps it."""

from dataclasses import dataclass

from edge_agent.model.intent import StopOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Each site reads its power off its own supply function here."""

    ticks: float  # [0.01 currency/MWh]; between two ticks where a sum of slopes meets its target there
    step_share: float  # of a vertical step at exactly this price, 0..1


@dataclass(frozen=True, slots=True, kw_only=True)
class Regulation:
    """Automatic generation control: what of its contracted power each site gives."""

    signal: float  # share, -1..1; positive raises output


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """One broadcast; its signature, group and sequence were checked by sync."""

    group: str
    sequence: int
    heard_s: float  # monotonic
    ends_s: float  # monotonic; it holds until then at the latest
    body: Price | Regulation | StopOrder
