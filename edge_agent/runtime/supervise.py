"""Keeps sync running beside control: starts it, starts it again when it ends, ends it when control ends.

Sync reads end of file from its socket when control is gone, and the kernel tells it to end when its parent dies: it
never outlives control.
"""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable, Sequence

from edge_agent.model.clock import Clock
from edge_agent.runtime.ipc import Channel

log = logging.getLogger(__name__)

CONFIGURATION_REFUSED = 2  # sync's exit code when starting again cannot help; it has said why
FIRST_WAIT_S = 1.0
LAST_WAIT_S = 60.0
STEADY_S = 60.0  # having run so long, a failure is a new one
NICE = 5  # absolute: a TLS handshake in sync yields to the loop, whatever control's own priority is
_ORDERLY_S = 5.0
_PR_SET_PDEATHSIG = 1


class SyncRefused(Exception):
    """Sync cannot run as configured, and has printed why."""


class Supervisor:
    """Owns the sync process."""

    def __init__(
        self,
        command: Sequence[str],
        channel: Channel,
        *,
        attached: Callable[[], None],
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """command: without `--fd N`, which is added. attached: called when a new sync is at the channel's end."""
        self._command = list(command)
        self._channel = channel
        self._attached = attached
        self._clock = clock
        self._sleep = sleep
        self._libc = ctypes.CDLL(None)
        self._parent = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """Of the running sync."""
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Runs sync until cancelled, which ends it in order. Raises SyncRefused."""
        wait_s = FIRST_WAIT_S
        try:
            while True:
                started_s = self._clock.monotonic_s()
                self._process = self._start()
                code = await self._exit_code(self._process)
                self._process = None
                self._channel.detach()
                if code == CONFIGURATION_REFUSED:
                    raise SyncRefused
                if self._clock.monotonic_s() - started_s >= STEADY_S:
                    wait_s = FIRST_WAIT_S
                log.warning("sync ended: exit_code=%d; starting it again in %.0f s", code, wait_s)
                await self._sleep(wait_s)
                wait_s = min(2 * wait_s, LAST_WAIT_S)
                self.restarts += 1
        finally:
            await self._stop()

    def _start(self) -> subprocess.Popen[bytes]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                process = subprocess.Popen(
                    [*self._command, "--fd", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    process_group=0,  # Ctrl-C is for control, which then ends sync in order
                    preexec_fn=self._in_child,  # noqa: PLW1509 (control runs no thread when it forks)
                )
            except BaseException:
                ours.close()
                raise
        self._channel.attach(ours)
        self._attached()
        return process

    def _in_child(self) -> None:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self._parent:  # it died before the kernel was told
            os.kill(os.getpid(), signal.SIGTERM)

    async def _exit_code(self, process: subprocess.Popen[bytes]) -> int:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        handle = os.pidfd_open(process.pid)
        loop.add_reader(handle, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
        return process.wait()

    async def _stop(self) -> None:
        self._channel.detach()
        process = self._process
        if process is None:
            return
        for send in (None, signal.SIGTERM, signal.SIGKILL):
            if send is not None:
                process.send_signal(send)
            try:
                async with asyncio.timeout(_ORDERLY_S):
                    await self._exit_code(process)
            except TimeoutError:
                continue
            break
        self._process = None
