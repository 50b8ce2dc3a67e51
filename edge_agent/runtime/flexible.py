"""Chargers and flexible loads beside the loop: each read, decided upon, checked and written in a task of its own.

A wallbox answers in tenths of a second and a vehicle in seconds: nobody waits for them within a cycle that answers the
grid's frequency, and no service is armed on them. Once a second the loop begins a step of each; what they measure then
stands in the next picture. What reaches them passes the same gate as an inverter's setpoint.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from edge_agent.control import flexible, guard, price
from edge_agent.control.arbiter import Merged, merge
from edge_agent.control.flexible import Outlook, State
from edge_agent.control.guard import Guard, GuardLimits
from edge_agent.control.owner import device_bounds
from edge_agent.control.running import Times
from edge_agent.control.stay import Stay, Wants
from edge_agent.control.supply import PriceBand, band_until
from edge_agent.model import local_time
from edge_agent.model.clock import Clock
from edge_agent.model.config import ControlConfig, DeviceConfig
from edge_agent.model.devices import (
    ChargerReading,
    Device,
    DeviceRejected,
    DeviceTimeout,
    EvCharger,
    FlexibleLoad,
    FlexiblePlate,
    LoadReading,
    PowerControl,
)
from edge_agent.model.supply import SupplyFunction
from edge_agent.model.values import MISSING, Clipped, PowerBounds, Proposal, Quality, Sample, admitted
from edge_agent.runtime.broadcasts import Broadcasts
from edge_agent.runtime.intents import Intents
from edge_agent.runtime.sources import GUARD_S, Source, Watcher
from edge_agent.runtime.statistics import LoopStatistics
from edge_agent.runtime.stay_memory import StayMemory
from edge_agent.runtime.stop import Stops
from edge_agent.safety.envelope import Connection, Load, at_inverter, follow
from edge_agent.safety.gate import admit

STEP_S = 1.0
LIFETIME_S = 60.0  # how long a device obeys after the last word: wallboxes want seconds between two writes
HOLD_S = 5.0  # between two changes, unless a limit demands one
KNOWN_S = 10.0  # how old a reading may be that still stands in the picture
LOOK_AHEAD_S = 86_400.0  # over which a load waits for a better price
PRICE_TOLERANCE_S = 2.0  # as of the inverter's

Reading = ChargerReading | LoadReading


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What is beside a device in one step."""

    connection: Connection  # limits at the grid meter
    grid_power_w: Sample  # at the grid meter
    # Of an addressed setpoint: what the inverter cannot do of it, beside what they do anyway; all of it where there is
    # no inverter. None: there is nothing for them in it.
    rest_w: float | None = None
    alone: bool = False  # there is no inverter


@dataclass(slots=True)
class Unit:
    """One charger or load."""

    name: str
    config: DeviceConfig
    source: Source[Reading]
    half: EvCharger | FlexibleLoad
    control: PowerControl | None
    state: State = field(default_factory=State)
    outlook: Outlook | None = None  # of the last reading
    guard: Guard = field(default_factory=Guard)
    merged: Merged | None = None  # as last decided
    function: SupplyFunction | None = None  # power over price, within its limits
    told_w: float | None = None  # it obeys now; None: its own default
    told_s: float = -inf  # it has since
    released: bool = False  # what an earlier life may have left in it has been taken back, or is overwritten
    why: str = ""
    step: asyncio.Task[None] | None = None
    due_s: float = -inf

    @property
    def is_charger(self) -> bool:
        return self.config.ev_charger is not None

    @property
    def plate(self) -> FlexiblePlate:
        return self.half.plate

    def power_w(self, now_s: float) -> Sample:
        """What it draws, as known now."""
        reading = self.source.reading
        power_w = reading.power_w if reading is not None else MISSING
        if power_w.quality is Quality.GOOD and (not self.source.healthy or now_s - power_w.at_s > KNOWN_S):
            return replace(power_w, quality=Quality.STALE)
        return power_w


class FlexibleUnits:
    """All of a site's."""

    def __init__(
        self,
        config: ControlConfig,
        zone: str | None,
        *,
        intents: Intents,
        broadcasts: Broadcasts,
        stops: Stops,
        clock: Clock,
        statistics: LoopStatistics,
        refused: Callable[[str], None],
        memory: StayMemory,
    ) -> None:
        """zone: where the site's clocks are; refused: told why nothing could be written; memory: of earlier starts."""
        self._config = config
        self._zone = zone
        self._intents = intents
        self._broadcasts = broadcasts
        self._stops = stops
        self._clock = clock
        self._statistics = statistics
        self._refused = refused
        self._memory = memory
        self._draw = random.SystemRandom().random
        self._load = Load()
        self.units: list[Unit] = []

    def use(self, config: ControlConfig) -> None:
        self._config = config

    def add(self, device: Device, config: DeviceConfig, watcher: Watcher) -> None:
        """Takes a device that was found, if it is a charger or a load."""
        charger, load = device.charger, device.load
        if charger is not None:
            source: Source[Reading] = Source(device.name, "charger", charger.read_charger, self._clock, watcher)
            self.units.append(Unit(device.name, config, source, charger, device.control))
        elif load is not None:
            source = Source(device.name, "load", load.read_load, self._clock, watcher)
            self.units.append(Unit(device.name, config, source, load, device.control))

    async def forget(self, name: str) -> None:
        """A device goes."""
        for unit in [unit for unit in self.units if unit.name == name]:
            self.units.remove(unit)
            await self._end(unit)

    async def close(self) -> None:
        for unit in self.units:
            await self._end(unit)

    async def release(self) -> None:
        """Gives each back to its own default, as far as it can be reached; its own timer does the rest."""
        for unit in self.units:
            await self._end(unit)
            if unit.control is not None and unit.told_w is not None:
                await self._let_go(unit, unit.control)

    # ---- each cycle

    def cycle(self, around: Around) -> None:
        """Begins the steps that are due; never waits."""
        now_s = self._clock.monotonic_s()
        self._load = follow(self._load, self._drawn_w(now_s), around.grid_power_w.good, now_s)
        for unit in self.units:
            if unit.step is not None and unit.step.done():
                step, unit.step = unit.step, None
                step.result()
            if unit.step is None and now_s >= unit.due_s:
                unit.due_s = now_s + STEP_S
                unit.step = asyncio.create_task(self._step(unit, around), name=f"steer {unit.name}")

    def functions(self) -> list[SupplyFunction]:
        """Of those that can be steered, as they are known now."""
        return [unit.function for unit in self.units if unit.function is not None]

    def bounds(self) -> PowerBounds:
        """What those that can be steered can do now, together."""
        known = [u.outlook.bounds for u in self.units if u.function is not None and u.outlook is not None]
        return PowerBounds(lower_w=sum(b.lower_w for b in known), upper_w=sum(b.upper_w for b in known))

    @property
    def rated_w(self) -> float:
        """The most that those which can be steered can draw, together."""
        return sum(unit.plate.max_draw_w for unit in self.units if unit.control is not None)

    @property
    def needed_wh(self) -> float:
        """What vehicles are still to get."""
        return sum(max(0.0, u.outlook.needed_wh or 0.0) for u in self.units if u.outlook and u.function is not None)

    def power_w(self, *, chargers: bool) -> Sample:
        """Of all chargers, or of all loads; good where each of them is known, and 0 where there are only the others."""
        now_s = self._clock.monotonic_s()
        found = [unit.power_w(now_s) for unit in self.units if unit.is_charger is chargers]
        if not self.units or any(sample.good is None for sample in found):
            return MISSING
        return Sample(sum(sample.value for sample in found), Quality.GOOD, now_s)

    def session_wh(self) -> Sample:
        """What the vehicles have got since they came, together; not known where there is nothing flexible."""
        return self._of_stays(lambda stay: stay.drawn_wh)

    def connected(self) -> Sample:
        """How many vehicles stand there; not known where there is nothing flexible."""
        return self._of_stays(lambda stay: float(stay.plugged))

    def _of_stays(self, value: Callable[[Stay], float]) -> Sample:
        chargers = [unit for unit in self.units if unit.is_charger]
        stays = [unit.state.stay for unit in chargers if unit.state.stay is not None and unit.source.healthy]
        if not self.units or len(stays) < len(chargers):
            return MISSING
        return Sample(sum(map(value, stays)), Quality.GOOD, self._clock.monotonic_s())

    def summary(self) -> list[dict[str, Any]]:
        """Each of them for people: what it does now and why."""
        now_s, utc_ms = self._clock.monotonic_s(), self._clock.utc_ms()
        return [self._told(unit, now_s, utc_ms) for unit in self.units]

    def _told(self, unit: Unit, now_s: float, utc_ms: int) -> dict[str, Any]:
        stay, outlook = unit.state.stay, unit.outlook
        wants = stay.wants if stay is not None and stay.plugged else None
        reading = unit.source.reading
        level = reading.level.good if isinstance(reading, LoadReading) else None
        return {
            "name": unit.name,
            "kind": "ev_charger" if unit.is_charger else "flexible_load",
            "power_w": unit.power_w(now_s).good,
            "told_w": unit.told_w,
            "connected": stay.plugged if stay is not None else None,
            "session_wh": round(stay.drawn_wh, 1) if stay is not None and stay.plugged else None,
            "needed_wh": outlook.needed_wh if outlook is not None else None,
            "ready_by": local_time.shown(wants.ready_at_ms, self._zone) if wants and self._zone else None,
            "late": wants is not None and utc_ms > wants.ready_at_ms,
            "level": round(level, 3) if level is not None else None,
            "source": unit.merged.setpoint.source if unit.merged is not None else None,
            "why": unit.why,
        }

    # ---- one device

    async def _step(self, unit: Unit, around: Around) -> None:
        await unit.source.refresh()
        now_s = self._clock.monotonic_s()
        reading = unit.source.reading
        if reading is None or not unit.source.healthy:
            unit.function = None
            unit.why = "it does not answer"
            return
        room = at_inverter(around.connection, self._load, now_s)
        room = self._left_by_others(unit, room, now_s)
        unit.state, unit.outlook = self._look(unit, reading, room, now_s)
        if unit.control is None:
            unit.why = "it is read-only here"
            return
        unit.function = unit.outlook.at_prices(self._band(unit.outlook, now_s)).clipped(unit.outlook.bounds)
        unit.merged = None if self._stops.standing is not None else self._decide(unit, unit.outlook, around, now_s)
        if unit.merged is None or reading_is_away(reading):
            unit.why = "emergency stop" if self._stops.standing is not None else unit.outlook.reason or "as by itself"
            if unit.told_w is not None or not unit.released:
                await self._let_go(unit, unit.control)
            return
        await self._write(unit, unit.control, unit.merged, reading, room, now_s)

    def _look(self, unit: Unit, reading: Reading, room: PowerBounds | None, now_s: float) -> tuple[State, Outlook]:
        car, waiting = unit.config.ev_charger, unit.config.flexible_load
        if car is not None and isinstance(reading, ChargerReading):
            utc_ms = self._clock.utc_ms()
            wants = None
            if car.ready_by is not None and car.energy_wh is not None and self._zone is not None:
                ready_at_ms = local_time.next_at(car.ready_by, self._zone, utc_ms)
                wants = Wants(energy_wh=car.energy_wh, ready_at_ms=ready_at_ms)
            before = unit.state
            if before.stay is None:
                before = replace(before, stay=self._memory.recall(unit.name, wants, now_s, utc_ms))
            state, outlook = flexible.charger(
                before,
                reading,
                unit.plate,
                Times(min_run_s=car.min_run_s, min_off_s=car.min_off_s),
                wants,
                room_w=-room.lower_w if room is not None else inf,
                told_w=unit.told_w,
                told_for_s=now_s - unit.told_s,
                now_s=now_s,
                utc_ms=utc_ms,
            )
            if state.stay is not None:
                self._memory.keep(unit.name, state.stay, now_s, utc_ms)
            return state, outlook
        assert waiting is not None  # noqa: S101  (a device is one or the other, see drivers.opening)
        assert isinstance(reading, LoadReading)  # noqa: S101
        times = Times(
            min_run_s=waiting.min_run_s,
            min_off_s=waiting.min_off_s,
            max_off_s=waiting.max_off_s if waiting.max_off_s is not None else inf,
        )
        has_level = waiting.comfort_min_c is not None
        return flexible.load(unit.state, reading, unit.plate, times, has_level=has_level, now_s=now_s)

    def _band(self, outlook: Outlook, now_s: float) -> PriceBand | None:
        """What energy is expected to cost until it is needed; without a schedule, what the fallback price says."""
        ahead_s = outlook.ready_in_s if outlook.ready_in_s is not None else LOOK_AHEAD_S
        told = band_until(self._intents.schedule, now_s, now_s + max(0.0, ahead_s))
        if told is None and (following := self._intents.price) is not None:
            return PriceBand(low_ticks=following.fallback_ticks, high_ticks=following.fallback_ticks)
        return told

    def _decide(self, unit: Unit, outlook: Outlook, around: Around, now_s: float) -> Merged | None:
        wish, tolerance_s = self._wish(unit, outlook, around, now_s)
        unit.guard = guard.step(
            self._guard_limits(unit.plate),
            unit.guard,
            wish.power_w if wish is not None else None,
            power_w=unit.power_w(now_s).good,
            storage_w=None,
            spread_s=self._draw() * min(tolerance_s, self._config.guard.start_spread_s),
            now_s=now_s,
        )
        proposals = list(outlook.limits)
        if wish is not None:
            proposals.append(replace(wish, power_w=unit.guard.allowed_w, note=unit.guard.limited or wish.note))
        if self._config.default != "release":
            proposals.append(Proposal(source="default", power_w=outlook.default_w))
        return merge(proposals, device_bounds(unit.plate), expires_s=now_s + LIFETIME_S)

    def _wish(self, unit: Unit, outlook: Outlook, around: Around, now_s: float) -> tuple[Proposal | None, float]:
        """The coordinator's, and how much later it may begin [s]."""
        following, addressed = self._intents.price, self._intents.setpoint
        function = unit.function
        wish, tolerance_s = None, 0.0
        if following is not None and function is not None:
            heard, why_none = self._broadcasts.price(following.group, now_s)
            wish, tolerance_s = price.propose(function, heard, following.fallback_ticks, why_none), PRICE_TOLERANCE_S
            if heard is not None:
                wish = replace(wish, note=f"the price that was broadcast is {heard.ticks / 100:.2f}")
        if addressed is not None and around.rest_w is not None:
            otherwise_w = wish.power_w if wish is not None and wish.power_w is not None else outlook.default_w
            asked_w = outlook.bounds.clip((0.0 if around.alone else otherwise_w) + self._share(unit, around.rest_w))
            return Proposal(source="setpoint", power_w=asked_w, note=addressed.reason), 0.0
        return wish, tolerance_s

    def _share(self, unit: Unit, rest_w: float) -> float:
        """A device's part of what is asked of all of them beyond the inverter [W], by what each can draw."""
        steered = [each for each in self.units if each.control is not None]
        return rest_w * unit.plate.max_draw_w / sum(each.plate.max_draw_w for each in steered)

    async def _write(
        self,
        unit: Unit,
        control: PowerControl,
        merged: Merged,
        reading: Reading,
        room: PowerBounds | None,
        now_s: float,
    ) -> None:
        asked = merged.setpoint
        bounds = unit.outlook.bounds if unit.outlook is not None else device_bounds(unit.plate)
        inside = bounds if room is None else bounds.narrowed(room)
        told_w = unit.told_w
        if told_w is not None and now_s - unit.told_s < HOLD_S and inside.clip(told_w) == told_w:
            asked = replace(asked, power_w=told_w)
        verdict = admit(
            asked,
            device_bounds(unit.plate),
            envelope=room,
            rated_power_w=max(unit.plate.max_draw_w, unit.plate.max_feed_w),
            read_s=reading.power_w.at_s,
            previous_w=None,
            ramp_w_per_s=None,
            dt_s=0.0,
            now_s=now_s,
        )
        passed = admitted(verdict)
        if passed is None:
            self._statistics.refused += 1
            self._refused(f"device {unit.name}: {verdict}")
            return
        try:
            async with asyncio.timeout(GUARD_S):
                await control.write_power(passed, LIFETIME_S)
        except (DeviceTimeout, TimeoutError):
            self._statistics.write_failures += 1
            return
        except DeviceRejected as error:
            self._statistics.write_failures += 1
            self._refused(str(error))
            return
        unit.released = True
        if passed.setpoint.power_w != unit.told_w:
            unit.told_w, unit.told_s = passed.setpoint.power_w, now_s
        limit = unit.outlook.reason if unit.outlook is not None else ""
        source = merged.setpoint.source
        unit.why = "the grid connection leaves no more" if isinstance(verdict, Clipped) else limit or source

    async def _let_go(self, unit: Unit, control: PowerControl) -> None:
        try:
            async with asyncio.timeout(GUARD_S):
                await control.release()
        except (DeviceTimeout, DeviceRejected, TimeoutError):
            self._statistics.write_failures += 1
            return
        unit.told_w, unit.told_s, unit.released = None, self._clock.monotonic_s(), True

    def _guard_limits(self, plate: FlexiblePlate) -> GuardLimits:
        config, most_w = self._config.guard, plate.max_draw_w
        return GuardLimits(
            ramp_w_per_s=most_w * config.ramp_percent_per_s / 100.0,
            turns_per_hour=config.direction_changes_per_hour,
            throughput_wh_per_day=inf,
            turn_w=most_w * guard.TURN_SHARE,
            mileage_w_per_hour=inf,
        )

    def _drawn_w(self, now_s: float) -> float | None:
        """What all of them draw, as far as they are known; None where there are none."""
        return sum(unit.power_w(now_s).good or 0.0 for unit in self.units) if self.units else None

    def _left_by_others(self, unit: Unit, room: PowerBounds | None, now_s: float) -> PowerBounds | None:
        """What a device may do of what all of them may; the others count as drawing what they do, or are told."""
        if room is None:
            return None
        others_w = sum(
            min(each.power_w(now_s).good or 0.0, each.told_w or 0.0) for each in self.units if each is not unit
        )
        # Nobody is made to draw by a limit on exports: the inverter's panels give way.
        return PowerBounds(lower_w=min(0.0, room.lower_w - others_w), upper_w=max(0.0, room.upper_w - others_w))

    @staticmethod
    async def _end(unit: Unit) -> None:
        if unit.step is not None:
            unit.step.cancel()
            await asyncio.gather(unit.step, return_exceptions=True)
            unit.step = None
        await unit.source.close()


def reading_is_away(reading: Reading) -> bool:
    """No vehicle is there to be steered."""
    return isinstance(reading, ChargerReading) and reading.plugged is False
