"""`vpp-cloud approve`: the second person for what the fleet guard stopped, and for changes of limits."""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime

from cloud.commands.registry import actor, now_ms
from cloud.data_folder import DataFolder
from cloud.model.approval import Approval, Limits
from cloud.store.ledger import Ledger

Register = Callable[..., argparse.ArgumentParser]


def register(groups: "argparse._SubParsersAction[argparse.ArgumentParser]", command: Register) -> None:
    """Adds the group of commands. command: makes one of them, with --data."""
    text = "dispatches and changes of limits that wait for a second person"
    approve = groups.add_parser("approve", help=text).add_subparsers(required=True, metavar="COMMAND")
    command(approve, "list", _list, "what was asked for, and what became of it")
    grant = command(
        approve, "grant", _answer, "let a dispatch through, once, within a quarter of an hour; or set the limits"
    )
    grant.set_defaults(grant=True)
    deny = command(approve, "deny", _answer, "do not let it through")
    deny.set_defaults(grant=False)
    for parser in (grant, deny):
        parser.add_argument("number", type=int, metavar="NUMBER", help="as `approve list` shows it")


def _list(options: argparse.Namespace) -> int:
    with _ledger(options) as ledger:
        found, at_ms = ledger.approvals(), now_ms()
    for each in found:
        at = datetime.fromtimestamp(each.asked_ms / 1000, UTC)
        print(f"{each.number}  {at:%Y-%m-%d %H:%M:%S}  {_what(each)} by {each.asked_by}  ({each.state(at_ms)})")
        if each.limits is Limits.SITE and each.waits(at_ms):
            for line in (each.change or "nothing beyond the owner's file any more").splitlines():
                print(f"      {line}")
    if not found:
        print("nothing was ever asked for: no dispatch was stopped, and no limit is to change")
    elif not any(each.waits(at_ms) for each in found):
        print("nothing waits")
    return 0


def _what(asked: Approval) -> str:
    if asked.limits is None:
        return f"area {asked.area}: {asked.from_w / 1e3:+.0f} to {asked.to_w / 1e3:+.0f} kW: {asked.reason}"
    return f"change of limits: {asked.reason}"


def _answer(options: argparse.Namespace) -> int:
    with _ledger(options) as ledger:
        answered = ledger.answer_approval(options.number, grant=options.grant, now_ms=now_ms(), actor=actor())
    done = "denied" if not options.grant else "granted" if answered.limits is None else "granted, and set"
    print(f"approval {answered.number}: {done}")
    return 0


def _ledger(options: argparse.Namespace) -> Ledger:
    data = DataFolder(options.data, options.passphrase_file)
    data.check()
    return Ledger(data.ledger)
