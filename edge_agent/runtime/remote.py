"""What the coordinator set at this site from afar: checked, put in force between two cycles, tried, and taken back.

A revision is on trial for TRIAL_S: every device that answered before must answer at its end, and the loop must have
completed cycles all along. Else the site goes back by itself to what was in force before. What became of a revision is
kept in the data folder: a revision that failed, or whose trial ended this process, is not tried again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

import msgspec

from edge_agent.model.clock import Clock
from edge_agent.model.config import AgentConfig
from edge_agent.model.devices import DeviceFault, DeviceTimeout
from edge_agent.model.files import write_private
from edge_agent.model.remote import changes, merged
from edge_agent.runtime.messages import Reporter, Severity
from protos.settings import SettingsError

log = logging.getLogger(__name__)

FILE: Final = "remote.json"
TRIAL_S: Final = 20.0
LOOK_S: Final = 0.5
LEAST_CYCLES: Final = 0.5  # of those that the rate would have had


class Outcome(StrEnum):
    """What became of a revision."""

    TRIAL = "trial"
    APPLIED = "applied"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    revision: int = 0  # the last that was looked at
    outcome: Outcome = Outcome.APPLIED
    toml: str = ""  # of the revision in force


class Tried(Protocol):
    """The agent, as far as its configuration is concerned."""

    @property
    def config(self) -> AgentConfig:
        """In force."""
        ...

    @property
    def silent(self) -> list[str]:
        """Devices that do not answer now."""
        ...

    @property
    def cycles(self) -> int:
        """Completed so far."""
        ...

    async def find_missing(self) -> None:
        """Looks for devices that do not answer, until all are found."""
        ...

    async def use(self, config: AgentConfig) -> None:
        """Puts a configuration of the same devices in force, or a part. Raises DeviceTimeout, DeviceFault."""
        ...


class RemoteConfiguration:
    """The owner's file, and the revision in force beyond it."""

    def __init__(
        self,
        owners: AgentConfig,
        *,
        reporter: Reporter,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._owners = owners
        self._reporter = reporter
        self._clock = clock
        self._sleep = sleep
        self._path = owners.data_dir / FILE
        self._kept = _read(self._path)
        self._wanted: tuple[int, str] | None = None
        self._came = asyncio.Event()

    @property
    def revision(self) -> int:
        """The last that was looked at."""
        return self._kept.revision

    @property
    def outcome(self) -> str:
        """What became of it."""
        return self._kept.outcome.value

    def at_start(self) -> AgentConfig:
        """What this process begins with: the last revision that passed its trial, or the owner's file alone."""
        kept = self._kept
        if kept.outcome is Outcome.TRIAL:
            self._end(kept.revision, Outcome.ROLLED_BACK, kept.toml, "the agent ended while it was on trial")
        if not kept.toml:
            return self._owners
        try:
            return merged(self._owners, kept.toml, f"remote configuration {kept.revision}")
        except SettingsError as error:  # the owner's file has changed since
            self._end(kept.revision, Outcome.REFUSED, "", str(error))
            return self._owners

    def take(self, revision: int, toml: str) -> None:
        """The coordinator says what it wants, now or again."""
        if revision != self._kept.revision:
            self._wanted = (revision, toml)
            self._came.set()

    async def run(self, agent: Tried) -> None:
        """Tries each revision that comes, for ever."""
        while True:
            await self._came.wait()
            self._came.clear()
            wanted, self._wanted = self._wanted, None
            if wanted is not None and wanted[0] != self._kept.revision:
                await self._try(agent, *wanted)

    async def _try(self, agent: Tried, revision: int, toml: str) -> None:
        in_force, before = self._kept.toml, agent.config
        try:
            config = merged(self._owners, toml, f"remote configuration {revision}")
        except SettingsError as error:
            self._end(revision, Outcome.REFUSED, in_force, str(error))
            return
        known = self._kept
        if not self._keep(_Kept(revision, Outcome.TRIAL, in_force)):
            self._kept = known  # a full disk: what cannot be remembered is not tried; it comes again
            return
        if finding := await self._trial(agent, config):
            try:
                await agent.use(before)
            except (DeviceTimeout, DeviceFault) as error:
                self._end(revision, Outcome.ROLLED_BACK, in_force, f"{finding}; on the way back: {error}")
                await agent.find_missing()
                return
            self._end(revision, Outcome.ROLLED_BACK, in_force, finding)
            return
        self._end(revision, Outcome.APPLIED, toml, ", ".join(changes(before, config)) or "nothing differs")

    async def _trial(self, agent: Tried, config: AgentConfig) -> str:
        """Why the configuration cannot stay; empty where it can."""
        answered = {device.name for device in config.devices} - set(agent.silent)
        begin_s, begin_cycles = self._clock.monotonic_s(), agent.cycles
        try:
            await agent.use(config)
        except (DeviceTimeout, DeviceFault) as error:
            return str(error)
        while (elapsed_s := self._clock.monotonic_s() - begin_s) < TRIAL_S:
            await self._sleep(min(LOOK_S, TRIAL_S - elapsed_s))
        if lost := sorted(answered & set(agent.silent)):
            return f"{', '.join(lost)} did not answer any more"
        expected = elapsed_s * config.control.rate_hz
        if (cycles := agent.cycles - begin_cycles) < LEAST_CYCLES * expected:
            return f"only {cycles} of {expected:.0f} cycles were completed in {elapsed_s:.0f} s"
        return ""

    def _end(self, revision: int, outcome: Outcome, toml: str, text: str) -> None:
        self._keep(_Kept(revision, outcome, toml))
        severity = {Outcome.APPLIED: Severity.INFO, Outcome.REFUSED: Severity.WARNING}.get(outcome, Severity.ALARM)
        log.log(logging.INFO if outcome is Outcome.APPLIED else logging.WARNING, "configuration %s: %s", outcome, text)
        self._reporter.event(f"configuration.{outcome.value}", severity, f"revision {revision}: {text}")

    def _keep(self, kept: _Kept) -> bool:
        self._kept = kept
        try:
            write_private(self._path, msgspec.json.encode(kept))
        except OSError as error:
            log.error("remote configuration cannot be kept for the next start: %s", error)
            return False
        return True


def _read(path: Path) -> _Kept:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return _Kept()
    except (msgspec.DecodeError, OSError) as error:
        log.error("remote configuration lost, the owner's file alone counts: file=%s error=%s", path, error)
        return _Kept()
