"""Between what the coordinator wishes for and the arbiter: the site's own limits on how that may move it."""

import random
from collections.abc import Sequence
from dataclasses import replace

from edge_agent.control.bounds import Storage
from edge_agent.model.config import GuardConfig
from edge_agent.model.values import PowerBounds, Proposal, Snapshot
from edge_agent.runtime.messages import Reporter, Severity
from edge_agent.safety import guard
from edge_agent.safety.guard import Guard, GuardLimits

TOLD_AGAIN_S = 600.0
_TOLD = (guard.TURNS, guard.CYCLING)  # a ramp and a moment's wait are no news


class CommandGuard:
    """One site's guard."""

    def __init__(self, config: GuardConfig, reporter: Reporter) -> None:
        self._config = config
        self._reporter = reporter
        self._draw = random.SystemRandom().random  # not to be foreseen from outside
        self._guard = Guard()
        self._told_s: dict[str, float] = {}

    @property
    def note(self) -> str:
        """By what the coordinator's wish is limited now."""
        return self._guard.limited

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
        self._guard = guard.step(
            self._limits(storage),
            self._guard,
            wish_w,
            power_w=power_w,
            storage_w=power_w - (pv_w or 0.0) if power_w is not None else None,
            spread_s=self._draw() * min(tolerance_s, self._config.start_spread_s),
            now_s=snapshot.at_s,
        )
        self._tell(snapshot.at_s)
        if wish is None:
            return None
        return replace(wish, power_w=self._guard.allowed_w, note=self._guard.limited or wish.note)

    def _limits(self, storage: Storage) -> GuardLimits:
        rated_w, config = storage.nameplate.rated_power_w, self._config
        # Where there is no storage, nothing is cycled.
        capacity_wh = storage.nameplate.storage_capacity_wh if storage.present else float("inf")
        return GuardLimits(
            ramp_w_per_s=rated_w * config.ramp_percent_per_s / 100.0,
            turns_per_hour=config.direction_changes_per_hour,
            throughput_wh_per_day=2.0 * capacity_wh * config.cycles_per_day,
            turn_w=rated_w * guard.TURN_SHARE,
        )

    def _tell(self, now_s: float) -> None:
        limited = self._guard.limited
        if limited in _TOLD and now_s - self._told_s.get(limited, float("-inf")) >= TOLD_AGAIN_S:
            self._told_s[limited] = now_s
            self._reporter.event(
                "guard.limited", Severity.WARNING, f"the coordinator is not followed further: {limited}"
            )
