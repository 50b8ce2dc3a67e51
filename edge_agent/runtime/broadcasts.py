"""What was said to the site's groups lately: the newest price and the newest regulation signal of each."""

from edge_agent.model.broadcast import Broadcast, Price, Regulation
from edge_agent.model.intent import StopOrder
from edge_agent.model.values import Quality, Sample

_Body = Price | Regulation | StopOrder


class Broadcasts:
    """The newest broadcast of each group and kind."""

    def __init__(self) -> None:
        self._sequences: dict[str, int] = {}
        self._newest: dict[tuple[str, type[_Body]], Broadcast] = {}

    def take(self, broadcast: Broadcast) -> bool:
        """Keeps a broadcast; False where it is not newer than what its group heard before (sync restarted)."""
        if broadcast.sequence <= self._sequences.get(broadcast.group, -1):
            return False
        self._sequences[broadcast.group] = broadcast.sequence
        self._newest[broadcast.group, type(broadcast.body)] = broadcast
        return True

    def price(self, group: str, now_s: float) -> tuple[Price | None, str]:
        """The price that holds in a group now; else None and why there is none."""
        heard, why = self._holding(group, Price, now_s)
        return (heard.body, "") if heard is not None and isinstance(heard.body, Price) else (None, why)

    def signal(self, group: str, now_s: float) -> Sample:
        """The regulation signal of a group as a sample of when it came; not good once it has expired."""
        heard, why = self._holding(group, Regulation, now_s)
        if heard is None or not isinstance(heard.body, Regulation):
            return Sample(float("nan"), Quality.BAD, float("-inf"), why)
        return Sample(heard.body.signal, Quality.GOOD, heard.heard_s)

    def _holding(self, group: str, kind: type[_Body], now_s: float) -> tuple[Broadcast | None, str]:
        said = kind.__name__.lower()
        heard = self._newest.get((group, kind))
        if heard is None:
            return None, f"group {group} has heard no {said} yet"
        if now_s >= heard.ends_s:
            return None, f"the last {said} of group {group} expired {now_s - heard.ends_s:.0f} s ago"
        return heard, ""
