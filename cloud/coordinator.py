"""One process of the coordinator: its roles started in order and stopped in the reverse one."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Final

import uvloop

from cloud.api.serve import ListenError
from cloud.config import CoordinatorConfig
from cloud.data_folder import DataFolder, DataFolderError
from cloud.gateway.nats_server import BrokerError
from cloud.gateway.ports import PortError
from cloud.identity.key_store import KeyringError
from cloud.identity.sealing import SealError
from cloud.model.role import Role
from cloud.observe import traced
from cloud.parts import PartFailed, Parts
from cloud.roles import broker, console, coordinator, foundation, gateway, ingest, observing
from cloud.roles.foundation import Foundation
from cloud.store.errors import StoreError
from protos import subjects

log = logging.getLogger(__name__)

_ALL: Final = range(subjects.PARTITIONS)

_FORCED_EXIT_CODE: Final = 1


class RoleError(Exception):
    """Roles or partitions that cannot be had; one line with the remedy."""


# What keeps a coordinator from starting and can be mended by whoever starts it: each is one line with its remedy.
REFUSALS: Final = (
    BrokerError,
    DataFolderError,
    KeyringError,
    ListenError,
    PortError,
    RoleError,
    SealError,
    StoreError,
)

_START: Final[dict[Role, Callable[[Foundation], Awaitable[None]]]] = {
    Role.BROKER: broker.start,
    Role.COORDINATOR: coordinator.start,
    Role.GATEWAY: gateway.start,
    Role.INGEST: ingest.start,
    Role.CONSOLE: console.start,
}


class Coordinator:
    """Some or all roles in one process, on one data folder."""

    def __init__(
        self,
        config: CoordinatorConfig,
        data: DataFolder,
        roles: Collection[Role] = tuple(Role),
        partitions: range = _ALL,
        *,
        configured_by: str,
    ) -> None:
        """partitions: what it ingests, if that is a role of it. configured_by: whose the configuration is.

        Raises RoleError where the partitions make no whole streams.
        """
        self._configured_by = configured_by
        self._config = config
        self._data = data
        self._roles = tuple(role for role in Role if role in roles)
        self._telemetry_parts = telemetry_parts(partitions, config.messaging.telemetry_streams)
        self._run_file = foundation.run_file(data, self._roles)
        self._parts = Parts()

    async def run(self, stop: asyncio.Event, say: Callable[[str], None]) -> None:
        """Serve until `stop`. `say` gets what the person who started it wants to know.

        Raises what the parts raise while they start (each error is one line with a remedy), and PartFailed when one
        of them ends later.
        """
        with self._data.owned(self._duties()), traced(self._config.observe.traces_url, self._roles):
            self._run_file.unlink(missing_ok=True)
            try:
                try:
                    await self._start(say)
                except OSError as error:
                    finding = str(error) or type(error).__name__
                    raise DataFolderError(
                        f"{self._data.path}: cannot start on it ({finding}); check the disk and its permissions"
                    ) from error
                try:
                    await self._parts.until(stop)
                except Exception as error:
                    raise PartFailed(f"a part of the coordinator failed: {error!r}") from error
                log.info("stops")
            finally:
                self._run_file.unlink(missing_ok=True)
                await self._parts.stop()

    def _duties(self) -> list[str]:
        """What no two processes on one data folder may both do."""
        parts = [f"{Role.INGEST}-{part}" for part in self._telemetry_parts if Role.INGEST in self._roles]
        return [role for role in self._roles if role is not Role.INGEST] + parts

    async def _start(self, say: Callable[[str], None]) -> None:
        """Start every role. What was started before an error is stopped by the caller."""
        told: list[str] = []
        on = foundation.lay(
            self._config,
            self._data,
            self._roles,
            self._telemetry_parts,
            self._parts,
            told.append,
            configured_by=self._configured_by,
        )
        for role in self._roles:
            await _START[role](on)
        await ingest.follow_the_rest(on)
        await observing.start(on)
        on.announce()
        log.info("serves: pid=%d roles=%s data=%s", os.getpid(), ",".join(self._roles), self._data.path)
        for line in told:
            say(line)


def telemetry_parts(partitions: range, streams: int) -> range:
    """Which telemetry streams hold these partitions and no others. Raises RoleError."""
    width = subjects.PARTITIONS // streams
    if partitions.start % width or partitions.stop % width:
        raise RoleError(
            f"--partitions {partitions.start}-{partitions.stop - 1}: a worker reads whole streams, and messaging."
            f"telemetry_streams = {streams} makes them {width} partitions wide; give multiples of {width}"
        )
    return range(partitions.start // width, partitions.stop // width)


def run(
    config: CoordinatorConfig,
    data: DataFolder,
    roles: Collection[Role],
    partitions: range,
    say: Callable[[str], None],
    *,
    configured_by: str,
) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends the process at once, and with it the broker."""
    data = replace(data, path=data.path.absolute())
    uvloop.run(_until_signal(Coordinator(config, data, roles, partitions, configured_by=configured_by), say))


async def _until_signal(process: Coordinator, say: Callable[[str], None]) -> None:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(_FORCED_EXIT_CODE)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await process.run(stop, say)
