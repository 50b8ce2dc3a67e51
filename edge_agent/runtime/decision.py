"""From a frozen picture to one wish: the controllers in their order, merged.

From the strongest: services (armed, or letting go), an addressed setpoint, a broadcast price, the schedule, the owner's
default. What a service has promised is held back from everything below it: power at its place, energy right below all
of them. Under an emergency stop nobody has a wish.
"""

import math
from dataclasses import dataclass, replace

from edge_agent.control import backup, energy, idle, price, reserve_mode, self_consumption, setpoint, supply
from edge_agent.control import schedule as schedule_control
from edge_agent.control.arbiter import Merged, left, merge
from edge_agent.control.bounds import Storage, believable_soc
from edge_agent.control.frequency_response import Phase, ResponseLaw, ResponseState, law
from edge_agent.control.self_consumption import LoadState
from edge_agent.control.supply import SunState
from edge_agent.model.config import ControlConfig
from edge_agent.model.forecast import Expectation
from edge_agent.model.intent import ArmService, FollowPrice
from edge_agent.model.supply import SupplyFunction, total
from edge_agent.model.values import PowerBounds, Proposal, Snapshot
from edge_agent.runtime.broadcasts import Broadcasts
from edge_agent.runtime.flexible import FlexibleUnits
from edge_agent.runtime.guard_memory import GuardMemory
from edge_agent.runtime.guarding import CommandGuard
from edge_agent.runtime.intents import Intents
from edge_agent.runtime.messages import Reporter, Severity
from edge_agent.runtime.stop import Stops
from edge_agent.safety.envelope import Connection, Load, granted

PRICE_TOLERANCE_S = 2.0  # a closed loop stands above it
SCHEDULE_TOLERANCE = 1 / 60  # of its market time unit
BACKUP_EVERY_S = 60.0  # what is kept for outages changes slowly
OFFER_EVERY_S = 1.0  # while nobody follows a price with it, it is only told


@dataclass(slots=True)
class _Running:
    """A service in force, or one that still lets go."""

    arm: ArmService
    law: ResponseLaw
    state: ResponseState
    due_w: float = 0.0  # its offset of this cycle, where it follows a signal: before the site's own limits


class Decision:
    """All controllers of one site, and what they remember from cycle to cycle."""

    def __init__(
        self,
        config: ControlConfig,
        intents: Intents,
        broadcasts: Broadcasts,
        stops: Stops,
        reporter: Reporter,
        memory: GuardMemory,
        flexible: FlexibleUnits,
    ) -> None:
        self._config = config
        self._intents = intents
        self._broadcasts = broadcasts
        self._stops = stops
        self._reporter = reporter
        self._flexible = flexible
        self._sun = SunState()
        self._told_w: float | None = None  # what was wished for in the cycle before
        self._running: list[_Running] = []
        self._load = LoadState()
        self._short = False  # of energy, as last told
        self.guard = CommandGuard(config.guard, reporter, memory)
        self.energy_note = ""  # what services are short of now
        self.price_note = ""  # why the fallback price is followed now
        self._own: SupplyFunction | None = None  # what the inverter would do at each price; None: not known
        self.supply: SupplyFunction | None = None  # the same of the whole site, as it is offered
        self._offered_s = -math.inf
        self._expected: Expectation | None = None
        self._alone = False
        self._ahead_ms = 0.0
        self._backup_due_s = -math.inf
        self.backup_soc: float | None = None  # below it the owner's default does not discharge now; None: as configured

    def expect(self, expected: Expectation | None, *, alone: bool, ahead_ms: float) -> None:
        """What the site expects of itself; alone: the coordinator cannot be reached.

        ahead_ms: UTC less the monotonic clock.
        """
        self._expected, self._alone, self._ahead_ms = expected, alone, ahead_ms
        self._backup_due_s = -math.inf

    def use(self, config: ControlConfig) -> None:
        """Decides by another configuration from the next cycle on; what runs goes on."""
        self._config = config
        self._backup_due_s = -math.inf

    @property
    def services(self) -> list[tuple[ArmService, ResponseState]]:
        """Services in force or letting go, for those who watch."""
        return [(running.arm, running.state) for running in self._running]

    def decide(self, snapshot: Snapshot, storage: Storage | None) -> Merged | None:
        """The merged wish of this cycle; None: nobody has one, or what the inverter can hold is not known."""
        now_s = snapshot.at_s
        self._intents.advance(now_s)
        self.price_note = ""
        stopped = self._stops.standing is not None
        if storage is None or stopped or snapshot.bounds is None:
            self._own, self._offered_s = None, -math.inf
            # What has no inverter that can be steered now offers its chargers and loads alone.
            others = self._flexible.functions() if storage is None and not stopped else []
            self.supply = total(others).shortened() if others else None
        if storage is None:
            return None
        if stopped:
            self._running.clear()
            return None
        self._sun = supply.follow_sun(self._sun, snapshot, storage, self._told_w)
        self._match_services(now_s, storage)
        proposals = self._respond(snapshot, storage)
        self._running = [running for running in self._running if running.state.phase is not Phase.ENDED]
        proposals.append(self._keep_energy(snapshot, storage))
        wishes: list[tuple[Proposal, float]] = []  # of the coordinator, with how much later each may begin [s]
        if self._intents.setpoint is not None:
            wishes.append((setpoint.propose(self._intents.setpoint), 0.0))
        if snapshot.bounds is not None:
            # What is left below the services is what the site can offer, and follows a price with.
            if self._intents.price is not None or now_s - self._offered_s >= OFFER_EVERY_S:
                self._offer(snapshot, storage, left(proposals, snapshot.bounds))
                self._offered_s = now_s
            if self._own is not None and self._intents.price is not None:
                wishes.append((self._follow_price(self._intents.price, self._own, now_s), PRICE_TOLERANCE_S))
        if (schedule := self._intents.schedule) is not None:
            # Beside a service it is the baseline that the delivery is measured from: then it is not late.
            tolerance_s = 0.0 if self._running else schedule.mtu_s * SCHEDULE_TOLERANCE
            wishes.append((schedule_control.propose(schedule, now_s), tolerance_s))
        if (guarded := self.guard.follow(wishes, snapshot, storage)) is not None:
            proposals.append(guarded)
        proposals.extend(self._defaults(snapshot, storage))
        merged = None
        if snapshot.bounds is not None:
            merged = merge(proposals, snapshot.bounds, expires_s=now_s + self._config.setpoint_lifetime_s)
        self._told_w = merged.setpoint.power_w if merged is not None else None
        return merged

    def envelope(self, load: Load, storage: Storage | None, now_s: float) -> Connection:
        """The grid operator's limits that stand; asked for before what is decided in the same cycle."""
        self._intents.advance(now_s)
        envelope = self._intents.envelope
        asked = granted(envelope, now_s) if envelope is not None else Connection()
        return self.guard.envelope(asked, load, storage, now_s)

    def rest_w(self, snapshot: Snapshot, *, has_inverter: bool) -> float | None:
        """What of an addressed setpoint is for chargers and loads: what the inverter cannot do of it."""
        addressed = self._intents.setpoint
        if addressed is None:
            return None
        if not has_inverter:
            return addressed.power_w
        if snapshot.bounds is None:
            return None
        rest_w = addressed.power_w - snapshot.bounds.clip(addressed.power_w)
        return rest_w if rest_w else None

    def _offer(self, snapshot: Snapshot, storage: Storage, room: PowerBounds) -> None:
        """What the inverter follows a price with, and what the site offers: with the sun as far as it is known."""
        addressed = self._intents.setpoint
        if addressed is not None:  # stronger than any price
            self._own = SupplyFunction.constant(room.clip(addressed.power_w))
        else:
            self._own = supply.site(storage, snapshot, self._intents.schedule, room)
        offered = self._own
        if addressed is None and not storage.present:
            offered = supply.sun(self._sun.power_w).clipped(room)
        self.supply = total((offered, *self._flexible.functions())).shortened() if offered is not None else None

    def _follow_price(self, follow: FollowPrice, function: SupplyFunction, now_s: float) -> Proposal:
        heard, why_none = self._broadcasts.price(follow.group, now_s)
        proposal = price.propose(function, heard, follow.fallback_ticks, why_none)
        self.price_note = proposal.note
        return proposal

    def _defaults(self, snapshot: Snapshot, storage: Storage) -> list[Proposal]:
        proposals: list[Proposal] = []
        if (kept := self._keep_backup(snapshot, storage)) is not None:
            proposals.append(kept)
        if self._config.default == "self-consumption":
            self._load, proposal = self_consumption.propose(self._load, snapshot, storage)
            proposals.append(proposal)
        # An armed service needs a baseline under which its headroom is real; the device's own default is none.
        if self._config.default != "release" or self._running:
            proposals.append(idle.propose(snapshot, storage))
        return proposals

    def _keep_backup(self, snapshot: Snapshot, storage: Storage) -> Proposal | None:
        """Bounds for the owner's default, while there is no coordinator and the owner wants that."""
        if snapshot.at_s >= self._backup_due_s:
            self._backup_due_s = snapshot.at_s + BACKUP_EVERY_S
            self.backup_soc, hours = None, self._config.backup_hours
            if hours and self._alone and self._expected is not None:
                now_ms = self._ahead_ms + 1e3 * snapshot.at_s
                self.backup_soc = backup.kept_soc(storage, self._expected, now_ms=now_ms, hours=hours)
        charge = believable_soc(snapshot.soc)
        if self.backup_soc is None or charge is None:
            return None
        spare_w = replace(storage, soc_min=self.backup_soc).discharge_limit_w(charge)
        pv_w = max(0.0, snapshot.pv_power_w.good or 0.0)
        return Proposal(source="backup", bounds=PowerBounds(lower_w=-math.inf, upper_w=pv_w + spare_w))

    def _match_services(self, now_s: float, storage: Storage) -> None:
        """What is in force runs; what no longer is, is recalled and lets go."""
        armed = self._intents.service
        for running in self._running:
            if running.arm is armed or running.state.recalled:
                continue
            if armed is not None and _same_promise(running.arm, armed):
                running.arm = armed  # the same award said again, with another expiry: nothing moves
            else:
                running.state = running.law.recall(running.state, now_s)
        if armed is None or any(running.arm is armed and not running.state.recalled for running in self._running):
            return
        if not self.guard.arm(armed.service.id, storage, now_s):
            return  # until it may be
        new_law = law(
            armed.service,
            contracted_w=armed.contracted_w,
            rated_power_w=storage.nameplate.rated_power_w,
        )
        self._running.insert(0, _Running(armed, new_law, new_law.start(now_s)))
        self._reporter.event(
            "service.armed",
            Severity.INFO,
            f"{armed.service.id} armed with {armed.contracted_w:.0f} W, award {armed.award_id}",
        )

    def _respond(self, snapshot: Snapshot, storage: Storage) -> list[Proposal]:
        """What services ask for now. Of signals so much as the site's own limits let through, each in proportion."""
        proposals = [self._step(running, snapshot, storage) for running in self._running]
        signals = [number for number, running in enumerate(self._running) if running.arm.service.signal is not None]
        due_w = sum(self._running[number].due_w for number in signals)
        followed_w = self.guard.signal(due_w if signals else None, storage, snapshot.at_s)
        if followed_w != due_w:
            for number in signals:
                part = self._running[number].due_w / due_w if due_w else 1.0 / len(signals)
                proposals[number] = replace(proposals[number], offset_w=followed_w * part)
        return proposals

    def _step(self, running: _Running, snapshot: Snapshot, storage: Storage) -> Proposal:
        arm, before = running.arm, running.state
        left_s = reserve_mode.left_s(storage, snapshot.soc, arm.contracted_w, running.law.direction)
        signal = arm.service.signal
        measured = snapshot.frequency_hz if signal is None else self._broadcasts.signal(arm.group, snapshot.at_s)
        state = running.law.step(before, measured, snapshot.at_s, left_s)
        running.state = state
        running.due_w = state.share * arm.contracted_w if signal is not None else 0.0
        self._tell_reserve_mode(arm, before, state)
        if signal is not None:
            self._tell_signal(arm, before, state)
        elif before.phase is Phase.READY and state.phase is Phase.DELIVERING:
            self._reporter.event(
                "service.triggered",
                Severity.WARNING,
                f"{arm.service.id} triggered at {state.seen:.3f} Hz, award {arm.award_id}",
            )
        elif before.phase is not state.phase and (
            state.phase in (Phase.RECOVERING, Phase.ENDED)
            or (before.phase is Phase.DELIVERING and state.phase is Phase.READY)
        ):
            self._reporter.event("service.released", Severity.INFO, f"{arm.service.id} released, award {arm.award_id}")
        up, down = running.law.direction
        held_w = 0.0 if state.phase is Phase.ENDED else arm.contracted_w
        if state.recalled:
            held_w = abs(state.share) * arm.contracted_w
        return Proposal(
            source=arm.service.id,
            offset_w=state.share * arm.contracted_w,
            reserve_up_w=held_w if up else 0.0,
            reserve_down_w=held_w if down else 0.0,
            note=state.note,
        )

    def _keep_energy(self, snapshot: Snapshot, storage: Storage) -> Proposal:
        need = energy.needed(((r.arm, r.law, r.state) for r in self._running), snapshot.at_s)
        proposal = energy.propose(storage, snapshot, need)
        self.energy_note = proposal.note
        # A delivery under way uses what was kept for it: no news.
        if proposal.note and not self._short and need.recovery_w > 0:
            self._short = True
            self._reporter.event(
                "energy.short", Severity.WARNING, f"services may not be delivered whole: {proposal.note}"
            )
        elif not proposal.note:
            self._short = False
        return proposal

    def _tell_signal(self, arm: ArmService, before: ResponseState, state: ResponseState) -> None:
        """A service that follows a signal always moves; what is told is that it stopped coming, and came again."""
        if bool(before.note) == bool(state.note) or state.recalled:
            return
        if state.note:
            self._reporter.event("signal.lost", Severity.WARNING, f"{arm.service.id}: {state.note}")
        else:
            self._reporter.event("signal.followed", Severity.INFO, f"{arm.service.id} follows group {arm.group}")

    def _tell_reserve_mode(self, arm: ArmService, before: ResponseState, state: ResponseState) -> None:
        if before.reserve is None or state.reserve is None or before.reserve.on == state.reserve.on:
            return
        doing = "begins" if state.reserve.on else "ends"
        self._reporter.event(
            "service.reserve_mode",
            Severity.WARNING if state.reserve.on else Severity.INFO,
            f"{arm.service.id}: reserve mode {doing}, storage has {state.left_s / 60:.1f} min of the contracted power",
        )


def _same_promise(one: ArmService, other: ArmService) -> bool:
    return replace(one, group="") == replace(other, group="")
