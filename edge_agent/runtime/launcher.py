"""Starts the agent from one of its slots, and goes back by itself to the version that ran well from one that does not.

It stays beside the agent as its parent, because a version that is broken cannot be asked whether it is. It imports as
little as it can, is never updated itself, and believes only what sync has verified and unpacked (`sync/updates.py`).
A version on trial is kept when control has completed cycles and holds a live session with the coordinator; it is given
up when it ends, or is not there in time.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_agent.model import update
from edge_agent.model.files import write_private
from edge_agent.model.status import STATISTICS
from edge_agent.model.update import Outcome, Slots, Staged

log = logging.getLogger(__name__)

HEALTHY_CYCLES = 100
POLL_S = 0.5
STARTING_S = 60.0  # an agent that starts has not completed cycles yet
AGAIN_S = 2.0
ORDERLY_S = 20.0
REFUSED = 2  # the configuration has to be mended by a person


class Launcher:
    """One site's launcher. `command` starts the agent, without the interpreter."""

    def __init__(self, data_dir: Path, command: Sequence[str], trial_s: float) -> None:
        self._statistics = data_dir / STATISTICS
        self._folder = data_dir / update.FOLDER
        self._command = list(command)
        self._trial_s = trial_s
        self._stopping = False
        self._child: subprocess.Popen[bytes] | None = None
        self._slots = self._read()
        self._relay = _Relay()

    def stop(self) -> None:
        """The agent is to end, and then the launcher; may be called from a signal handler."""
        self._stopping = True
        if self._child is not None:
            self._child.terminate()

    def run(self) -> int:
        """The agent's exit code, once it was told to end or has refused its configuration."""
        while True:
            on_trial = self._slots.trial
            digest = on_trial or self._slots.good
            self._child = child = self._start(digest)
            if self._stopping:
                child.terminate()
            trouble = self._watch(child)
            code = child.returncode
            if self._stopping:
                return code
            if self._slots.trial:
                if self._slots.trial == digest:
                    self._roll_back(trouble or f"it ended with code {code}")
                continue  # else there is a new version to try
            if code == REFUSED:
                return code
            log.warning("agent ended: exit_code=%d; starting it again", code)
            time.sleep(AGAIN_S)

    def _start(self, digest: str) -> "subprocess.Popen[bytes]":
        # Its folder comes before what is installed, and the folder that we were started in does not count at all.
        environment = {**os.environ, "PYTHONSAFEPATH": "1"}
        environment |= self._relay.environment()
        for name in ("PYTHONPATH", "WATCHDOG_PID"):
            environment.pop(name, None)
        if digest:
            environment["PYTHONPATH"] = str(self._folder / update.SLOTS_FOLDER / digest)
        log.info("agent started from %s", digest[:12] or "the installation")
        return subprocess.Popen([sys.executable, *self._command], env=environment, stdin=subprocess.DEVNULL)

    def _watch(self, child: "subprocess.Popen[bytes]") -> str:
        """Returns when the agent has ended; why it was made to, if it was given up."""
        began_s = time.monotonic()
        while True:
            self._relay.pass_on(starting=time.monotonic() - began_s < STARTING_S)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(POLL_S)
                return ""
            if self._stopping:
                _end(child)
                return ""
            if self._slots.trial:
                if self._healthy(child.pid):
                    self._keep()
                elif time.monotonic() - began_s > self._trial_s:
                    _end(child)
                    return f"it did not control and reach the coordinator within {self._trial_s:.0f} s"
            elif self._new():
                _end(child)
                return ""

    def _healthy(self, pid: int) -> bool:
        """Whether this very process has completed cycles and holds a session."""
        try:
            told = json.loads(self._statistics.read_text(encoding="utf-8"))
            return bool(told["pid"] == pid and told["cycles"] >= HEALTHY_CYCLES and told["linked"] is True)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _new(self) -> bool:
        """Takes up what sync has staged, once."""
        try:
            staged = update.read(self._folder / update.STAGED_FILE, Staged)
        except ValueError as error:
            log.error("staged update cannot be read: %s", error)
            return False
        if staged is None or staged.digest == self._slots.good or staged.digest in self._slots.outcomes:
            return False
        if not (self._folder / update.SLOTS_FOLDER / staged.digest).is_dir():
            return False
        log.info("update: trying version %s", staged.version)
        self._write(self._slots.good, staged.digest, staged.digest, Outcome(state="switched"))
        return True

    def _keep(self) -> None:
        log.info("update: %s runs well and stays", self._slots.trial[:12])
        self._write(self._slots.trial, "", self._slots.trial, Outcome(state="healthy"))

    def _roll_back(self, reason: str) -> None:
        log.error("update: %s is given up: %s", self._slots.trial[:12], reason)
        self._write(self._slots.good, "", self._slots.trial, Outcome(state="rolled-back", reason=reason))

    def _read(self) -> Slots:
        try:
            slots = update.read(self._folder / update.SLOTS_FILE, Slots) or Slots()
        except ValueError as error:
            log.error("slots cannot be read, the installed agent is started: %s", error)
            return Slots()
        if slots.good and not (self._folder / update.SLOTS_FOLDER / slots.good).is_dir():
            log.error("the slot of the agent that ran well is gone, the installed agent is started")
            return msgspec.structs.replace(slots, good="", trial="")
        if slots.trial:  # the machine, or we, ended in the middle of a trial: nobody knows why
            self._slots = slots
            self._roll_back("the gateway or its launcher ended while it was on trial")
            return self._slots
        return slots

    def _write(self, good: str, trial: str, digest: str, outcome: Outcome) -> None:
        # In memory first: a full disk must not keep a broken version running.
        self._slots = Slots(good=good, trial=trial, outcomes={**self._slots.outcomes, digest: outcome})
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_private(self._folder / update.SLOTS_FILE, msgspec.json.encode(self._slots))
        except OSError as error:
            log.error("slots cannot be written: %s", error)


class _Relay:
    """Between the agent and systemd (sd_notify(3)): an agent that ends to be replaced is no service that stops."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._to = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("")  # an abstract address that the kernel chooses
        self._socket.setblocking(False)

    def environment(self) -> dict[str, str]:
        """What the agent is told to notify."""
        if not self._to:
            return {}
        return {"NOTIFY_SOCKET": "@" + self._socket.getsockname()[1:].decode("ascii")}

    def pass_on(self, *, starting: bool) -> None:
        """What the agent said that systemd is to know; while it starts, that it may take its time."""
        said = {b"WATCHDOG=1"} if starting and self._to else set()
        with contextlib.suppress(BlockingIOError):
            while True:
                said |= {b"READY=1", b"WATCHDOG=1"} & set(self._socket.recv(4096).split(b"\n"))
        for word in said:
            with contextlib.suppress(OSError):
                self._socket.sendto(word, self._to)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Ends it in order, so that it releases its device; by force where it does not."""
    child.terminate()
    try:
        child.wait(ORDERLY_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def main() -> int:
    """Arguments: the data folder, how long a trial lasts [s], and the agent's command."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    data_dir, trial_s, *command = sys.argv[1:]
    launcher = Launcher(Path(data_dir), command, float(trial_s))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: launcher.stop())
    return launcher.run()


if __name__ == "__main__":
    sys.exit(main())
