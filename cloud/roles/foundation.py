"""What every role stands on: configuration, data folder, keys, ledger, history, live fleet and the broker."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from nats.aio.client import Client

from cloud.config import CoordinatorConfig
from cloud.data_folder import DataFolder, write_json
from cloud.fleet.state import FleetState
from cloud.gateway.broker import Broker, reachable
from cloud.gateway.link import Account, Link, own_login
from cloud.gateway.nats_server import BrokerError, ClusterNode
from cloud.gateway.ports import Ports
from cloud.identity.key_store import KeyringError
from cloud.identity.keyring import Keyring, open_keyring
from cloud.model.records import Move
from cloud.model.role import Role
from cloud.observe import Metrics
from cloud.parts import Parts
from cloud.store.engine import AWAY, without_password
from cloud.store.errors import LedgerError
from cloud.store.history import History
from cloud.store.ledger import Ledger

log = logging.getLogger(__name__)

START_S: Final = 30.0
_LOOK_S: Final = 0.5
_PORTS: Final = {
    Role.BROKER: ("broker_port",),
    Role.GATEWAY: ("enrolment_port", "site_port"),
    Role.CONSOLE: ("console_port",),
}


def utc_now() -> datetime:
    return datetime.now(UTC)


def utc_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True, kw_only=True)
class Foundation:
    """A role's `start` takes it, and adds its parts and what it serves."""

    config: CoordinatorConfig
    data: DataFolder
    roles: Collection[Role]
    telemetry_parts: Collection[int]  # which telemetry streams this process ingests
    parts: Parts
    say: Callable[[str], None]  # to the person who started the process
    configured_by: str  # whose the configuration is, for the audit log
    ports: Mapping[str, int]  # that this process listens on, by their key in [listen]
    keyring: Keyring
    ledger: Ledger
    history: History
    fleet: FleetState
    broker: Broker | None  # our own, in the role of that name
    account: Account
    link: Link  # to the broker
    metrics: Metrics
    served: dict[str, object] = field(default_factory=dict)  # what run.json says beside the process id

    @property
    def holder(self) -> str:
        """What this process's leases are known by."""
        return f"{socket.gethostname()}:{self.data.path}"

    @property
    def run_file(self) -> Path:
        return run_file(self.data, self.roles)

    async def connect(self, role: str, parts: Parts, on_return: Callable[[], None] | None = None) -> Client:
        """A connection to the broker, closed when what is later in `parts` has stopped."""
        nc = await self.link.connect(role, on_return)
        self.metrics.needs(f"broker for {role}", lambda: nc.is_connected or nc.is_closed)
        parts.on_stop(f"connection of {role}", nc.close)
        return nc

    def announce(self) -> None:
        """Writes run.json."""
        write_json(self.run_file, {"pid": os.getpid(), **self.served})


def run_file(data: DataFolder, roles: Collection[Role]) -> Path:
    return data.run if set(roles) == set(Role) else data.run_of(roles)


def lay(
    config: CoordinatorConfig,
    data: DataFolder,
    roles: Collection[Role],
    telemetry_parts: Collection[int],
    parts: Parts,
    say: Callable[[str], None],
    *,
    configured_by: str,
) -> Foundation:
    """Opens keys, ledger and history. Raises what they raise, each error one line with its remedy."""
    listen = config.listen
    chosen = Ports(data.ports, listen.host)
    ports = {key: chosen.resolve(key, getattr(listen, key)) for role in roles for key in _PORTS.get(role, ())}
    own_names = (listen.advertised_host, reachable(listen.host), "localhost", "127.0.0.1")
    keyring = open_keyring(data.keys, own_names, now=utc_now(), passphrase=data.passphrase(make=True))
    keyring.check_roles(roles)
    if keyring.keys.roles and config.ledger.url is None and not data.ledger.exists():
        raise LedgerError(
            f"{data.path}: has the keys of {', '.join(keyring.keys.roles)} only, and not the ledger: say where that is "
            'with [ledger] url = "postgresql://..."'
        )
    parts.run("keys", _follow_rotations(keyring))
    ledger = _open_ledger(config.ledger.url, data, later=set(roles) == {Role.BROKER})
    parts.on_stop("ledger", partial(asyncio.to_thread, ledger.close))

    def revocations() -> dict[str, int]:
        return ledger.revocations(utc_ms())

    broker = None
    if Role.BROKER in roles:
        broker = Broker(
            data.broker,
            keyring,
            host=listen.host,
            port=ports["broker_port"],
            public_host=listen.advertised_host,
            now=utc_now,
            revocations=revocations,
            name=config.broker.name if config.broker else None,
            node=ClusterNode(port=config.broker.cluster_port, routes=config.broker.routes) if config.broker else None,
        )
    if config.messaging.urls:
        link = Link(config.messaging.urls, own_login(keyring, utc_now), keyring.authority_file)
    elif broker is not None:
        link = broker.link
    else:
        raise BrokerError(
            f"no broker: {', '.join(roles)} without the role {Role.BROKER} needs the addresses of a running one; give "
            'them as [messaging] urls = ["tls://HOST:PORT"]'
        )
    return Foundation(
        config=config,
        data=data,
        roles=roles,
        telemetry_parts=telemetry_parts,
        parts=parts,
        say=say,
        configured_by=configured_by,
        ports=ports,
        keyring=keyring,
        ledger=ledger,
        history=History(config.history.path or data.history),
        fleet=FleetState(),
        broker=broker,
        account=broker.account if broker is not None else Account(keyring, revocations, utc_now),
        link=link,
        metrics=Metrics(),
    )


def _open_ledger(url: str | None, data: DataFolder, *, later: bool) -> Ledger:
    """The ledger that the configuration names or the data folder leads to, so that every command finds the same one.

    later: one that is away now is no reason not to start. Raises LedgerError where the two differ.
    """
    if url is not None and not data.ledger.exists():
        with Ledger(url) as there, Ledger(data.ledger) as signpost:
            signpost.mark_moved(Move(number=1, place=there.place, at_ms=utc_ms()))
    ledger = Ledger(data.ledger, later=later)
    if url is not None and ledger.place not in (url, AWAY):
        ledger.close()
        raise LedgerError(
            f"[ledger] url is {without_password(url)}, but {data.path} leads to {ledger.name}: move it with `vpp-cloud "
            "migrate`, or correct the configuration"
        )
    return ledger


async def _follow_rotations(keyring: Keyring) -> None:
    """Takes up, for ever, what `vpp-cloud keys` does beside this process."""
    told = ""
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            if await asyncio.to_thread(keyring.refresh, utc_now()):
                log.info("keys were rotated: in use")
            told = ""
        except KeyringError as error:
            if str(error) != told:
                told = str(error)
                log.error("keys were changed and cannot be used, going on with those of before: %s", error)
