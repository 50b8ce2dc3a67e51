"""What the fleet should deliver: the schedules in force plus what armed services promise at this frequency."""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cloud.api.asked import Asked, AskedSchedule, AskedService
from cloud.dispatch.expected import LiveTarget
from cloud.dispatch.reserve_mode import seconds_left
from cloud.model.records import IntentState
from protos import services

Floats = npt.NDArray[np.float64]
RESPONDING = 1e-3  # share of the contracted power from which a service counts as answering


class Target(Protocol):
    """What the live page draws the fleet's power against."""

    def renew(self, asked: Asked) -> None:
        """Takes over what is asked of the sites now."""
        ...

    def step(
        self, slot_ms: int, frequency_hz: float, dt_s: float, inverter_power_w: Floats, soc: Floats
    ) -> float | None:
        """Fleet target [W], positive towards the grid, at the UTC instant `slot_ms`; None where nothing is asked.

        To be called for every instant in order, `dt_s` apart. frequency_hz: NaN where it is not known.
        inverter_power_w, soc: by slot, what each site delivers, and its storage's charge.
        """
        ...

    def responding(self) -> npt.NDArray[np.intp]:
        """Slots of the sites whose armed service answers at the last step's frequency."""
        ...


class _ArmedGroup:
    """Sites that hold the same service ready over the same time: one law, stepped together."""

    def __init__(self, members: list[AskedService]) -> None:
        first = members[0]
        self.members = members
        self.group = first.group
        self.valid_from_ms, self.expires_ms = first.valid_from_ms, first.expires_ms
        self.slots = np.array([member.slot for member in members], dtype=np.intp)
        self.contracted_w = np.array([member.contracted_w for member in members], dtype=np.float64)
        rating_w = np.array([member.rating_w for member in members], dtype=np.float64)
        ratio = np.divide(rating_w, self.contracted_w, out=np.ones_like(rating_w), where=self.contracted_w > 0)
        self._service = services.parse(first.service_toml)
        self._law = LiveTarget(self._service, ratio)
        self._soc_min, self._soc_max, self._capacity_wh = np.array(
            [(member.soc_min, member.soc_max, member.capacity_wh) for member in members], dtype=np.float64
        ).T
        self.share: Floats = np.zeros(self.slots.size)

    @property
    def follows_signal(self) -> bool:
        return self._service.signal is not None

    def step(self, frequency_hz: float, dt_s: float, soc: Floats) -> Floats:
        """frequency_hz: of a service that follows a signal the signal's share."""
        self.share = self._law.step(frequency_hz, dt_s, self._left_s(soc))
        return self.share * self.contracted_w

    def _left_s(self, soc: Floats) -> Floats:
        known = self.slots < soc.size
        charge = np.full(self.slots.size, np.nan)
        charge[known] = soc[self.slots[known]]
        return seconds_left(
            charge,
            soc_min=self._soc_min,
            soc_max=self._soc_max,
            capacity_wh=self._capacity_wh,
            contracted_w=np.maximum(self.contracted_w, 1.0),
            directions=self._service.directions,
        )


_GroupKey = tuple[str, str, int, int]
Signal = Callable[[str, int], float]  # of a group at a UTC instant [ms]: the share to be followed, NaN: not known


class _ScheduleGroup:
    """Schedules of the same market time units as one table: a row a site, a column a unit."""

    def __init__(self, start_ms: int, mtu_ms: int, members: list[AskedSchedule]) -> None:
        self._start_ms, self._mtu_ms = start_ms, mtu_ms
        self._slots = np.array([member.slot for member in members], dtype=np.intp)
        self._valid_from_ms = np.array([member.valid_from_ms for member in members], dtype=np.int64)
        self._expires_ms = np.array([member.expires_ms for member in members], dtype=np.int64)
        self._power_w = np.stack([member.power_w for member in members])

    def apply(self, slot_ms: int, power_w: Floats, scheduled: npt.NDArray[np.bool_]) -> None:
        """Writes the power of schedules in force into `power_w` and marks their sites."""
        unit = (slot_ms - self._start_ms) // self._mtu_ms
        if not 0 <= unit < self._power_w.shape[1]:
            return
        in_force = (self._valid_from_ms <= slot_ms) & (slot_ms < self._expires_ms) & (self._slots < power_w.size)
        power_w[self._slots[in_force]] = self._power_w[in_force, unit]
        scheduled[self._slots[in_force]] = True


_ScheduleKey = tuple[int, int, int]


class FleetTarget:
    """The fleet's target as long as some site has a schedule in force.

    A site without one counts with what it delivers: its baseline is its own, so nothing it does is off target. So does
    one that follows a signal while it is not known what was broadcast.
    """

    def __init__(self, signal: Signal = lambda group, at_ms: math.nan) -> None:
        self._signal = signal
        self._schedules: list[_ScheduleGroup] = []
        self._groups: dict[_GroupKey, _ArmedGroup] = {}
        self._responding: npt.NDArray[np.intp] = np.empty(0, dtype=np.intp)

    def renew(self, asked: Asked) -> None:
        """Takes over what is asked now. A group that stays as it is keeps its memory of what the frequency did."""
        members: defaultdict[_GroupKey, list[AskedService]] = defaultdict(list)
        for service in asked.services:
            if service.state is not IntentState.REFUSED:
                members[service.service_toml, service.group, service.valid_from_ms, service.expires_ms].append(service)
        self._groups = {key: self._group(key, group) for key, group in members.items()}
        tables: defaultdict[_ScheduleKey, list[AskedSchedule]] = defaultdict(list)
        for schedule in asked.schedules:
            tables[schedule.start_ms, schedule.mtu_ms, schedule.power_w.size].append(schedule)
        self._schedules = [_ScheduleGroup(key[0], key[1], table) for key, table in tables.items()]

    def _group(self, key: _GroupKey, members: list[AskedService]) -> _ArmedGroup:
        known = self._groups.get(key)
        if known is None or _who(known.members) != _who(members):
            return _ArmedGroup(members)
        return known

    def step(
        self, slot_ms: int, frequency_hz: float, dt_s: float, inverter_power_w: Floats, soc: Floats
    ) -> float | None:
        power_w = np.nan_to_num(inverter_power_w)
        scheduled = np.zeros(power_w.size, dtype=np.bool_)
        for table in self._schedules:
            table.apply(slot_ms, power_w, scheduled)
        responding: list[npt.NDArray[np.intp]] = []
        for group in self._groups.values():
            if group.valid_from_ms <= slot_ms < group.expires_ms:
                drive = self._signal(group.group, slot_ms) if group.follows_signal else frequency_hz
                if group.follows_signal and math.isnan(drive):
                    known = group.slots[group.slots < power_w.size]
                    power_w[known] = np.nan_to_num(inverter_power_w)[known]
                    continue
                promised_w = group.step(drive, dt_s, soc)
                counted = group.slots < power_w.size
                counted[counted] = scheduled[group.slots[counted]]
                power_w[group.slots[counted]] += promised_w[counted]
                responding.append(group.slots[np.abs(group.share) > RESPONDING])
        self._responding = np.concatenate(responding) if responding else np.empty(0, dtype=np.intp)
        return float(power_w.sum()) if scheduled.any() else None

    def responding(self) -> npt.NDArray[np.intp]:
        return self._responding


def _who(members: list[AskedService]) -> list[tuple[int, int, float]]:
    return [(member.slot, member.contracted_w, member.rating_w) for member in members]
