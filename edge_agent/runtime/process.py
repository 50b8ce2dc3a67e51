"""The control process: an agent, the sync process beside it, signals and the statistics file."""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence

from edge_agent.model.clock import Clock
from edge_agent.model.config import AgentConfig
from edge_agent.model.status import STATISTICS
from edge_agent.runtime import folder
from edge_agent.runtime.agent import Agent
from edge_agent.runtime.firmware_delivery import FirmwareDelivery
from edge_agent.runtime.messages import Severity
from edge_agent.runtime.site import OpenDevice
from edge_agent.runtime.statistics import write_json
from edge_agent.runtime.supervise import Supervisor, SyncRefused
from edge_agent.runtime.watchdog import Watchdog

log = logging.getLogger(__name__)

STATISTICS_PERIOD_S = 10.0
ENROLLED_LOOK_S = 0.2
REAL_TIME_PRIORITY = 20  # of 99: below the kernel's own threads
NICE = -10  # where real time is not permitted: the loop's few per cent of a core come first where the machine is full


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
        self._sleep = sleep
        self._watchdog = watchdog
        self._agent = Agent(config, open_device=open_device, clock=clock, kick=watchdog.kick, sleep=sleep)
        self._supervisor = Supervisor(
            sync_command, self._agent.channel, attached=self._attached, clock=clock, sleep=sleep
        )
        self._sync_refused = False
        self._opened = False  # the devices were looked for

    async def run(self, stop: asyncio.Event) -> bool:
        """Controls the site until told to stop; then releases the device, and ends sync in order.

        Without an identity of this site no device is touched until sync has enrolled it. False where sync refused its
        configuration, and has said why. Raises DeviceFault, before a device was steered.
        """
        enrolling: asyncio.Task[None] | None = None
        try:
            with self._signals():
                if folder.enrolled_as(self._config.data_dir) != self._config.site:
                    enrolling = asyncio.create_task(self._supervise(stop))
                    await self._enrolled(stop)
                if not stop.is_set():
                    await self._agent.site.open_all()
                    self._opened = True
                    if enrolling is not None:
                        self._agent.describe()
                    await self._run(stop, enrolling or asyncio.create_task(self._supervise(stop)))
        finally:
            if enrolling is not None:
                enrolling.cancel()
                await asyncio.gather(enrolling, return_exceptions=True)
            await self._agent.site.close()
            self._agent.close()
            self._watchdog.close()
        return not self._sync_refused

    async def _enrolled(self, stop: asyncio.Event) -> None:
        """Until the coordinator has taken the site's claim, or sync has said why not: no device is touched before."""
        log.info("not enrolled yet: no device is touched until the coordinator has taken this site's claim")
        while not stop.is_set() and folder.enrolled_as(self._config.data_dir) != self._config.site:
            await self._sleep(ENROLLED_LOOK_S)

    def _attached(self) -> None:
        """A new sync: it is told what stands here once that is known."""
        if self._opened:
            self._agent.describe()

    async def _run(self, stop: asyncio.Event, supervising: asyncio.Task[None]) -> None:
        """supervising: of sync, which is ended with the rest."""
        silent = self._agent.site.silent
        log.info(
            "agent started: site=%s rate_hz=%g default=%s silent_devices=%s",
            self._config.site,
            self._config.control.rate_hz,
            self._config.control.default,
            ",".join(silent) or "none",
        )
        self._agent.reporter.event(
            "agent.started", Severity.INFO, f"control runs; {', '.join(silent)} silent" if silent else "control runs"
        )
        take_priority()
        self._watchdog.ready()
        try:
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(_joined(supervising)),
                    group.create_task(self._agent.site.find_missing(self._agent.describe)),
                    group.create_task(self._agent.site.watch_findings()),
                    group.create_task(self._agent.site.keep_clocks()),
                    group.create_task(
                        FirmwareDelivery(
                            self._agent.site,
                            self._config.data_dir,
                            reporter=self._agent.reporter,
                            told=self._agent.delivered,
                        ).run()
                    ),
                    group.create_task(self._agent.remote.run(self._agent)),
                    group.create_task(self._keep_statistics()),
                ]
                gc.collect()
                gc.freeze()  # what lives as long as the process is not looked at again
                try:
                    await self._agent.loop.run(stop)
                finally:
                    self._watchdog.stopping(orderly=stop.is_set())
                    await self._agent.loop.release()  # before anything that may take its time
                self._agent.channel.flush()
                for task in background:
                    task.cancel()
        finally:
            self.write_statistics()

    def _asked(self) -> None:
        """Somebody at the gateway wants to know how it is, or has left an order."""
        self._agent.read_local_stop()
        self.write_statistics()

    def write_statistics(self) -> None:
        """Replaces the statistics file; a full disk costs the figures, not the control."""
        try:
            write_json(
                self._config.data_dir / STATISTICS,
                self._agent.summary() | {"sync_pid": self._supervisor.pid, "sync_restarts": self._supervisor.restarts},
            )
        except OSError as error:
            log.warning("statistics not written: %s", error)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._asked)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

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


async def _joined(task: asyncio.Task[None]) -> None:
    """The task as part of a group: its error is the group's, and the group's end is its own."""
    await task


def take_priority() -> bool:
    """Takes real time where it is granted, else a better place in the queue; whether it got real time.

    Granted by LimitRTPRIO= in the unit. Being root is no grant: on a machine shared with other agents or with simulated
    devices, real time would take the core from those who have to answer. Sync inherits neither.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_RTPRIO)
    try:
        if allowed != resource.RLIM_INFINITY and allowed < REAL_TIME_PRIORITY:
            raise PermissionError
        parameters = os.sched_param(REAL_TIME_PRIORITY)
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, parameters)
    except PermissionError:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, NICE)
            place = f"only before other processes (nice {NICE})"
        except PermissionError:
            place = "at normal priority"
        log.warning("control does not run in real time, %s; the unit of `vpp-agent install` grants it", place)
        return False
    return True
