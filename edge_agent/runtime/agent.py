"""A site's agent without its processes: devices, loop, intents and the conversation with sync, wired together."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, assert_never

from google.protobuf.message import DecodeError

from edge_agent.control import energy
from edge_agent.control.signal_response import misfit as signal_misfit
from edge_agent.model.clock import Clock
from edge_agent.model.config import AgentConfig, ControlConfig
from edge_agent.model.forecast import Expectation
from edge_agent.model.intent import (
    ArmService,
    Envelope,
    FollowPrice,
    Intent,
    PowerSetpoint,
    Release,
    Schedule,
    StopOrder,
)
from edge_agent.model.update import Delivered
from edge_agent.model.values import Snapshot
from edge_agent.runtime import messages, supply
from edge_agent.runtime.broadcasts import Broadcasts
from edge_agent.runtime.decision import Decision
from edge_agent.runtime.flexible import FlexibleUnits
from edge_agent.runtime.frequency import GridFrequency
from edge_agent.runtime.guard_memory import GuardMemory
from edge_agent.runtime.intents import Intents
from edge_agent.runtime.ipc import Channel
from edge_agent.runtime.loop import ControlLoop, Limits, Outbox
from edge_agent.runtime.messages import AckState, IntentError, Reporter, Severity
from edge_agent.runtime.remote import RemoteConfiguration
from edge_agent.runtime.site import OpenDevice, Site
from edge_agent.runtime.statistics import LoopStatistics
from edge_agent.runtime.stay_memory import StayMemory
from edge_agent.runtime.stop import SITE, Stops
from edge_agent.runtime.supply import SupplyReport
from edge_agent.safety.envelope import Connection
from protos.vpp.v1 import broadcast_pb2, intent_pb2, local_pb2

log = logging.getLogger(__name__)

REFUSALS_PERIOD_S = 60.0  # a setpoint refused in every cycle is told once in so long


class Agent:
    """What one control process does; whoever owns it runs `loop` and brings sync to the channel's other end."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        open_device: OpenDevice,
        clock: Clock,
        kick: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """kick: called after each completed cycle."""
        self._clock = clock
        self._linked: bool | None = None  # until sync has said so: not known
        self._ahead_ms: float | None = None  # the coordinator's UTC less the monotonic clock, once that is measured
        self._expected: Expectation | None = None
        self._expectations = 0
        self._firmware: tuple[Delivered, ...] = ()  # what became of what was staged for microcontrollers
        self.channel = Channel()
        self.reporter = Reporter(site=config.site, boot_id=secrets.token_hex(6), clock=clock, send=self.channel.send)
        self.remote = RemoteConfiguration(config, reporter=self.reporter, clock=clock, sleep=sleep)
        self.config = config = self.remote.at_start()  # in force: the owner's, and what was set from afar
        self._broadcasts = Broadcasts()
        self._stops = Stops(config.data_dir)
        self._intents = Intents(
            self._acknowledge, self._intent_ended, self._impossible, lambda order: self._take_stop(SITE, order)
        )
        self._supply = SupplyReport(self.channel.send)
        limits = config.control
        self._frequency = GridFrequency(
            clock=clock, reporter=self.reporter, period_s=1.0 / limits.rate_hz, nominal_v=limits.nominal_voltage_v
        )
        self._guard_memory = GuardMemory(config.data_dir)
        self._stay_memory = StayMemory(config.data_dir)
        self._statistics = LoopStatistics(clock)
        refusals = _Refusals(self.reporter, clock)
        self.flexible = FlexibleUnits(
            config.control,
            config.time_zone,
            intents=self._intents,
            broadcasts=self._broadcasts,
            stops=self._stops,
            clock=clock,
            statistics=self._statistics,
            refused=refusals.add,
            memory=self._stay_memory,
        )
        self._decision = Decision(
            config.control,
            self._intents,
            self._broadcasts,
            self._stops,
            self.reporter,
            self._guard_memory,
            self.flexible,
        )
        self.site = Site(config, open_device, self.flexible, clock=clock, reporter=self.reporter, sleep=sleep)
        self.loop = ControlLoop(
            plant=self.site.plant,
            flexible=self.flexible,
            frequency=self._frequency,
            decision=self._decision,
            limits=_limits(limits),
            outbox=Outbox(
                snapshot=self._send_snapshot,
                refused=refusals.add,
                exchange=self._exchange,
                kick=kick,
            ),
            statistics=self._statistics,
            clock=clock,
            rate_hz=config.control.rate_hz,
            lifetime_s=config.control.setpoint_lifetime_s,
            sleep=sleep,
        )

    def close(self) -> None:
        """After the last cycle: what the next start has to know is on the disk."""
        self._guard_memory.close()
        self._stay_memory.close()

    @property
    def silent(self) -> list[str]:
        """Devices that do not answer now."""
        return self.site.silent

    @property
    def cycles(self) -> int:
        """Completed so far."""
        return self._statistics.cycles

    async def use(self, config: AgentConfig) -> None:
        """Puts a configuration of the same devices in force, from the next cycle on; what was asked stays in force.

        Raises DeviceTimeout or DeviceFault for a device whose new address does not answer.
        """
        self.config = config
        self._decision.use(config.control)
        self.flexible.use(config.control)
        self.loop.limits = _limits(config.control)
        try:
            await self.site.use(config)
        finally:
            self.describe()

    async def find_missing(self) -> None:
        """Looks for devices that were lost on the way, until all are found."""
        await self.site.find_missing(self.describe)

    def summary(self) -> dict[str, Any]:
        """What the agent is doing, for people and for the bench."""
        merged, snapshot, schedule = self.loop.merged, self.loop.snapshot, self._intents.schedule
        stop, setpoint, price, envelope = (
            self._stops.standing,
            self._intents.setpoint,
            self._intents.price,
            self._intents.envelope,
        )
        return {
            "site": self.config.site,
            "written_utc_ms": self._clock.utc_ms(),
            **self._statistics.summary(),
            "silent_devices": self.site.silent,
            "default": self.config.control.default,
            "setpoint_w": merged.setpoint.power_w if merged is not None else None,
            "setpoint_source": merged.setpoint.source if merged is not None else None,
            "frequency_hz": snapshot.frequency_hz.good if snapshot is not None else None,
            **self._frequency.summary(),
            "soc": snapshot.soc.good if snapshot is not None else None,
            "energy_note": self._decision.energy_note,
            "guard_note": self._decision.guard.note,
            "stopped": stop.reason if stop is not None else None,
            "setpoint_reason": setpoint.reason if setpoint is not None else None,
            "price_group": price.group if price is not None else None,
            "price_note": self._decision.price_note,
            "envelope_id": envelope.envelope_id if envelope is not None else None,
            "plan_id": schedule.plan_id if schedule is not None else None,
            "services": [
                {
                    "service": arm.service.id,
                    "award_id": arm.award_id,
                    "contracted_w": arm.contracted_w,
                    "phase": state.phase.value,
                    "share": round(state.share, 4),
                    "note": state.note,
                }
                for arm, state in self._decision.services
            ],
            "flexible": self.flexible.summary(),
            **self._expected_summary(),
            "remote_revision": self.remote.revision,
            "remote_outcome": self.remote.outcome,
            "linked": self._linked,
            "snapshots_sent": self.channel.snapshots_sent,
            "snapshots_dropped": self.channel.snapshots_dropped,
            "messages_waiting": self.channel.waiting,
            "messages_dropped": self.channel.messages_dropped,
        }

    def _expected_summary(self) -> dict[str, Any]:
        """What the site expects of the next hours [Wh], and what is kept of the storage for them."""
        expected, now_ms = self._expected, self._coordinator_ahead_ms + 1e3 * self._clock.monotonic_s()
        if expected is None:
            return {"expected": None, "backup_soc": None}
        return {
            "expected": {
                "times": self._expectations,  # that it was told since the start
                "source": expected.source,
                "note": expected.note,
                "load_wh": {hours: _whole(expected.energy_wh(expected.load_w, now_ms, hours)) for hours in (6, 24)},
                "sun_wh": {hours: _whole(expected.energy_wh(expected.sun_w, now_ms, hours)) for hours in (6, 24)},
            },
            "backup_soc": self._decision.backup_soc,
        }

    def delivered(self, firmware: tuple[Delivered, ...]) -> None:
        """Tells sync what became of staged firmware, where that is news."""
        if firmware != self._firmware:
            self._firmware = firmware
            self.describe()

    def describe(self) -> None:
        """Tells a new sync, or one that knows less, what stands here."""
        storage, limits = self.site.plant.storage, self.config.control
        self.channel.send(
            messages.description_message(
                self.site.nameplates,
                storage.nameplate if storage is not None else None,
                soc_min=limits.soc_floor + energy.PLAN_MARGIN,
                soc_max=limits.soc_max - energy.PLAN_MARGIN,
                firmware=self._firmware,
            )
        )

    def _send_snapshot(self, snapshot: Snapshot) -> None:
        utc_ms = round(self._coordinator_ahead_ms + 1e3 * snapshot.at_s)
        plant = self.site.plant
        steered = plant.storage if plant.control is not None else None
        self._supply.offer(self._decision.supply, supply.able(steered, snapshot, self.flexible), snapshot.at_s, utc_ms)
        self.channel.send_snapshot(messages.snapshot_message(snapshot, armed=bool(self._decision.services)))

    def _exchange(self) -> None:
        for data in self.channel.receive():
            try:
                message = local_pb2.ToControl.FromString(data)
            except DecodeError:
                log.error("message from sync does not parse: bytes=%d", len(data))
                continue
            match message.WhichOneof("body"):
                case "intent":
                    self._take_intent(message.intent)
                case "broadcast":
                    self._take_broadcast(message.broadcast)
                case "link":
                    self._take_link(message.link.connected)
                case "remote":
                    self.remote.take(message.remote.revision, message.remote.toml)
                case "expectation":
                    self._expectations += 1
                    self._expected = messages.read_expectation(message.expectation)
                    self._tell_expected()
                case "coordinator_time":
                    self._ahead_ms = message.coordinator_time.ahead_ms
                    self._intents.keep_time(self._ahead_ms)
                case _:
                    log.error("message from sync of an unknown kind: bytes=%d", len(data))

    def _take_intent(self, message: intent_pb2.Intent) -> None:
        try:
            intent = messages.read_intent(message, self._coordinator_ahead_ms)
            if reason := self._impossible(intent):
                raise IntentError(reason)
        except IntentError as error:
            kind = messages.intent_kind(message)
            log.warning("intent refused: kind=%s sequence=%d reason=%s", kind, message.sequence, error)
            self.reporter.acknowledge(kind, message.sequence, AckState.REFUSED, str(error))
            return
        self._intents.offer(intent)
        if isinstance(intent.body, StopOrder):
            self._intents.advance(self._clock.monotonic_s())  # what comes right after it may depend on it

    def _take_broadcast(self, message: broadcast_pb2.Broadcast) -> None:
        try:
            broadcast = messages.read_broadcast(message, self._coordinator_ahead_ms, self._clock.monotonic_s())
        except IntentError as error:
            log.warning("broadcast refused: group=%s sequence=%d reason=%s", message.group, message.sequence, error)
            return
        if self._broadcasts.take(broadcast) and isinstance(broadcast.body, StopOrder):
            self._take_stop(broadcast.group, broadcast.body)

    def _take_stop(self, addressee: str, order: StopOrder) -> None:
        """Acts on an emergency stop, or its end, to this site or to a group of its."""
        try:
            changed = self._stops.take(addressee, order)
        except OSError as error:
            changed = True
            text = f"the emergency stop cannot be kept for the agent's next start: {error}"
            log.error("%s", text)
            self.reporter.event("stop.not_kept", Severity.ALARM, text)
        if changed:
            self._obey(f"group {addressee}" if addressee else "this site", order)

    def read_local_stop(self) -> None:
        """Acts on what was ordered at the gateway itself."""
        if (order := self._stops.read_local()) is not None:
            self._obey("this site, at its gateway", order)

    def _obey(self, whom: str, order: StopOrder) -> None:
        if self._stops.standing is not None:
            log.warning("emergency stop: %s: %s", whom, order.reason)
            self._intents.end_all("emergency stop")
            self.reporter.event("stop.ordered", Severity.ALARM, f"emergency stop of {whom}: {order.reason}")
        else:
            log.warning("emergency stop lifted: %s: %s", whom, order.reason)
            self.reporter.event("stop.lifted", Severity.WARNING, f"emergency stop of {whom} lifted: {order.reason}")

    @property
    def _coordinator_ahead_ms(self) -> float:
        """The coordinator's UTC less the monotonic clock; the gateway's own until it is measured."""
        if self._ahead_ms is not None:
            return self._ahead_ms
        return self._clock.utc_ms() - 1e3 * self._clock.monotonic_s()

    def _impossible(self, intent: Intent) -> str:
        """Why this site cannot do it, as far as is known now: a device that is not there yet may come."""
        plant, body = self.site.plant, intent.body
        if isinstance(body, Release | Envelope | StopOrder):
            return ""
        if (stop := self._stops.standing) is not None:
            return f"emergency stop: {stop.reason}"
        if plant.storage is None:
            return ""
        if plant.control is None:
            return "the inverter is read-only here: its power cannot be set"
        match body:
            case ArmService():
                rated_w = plant.storage.nameplate.rated_power_w
                if body.contracted_w > rated_w:
                    return f"{body.contracted_w:.0f} W are more than the inverter's {rated_w:.0f} W"
                if not plant.storage.present:
                    return "the inverter has no storage to hold power back with"
                if reason := energy.misfit(plant.storage, body, swing_w=self._swing_w(rated_w)):
                    return reason
                if any(arm.award_id == body.award_id for arm, _ in self._decision.services):
                    return ""  # said again: what is armed is not ended by a measurement that is late just now
                ramp_w_per_s = self.config.control.ramp_w_per_s
                swing_s = body.contracted_w / ramp_w_per_s if ramp_w_per_s is not None else 0.0
                if body.service.signal is not None:
                    guarded_s = 100.0 * body.contracted_w / rated_w / self.config.control.guard.ramp_percent_per_s
                    return signal_misfit(body.service, swing_s=max(swing_s, guarded_s))
                return self._frequency.misfit(body.service, swing_s=swing_s)
            case Schedule() | PowerSetpoint() | FollowPrice():
                return ""
            case _:
                assert_never(body)

    def _swing_w(self, rated_w: float) -> float:
        """Between the least and the most that the inverter may ever do [W]."""
        limits = self.config.control
        if limits.export_limit_w is None or limits.import_limit_w is None:
            return 2 * rated_w
        return min(2 * rated_w, limits.export_limit_w + limits.import_limit_w)

    def _take_link(self, connected: bool) -> None:
        if self._linked is not None and connected is not self._linked:
            if connected:
                self.reporter.event("link.restored", Severity.INFO, "the coordinator can be reached again")
            else:
                log.warning("link lost: intents run to their expiry")
                self.reporter.event("link.lost", Severity.WARNING, "the coordinator cannot be reached")
        self._linked = connected
        self._tell_expected()

    def _tell_expected(self) -> None:
        alone = self._linked is not True
        self._decision.expect(self._expected, alone=alone, ahead_ms=self._coordinator_ahead_ms)

    def _acknowledge(self, kind: str, sequence: int, state: AckState, reason: str) -> None:
        log.info("intent: kind=%s sequence=%d state=%s %s", kind, sequence, state.name.lower(), reason)
        self.reporter.acknowledge(kind, sequence, state, reason)

    def _intent_ended(self, intent: Intent, state: AckState) -> None:
        if state is AckState.EXPIRED:
            what = intent.body.service.id if isinstance(intent.body, ArmService) else intent.kind
            self.reporter.event("intent.expired", Severity.INFO, f"{what}, sequence {intent.sequence}, has run out")


def _limits(control: ControlConfig) -> Limits:
    return Limits(
        connection=Connection(export_limit_w=control.export_limit_w, import_limit_w=control.import_limit_w),
        ramp_w_per_s=control.ramp_w_per_s,
        writes_per_day=control.writes_per_day,
    )


def _whole(energy_wh: float | None) -> int | None:
    return None if energy_wh is None else round(energy_wh)


class _Refusals:
    """Tells that setpoints are refused, without telling every cycle."""

    def __init__(self, reporter: Reporter, clock: Clock) -> None:
        self._reporter = reporter
        self._clock = clock
        self._next_s = float("-inf")
        self._untold = 0

    def add(self, reason: str) -> None:
        now_s = self._clock.monotonic_s()
        if now_s < self._next_s:
            self._untold += 1
            return
        before = f" ({self._untold} more before)" if self._untold else ""
        log.warning("setpoint refused: %s%s", reason, before)
        self._reporter.event("setpoint.refused", Severity.WARNING, f"{reason}{before}")
        self._next_s, self._untold = now_s + REFUSALS_PERIOD_S, 0
