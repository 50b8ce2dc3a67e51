"""The control process, wired together: devices, loop, intents and the sync process beside it."""

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, assert_never

from google.protobuf.message import DecodeError

from edge_agent.model.clock import Clock
from edge_agent.model.config import AgentConfig
from edge_agent.model.intent import ArmService, Intent, Release, Schedule
from edge_agent.model.values import Snapshot
from edge_agent.runtime import messages
from edge_agent.runtime.decision import Decision
from edge_agent.runtime.folder import STATISTICS
from edge_agent.runtime.intents import Intents
from edge_agent.runtime.ipc import Channel
from edge_agent.runtime.loop import ControlLoop, Outbox
from edge_agent.runtime.messages import AckState, IntentError, Reporter, Severity
from edge_agent.runtime.site import OpenDevice, Site
from edge_agent.runtime.statistics import LoopStatistics, write_json
from edge_agent.runtime.supervise import Supervisor, SyncRefused
from edge_agent.runtime.watchdog import Watchdog
from protos.vpp.v1 import intent_pb2, local_pb2

log = logging.getLogger(__name__)

STATISTICS_PERIOD_S = 10.0
REFUSALS_PERIOD_S = 60.0  # a setpoint refused in every cycle is told once in so long


class ControlProcess:
    """One agent's control process."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        open_device: OpenDevice,
        sync_command: Sequence[str],
        clock: Clock,
        watchdog: Watchdog,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """sync_command: starts sync, without `--fd N`."""
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._watchdog = watchdog
        self._channel = Channel()
        self._reporter = Reporter(site=config.site, boot_id=secrets.token_hex(6), clock=clock, send=self._channel.send)
        self._statistics = LoopStatistics(clock)
        self._refusals = _Refusals(self._reporter, clock)
        self._intents = Intents(self._acknowledge, self._intent_ended)
        self._decision = Decision(config.control, self._intents, self._reporter)
        self._site = Site(config, open_device, clock=clock, reporter=self._reporter, sleep=sleep)
        self._supervisor = Supervisor(sync_command, self._channel, attached=self._describe, clock=clock, sleep=sleep)
        self._linked: bool | None = None  # until sync has said so: not known
        self._sync_refused = False
        self._loop = ControlLoop(
            plant=self._site.plant,
            decision=self._decision,
            outbox=Outbox(
                snapshot=self._send_snapshot,
                refused=self._refusals.add,
                exchange=self._exchange,
                kick=watchdog.kick,
            ),
            statistics=self._statistics,
            clock=clock,
            rate_hz=config.control.rate_hz,
            lifetime_s=config.control.setpoint_lifetime_s,
            sleep=sleep,
        )

    async def run(self, stop: asyncio.Event) -> bool:
        """Controls the site until told to stop; then releases the device, and ends sync in order.

        False where sync refused its configuration, and has said why. Raises DeviceFault, before anything was started.
        """
        try:
            await self._site.open_all()
            with self._signals():
                await self._run(stop)
        finally:
            await self._site.close()
            self._watchdog.close()
        return not self._sync_refused

    async def _run(self, stop: asyncio.Event) -> None:
        silent = self._site.silent
        log.info(
            "agent started: site=%s rate_hz=%g default=%s silent_devices=%s",
            self._config.site,
            self._config.control.rate_hz,
            self._config.control.default,
            ",".join(silent) or "none",
        )
        self._reporter.event(
            "agent.started", Severity.INFO, f"control runs; {', '.join(silent)} silent" if silent else "control runs"
        )
        self._watchdog.ready()
        try:
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(self._supervise(stop)),
                    group.create_task(self._site.find_missing(self._describe)),
                    group.create_task(self._keep_statistics()),
                ]
                gc.collect()
                gc.freeze()  # what lives as long as the process is not looked at again
                try:
                    await self._loop.run(stop)
                finally:
                    self._watchdog.stopping()
                    await self._loop.release()  # before anything that may take its time
                self._channel.flush()
                for task in background:
                    task.cancel()
        finally:
            self.write_statistics()

    def write_statistics(self) -> None:
        """Replaces the statistics file; a full disk costs the figures, not the control."""
        try:
            write_json(self._config.data_dir / STATISTICS, self.summary())
        except OSError as error:
            log.warning("statistics not written: %s", error)

    def summary(self) -> dict[str, Any]:
        """What the agent is doing, for people and for the bench."""
        merged, snapshot, schedule = self._loop.merged, self._loop.snapshot, self._intents.schedule
        return {
            "site": self._config.site,
            "written_utc_ms": self._clock.utc_ms(),
            **self._statistics.summary(),
            "silent_devices": self._site.silent,
            "default": self._config.control.default,
            "setpoint_w": merged.setpoint.power_w if merged is not None else None,
            "setpoint_source": merged.setpoint.source if merged is not None else None,
            "frequency_hz": snapshot.frequency_hz.good if snapshot is not None else None,
            "soc": snapshot.soc.good if snapshot is not None else None,
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
            "linked": self._linked,
            "sync_pid": self._supervisor.pid,
            "sync_restarts": self._supervisor.restarts,
            "snapshots_sent": self._channel.snapshots_sent,
            "snapshots_dropped": self._channel.snapshots_dropped,
            "messages_waiting": self._channel.waiting,
            "messages_dropped": self._channel.messages_dropped,
        }

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self.write_statistics)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    async def _supervise(self, stop: asyncio.Event) -> None:
        try:
            await self._supervisor.run()
        except SyncRefused:
            self._sync_refused = True
            stop.set()

    async def _keep_statistics(self) -> None:
        while True:
            await self._sleep(STATISTICS_PERIOD_S)
            self.write_statistics()

    def _describe(self) -> None:
        """Tells a new sync, or one that knows less, what stands here."""
        storage, limits = self._site.plant.storage, self._config.control
        self._channel.send(
            messages.description_message(
                self._site.nameplates,
                storage.nameplate if storage is not None else None,
                soc_min=limits.soc_min,
                soc_max=limits.soc_max,
            )
        )

    def _send_snapshot(self, snapshot: Snapshot) -> None:
        self._channel.send_snapshot(messages.snapshot_message(snapshot))

    def _exchange(self) -> None:
        for data in self._channel.receive():
            try:
                message = local_pb2.ToControl.FromString(data)
            except DecodeError:
                log.error("message from sync does not parse: bytes=%d", len(data))
                continue
            match message.WhichOneof("body"):
                case "intent":
                    self._take_intent(message.intent)
                case "link":
                    self._take_link(message.link.connected)
                case _:
                    log.error("message from sync of an unknown kind: bytes=%d", len(data))

    def _take_intent(self, message: intent_pb2.Intent) -> None:
        try:
            intent = messages.read_intent(message, self._clock)
            self._check_possible(intent)
        except IntentError as error:
            kind = messages.intent_kind(message)
            log.warning("intent refused: kind=%s sequence=%d reason=%s", kind, message.sequence, error)
            self._reporter.acknowledge(kind, message.sequence, AckState.REFUSED, str(error))
            return
        self._intents.offer(intent)

    def _check_possible(self, intent: Intent) -> None:
        """Refuses what this site cannot do. A device that is not there yet may come. Raises IntentError."""
        plant, body = self._site.plant, intent.body
        if plant.storage is None or isinstance(body, Release):
            return
        if plant.control is None:
            raise IntentError("the inverter is read-only here: its power cannot be set")
        match body:
            case ArmService():
                rated_w = plant.storage.nameplate.rated_power_w
                if body.contracted_w > rated_w:
                    raise IntentError(f"{body.contracted_w:.0f} W are more than the inverter's {rated_w:.0f} W")
                if not plant.storage.present:
                    raise IntentError("the inverter has no storage to hold power back with")
            case Schedule():
                pass
            case _:
                assert_never(body)

    def _take_link(self, connected: bool) -> None:
        if self._linked is not None and connected is not self._linked:
            if connected:
                self._reporter.event("link.restored", Severity.INFO, "the coordinator can be reached again")
            else:
                log.warning("link lost: intents run to their expiry")
                self._reporter.event("link.lost", Severity.WARNING, "the coordinator cannot be reached")
        self._linked = connected

    def _acknowledge(self, kind: str, sequence: int, state: AckState, reason: str) -> None:
        log.info("intent: kind=%s sequence=%d state=%s %s", kind, sequence, state.name.lower(), reason)
        self._reporter.acknowledge(kind, sequence, state, reason)

    def _intent_ended(self, intent: Intent, state: AckState) -> None:
        if state is AckState.EXPIRED:
            what = intent.body.service.id if isinstance(intent.body, ArmService) else intent.kind
            self._reporter.event("intent.expired", Severity.INFO, f"{what}, sequence {intent.sequence}, has run out")


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
