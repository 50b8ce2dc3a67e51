"""The sync process: everything between the control process and the coordinator, wired together."""

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from edge_agent.model.clock import Clock
from edge_agent.model.config import AgentConfig
from edge_agent.model.forecast import Expectation
from edge_agent.sync.backoff import Backoff
from edge_agent.sync.broadcasts import BroadcastDoor
from edge_agent.sync.clock import CoordinatorClock, Measurement
from edge_agent.sync.command_keys import CommandKeyStore
from edge_agent.sync.coordinator import CoordinatorClient, Refused, Unreachable
from edge_agent.sync.credentials import CredentialStore, HeldCredentials
from edge_agent.sync.enrolment import Identity
from edge_agent.sync.files import DiskTrouble, FolderLock, is_disk_trouble, private_folder
from edge_agent.sync.forecaster import Forecaster
from edge_agent.sync.frames import FrameBuilder, FrameDraft
from edge_agent.sync.intents import CLOCK_TOLERANCE_MS, CommandKeys, IntentDoor
from edge_agent.sync.ipc import ControlSocket
from edge_agent.sync.journal import Journal, JournalError, ReportKind
from edge_agent.sync.keys import Keys
from edge_agent.sync.notices import NoticeDoor
from edge_agent.sync.page import StatusPage, open_page
from edge_agent.sync.session import Session
from edge_agent.sync.state import State
from edge_agent.sync.updates import Updater
from protos.frame import NARROW
from protos.settings import SettingsError
from protos.vpp.v1 import local_pb2
from protos.vpp.v1.local_pb2 import SnapshotReport, ToSync
from protos.vpp.v1.report_pb2 import Event
from protos.vpp.v1.site_pb2 import SiteConfiguration, SiteDescription
from protos.vpp.v1.supply_pb2 import SupplyFunction

log = logging.getLogger(__name__)

LOCK_PATIENCE_S = 6.0  # a predecessor may still be sending its last frames
LOCK_RETRY_S = 0.1
FINISH_S = 2.0  # for sending the last frames once control is gone
TICK_S = 1.0
CONFIGURE_EVERY_S = 600.0  # what the coordinator wants, and its time, are asked for anew
OFFSET_TOLD_MS = 50.0  # a change of the clock's offset, or of its uncertainty, that is told


@dataclass(frozen=True, slots=True)
class Pace:
    """How the process waits for what does not answer."""

    grpc_first_s: float = 1.0
    grpc_cap_s: float = 60.0
    nats_first_s: float = 0.5
    nats_cap_s: float = 15.0

    def grpc(self) -> Backoff:
        return Backoff(self.grpc_first_s, self.grpc_cap_s)

    def nats(self) -> Backoff:
        return Backoff(self.nats_first_s, self.nats_cap_s)


def agent_version() -> str:
    return metadata.version("murmuration-vpp")


class SyncProcess:
    """One run of it. `run` returns when control is gone and raises SettingsError where a person has to act."""

    def __init__(self, config: AgentConfig, control: ControlSocket, clock: Clock, pace: Pace) -> None:
        self._config = config
        self._control = control
        self._clock = clock
        self._time = CoordinatorClock(clock)
        self._told_offset_ms = self._told_uncertainty_ms = float("inf")
        self._pace = pace
        self._description: SiteDescription | None = None
        self._described = asyncio.Event()
        self._held: HeldCredentials | None = None
        self._builder: FrameBuilder | None = None
        self._session: Session | None = None
        self._door: IntentDoor | None = None
        self._group_door: BroadcastDoor | None = None
        self._notice_door: NoticeDoor | None = None
        self._groups: tuple[str, ...] = ()
        self._journal_trouble = ""

    async def run(self) -> None:
        """Works until control is gone. Raises SettingsError, DiskTrouble."""
        try:
            await self._run()
        except (DiskTrouble, OSError, sqlite3.Error) as error:
            if not is_disk_trouble(error):
                raise
            raise DiskTrouble(str(error)) from None

    async def _run(self) -> None:
        folder = private_folder(self._config.data_dir)
        lock = FolderLock(folder)
        try:
            await self._take(lock, folder)
            keys = Keys(folder, self._config.coordinator.token)
            state = State(folder)
            limit = self._config.journal.max_mb * 1_000_000
            journal = Journal(folder, self._config.site, state, self._clock, max_bytes=limit)
            try:
                await self._run_with(folder, keys, state, journal)
            finally:
                journal.close()
        finally:
            lock.release()

    async def _take(self, lock: FolderLock, folder: Path) -> None:
        deadline_s = self._clock.monotonic_s() + LOCK_PATIENCE_S
        while not lock.acquire():
            if self._clock.monotonic_s() > deadline_s:
                raise SettingsError(
                    f"data_dir {folder}: another agent works in it; stop that one or give another data_dir"
                )
            await asyncio.sleep(LOCK_RETRY_S)

    async def _run_with(self, folder: Path, keys: Keys, state: State, journal: Journal) -> None:
        self._journal = journal
        self._state = state
        self._keys = keys
        self._store = CredentialStore(folder)
        self._command_keys = CommandKeyStore(folder)
        self._forecaster = Forecaster(
            folder,
            self._clock,
            every_s=self._config.forecast.every_s,
            tell=self._take_expectation,
            changed=partial(self._tell, Event.SEVERITY_INFO, "forecast.source"),
        )
        self._updater = Updater(folder, self._fetch, self._described.set, self._forecaster.try_model)
        self._client = CoordinatorClient(self._config.site, keys, self._clock, agent_version())
        page = await self._open_page()
        identity = Identity(self._config, self._store, keys, state, self._client, self._clock, self._pace.grpc)
        try:
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(self._control.send_all()),
                    group.create_task(self._tick()),
                    group.create_task(self._forecaster.run()),
                    group.create_task(self._cloud(identity)),
                ]
                while (message := await self._control.receive()) is not None:
                    self._take_in(message)
                await self._finish()
                for task in background:
                    task.cancel()
        except BaseExceptionGroup as errors:
            for told in (lambda error: isinstance(error, SettingsError), is_disk_trouble):
                if (wrong := _first(errors, told)) is not None:
                    raise wrong from None
            raise
        finally:
            self._forecaster.close()
            if page is not None:
                page.close()

    async def _open_page(self) -> asyncio.Server | None:
        wanted = self._config.status_page
        if wanted is None:
            return None
        page = StatusPage(self._config.site, self._config.data_dir, self._clock, control_pid=os.getppid())
        server = await open_page(page, wanted.host, wanted.port)
        log.info("status page: http://%s:%d/", wanted.host, wanted.port)
        return server

    # --- from control

    def _take_in(self, message: ToSync) -> None:
        match message.WhichOneof("body"):
            case "snapshot":
                self._take_snapshot(message.snapshot)
            case "description":
                self._description = message.description
                self._updater.deliver(message.description.updates)
                self._described.set()
            case "event":
                event = message.event
                event.site = self._config.site
                self._report(ReportKind.EVENT, event.event_id, event.SerializeToString())
            case "acknowledgement":
                done = message.acknowledgement
                done.site = self._config.site
                self._report(ReportKind.ACKNOWLEDGEMENT, done.event_id, done.SerializeToString())
            case "supply":
                self._take_supply(message.supply)
            case _:
                log.error("message from control of an unknown kind: bytes=%d", message.ByteSize())

    def _take_snapshot(self, snapshot: SnapshotReport) -> None:
        self._forecaster.add(snapshot)
        if self._builder is None:  # not configured yet: nothing says how often, nor who we are
            return
        before = self._builder.steps_back
        self._record(self._builder.add(snapshot))
        if self._builder.steps_back != before:
            self._tell(Event.SEVERITY_WARNING, "clock.step", "the gateway's clock went back by more than a minute")

    def _take_expectation(self, expected: Expectation) -> None:
        self._control.put_expectation(
            local_pb2.Expectation(
                start_ms=expected.start_ms,
                step_s=expected.step_s,
                load_w=(round(power_w) for power_w in expected.load_w),
                sun_w=(round(power_w) for power_w in expected.sun_w),
                source=expected.source,
                note=expected.note,
            )
        )

    def _take_supply(self, supply: SupplyFunction) -> None:
        if self._held is not None and self._session is not None:
            supply.site = self._held.message.slot
            self._session.offer(supply.SerializeToString())

    def _record(self, drafts: list[FrameDraft]) -> None:
        if self._held is None:
            return
        slot = self._held.message.slot
        for draft in drafts:
            with self._journal_watched():
                pack = partial(draft.pack, slot)
                self._journal.append_frame(pack, draft.last_sample_ms, settles=draft.settles)
        if drafts and self._session is not None:
            self._session.wake()

    def _report(self, kind: ReportKind, event_id: str, body: bytes) -> None:
        with self._journal_watched():
            self._journal.append_report(kind, event_id, body)
        if self._session is not None:
            self._session.wake()

    def _tell(self, severity: "Event.Severity", code: str, text: str) -> None:
        with self._journal_watched():
            self._journal.append_event(severity, code, text)
        if self._session is not None:
            self._session.wake()

    @contextlib.contextmanager
    def _journal_watched(self) -> Iterator[None]:
        """Says once that the journal cannot be written, and once that it can again."""
        try:
            yield
        except JournalError as error:
            if str(error) != self._journal_trouble:
                self._journal_trouble = str(error)
                log.error("journal cannot be written, telemetry is lost meanwhile: %s", error)
        else:
            if self._journal_trouble:
                self._journal_trouble = ""
                log.info("journal can be written again")

    async def _tick(self) -> NoReturn:
        while True:
            await asyncio.sleep(TICK_S)
            if self._builder is not None:
                self._record(self._builder.close_due(self._clock.utc_ms()))
            if step_ms := self._time.stepped_ms():
                text = f"the gateway's clock was set by {step_ms / 1000:+.1f} s"
                log.warning("clock set: %+.3f s", step_ms / 1000)
                self._tell(Event.SEVERITY_INFO, "clock.set", text)
                self._described.set()  # what it is off now is measured at once

    async def _finish(self) -> None:
        """Control is gone: keeps the frame in the making, and sends what still can be sent."""
        if self._builder is not None:
            self._record(self._builder.flush())
        if self._session is not None:
            await self._session.finish(FINISH_S)

    # --- from the cloud

    async def _cloud(self, identity: Identity) -> None:
        held = self._store.load(self._config.site, self._keys)
        if held is None:
            held = await identity.enrol()
        self._held = held
        self._journal.start_at(held.message.first_seq)
        configuration = self._store.load_configuration()
        if configuration is not None:
            self._apply(configuration)
        session = self._session = Session(
            site=self._config.site,
            keys=self._keys,
            credentials=held.message,
            journal=self._journal,
            on_intent=self._take_intent,
            on_broadcast=self._take_broadcast,
            on_notice=self._take_notice,
            on_link=self._take_link,
            on_refusal=identity.suspect,
            backoff=self._pace.nats(),
            drain_frames_per_s=self._config.journal.drain_frames_per_s,
        )
        session.follow(self._groups)
        keys = self._believed(held)
        self._group_door = BroadcastDoor(
            keys=keys,
            groups=self._groups,
            clock=self._time,
            forward=self._control.put_broadcast,
            refused=partial(self._tell, Event.SEVERITY_WARNING, "broadcast.refused"),
        )
        self._door = IntentDoor(
            site=self._config.site,
            keys=keys,
            state=self._state,
            journal=self._journal,
            clock=self._time,
            forward=self._control.put_intent,
            wake=session.wake,
        )
        self._notice_door = NoticeDoor(site=self._config.site, keys=keys, clock=self._time, asked=self._described.set)
        async with asyncio.TaskGroup() as group:
            group.create_task(session.run())
            group.create_task(self._configure())
            group.create_task(self._updater.run())
            group.create_task(identity.keep_renewed(held, self._use, self._tell_credentials))

    def _take_link(self, connected: bool) -> None:
        self._control.put_link(connected)
        if connected:
            self._described.set()  # after an outage its time is measured anew, and what it wants may have changed

    def _take_intent(self, kind: str, data: bytes, live: bool) -> None:
        if self._door is not None:
            self._door.receive(kind, data, live=live)

    def _take_broadcast(self, subject: str, data: bytes) -> None:
        if self._group_door is not None:
            self._group_door.receive(subject, data)

    def _take_notice(self, data: bytes) -> None:
        if self._notice_door is not None:
            self._notice_door.receive(data)

    @property
    def _doors(self) -> "list[IntentDoor | BroadcastDoor | NoticeDoor]":
        """Those that are there."""
        return [door for door in (self._door, self._group_door, self._notice_door) if door is not None]

    def _use(self, held: HeldCredentials) -> None:
        self._held = held
        self._journal.start_at(held.message.first_seq)
        keys = self._believed(held)
        for door in self._doors:
            door.keys = keys
        if self._session is not None:
            self._session.use(held.message)

    def _believed(self, held: HeldCredentials) -> CommandKeys:
        """The command keys that these credentials leave us with."""
        raw_keys, trouble = self._command_keys.take(held.message, self._state.claim_used)
        if trouble:
            log.error("%s", trouble)
            self._tell(Event.SEVERITY_ALARM, "command_key.refused", trouble)
        keys = CommandKeys(raw_keys)
        own = self._config.update.public_keys
        self._updater.keys = CommandKeys(bytes.fromhex(key) for key in own) if own else keys
        return keys

    def _tell_credentials(self, text: str) -> None:
        self._tell(Event.SEVERITY_ALARM, "credentials.trouble", text)

    async def _configure(self) -> NoReturn:
        """Tells the coordinator what stands here, whenever control says it anew and from time to time."""
        backoff, told = self._pace.grpc(), ""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONFIGURE_EVERY_S):
                    await self._described.wait()
            self._described.clear()
            description, held = self._description, self._held
            if description is None or held is None:
                continue
            description.agent_version = agent_version()
            del description.updates[:]
            description.updates.extend(self._updater.statuses())
            try:
                answer = await self._client.configure(held.message, description)
            except (Refused, Unreachable) as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("configuration not received, trying on: %s", error)
                await asyncio.sleep(backoff.next_s())
                self._described.set()
                continue
            told = ""
            backoff.reset()
            self._compare_clocks(answer.time)
            try:
                self._store.save_configuration(answer.configuration)
            except OSError as error:
                log.warning("configuration not kept for the next start: %s", error)
            self._apply(answer.configuration)
            self._updater.want(answer.configuration.updates)

    async def _fetch(self, sha256: str, path: Path, size: int) -> None:
        if self._held is None:
            raise Unreachable("not enrolled")
        await self._client.download(self._held.message, sha256, path, size)

    def _compare_clocks(self, new: Measurement) -> None:
        """Takes a measurement of the coordinator's time; tells how far off this gateway's clock is, if that is new."""
        self._time.take(new)
        if self._time.best is not None:
            self._control.put_coordinator_time(self._time.best.ahead_ms, self._time.uncertainty_ms())
        off_ms, uncertainty_ms = self._time.offset_ms(), self._time.uncertainty_ms()
        for door in self._doors:
            door.clock_error_ms = uncertainty_ms
        moved_ms = max(abs(off_ms - self._told_offset_ms), uncertainty_ms - self._told_uncertainty_ms)
        if moved_ms <= OFFSET_TOLD_MS:
            return
        self._told_offset_ms, self._told_uncertainty_ms = off_ms, uncertainty_ms
        known = f"{off_ms / 1000:+.3f} s off the coordinator's, to within {uncertainty_ms / 1000:.3f} s"
        if abs(off_ms) - uncertainty_ms > CLOCK_TOLERANCE_MS:
            log.warning("clock off: %s", known)
            text = f"the gateway's clock, which stamps its telemetry, is {known}: set it by NTP"
            self._tell(Event.SEVERITY_WARNING, "clock.offset", text)
        else:
            text = f"the gateway's clock, which stamps its telemetry, is {known}"
            self._tell(Event.SEVERITY_INFO, "clock.measured", text)

    def _apply(self, configuration: SiteConfiguration) -> None:
        self._groups = tuple(configuration.groups)
        if self._session is not None:
            self._session.follow(self._groups)
        if self._group_door is not None:
            self._group_door.groups = self._groups
        if configuration.HasField("remote"):
            self._control.put_remote(configuration.remote)
        interval_ms = configuration.telemetry_interval_ms
        if interval_ms not in NARROW:
            known = " or ".join(str(ms) for ms in sorted(NARROW))
            log.error("telemetry interval %d ms is not known here, kept as it was: give %s", interval_ms, known)
            return
        if self._builder is None or self._builder.interval_ms != interval_ms:
            if self._builder is not None:
                self._record(self._builder.flush())
            self._builder = FrameBuilder(interval_ms, self._journal.last_sample_ms)
            log.info("telemetry configured: interval_ms=%d groups=%s", interval_ms, ",".join(configuration.groups))


def _first(errors: BaseExceptionGroup[BaseException], told: Callable[[BaseException], bool]) -> BaseException | None:
    """The first error in a task group's bundle that is told in one line."""
    for error in errors.exceptions:
        found = _first(error, told) if isinstance(error, BaseExceptionGroup) else error
        if found is not None and told(found):
            return found
    return None
