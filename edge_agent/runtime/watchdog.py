"""Tells those who watch over the agent that it lives: systemd (sd_notify(3)) and the machine's own watchdog.

With `WatchdogSec=` in the unit, systemd starts the agent again when completed cycles stop coming. A hardware watchdog,
where one is configured, starts the whole machine again: also when systemd itself stands still.
"""

import array
import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from edge_agent.model.clock import Clock
from protos.settings import SettingsError

log = logging.getLogger(__name__)

KICK_EVERY_S = 1.0
HARDWARE_TIMEOUT_S = 15  # what most boards' watchdogs can do at most
_WDIOC_SETTIMEOUT = 0xC0045706  # linux/watchdog.h


class HardwareWatchdog:
    """/dev/watchdog: from `start` on, the machine restarts unless it is kicked. Linux' watchdog-api.rst."""

    def __init__(self, device: Path) -> None:
        """Raises SettingsError where it cannot be written to; does not start it."""
        self._device = device
        self._handle: int | None = None
        if not os.access(device, os.W_OK):
            raise SettingsError(
                f"$.control.hardware_watchdog: {device} is not there, or not this user's to write; load its driver and "
                "give it to the agent's group, or leave the key out"
            )

    def start(self) -> None:
        """Raises SettingsError where another programme has it."""
        try:
            self._handle = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SettingsError(
                f"$.control.hardware_watchdog: {self._device} cannot be opened ({error.strerror}); does systemd's "
                "RuntimeWatchdogSec= hold it?"
            ) from error
        try:
            fcntl.ioctl(self._handle, _WDIOC_SETTIMEOUT, array.array("i", [HARDWARE_TIMEOUT_S]))
        except OSError as error:
            log.warning("hardware watchdog keeps its own time-out: device=%s error=%s", self._device, error.strerror)
        log.info("hardware watchdog started: device=%s", self._device)

    def kick(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(OSError):  # the machine will restart; nothing better can be done here
                os.write(self._handle, b"\0")

    def close(self, *, orderly: bool) -> None:
        """orderly: the agent was told to end, so the machine goes on. Else the agent has its time-out to come back."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                if orderly:
                    os.write(self._handle, b"V")
                os.close(self._handle)
            self._handle = None


class Watchdog:
    """The notification socket of the service manager, and the hardware's watchdog where there is one."""

    def __init__(self, environment: Mapping[str, str], clock: Clock, hardware: HardwareWatchdog | None = None) -> None:
        self._clock = clock
        self._hardware = hardware
        self._orderly = False
        self._next_kick_s = 0.0
        self._socket: socket.socket | None = None
        address = environment.get("NOTIFY_SOCKET", "")
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            self._address = "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def of_this_process(cls, clock: Clock, device: Path | None) -> "Watchdog":
        """device: of the hardware's watchdog. Raises SettingsError where it cannot be used."""
        return cls(os.environ, clock, HardwareWatchdog(device) if device is not None else None)

    def ready(self) -> None:
        """The loop begins. Raises SettingsError where the hardware's watchdog cannot be started."""
        if self._hardware is not None:
            self._hardware.start()
        self._notify(b"READY=1")

    def stopping(self, *, orderly: bool) -> None:
        """The loop has ended; orderly: because it was told to."""
        self._orderly = orderly
        self._notify(b"STOPPING=1")

    def kick(self) -> None:
        """A cycle is complete."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._next_kick_s:
            self._next_kick_s = now_s + KICK_EVERY_S
            self._notify(b"WATCHDOG=1")
            if self._hardware is not None:
                self._hardware.kick()

    def close(self) -> None:
        if self._hardware is not None:
            self._hardware.close(orderly=self._orderly)
        self._close_socket()

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _notify(self, message: bytes) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message, self._address)
        except OSError:  # a service manager that is gone must not stop the loop
            self._close_socket()
