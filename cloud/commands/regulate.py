"""`vpp-cloud regulate`: an operator's regulation signal to a group, from a file or as it comes on standard input."""

import argparse
import asyncio
import math
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

from cloud.commands.registry import CommandError, actor, now_ms
from cloud.commands.stop import broker_urls
from cloud.data_folder import DataFolder
from protos import services

Register = Callable[..., argparse.ArgumentParser]


def register(groups: "argparse._SubParsersAction[argparse.ArgumentParser]", command: Register) -> None:
    """Adds the command. command: makes it, with --data."""
    regulate = command(groups, "regulate", _regulate, "follow a regulation signal with a group, until it ends")
    regulate.add_argument("--group", required=True, metavar="G")
    regulate.add_argument("--service", required=True, metavar="ID", help="that follows a signal: pjm-regd, a .toml")
    regulate.add_argument("--power-w", type=int, required=True, metavar="W", help="contracted, of the group together")
    regulate.add_argument("--minutes", type=float, required=True, metavar="M", help="at most 1440")
    regulate.add_argument(
        "--signal", required=True, metavar="FILE", help="a share (-1..1) a line, one a cycle; -: as they come on stdin"
    )
    where = regulate.add_mutually_exclusive_group()
    where.add_argument(
        "--broker", action="append", default=[], metavar="URL", help="tls://HOST:PORT; else as the coordinator says"
    )
    where.add_argument("--config", metavar="FILE", help="the coordinator's, where it names [messaging] urls")


def _regulate(options: argparse.Namespace) -> int:
    from cloud.gateway.nats_server import BrokerError

    try:
        service = services.parse(toml := services.text(options.service))
    except services.ServiceError as error:
        raise CommandError(str(error)) from error
    if service.signal is None:
        raise CommandError(f"service {service.id} answers the frequency; name one that follows a signal")
    if not 0 < options.minutes <= 1440 or options.power_w <= 0:
        raise CommandError("regulate: give --power-w above 0 and --minutes above 0 and at most 1440")
    interval_s = service.signal.interval_s
    signal = _from_stdin() if options.signal == "-" else _paced(_read(Path(options.signal)), interval_s)
    data = DataFolder(options.data, options.passphrase_file)
    data.check()
    try:
        messages = asyncio.run(_run(data, options, toml, signal))
    except (BrokerError, ValueError) as error:
        raise CommandError(str(error)) from error
    print(f"{messages} signals were broadcast to {options.group}")
    return 0


async def _run(data: DataFolder, options: argparse.Namespace, toml: str, signal: AsyncIterator[float]) -> int:
    from cloud.config import FleetGuardConfig
    from cloud.dispatch.regulation import Regulation
    from cloud.gateway import fleet_limits
    from cloud.gateway.broadcasts import BroadcastSender
    from cloud.gateway.fleet_guard import FleetGuard
    from cloud.gateway.intents import IntentSender
    from cloud.gateway.link import Link, own_login
    from cloud.identity.keyring import open_keyring
    from cloud.store.ledger import Ledger

    keyring = open_keyring(data.keys, None, now=datetime.now(UTC), passphrase=data.passphrase())
    login = own_login(keyring, lambda: datetime.now(UTC))
    nc = await Link(broker_urls(options, data), login, keyring.authority_file).open(login, "regulate", reconnect=True)
    try:
        with Ledger(data.ledger) as ledger:
            in_force = fleet_limits.in_force(ledger) or FleetGuardConfig()
            guard = FleetGuard(ledger, *fleet_limits.areas(in_force), now_ms, sender=f"regulate {options.group}")
            following = asyncio.create_task(fleet_limits.follow(guard, ledger, in_force))
            broadcasts = BroadcastSender(nc, keyring.signer, ledger, now_ms, guard)
            regulation = Regulation(
                ledger=ledger,
                intents=IntentSender(nc, keyring.signer, ledger, now_ms, guard),
                broadcasts=broadcasts,
                group=options.group,
                service_toml=toml,
                power_w=options.power_w,
                award_id=f"regulation-{secrets.token_hex(4)}",
                end_ms=now_ms() + round(60_000 * options.minutes),
                utc_ms=now_ms,
                actor=actor(),
            )
            try:
                await regulation.run(signal)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                await broadcasts.finish()
            await nc.flush()
            return regulation.messages
    finally:
        await nc.close()


def _read(path: Path) -> list[float]:
    try:
        lines = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: cannot be read ({error})") from error
    return [_share(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1)]


def _share(text: str, where: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not -1.0 <= share <= 1.0:
        raise CommandError(f"{where}: {text!r} is no share from -1 to 1")
    return share


async def _paced(shares: list[float], interval_s: float) -> AsyncIterator[float]:
    due_s = asyncio.get_running_loop().time()
    for share in shares:
        yield share
        due_s += interval_s
        await asyncio.sleep(max(0.0, due_s - asyncio.get_running_loop().time()))


async def _from_stdin() -> AsyncIterator[float]:
    number = 0
    while line := await asyncio.to_thread(sys.stdin.readline):
        number += 1
        if line.strip():
            yield _share(line.strip(), f"standard input, line {number}")
