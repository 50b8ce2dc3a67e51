"""`vpp-cloud stop`: the emergency stop, sent straight to the broker with the data folder's keys.

It needs no coordinator that runs and no console: the ledger, the keys and a broker that can be reached are enough.
"""

import argparse
import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cloud import config
from cloud.commands import registry
from cloud.commands.registry import CommandError, actor, now_ms
from cloud.data_folder import DataFolder
from cloud.dispatch import asking

if TYPE_CHECKING:
    from cloud.gateway.stopping import Told

Register = Callable[..., argparse.ArgumentParser]


def register(groups: "argparse._SubParsersAction[argparse.ArgumentParser]", command: Register) -> None:
    """Adds the command. command: makes it, with --data."""
    stop = command(groups, "stop", _stop, "emergency stop: release the devices of sites, until it is lifted")
    stop.add_argument("sites", nargs="*", metavar="SITE")
    whom = stop.add_mutually_exclusive_group()
    whom.add_argument("--group", action="append", default=[], metavar="G", help="every site of it; may be repeated")
    whom.add_argument("--all", action="store_true", help="every site there is")
    stop.add_argument("--reason", required=True, metavar="TEXT", help="for the sites' owners and the audit log")
    stop.add_argument("--lift", action="store_true", help="end the stop")
    where = stop.add_mutually_exclusive_group()
    where.add_argument(
        "--broker", action="append", default=[], metavar="URL", help="tls://HOST:PORT; else as the coordinator says"
    )
    where.add_argument("--config", type=Path, metavar="FILE", help="the coordinator's, where it names [messaging] urls")


def _stop(options: argparse.Namespace) -> int:
    from cloud.gateway.nats_server import BrokerError

    reason = asking.checked_reason(options.reason)
    data = DataFolder(options.data, options.passphrase_file)
    sites, groups = asking.whom(registry.list_sites(data), options.sites, options.group, everybody=options.all)
    try:
        told = asyncio.run(_send(data, broker_urls(options, data), not options.lift, reason, sites, groups))
    except BrokerError as error:
        raise CommandError(
            f"NOTHING WAS SENT: {error}; give a broker that can be reached with --broker, or stop a site on its own "
            "gateway: vpp-agent stop --config FILE --local --reason TEXT"
        ) from error
    what = "lifted" if options.lift else "stopped"
    print(f"{what}: {len(told.sites)} sites by an order that the broker keeps, {len(told.groups)} groups by broadcast")
    for failure in told.failures:
        print(f"NOT {what}: {failure}")
    return 1 if told.failures else 0


def broker_urls(options: argparse.Namespace, data: DataFolder) -> list[str]:
    """The broker's addresses: as given, as configured, as the running coordinator says, or where it last was."""
    if options.broker:
        return list(options.broker)
    if options.config:
        if urls := config.load(options.config).messaging.urls:
            return list(urls)
        raise CommandError(f"{options.config}: names no [messaging] urls; leave out --config, or give --broker")
    for path, key in ((data.run, "broker"), (data.ports, "broker_port")):
        try:
            found = json.loads(path.read_text())[key]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return [found if key == "broker" else f"tls://127.0.0.1:{found}"]
    raise CommandError(f"{data.path}: does not tell where the broker is; give --broker tls://HOST:PORT")


async def _send(
    data: DataFolder, urls: Sequence[str], stop: bool, reason: str, sites: Sequence[str], groups: Sequence[str]
) -> "Told":
    from cloud.gateway import stopping
    from cloud.gateway.link import Link, own_login
    from cloud.identity.keyring import open_keyring
    from cloud.store.ledger import Ledger

    keyring = open_keyring(data.keys, None, now=datetime.now(UTC), passphrase=data.passphrase())
    login = own_login(keyring, lambda: datetime.now(UTC))
    nc = await Link(urls, login, keyring.authority_file).open(login, "stop", reconnect=False)
    try:
        with Ledger(data.ledger) as ledger:
            return await stopping.order(
                nc,
                keyring.signer,
                ledger,
                stop=stop,
                reason=reason,
                sites=sites,
                groups=groups,
                actor=actor(),
                utc_ms=now_ms,
            )
    finally:
        await nc.close()
