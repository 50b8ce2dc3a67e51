"""Which TCP ports the coordinator listens on, and that they stay the same over restarts: sites keep the addresses."""

import errno
import json
import os
import random
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Final

_FIRST: Final = 20_000
_TRIES: Final = 200
_DRAW: Final = random.SystemRandom()  # two processes that were seeded alike would draw the same ports


class PortError(Exception):
    """A port that cannot be had: names port, key and remedy in one line."""


class Ports:
    """Ports by name, as configured or, where 0 was configured, as chosen once and remembered in a file."""

    def __init__(self, path: Path, host: str) -> None:
        self._path = path
        self._host = host

    def resolve(self, name: str, configured: int) -> int:
        """The port for `name` (a key of [listen]), free at this moment. Raises PortError."""
        remembered = read_ports(self._path)
        if configured:
            chosen, source = configured, f"listen.{name}"
            remedy = f"stop what listens there, or set listen.{name} to another port (0: a free one)"
        elif name in remembered:
            chosen, source = remembered[name], f"listen.{name}, remembered in {self._path}"
            remedy = "stop what listens there; sites that have enrolled know this port"
        else:
            chosen = free_port(self._host, but=remembered.values())
            source, remedy = f"listen.{name}", "set it to a free port"
        try:
            with listening_socket(self._host, chosen):
                pass
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
            raise PortError(f"port {chosen} on {self._host} ({source}) {reason}; {remedy}") from error
        if not configured and remembered.get(name) != chosen:
            _write_ports(self._path, remembered | {name: chosen})
        return chosen


def read_ports(path: Path) -> dict[str, int]:
    """Ports by name from a file that Ports wrote; empty if there is none. Raises PortError."""
    try:
        ports = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise PortError(f"{path}: cannot be read ({error}); restore it, or remove it to choose ports anew") from error
    if not isinstance(ports, dict) or not all(isinstance(port, int) and 0 < port < 65536 for port in ports.values()):
        raise PortError(f"{path}: is not a table of ports; restore it, or remove it to choose ports anew")
    return ports


def listening_socket(host: str, port: int) -> socket.socket:
    """A TCP socket that listens there. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def free_port(host: str, but: Collection[int] = ()) -> int:
    """A port that nobody listens on, and none of `but`, below the range the system takes for outgoing connections.

    Inside that range an agent that knocks while the broker is away could be given the broker's own port as its source,
    and the broker could not come back. Raises PortError.
    """
    ceiling = _first_ephemeral()
    for _ in range(_TRIES):
        port = _DRAW.randrange(_FIRST, ceiling)
        if port in but:  # chosen for another part that does not listen yet
            continue
        try:
            listening_socket(host, port).close()
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                continue
            raise PortError(
                f"{host} (listen.host): cannot listen there ({error.strerror}); set this machine's address"
            ) from error
        return port
    raise PortError(f"no free port between {_FIRST} and {ceiling} on {host}; set the ports in [listen]")


def _first_ephemeral() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 32_768
    return first if first > _FIRST + _TRIES else 65_536


def _write_ports(path: Path, ports: dict[str, int]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(ports, indent=2) + "\n")
    os.replace(fresh, path)
