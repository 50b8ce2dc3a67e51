"""Processes that a run starts, and ends again whatever happens."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO, ClassVar, Final

import psutil

from cloud.gateway import tied

_REFUSED: Final = 2  # the exit code of every command of ours that was asked for what cannot be


class ChainError(Exception):
    """Part of the chain did not do what it must; says which, and where its log is."""

    exit_code: ClassVar[int] = 1


class ChainRefused(ChainError):
    """What was asked for cannot be run; says what, and how to mend it."""

    exit_code: ClassVar[int] = 2


class Processes:
    """Starts the product's own commands, each in a session of its own, with a log each.

    They are ended in the reverse order of their start. Should this process be killed, the kernel ends them.
    An interrupt is kept until the next `check`, which every wait calls: raised wherever the signal finds this process,
    it could be swallowed by a finalizer or by a library's callback.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._interrupted = False
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str], *, with_pipes: bool = False) -> subprocess.Popen[bytes]:
        """Starts `command`, whose first word is one of the distribution's console scripts.

        with_pipes: its standard input and output are pipes, else nothing and the log.
        """
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                # Tied by a launcher and not by preexec_fn: that would run gRPC's fork handlers where gRPC is loaded.
                [
                    *(sys.executable, "-I", "-S", tied.__file__, str(os.getpid())),
                    *(str(Path(sys.executable).parent / command[0]), *command[1:]),
                ],
                stdin=subprocess.PIPE if with_pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if with_pipes else log,
                stderr=log,
                start_new_session=True,
            )
        self._running[name] = process
        return process

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def stdin(self, name: str) -> IO[bytes]:
        pipe = self._running[name].stdin
        assert pipe is not None, f"{name} was started without pipes"  # noqa: S101
        return pipe

    def stdout(self, name: str) -> IO[bytes]:
        pipe = self._running[name].stdout
        assert pipe is not None, f"{name} was started without pipes"  # noqa: S101
        return pipe

    def names(self, prefix: str = "") -> list[str]:
        return [name for name in self._running if name.startswith(prefix)]

    def interrupt(self, _number: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
        """Has the next `check` raise KeyboardInterrupt; a signal handler."""
        self._interrupted = True

    def check(self) -> None:
        """Raises KeyboardInterrupt if told to end; ChainError if a process has ended by itself.

        ChainRefused if that was because it was asked in vain.
        """
        if self._interrupted:
            raise KeyboardInterrupt
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                kind = ChainRefused if code == _REFUSED else ChainError
                raise kind(f"{name} ended with code {code}: {last_line(self.log(name))} (log: {self.log(name)})")

    def signal(self, name: str, number: signal.Signals) -> None:
        self._running[name].send_signal(number)

    def wait(self, name: str, *, within_s: float) -> int:
        """The exit code of one that is to end, which is then forgotten."""
        try:
            code = self._running[name].wait(within_s)
        except subprocess.TimeoutExpired as error:
            raise ChainError(f"{name} did not end within {within_s:.0f} s (log: {self.log(name)})") from error
        del self._running[name]
        return code

    def stop(self, name: str, *, within_s: float = 15.0) -> None:
        process = self._running.pop(name)
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        process.terminate()
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def stop_all(self) -> None:
        """Ends all, the last kind first; those of one kind (the part of the name before "-") at once."""
        while self._running:
            kind = next(reversed(self._running)).split("-")[0]
            wave = self.names(kind)
            for name in wave:
                self._running[name].terminate()
            for name in wave:
                self.stop(name)


def command(arguments: Sequence[str], *, within_s: float = 60.0) -> str:
    """Runs one of the console scripts to its end; its standard output. Raises ChainError with what it said."""
    try:
        done = subprocess.run(
            [str(Path(sys.executable).parent / arguments[0]), *arguments[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ChainError(f"{' '.join(arguments)} did not end within {within_s:.0f} s") from error
    if done.returncode != 0:
        raise ChainError(f"{' '.join(arguments)} ended with code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def wait_until(condition: Callable[[], bool], what: str, *, within_s: float, processes: Processes) -> None:
    """Returns when the condition holds. Raises ChainError after `within_s`, or at once if a process has ended."""
    deadline = time.monotonic() + within_s
    while not condition():
        processes.check()
        if time.monotonic() > deadline:
            raise ChainError(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.05)


def past(utc_s: float) -> Callable[[], bool]:
    """A condition: that instant is over."""
    return lambda: datetime.now(UTC).timestamp() >= utc_s


def cpu_s(process: psutil.Process) -> float:
    """Processor time the process has taken so far [s]."""
    times = process.cpu_times()
    return float(times.user + times.system)


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


@contextlib.contextmanager
def running(logs: Path) -> Iterator[Processes]:
    """Processes that are all ended when the block is left; SIGINT and SIGTERM interrupt it, but not the ending."""
    processes = Processes(logs)
    # Both by name: a shell has its background jobs ignore Ctrl-C.
    before = {number: signal.signal(number, processes.interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield processes
    finally:
        processes.stop_all()
        for number, handler in before.items():
            signal.signal(number, handler)
