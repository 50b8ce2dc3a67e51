"""Stands before everything that moves power: what moves an area too far waits for a second person.

An area has three accounts, each judged by its limits of step, ramp and changes of direction:

- power: its sites' setpoints and schedules, and its groups' prices;
- services: the power that its sites are armed with, for what is armed is held back from everything else;
- envelopes: what its sites' operating envelopes take from them, for that much may have to move at once.

A regulation signal is judged by the step of each message times the power of those who follow it, and by nothing else:
it goes up and down all the time, and is worth nothing late. Releases and stops are never held up.

A dispatch that is stopped leaves an approval in the ledger to be granted (`vpp-cloud approve`); the same move is let
through once while the grant is fresh, so that a loop that asks again and again goes on by itself. Where the accounts
stand, and which turns they have taken, is in the ledger, for the process that takes over.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec
from google.protobuf.json_format import Parse

from cloud.dispatch.fleet_guard import AreaLimits, AreaState, judge
from cloud.gateway.guarded import Account, envelope_w, power_w, service_w
from cloud.model.approval import GRANT_MS
from cloud.model.records import IntentRecord, Site
from cloud.store.ledger import Ledger
from protos.vpp.v1 import broadcast_pb2, intent_pb2

log = logging.getLogger(__name__)

ELSEWHERE: Final = "elsewhere"  # the area of the sites that no area names
_FRESH_SITES_MS: Final = 10_000
_KEPT_EVERY_MS: Final = 1000
_TAKEN_UP_MS: Final = 60_000  # so long a price stands after a change of leader: sites go to about it by themselves
_MILLION: Final = 1_000_000

# What a group does in total at a price [W]; None: not known.
Estimate = Callable[[str, broadcast_pb2.Price], float | None]


class SecondPersonNeeded(Exception):
    """A dispatch that was stopped before it was sent; says why, and what to grant."""


@dataclass(slots=True)
class _Asked:
    """What is asked of one area, or of those who follow one signal."""

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

    def put(self, who: str, power: tuple[float, int]) -> None:
        self.total_w += power[0] - self.powers.get(who, (0.0, 0))[0]
        self.powers[who] = power


class _Said(msgspec.Struct, frozen=True):
    """A group's last price, as kept for the process that takes over."""

    power_w: float
    at_ms: int
    until_ms: int
    ticks: int
    step_share_e6: int
    tick_fraction_e6: int


class FleetGuard:
    """Of the process that sends. Thread-safe."""

    def __init__(
        self,
        ledger: Ledger,
        limits: Mapping[str, AreaLimits],
        areas: Mapping[str, str],
        utc_ms: Callable[[], int],
        estimate: Estimate = lambda group, price: None,
        *,
        sender: str = "coordinator",
    ) -> None:
        """limits: by area, with one for ELSEWHERE. areas: a group's area. estimate: where it knows nothing, a change of
        price counts as the whole rated power of the group. sender: under which name its accounts are kept."""
        self._ledger = ledger
        self._limits = dict(limits)
        self._areas = dict(areas)
        self._utc_ms = utc_ms
        self._estimate = estimate
        self._sender = sender
        self._turn = threading.Lock()
        self._sites: dict[str, Site] = {}
        self._sites_ms = -_FRESH_SITES_MS
        self._forget()

    def _forget(self) -> None:
        self._states: dict[tuple[Account, str], AreaState] = {}  # of an area's account
        self._asked: defaultdict[tuple[Account, str], _Asked] = defaultdict(_Asked)
        self._prices: dict[str, broadcast_pb2.Price] = {}
        self._followers: defaultdict[str, _Asked] = defaultdict(_Asked)  # of a group's signal: armed power by site
        self._signals: dict[str, tuple[float, int]] = {}  # a group's last share, until [UTC ms]
        self._unkept: dict[str, bytes] = {}
        self._kept_ms = 0
        self._turned = False  # since it was kept
        self._resumed = False

    def use(self, limits: Mapping[str, AreaLimits], areas: Mapping[str, str]) -> None:
        """Judges by other limits from now on."""
        with self._turn:
            self._limits = dict(limits)
            if areas != self._areas:
                self._keep(self._utc_ms(), at_once=True)
                self._areas = dict(areas)
                self._forget()

    def admit_intent(self, site: str, body: object, expires_ms: int, actor: str) -> None:
        """Raises SecondPersonNeeded for what would move the site's area too far. Raises LedgerError."""
        now_ms = self._utc_ms()
        match body:
            case intent_pb2.FollowPrice():
                self._admit_follower(body, expires_ms, now_ms, actor)
                return
            case intent_pb2.PowerSetpoint() | intent_pb2.Schedule():
                account, moves_w = Account.POWER, power_w(body)
            case intent_pb2.ArmService() | intent_pb2.Release():
                account, moves_w = Account.SERVICES, service_w(body)
            case intent_pb2.Envelope():
                account, moves_w = Account.ENVELOPES, None
            case _:
                return
        with self._turn:
            self._resume(now_ms)
            area = self._area_of_site(site, now_ms)
            if isinstance(body, intent_pb2.Envelope):
                moves_w = envelope_w(body, self._rated_w(site, now_ms))
            if moves_w is None:
                return
            if isinstance(body, intent_pb2.Release):
                self._asked[account, area].put(f"site {site}", (0.0, expires_ms))
            else:
                self._admit(account, area, f"site {site}", (moves_w, expires_ms), now_ms, actor)
            self._note_follower(site, body, expires_ms)
            self._keep(now_ms)

    def admit_broadcast(self, group: str, body: object, expires_ms: int, actor: str) -> None:
        """Raises SecondPersonNeeded for what would move the group's area too far. Raises LedgerError."""
        now_ms = self._utc_ms()
        with self._turn:
            match body:
                case broadcast_pb2.Price():
                    self._resume(now_ms)
                    self._admit_price(group, body, expires_ms, now_ms, actor)
                    self._keep(now_ms)
                case broadcast_pb2.Regulation():
                    self._resume(now_ms)
                    self._admit_signal(group, body.signal_e6 / _MILLION, expires_ms, now_ms, actor)

    def _admit_price(self, group: str, body: broadcast_pb2.Price, expires_ms: int, now_ms: int, actor: str) -> None:
        before = self._prices.get(group)
        moves_w = self._estimate(group, body)
        if moves_w is None:
            if before is not None and body == before:
                return
            rated_w = sum(
                known.description.rated_power_w
                for known in self._known(now_ms).values()
                if known.description is not None and group in known.groups
            )
            moves_w = rated_w if before is None or body.ticks >= before.ticks else -rated_w
        area = self._areas.get(group, ELSEWHERE)
        self._admit(Account.POWER, area, f"group {group}", (moves_w, expires_ms), now_ms, actor)
        self._prices[group] = body
        said = _Said(moves_w, now_ms, expires_ms, body.ticks, body.step_share_e6, body.tick_fraction_e6)
        self._unkept[f"price {group}"] = msgspec.json.encode(said)

    def _admit_follower(self, body: intent_pb2.FollowPrice, expires_ms: int, now_ms: int, actor: str) -> None:
        """A site goes to the fallback price by itself where none is said: that is a price like another."""
        with self._turn:
            self._resume(now_ms)
            if body.group not in self._prices:
                price = broadcast_pb2.Price(ticks=body.fallback_ticks)
                self._admit_price(body.group, price, expires_ms, now_ms, actor)
                self._keep(now_ms)

    def _admit_signal(self, group: str, share: float, expires_ms: int, now_ms: int, actor: str) -> None:
        followers = self._followers[group]
        followers.forget_old(now_ms)
        before, until_ms = self._signals.get(group, (0.0, 0))
        before = before if now_ms < until_ms else 0.0
        area = self._areas.get(group, ELSEWHERE)
        step_w, most_w = (share - before) * followers.total_w, self._limits[area].step_w
        if abs(step_w) > most_w:
            reason = f"a signal's step of {step_w / 1e3:+.0f} kW is more than {most_w / 1e3:.0f} kW"
            self._need_grant(area, before * followers.total_w, share * followers.total_w, reason, now_ms, actor, True)
        self._signals[group] = share, expires_ms

    def _note_follower(self, site: str, body: object, expires_ms: int) -> None:
        if isinstance(body, intent_pb2.ArmService | intent_pb2.Release):
            for followers in self._followers.values():
                followers.put(f"site {site}", (0.0, expires_ms))
            if isinstance(body, intent_pb2.ArmService) and body.group:
                self._followers[body.group].put(f"site {site}", (float(body.contracted_w), expires_ms))

    def _resume(self, now_ms: int) -> None:
        """What a process before this one asked for and is in force stands already: it is no move of ours."""
        if self._resumed:
            return
        for record in self._ledger.latest_intents():
            if record.in_force(now_ms):
                self._resume_intent(record, now_ms)
        for name, state in self._ledger.guard_states(self._sender).items():
            kind, _, rest = name.partition(" ")
            if kind == "price":
                said = msgspec.json.decode(state, type=_Said)
                if now_ms - said.at_ms < _TAKEN_UP_MS:
                    until_ms = max(said.until_ms, now_ms + _TAKEN_UP_MS)
                    asked = self._asked[Account.POWER, self._areas.get(rest, ELSEWHERE)]
                    asked.put(f"group {rest}", (said.power_w, until_ms))
                    self._prices[rest] = broadcast_pb2.Price(
                        ticks=said.ticks, step_share_e6=said.step_share_e6, tick_fraction_e6=said.tick_fraction_e6
                    )
            else:
                self._states[Account(kind), rest] = msgspec.json.decode(state, type=AreaState)
        self._resumed = True

    def _resume_intent(self, record: IntentRecord, now_ms: int) -> None:
        intent = Parse(record.body, intent_pb2.Intent())
        area, who = self._area_of_site(record.site, now_ms), f"site {record.site}"
        match intent.WhichOneof("body"):
            case "setpoint" | "schedule" as kind:
                account, moves_w = Account.POWER, power_w(getattr(intent, kind))
            case "arm":
                account, moves_w = Account.SERVICES, service_w(intent.arm)
                self._note_follower(record.site, intent.arm, record.expires_ms)
            case "envelope":
                account = Account.ENVELOPES
                moves_w = envelope_w(intent.envelope, self._rated_w(record.site, now_ms))
            case _:
                return
        if moves_w is not None:
            self._asked[account, area].put(who, (moves_w, record.expires_ms))

    def _keep(self, now_ms: int, *, at_once: bool = False) -> None:
        """Puts into the ledger what the process that takes over has to know: once a second, and each turn."""
        due = at_once or self._turned or not 0 <= now_ms - self._kept_ms < _KEPT_EVERY_MS
        if self._unkept and due:
            self._ledger.keep_guard_states(self._sender, self._unkept)
            self._unkept, self._kept_ms, self._turned = {}, now_ms, False

    def _admit(self, account: Account, area: str, who: str, power: tuple[float, int], now_ms: int, actor: str) -> None:
        asked = self._asked[account, area]
        asked.forget_old(now_ms)
        # What has run out since was not sent by anybody: it is where the area stands now, and no move of ours.
        before = replace(self._states.get((account, area), AreaState()), power_w=asked.total_w)
        total_w = asked.total_w - asked.powers.get(who, (0.0, 0))[0] + power[0]
        state, reason = judge(self._limits[area], before, total_w, now_ms)
        if reason:
            named = area if account is Account.POWER else f"{area} ({account})"
            self._need_grant(named, before.power_w, total_w, reason, now_ms, actor)
        asked.put(who, power)
        self._states[account, area] = state
        self._unkept[f"{account} {area}"] = msgspec.json.encode(state)
        self._turned = self._turned or state.turns_ms[-1:] != before.turns_ms[-1:]

    def _need_grant(
        self, area: str, from_w: float, to_w: float, reason: str, now_ms: int, actor: str, again: bool = False
    ) -> None:
        """Returns where somebody else has granted just that to who asks. Raises SecondPersonNeeded.

        again: a grant is good for as long as it is fresh, and not once.
        """
        for approval in self._ledger.approvals(area=area, since_ms=now_ms - GRANT_MS):
            same_way = (approval.to_w - approval.from_w) * (to_w - from_w) > 0 or again
            moved_w, granted_w = abs(to_w - from_w), abs(approval.to_w - approval.from_w)
            further = moved_w > granted_w * 1.1 if again else abs(to_w) > abs(approval.to_w) * 1.1
            if approval.asked_by != actor or approval.limits is not None or not same_way or further:
                continue
            if approval.denied_by is not None:
                raise SecondPersonNeeded(
                    f"area {area}: {reason}; approval {approval.number} was denied by {approval.denied_by}"
                )
            if approval.is_open:
                if approval.granted_ms is None:
                    break  # asked for already
                if not again:
                    self._ledger.use_approval(approval, now_ms)
                    told = f"{to_w / 1e3:+.0f}"
                    log.warning("dispatch of %s kW in area %s was granted by %s", told, area, approval.granted_by)
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

    def _rated_w(self, site: str, now_ms: int) -> float:
        """0 while nobody knows: a site that never told anything moves nothing."""
        known = self._known(now_ms).get(site)
        return known.description.rated_power_w if known is not None and known.description is not None else 0.0

    def _known(self, now_ms: int) -> dict[str, Site]:
        if now_ms - self._sites_ms >= _FRESH_SITES_MS:
            self._sites, self._sites_ms = {site.site: site for site in self._ledger.sites()}, now_ms
        return self._sites
