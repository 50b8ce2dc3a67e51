"""Sync as a real child process: started, started again, refused, ended with its parent."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edge_agent.model.clock import SystemClock
from edge_agent.runtime.ipc import Channel
from edge_agent.runtime.supervise import FIRST_WAIT_S, Supervisor, SyncRefused

DEADLINE_S = 20.0

# Says hello, then does what its first argument says.
CHILD = """
import os, socket, sys
sock = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
sock.send(b"hello %d" % os.getpid())
what = sys.argv[1]
if what == "exit":
    sys.exit(int(sys.argv[2]))
while sock.recv(100):  # until end of file
    pass
"""


class Waits:
    """Stands in for asyncio.sleep: notes how long, and ends the test's run after so many."""

    def __init__(self, enough: int) -> None:
        self.waited_s: list[float] = []
        self.enough = asyncio.Event()
        self._enough = enough

    async def __call__(self, seconds: float) -> None:
        self.waited_s.append(seconds)
        if len(self.waited_s) >= self._enough:
            self.enough.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)


def supervisor(
    tmp_path: Path, *arguments: str, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> tuple[Supervisor, Channel, asyncio.Event]:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    channel, attached = Channel(), asyncio.Event()
    built = Supervisor(
        [sys.executable, str(script), *arguments], channel, attached=attached.set, clock=SystemClock(), sleep=sleep
    )
    return built, channel, attached


async def first_message(channel: Channel) -> bytes:
    while not (messages := channel.receive()):  # noqa: ASYNC110 (the loop too asks once a cycle)
        await asyncio.sleep(0.01)
    return messages[0]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_sync_talks_through_the_channel_and_ends_in_order(tmp_path: Path) -> None:
    watch, channel, _ = supervisor(tmp_path, "stay")
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(DEADLINE_S):
        message = await first_message(channel)
        pid = watch.pid
        assert pid is not None
        assert message == b"hello %d" % pid
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert gone(pid)
    assert watch.pid is None


async def test_sync_is_started_again_with_back_off(tmp_path: Path) -> None:
    waits = Waits(enough=3)
    watch, _, attached = supervisor(tmp_path, "exit", "1", sleep=waits)
    running = asyncio.create_task(watch.run())
    async with asyncio.timeout(DEADLINE_S):
        await waits.enough.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert waits.waited_s == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S]
    assert watch.restarts == 2
    assert attached.is_set()


async def test_refused_configuration_is_not_tried_again(tmp_path: Path) -> None:
    watch, _, _ = supervisor(tmp_path, "exit", "2")
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(SyncRefused):
            await watch.run()
    assert watch.restarts == 0


PARENT = """
import asyncio, sys
from edge_agent.model.clock import SystemClock
from edge_agent.runtime.ipc import Channel
from edge_agent.runtime.supervise import Supervisor

async def main():
    channel = Channel()
    running = asyncio.create_task(
        Supervisor([sys.executable, "-c", sys.argv[1]], channel, attached=lambda: None, clock=SystemClock()).run()
    )
    while not (messages := channel.receive()):
        await asyncio.sleep(0.01)
    print(messages[0].split()[1].decode(), flush=True)
    await running

asyncio.run(main())
"""

# Deaf to its socket: only the kernel's word ends it.
DEAF_CHILD = """
import os, signal, socket, sys
sock = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
sock.send(b"hello %d" % os.getpid())
signal.pause()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_sync_dies_with_its_parent(end: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, DEAF_CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        handle = os.pidfd_open(child)
        try:
            parent.send_signal(end)
            parent.wait(DEADLINE_S)
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            assert poll.poll(DEADLINE_S * 1e3), "sync outlived control"
        finally:
            os.close(handle)
