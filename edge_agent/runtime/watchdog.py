"""Tells systemd that the agent is ready, alive, stopping (sd_notify(3)); silent where systemd does not ask.

With `WatchdogSec=` in the unit, systemd starts the agent again when completed cycles stop coming.
"""

import os
import socket
from collections.abc import Mapping

from edge_agent.model.clock import Clock

KICK_EVERY_S = 1.0


class Watchdog:
    """The notification socket of the service manager."""

    def __init__(self, environment: Mapping[str, str], clock: Clock) -> None:
        self._clock = clock
        self._next_kick_s = 0.0
        self._socket: socket.socket | None = None
        address = environment.get("NOTIFY_SOCKET", "")
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            self._address = "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def of_this_process(cls, clock: Clock) -> "Watchdog":
        return cls(os.environ, clock)

    def ready(self) -> None:
        self._notify(b"READY=1")

    def stopping(self) -> None:
        self._notify(b"STOPPING=1")

    def kick(self) -> None:
        """A cycle is complete."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._next_kick_s:
            self._next_kick_s = now_s + KICK_EVERY_S
            self._notify(b"WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _notify(self, message: bytes) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message, self._address)
        except OSError:  # a service manager that is gone must not stop the loop
            self.close()
