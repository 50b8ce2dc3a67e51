"""One activation while it runs: the group's sites, their steering, and the account of what was asked and delivered."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

import numpy as np

from cloud.dispatch.curve import EXACT_W
from cloud.dispatch.prices import Array, Price
from cloud.dispatch.steering import Cycle, Steering, Telemetry
from cloud.dispatch.tree import Limits
from cloud.fleet.groups import Groups
from cloud.fleet.supply import SupplyColumns
from cloud.model.dispatch import Activation, ActivationSite, ActivationState, GroupLimit
from cloud.model.records import Site

SETTLED_S: Final = 30.0  # from the beginning, until errors count


class Fleet(Protocol):
    """What of cloud.fleet.state.FleetState is looked at."""

    @property
    def capacity(self) -> int: ...

    @property
    def grid_power_w(self) -> Array: ...

    @property
    def inverter_power_w(self) -> Array: ...

    @property
    def last_seen_ms(self) -> Array: ...


class Running:
    """Built anew when sites, groups or limits change; the account goes on."""

    def __init__(self, activation: Activation, columns: SupplyColumns, fleet: Fleet, *, cycle_s: float) -> None:
        self.activation = activation
        self._columns = columns
        self._fleet = fleet
        self._cycle_s = cycle_s
        self._names_by_slot: dict[int, str] = {}  # of all that took part
        self._account = np.zeros((3, 0))  # by slot: expected [Wh], measured [Wh], cycles in which it was not heard of
        self._deviating = np.zeros(0, dtype=bool)  # by slot, as last seen
        self._errors_w: list[float] = []
        self._cycles = 0
        self._built: tuple[object, ...] = ()
        self.sites: list[Site] = []
        self.last: Cycle | None = None

    def build(self, sites: Sequence[Site], limits: Mapping[str, GroupLimit]) -> bool:
        """Whether anything is other than before, so that sites must be told whose price to follow.

        sites: the registry. limits: in force now. Raises ValueError for limited groups that overlap without one being
        inside the other.
        """
        taking_part = [site for site in sites if site.enrolled_ms is not None and site.revoked_ms is None]
        groups = Groups(taking_part)
        slots = groups.slots(self.activation.group)
        names, parents, node = groups.nesting(self.activation.group, list(limits))
        built = (slots.tobytes(), tuple(names), tuple(parents), node.tobytes())
        if built == self._built:
            return False
        self._built = built
        by_slot = {site.slot: site for site in taking_part}
        self.sites = [by_slot[slot] for slot in slots.tolist()]
        self.slots, self._node, self._names = slots, node, names
        self._everybody = {name: groups.slots(name) for name in names}
        self._names_by_slot |= {site.slot: site.site for site in self.sites}
        room = int(slots.max(initial=-1)) + 1
        self._columns.reserve(room)
        more = max(0, room - self._account.shape[1])
        self._account = np.pad(self._account, ((0, 0), (0, more)))
        self._deviating = np.pad(self._deviating, (0, more))
        self.steering = Steering(
            self._columns.rows.take(slots), node, names, parents, grid=self._columns.grid, cycle_s=self._cycle_s
        )
        self.fallback = self.steering.open(self.activation.target_w, self._limits(limits))
        return True

    def group_of(self, number: int) -> str:
        """The group whose price a site follows: the smallest limited one that it is in."""
        return self._names[int(self._node[number])]

    def cycle(self, changed: Array, limits: Mapping[str, GroupLimit], now_ms: int) -> Mapping[str, Price]:
        """The prices to say now. changed: slots whose supply function was told since the last cycle."""
        mine = np.flatnonzero(np.isin(self.slots, changed))
        offers = self._columns.in_force(now_ms)[self.slots]
        telemetry = self._telemetry(now_ms)
        bounds = self._limits(limits)
        target_w = float(np.clip(self.activation.target_w, bounds.lower_w[0], bounds.upper_w[0]))
        self.last = self.steering.cycle(
            mine, self._columns.rows.take(self.slots[mine]), offers, telemetry, target_w, bounds
        )
        self._note(telemetry, self.last, now_ms)
        return self.last.prices

    def _telemetry(self, now_ms: int) -> Telemetry:
        known = np.flatnonzero(self.slots < self._fleet.capacity)
        power_w, quiet_s = np.full(len(self.slots), np.nan), np.full(len(self.slots), np.inf)
        seen_ms = self._fleet.last_seen_ms[self.slots[known]]
        power_w[known] = self._fleet.inverter_power_w[self.slots[known]]
        quiet_s[known] = np.where(seen_ms > 0, (now_ms - seen_ms) / 1000.0, np.inf)
        return Telemetry(power_w, quiet_s)

    def _limits(self, limits: Mapping[str, GroupLimit]) -> Limits:
        """Of the nodes' inverters: what the meters of the whole group may show, less what homes there take or make."""
        lower, upper = np.full(len(self._names), -np.inf), np.full(len(self._names), np.inf)
        inverter_w, grid_w = self._fleet.inverter_power_w, self._fleet.grid_power_w
        for number, name in enumerate(self._names):
            if name not in limits:
                continue
            slots = self._everybody[name]
            slots = slots[slots < self._fleet.capacity]
            ours = np.isin(slots, self.slots)
            load_w = float(np.nansum(inverter_w[slots] - grid_w[slots]))
            others_w = float(np.nansum(inverter_w[slots[~ours]]))
            lower[number] = -limits[name].import_limit_w + load_w - others_w
            upper[number] = limits[name].export_limit_w + load_w - others_w
        return Limits(lower, upper)

    def _note(self, telemetry: Telemetry, cycle: Cycle, now_ms: int) -> None:
        self._cycles += 1
        hours = self._cycle_s / 3600.0
        missing = np.isnan(telemetry.power_w) | (telemetry.quiet_s > SETTLED_S)
        measured_w = np.where(missing, 0.0, telemetry.power_w)
        self._account[:, self.slots] += (cycle.expected_w * hours, measured_w * hours, missing)
        self._deviating[self.slots] = self.steering.deviating
        if now_ms >= self.activation.start_ms + 1000 * SETTLED_S:
            self._errors_w.append(abs(cycle.counted.estimate_w - self.activation.target_w))

    @property
    def problem(self) -> str:
        """Why the target cannot be met now; empty where it can."""
        if self.last is None:
            return ""
        total, broken = self.last.cleared.total, np.flatnonzero(self.last.cleared.broken)
        if len(broken):
            return f"the limit of {self._names[int(broken[0])]} cannot be kept by what its sites offer"
        if total.feasible and abs(total.power_w - total.target_w) <= EXACT_W:
            return ""
        return f"sites offer {total.power_w:.0f} W of the {total.target_w:.0f} W that are needed"

    def result(self, note: str) -> tuple[Activation, list[ActivationSite]]:
        """The account, once the activation is over."""
        parts = [
            ActivationSite(
                activation_id=self.activation.activation_id,
                site=site,
                expected_wh=round(self._account[0, slot]),
                measured_wh=round(self._account[1, slot]),
                cycles_missing=int(self._account[2, slot]),
                deviated=bool(self._deviating[slot]),
            )
            for slot, site in sorted(self._names_by_slot.items(), key=lambda each: each[1])
        ]
        hours = self._cycles * self._cycle_s / 3600.0
        done = replace(
            self.activation,
            state=ActivationState.VERIFIED,
            note=note,
            target_wh=round(self.activation.target_w * hours),
            expected_wh=sum(part.expected_wh for part in parts),
            measured_wh=sum(part.measured_wh for part in parts),
            error_p95_w=round(float(np.percentile(self._errors_w, 95))) if self._errors_w else None,
            cycles=self._cycles,
        )
        return done, parts
