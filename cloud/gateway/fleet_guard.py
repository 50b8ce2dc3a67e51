"""Stands before everything that moves power: what moves an area too far waits for a second person.

Which power is asked of an area is the sum over its sites' setpoints and schedules and its groups' prices, as last sent
by this process. A dispatch that is stopped leaves an approval in the ledger to be granted (`vpp-cloud approve`); the
same move is let through once while the grant is fresh, so that a loop that asks again and again goes on by itself.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from google.protobuf.json_format import Parse

from cloud.dispatch.fleet_guard import AreaLimits, AreaState, judge
from cloud.model.approval import GRANT_MS
from cloud.model.records import Site
from cloud.store.ledger import Ledger
from protos.vpp.v1 import broadcast_pb2, intent_pb2

log = logging.getLogger(__name__)

ELSEWHERE: Final = "elsewhere"  # the area of the sites that no area names
_FRESH_SITES_MS: Final = 10_000

# What a group does in total at a price [W]; None: not known.
Estimate = Callable[[str, broadcast_pb2.Price], float | None]


class SecondPersonNeeded(Exception):
    """A dispatch that was stopped before it was sent; says why, and what to grant."""


@dataclass(slots=True)
class _Asked:
    """What is asked of one area."""

    powers: dict[str, tuple[float, int]] = field(default_factory=dict)  # of whom -> power [W], until [UTC ms]
    total_w: float = 0.0
    looked_ms: int = 0

    def forget_old(self, now_ms: int) -> None:
        """Looks once a second: a schedule for everybody is a hundred thousand intents."""
        if 0 <= now_ms - self.looked_ms < 1000:
            return
        self.looked_ms = now_ms
        self.powers = {name: power for name, power in self.powers.items() if power[1] > now_ms}
        self.total_w = sum(power_w for power_w, _ in self.powers.values())


class FleetGuard:
    """Of the process that sends. Thread-safe."""

    def __init__(
        self,
        ledger: Ledger,
        limits: Mapping[str, AreaLimits],
        areas: Mapping[str, str],
        utc_ms: Callable[[], int],
        estimate: Estimate = lambda group, price: None,
    ) -> None:
        """limits: by area, with one for ELSEWHERE. areas: a group's area. estimate: where it knows nothing, a change of
        price counts as the whole rated power of the group."""
        self._ledger = ledger
        self._limits = dict(limits)
        self._areas = dict(areas)
        self._utc_ms = utc_ms
        self._estimate = estimate
        self._states: dict[str, AreaState] = {}
        self._asked: dict[str, _Asked] = {}  # by area
        self._prices: dict[str, broadcast_pb2.Price] = {}
        self._sites: dict[str, Site] = {}
        self._sites_ms = -_FRESH_SITES_MS
        self._turn = threading.Lock()
        self._resumed = False

    def use(self, limits: Mapping[str, AreaLimits], areas: Mapping[str, str]) -> None:
        """Judges by other limits from now on."""
        with self._turn:
            self._limits = dict(limits)
            if areas != self._areas:
                self._areas = dict(areas)
                self._asked, self._states, self._resumed = {}, {}, False

    def admit_intent(self, site: str, body: object, expires_ms: int, actor: str) -> None:
        """Raises SecondPersonNeeded for what would move the site's area too far. Raises LedgerError."""
        power_w = _power_w(body)
        if power_w is None:
            return
        now_ms = self._utc_ms()
        with self._turn:
            self._resume(now_ms)
            self._admit(self._area_of_site(site, now_ms), f"site {site}", (power_w, expires_ms), now_ms, actor)

    def admit_broadcast(self, group: str, body: object, expires_ms: int, actor: str) -> None:
        """Raises SecondPersonNeeded for a price that would move the group's area too far. Raises LedgerError."""
        if not isinstance(body, broadcast_pb2.Price):
            return
        now_ms = self._utc_ms()
        with self._turn:
            self._resume(now_ms)
            before = self._prices.get(group)
            power_w = self._estimate(group, body)
            if power_w is None:
                if before is not None and body == before:
                    return
                rated_w = sum(
                    known.description.rated_power_w
                    for known in self._known(now_ms).values()
                    if known.description is not None and group in known.groups
                )
                power_w = rated_w if before is None or body.ticks >= before.ticks else -rated_w
            self._admit(self._areas.get(group, ELSEWHERE), f"group {group}", (power_w, expires_ms), now_ms, actor)
            self._prices[group] = body

    def _resume(self, now_ms: int) -> None:
        """What a process before this one asked of sites and is in force stands already: it is no move of ours."""
        if self._resumed:
            return
        for record in self._ledger.latest_intents():
            if record.kind not in ("setpoint", "schedule") or not record.in_force(now_ms):
                continue
            intent = Parse(record.body, intent_pb2.Intent())
            power_w = _power_w(getattr(intent, record.kind))
            if power_w is not None:
                asked = self._asked.setdefault(self._area_of_site(record.site, now_ms), _Asked())
                asked.powers[f"site {record.site}"] = (power_w, record.expires_ms)
        self._resumed = True

    def _admit(self, area: str, who: str, power: tuple[float, int], now_ms: int, actor: str) -> None:
        asked = self._asked.setdefault(area, _Asked())
        asked.forget_old(now_ms)
        # What has run out since was not sent by anybody: it is where the area stands now, and no move of ours.
        before = replace(self._states.get(area, AreaState()), power_w=asked.total_w)
        total_w = asked.total_w - asked.powers.get(who, (0.0, 0))[0] + power[0]
        state, reason = judge(self._limits[area], before, total_w, now_ms)
        if reason:
            self._need_grant(area, before.power_w, total_w, reason, now_ms, actor)
        asked.powers[who], asked.total_w = power, total_w
        self._states[area] = state

    def _need_grant(self, area: str, from_w: float, to_w: float, reason: str, now_ms: int, actor: str) -> None:
        """Returns where somebody else has granted just that to who asks. Raises SecondPersonNeeded."""
        for approval in self._ledger.approvals(area=area, since_ms=now_ms - GRANT_MS):
            same_way = (approval.to_w - approval.from_w) * (to_w - from_w) > 0
            if approval.asked_by != actor or not same_way or abs(to_w) > abs(approval.to_w) * 1.1:
                continue
            if approval.denied_by is not None:
                raise SecondPersonNeeded(
                    f"area {area}: {reason}; approval {approval.number} was denied by {approval.denied_by}"
                )
            if approval.is_open:
                if approval.granted_ms is None:
                    break  # asked for already
                self._ledger.use_approval(approval, now_ms)
                log.warning("dispatch of %+.0f kW in area %s was granted by %s", to_w / 1e3, area, approval.granted_by)
                return
        else:
            approval = self._ledger.ask_approval(area, from_w, to_w, reason, now_ms, actor)
            log.error("dispatch stopped before it was sent: area=%s %s; approval %s", area, reason, approval.number)
        raise SecondPersonNeeded(
            f"area {area}: {reason}; stopped before it was sent, a second person may grant it: "
            f"vpp-cloud approve grant {approval.number}"
        )

    def _area_of_site(self, site: str, now_ms: int) -> str:
        known = self._known(now_ms).get(site)
        groups = known.groups if known is not None else ()
        return next((self._areas[group] for group in groups if group in self._areas), ELSEWHERE)

    def _known(self, now_ms: int) -> dict[str, Site]:
        if now_ms - self._sites_ms >= _FRESH_SITES_MS:
            self._sites, self._sites_ms = {site.site: site for site in self._ledger.sites()}, now_ms
        return self._sites


def _power_w(body: object) -> float | None:
    """The power that an intent's body asks of its site; None where it asks for none.

    Of a schedule the greatest: wherever in it the site stands, all of them may step there at once.
    """
    match body:
        case intent_pb2.PowerSetpoint():
            return float(body.inverter_power_w)
        case intent_pb2.Schedule() if body.inverter_power_w:
            return float(max(body.inverter_power_w, key=abs))
        case _:
            return None
