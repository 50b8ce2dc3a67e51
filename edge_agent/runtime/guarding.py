"""Between what the coordinator asks for and the arbiter: the site's own limits on how that may move it."""

import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from math import inf

from edge_agent.control import guard
from edge_agent.control.bounds import Storage
from edge_agent.control.guard import Guard, GuardLimits
from edge_agent.model.config import GuardConfig
from edge_agent.model.values import PowerBounds, Proposal, Snapshot
from edge_agent.runtime.guard_memory import GuardMemory
from edge_agent.runtime.messages import Reporter, Severity
from edge_agent.safety.envelope import Connection, Load, relaxed, tighter

log = logging.getLogger(__name__)

TOLD_AGAIN_S = 600.0
_TOLD = (guard.TURNS, guard.CYCLING, guard.MILEAGE)  # a ramp and a moment's wait are no news


class CommandGuard:
    """One site's guard. It is asked in the cycle's order: envelope, services, signals, wishes."""

    def __init__(self, config: GuardConfig, reporter: Reporter, memory: GuardMemory) -> None:
        """memory: what a start of this agent before it left."""
        self._config = config
        self._reporter = reporter
        self._memory = memory
        self._draw = random.SystemRandom().random  # not to be foreseen from outside
        self._guard: Guard | None = None  # until the first cycle says what time it is
        self._connection = Connection()  # of the envelope, as it stands
        self._narrowed = False  # since it was last let wider
        self._relaxed_s = -inf
        self._told_s: dict[str, float] = {}
        self._notes: dict[str, str] = {}  # what is limited -> by what

    @property
    def note(self) -> str:
        """By what the coordinator's wishes are limited now."""
        return next((note for note in self._notes.values() if note), "")

    def envelope(self, asked: Connection, load: Load, storage: Storage | None, now_s: float) -> Connection:
        """What stands of the grid operator's limits: narrower at once, wider as the site's own limits have it."""
        rated_w = storage.nameplate.rated_power_w if storage is not None else 0.0
        widest_w = rated_w + abs(load.load_w)
        still = relaxed(self._connection, asked, 0.0, widest_w)
        self._narrowed = self._narrowed or tighter(self._connection, still) != self._connection
        most_w, note = 0.0, ""
        if storage is not None and still != relaxed(self._connection, asked, inf, widest_w):
            limits = self._limits(storage)
            if self._narrowed:
                self._narrowed = not self._take(guard.turn(limits, self._known(now_s, limits), now_s))
            note = guard.TURNS if self._narrowed else guard.RAMP
            if not self._narrowed:
                elapsed_s = min(guard.LONGEST_STEP_S, max(0.0, now_s - self._relaxed_s))
                most_w = limits.ramp_w_per_s * elapsed_s
        self._relaxed_s = now_s
        self._connection = relaxed(self._connection, asked, most_w, widest_w)
        self._tell("envelope", note, now_s)
        return self._connection

    def arm(self, service_id: str, storage: Storage, now_s: float) -> bool:
        """Whether a service may be armed now."""
        limits = self._limits(storage)
        may = self._take(guard.arm(limits, self._known(now_s, limits), now_s))
        self._tell(service_id, "" if may else guard.TURNS, now_s)
        return may

    def signal(self, asked_w: float | None, storage: Storage, now_s: float) -> float:
        """What of the regulation signals may be followed [W]; asked for in every cycle, None where nobody follows."""
        limits = self._limits(storage)
        known = self._known(now_s, limits)
        if asked_w is None:
            known = replace(known, signal_w=0.0)
        self._guard, limited = guard.signal(limits, known, asked_w or 0.0, now_s)
        self._tell("signal", limited, now_s)
        return self._guard.signal_w

    def follow(self, wishes: Sequence[tuple[Proposal, float]], snapshot: Snapshot, storage: Storage) -> Proposal | None:
        """What of the strongest wish may be followed now; None where nobody has one.

        wishes: from the strongest, each with how much later it may begin without harm [s].
        """
        wish, tolerance_s = next(((proposal, s) for proposal, s in wishes if proposal.power_w is not None), (None, 0.0))
        rated_w = storage.nameplate.rated_power_w
        wish_w = None
        if wish is not None and wish.power_w is not None:
            wish_w = PowerBounds(lower_w=-rated_w, upper_w=rated_w).clip(wish.power_w)
        power_w, pv_w = snapshot.inverter_power_w.good, snapshot.pv_power_w.good
        limits = self._limits(storage)
        self._guard = guard.step(
            limits,
            self._known(snapshot.at_s, limits),
            wish_w,
            power_w=power_w,
            storage_w=power_w - (pv_w or 0.0) if power_w is not None else None,
            spread_s=self._draw() * min(tolerance_s, self._config.start_spread_s),
            now_s=snapshot.at_s,
        )
        self._memory.keep(self._guard, limits, snapshot.at_s)
        self._tell("wish", self._guard.limited, snapshot.at_s)
        if wish is None:
            return None
        return replace(wish, power_w=self._guard.allowed_w, note=self._guard.limited or wish.note)

    def _known(self, now_s: float, limits: GuardLimits) -> Guard:
        """The guard, as an earlier start left it until the first cycle."""
        if self._guard is None:
            self._guard, problem = self._memory.recall(limits, now_s)
            if problem:
                log.error("%s", problem)
                self._reporter.event("guard.forgot", Severity.ALARM, problem)
        return self._guard

    def _take(self, after: Guard | None) -> bool:
        """Whether there was something left to take."""
        self._guard = after or self._guard
        return after is not None

    def _limits(self, storage: Storage) -> GuardLimits:
        rated_w, config = storage.nameplate.rated_power_w, self._config
        # Where there is no storage, nothing is cycled.
        capacity_wh = storage.nameplate.storage_capacity_wh if storage.present else inf
        return GuardLimits(
            ramp_w_per_s=rated_w * config.ramp_percent_per_s / 100.0,
            turns_per_hour=config.direction_changes_per_hour,
            throughput_wh_per_day=2.0 * capacity_wh * config.cycles_per_day,
            turn_w=rated_w * guard.TURN_SHARE,
            mileage_w_per_hour=rated_w * config.regulation_mileage_per_hour,
        )

    def _tell(self, what: str, limited: str, now_s: float) -> None:
        self._notes[what] = limited
        if limited in _TOLD and now_s - self._told_s.get(limited, -inf) >= TOLD_AGAIN_S:
            self._told_s[limited] = now_s
            self._reporter.event(
                "guard.limited", Severity.WARNING, f"the coordinator is not followed further ({what}): {limited}"
            )
