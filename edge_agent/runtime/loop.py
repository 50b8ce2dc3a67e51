"""The control loop: read, freeze, decide, merge, check, write, report, at a fixed rate.

The inverter, and whatever else measures frequency before it, is read, decided upon and written to without anything in
between; the grid meter is read after the write and serves the next decision, and chargers and loads go their own way
beside it. A cycle that is late is not caught up
with: ticks that have passed are counted and skipped.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from edge_agent.control.arbiter import Merged
from edge_agent.control.bounds import Storage, available
from edge_agent.model.clock import Clock
from edge_agent.model.devices import DeviceRejected, DeviceTimeout, InverterReading, MeterReading, PowerControl
from edge_agent.model.values import Admitted, Applied, Clipped, PowerBounds, Refused, Snapshot, admitted
from edge_agent.runtime.decision import Decision
from edge_agent.runtime.flexible import Around, FlexibleUnits
from edge_agent.runtime.frequency import FrequencySource, GridFrequency
from edge_agent.runtime.sources import GUARD_S, Source, aged
from edge_agent.runtime.statistics import LoopStatistics
from edge_agent.safety import writes
from edge_agent.safety.envelope import Connection, Load, at_inverter, follow, tighter
from edge_agent.safety.gate import admit
from edge_agent.safety.writes import WriteBudget

RELEASE_AFTER_S = 1.0  # of nothing that may be written: the device gets its own default back
RETRY_RELEASE_S = 1.0

_NO_METER = MeterReading()
_NO_INVERTER = InverterReading()


@dataclass(slots=True)
class Plant:
    """What the loop drives: the devices of the site, as far as they have been found."""

    inverter: Source[InverterReading] | None = None
    meter: Source[MeterReading] | None = None
    control: PowerControl | None = None
    storage: Storage | None = None
    frequency: list[FrequencySource] = field(default_factory=list)  # best first

    @property
    def first(self) -> list[Source[InverterReading] | Source[MeterReading]]:
        """What is read before deciding: the inverter, and every source of frequency that is better or nothing else."""
        sources: list[Source[InverterReading] | Source[MeterReading]] = []
        if self.inverter is not None:
            sources.append(self.inverter)
        before = True
        for each in self.frequency:
            before = before and each.source is not self.inverter
            if each.source is not self.inverter and (before or each.source is not self.meter):
                sources.append(each.source)
        return sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the owner, and the device, demand of every setpoint."""

    connection: Connection
    ramp_w_per_s: float | None = None
    writes_per_day: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """Where the loop's results go."""

    snapshot: Callable[[Snapshot], None]  # each cycle's picture
    refused: Callable[[str], None]  # why nothing could be written
    exchange: Callable[[], None]  # takes what sync sent
    kick: Callable[[], None]  # a cycle is complete


class ControlLoop:
    """One site's loop."""

    def __init__(
        self,
        *,
        plant: Plant,
        flexible: FlexibleUnits,
        frequency: GridFrequency,
        decision: Decision,
        limits: Limits,
        outbox: Outbox,
        statistics: LoopStatistics,
        clock: Clock,
        rate_hz: float,
        lifetime_s: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """lifetime_s: how long the device obeys after the last word [s]."""
        self._plant = plant
        self._flexible = flexible
        self._frequency = frequency
        self._decision = decision
        self.limits = limits  # replaced between two cycles where others come into force
        self._outbox = outbox
        self._statistics = statistics
        self._clock = clock
        self._period_s = 1.0 / rate_hz
        self._lifetime_s = lifetime_s
        self._sleep = sleep
        self._load = Load()
        self._connection = Connection()  # the limits of this cycle at the grid meter
        self._envelope: PowerBounds | None = None  # what they leave at the inverter
        self._budget: WriteBudget | None = None
        self._previous: tuple[float, float] | None = None  # power last written [W], and when
        self._offset_w = 0.0  # frequency response in it
        # A setpoint of an earlier life may still stand in the device.
        self._held = True
        self._written_s = clock.monotonic_s()
        self._next_release_s = 0.0
        self.merged: Merged | None = None  # of the last cycle, for those who watch
        self.snapshot: Snapshot | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Cycles until told to stop."""
        due_s = self._clock.monotonic_s()
        while not stop.is_set():
            due_s += self._period_s
            await self._sleep(max(0.0, due_s - self._clock.monotonic_s()))
            begin_s = self._clock.monotonic_s()
            late_s = begin_s - due_s
            self._statistics.late.add(max(0.0, late_s))
            if late_s > self._period_s:
                self._statistics.missed += int(late_s / self._period_s)
                due_s = begin_s
            await self.cycle()
            self._statistics.cycles += 1
            self._statistics.cycle.add(self._clock.monotonic_s() - begin_s)
            self._outbox.kick()

    async def cycle(self) -> None:
        """One cycle."""
        plant = self._plant
        first = plant.first
        if len(first) == 1:
            await first[0].refresh()
        elif first:
            await asyncio.gather(*(source.refresh() for source in first))
        snapshot = self._freeze()
        self.snapshot = snapshot
        # What cannot be set is not decided about: nothing is armed on a read-only inverter.
        self.merged = self._decision.decide(snapshot, plant.storage if plant.control is not None else None)
        if plant.control is not None:
            await self._act(plant.control, snapshot, self.merged)
        meter = plant.meter
        if meter is not None:
            # A device that has just not answered as an inverter is not waited for again as a meter.
            answers = plant.inverter is None or plant.inverter.healthy or meter.device != plant.inverter.device
            if answers and meter not in first:
                await meter.refresh()
            grid = aged(self._meter_reading().power_w, healthy=meter.healthy, now_s=self._clock.monotonic_s())
            snapshot = replace(snapshot, grid_power_w=grid)
        self._flexible.cycle(
            Around(
                connection=self._connection,
                grid_power_w=snapshot.grid_power_w,
                rest_w=self._decision.rest_w(snapshot, has_inverter=plant.inverter is not None),
                alone=plant.inverter is None,
            )
        )
        self._outbox.snapshot(snapshot)
        self._outbox.exchange()

    async def release(self) -> None:
        """Gives the devices their own defaults back, if they can be reached; their reversion timers do, if not."""
        await self._flexible.release()
        if self._plant.control is not None and self._held:
            await self._let_go(self._plant.control, self._clock.monotonic_s())

    def _freeze(self) -> Snapshot:
        plant, now_s = self._plant, self._clock.monotonic_s()
        inverter = plant.inverter.reading if plant.inverter is not None else None
        inverter = inverter or _NO_INVERTER
        meter = self._meter_reading()
        inverter_ok = plant.inverter is not None and plant.inverter.healthy
        meter_ok = plant.meter is not None and plant.meter.healthy

        frequency_hz = self._frequency.look(plant.frequency, now_s)
        voltage_v = aged(inverter.voltage_v, healthy=inverter_ok, now_s=now_s)
        if voltage_v.good is None:
            voltage_v = aged(meter.voltage_v, healthy=meter_ok, now_s=now_s)
        soc = aged(inverter.soc, healthy=inverter_ok, now_s=now_s)
        pv_power_w = aged(inverter.pv_power_w, healthy=inverter_ok, now_s=now_s)
        power_w = aged(inverter.power_w, healthy=inverter_ok, now_s=now_s)
        grid_power_w = aged(meter.power_w, healthy=meter_ok, now_s=now_s)
        self._load = follow(self._load, power_w.good, grid_power_w.good, now_s)
        connection = tighter(self.limits.connection, self._decision.envelope(self._load, plant.storage, now_s))
        self._connection = connection
        self._envelope = at_inverter(connection, self._load, now_s)
        bounds = available(plant.storage, soc, pv_power_w) if plant.storage is not None and inverter_ok else None
        if bounds is not None and self._envelope is not None:
            bounds = bounds.narrowed(self._envelope)
        return Snapshot(
            at_s=now_s,
            utc_ms=self._clock.utc_ms(),
            frequency_hz=frequency_hz,
            voltage_v=voltage_v,
            inverter_power_w=power_w,
            pv_power_w=pv_power_w,
            soc=soc,
            grid_power_w=grid_power_w,
            ev_power_w=self._flexible.power_w(chargers=True),
            ev_session_wh=self._flexible.session_wh(),
            ev_connected=self._flexible.connected(),
            flexible_load_power_w=self._flexible.power_w(chargers=False),
            bounds=bounds,
        )

    def _meter_reading(self) -> MeterReading:
        return (self._plant.meter.reading if self._plant.meter is not None else None) or _NO_METER

    async def _act(self, control: PowerControl, snapshot: Snapshot, merged: Merged | None) -> None:
        inverter = self._plant.inverter
        if inverter is None or not inverter.healthy:
            return  # it could not be reached; what it holds ends by its own timer
        now_s = snapshot.at_s
        if merged is not None:
            await self._write(control, merged, snapshot)
        elif snapshot.bounds is None:
            self._refuse("what the inverter can hold is not known: its state of charge or its rating cannot be used")
        # Nobody has a wish: at once. Somebody has, but nothing may be written: after a moment.
        patience_s = 0.0 if merged is None and snapshot.bounds is not None else RELEASE_AFTER_S
        if self._held and now_s - self._written_s >= patience_s and now_s >= self._next_release_s:
            await self._let_go(control, now_s)

    async def _write(self, control: PowerControl, merged: Merged, snapshot: Snapshot) -> None:
        now_s = snapshot.at_s
        previous_w, previous_s = self._previous or (None, now_s)
        storage = self._plant.storage
        verdict = admit(
            merged.setpoint,
            snapshot.bounds,
            envelope=self._envelope,
            rated_power_w=storage.nameplate.rated_power_w if storage is not None else 0.0,
            read_s=snapshot.soc.at_s if storage is not None and storage.present else snapshot.inverter_power_w.at_s,
            previous_w=previous_w,
            ramp_w_per_s=self.limits.ramp_w_per_s,
            dt_s=now_s - previous_s,
            now_s=now_s,
        )
        match verdict:
            case Applied():
                self._statistics.applied += 1
            case Clipped():
                self._statistics.clipped += 1
            case Refused():
                self._refuse(verdict.reason)
        passed = admitted(verdict)
        if passed is None:
            return
        passed = self._within_budget(passed, merged, snapshot)
        try:
            async with asyncio.timeout(GUARD_S):
                await control.write_power(passed, self._lifetime_s)
        except (DeviceTimeout, TimeoutError):
            self._statistics.write_failures += 1  # the next reading tells whether the device has gone
            return
        except DeviceRejected as error:
            self._statistics.write_failures += 1
            self._outbox.refused(str(error))
            return
        self._held = True
        self._written_s = now_s
        self._previous = (passed.setpoint.power_w, now_s)
        self._offset_w = merged.offset_w

    def _within_budget(self, passed: Admitted, merged: Merged, snapshot: Snapshot) -> Admitted:
        """What was admitted, or the last power once more where the device must be spared the write."""
        per_day, previous, bounds = self.limits.writes_per_day, self._previous, snapshot.bounds
        if per_day is None or previous is None or bounds is None or passed.setpoint.power_w == previous[0]:
            return passed
        budget = self._budget or writes.full(per_day, snapshot.at_s)
        urgent = merged.offset_w != self._offset_w or bounds.clip(previous[0]) != previous[0]
        self._budget, allowed = writes.spend(budget, urgent=urgent, now_s=snapshot.at_s)
        if allowed:
            return passed
        self._statistics.held += 1
        return replace(passed, setpoint=replace(passed.setpoint, power_w=previous[0]))

    async def _let_go(self, control: PowerControl, now_s: float) -> None:
        self._next_release_s = now_s + RETRY_RELEASE_S
        try:
            async with asyncio.timeout(GUARD_S):
                await control.release()
        except (DeviceTimeout, DeviceRejected, TimeoutError):
            self._statistics.write_failures += 1
            return
        self._held = False
        self._previous = None

    def _refuse(self, reason: str) -> None:
        self._statistics.refused += 1
        self._outbox.refused(reason)
