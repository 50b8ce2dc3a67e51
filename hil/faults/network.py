"""Separate network addresses on one machine: namespaces whose link can be cut, or, without root, loopback addresses."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

_IP: Final = "/usr/sbin/ip"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one machine of the cluster would stand."""

    address: str
    namespace: str | None  # None: this machine's own network


@dataclass(frozen=True, slots=True)
class Network:
    """home: where everything runs that is no node."""

    home: str
    places: tuple[Place, ...]

    @property
    def can_be_cut(self) -> bool:
        return all(place.namespace is not None for place in self.places)

    def cut(self, place: Place, *, up: bool = False) -> None:
        """Takes the place's link away without a word to either end, or (`up`) gives it back."""
        if place.namespace is None:
            raise ValueError("a loopback address has no link to cut: run as root")
        _ip("link", "set", f"{place.namespace}-h", "up" if up else "down")


@contextmanager
def network(nodes: int) -> Iterator[Network]:
    """So many places that reach each other and home, gone afterwards."""
    if os.geteuid() != 0 or shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin") is None:
        yield Network("127.0.0.1", tuple(Place(f"127.0.0.{11 + node}", None) for node in range(nodes)))
        return
    mark, subnet = secrets.token_hex(2), f"10.{secrets.choice(range(200, 250))}.{secrets.choice(range(1, 250))}"
    bridge = f"mm{mark}"
    places = tuple(Place(f"{subnet}.{11 + node}", f"mm{mark}-{node}") for node in range(nodes))
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"{subnet}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for place in places:
            namespace = str(place.namespace)
            _ip("netns", "add", namespace)
            _ip("link", "add", f"{namespace}-h", "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("link", "set", f"{namespace}-h", "master", bridge, "up")
            _ip("-n", namespace, "addr", "add", f"{place.address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                _ip("-n", namespace, "link", "set", device, "up")
        yield Network(f"{subnet}.1", places)
    finally:
        for place in places:
            _ip("netns", "del", str(place.namespace), must=False)
        _ip("link", "del", bridge, must=False)


def inside(place: Place) -> tuple[str, ...]:
    """What is put before a command that is to run at the place."""
    return () if place.namespace is None else (_IP, "netns", "exec", place.namespace)


def _ip(*arguments: str, must: bool = True) -> None:
    _run((_IP, *arguments), must=must)


def _run(command: Sequence[str], *, must: bool) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if must and done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
