"""`vpp-cloud approve`: the second person for a dispatch that the fleet guard stopped."""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime

from cloud.commands.registry import actor, now_ms
from cloud.data_folder import DataFolder
from cloud.store.ledger import Ledger

Register = Callable[..., argparse.ArgumentParser]


def register(groups: "argparse._SubParsersAction[argparse.ArgumentParser]", command: Register) -> None:
    """Adds the group of commands. command: makes one of them, with --data."""
    approve = groups.add_parser("approve", help="dispatches that wait for a second person").add_subparsers(
        required=True, metavar="COMMAND"
    )
    command(approve, "list", _list, "what was stopped, and what became of it")
    grant = command(approve, "grant", _answer, "let it through, once, within a quarter of an hour of its asking")
    grant.set_defaults(grant=True)
    deny = command(approve, "deny", _answer, "do not let it through")
    deny.set_defaults(grant=False)
    for parser in (grant, deny):
        parser.add_argument("number", type=int, metavar="NUMBER", help="as `approve list` shows it")


def _list(options: argparse.Namespace) -> int:
    with _ledger(options) as ledger:
        for each in ledger.approvals():
            at = datetime.fromtimestamp(each.asked_ms / 1000, UTC)
            print(
                f"{each.number}  {at:%Y-%m-%d %H:%M:%S}  area {each.area}: {each.from_w / 1e3:+.0f} to "
                f"{each.to_w / 1e3:+.0f} kW by {each.asked_by}: {each.reason}  ({each.state(now_ms())})"
            )
    return 0


def _answer(options: argparse.Namespace) -> int:
    with _ledger(options) as ledger:
        answered = ledger.answer_approval(options.number, grant=options.grant, now_ms=now_ms(), actor=actor())
    print(f"approval {answered.number}: {'granted' if options.grant else 'denied'}")
    return 0


def _ledger(options: argparse.Namespace) -> Ledger:
    data = DataFolder(options.data, options.passphrase_file)
    data.check()
    return Ledger(data.ledger)
