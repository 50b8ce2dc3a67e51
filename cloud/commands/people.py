"""`vpp-cloud people` and `vpp-cloud token`: accounts and programs from the machine the coordinator runs on."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cloud.commands import registry
from cloud.data_folder import DataFolder
from cloud.model.access import ROLES, TOKEN_PERMISSIONS
from cloud.store.ledger import Ledger

if TYPE_CHECKING:
    from cloud.api.accounts import Accounts

Register = Callable[..., argparse.ArgumentParser]

_COLUMNS: Final = ("user", "roles", "second factor", "state")


def register(groups: "argparse._SubParsersAction[argparse.ArgumentParser]", command: Register) -> None:
    """Adds the two groups of commands. command: makes one of them, with --data."""
    people = groups.add_parser("people", help="who may use the console").add_subparsers(
        required=True, metavar="COMMAND"
    )
    add = command(people, "add", _add, "invite a person; prints a one-time link to choose a password")
    link = command(people, "link", _link, "a further one-time link: the first was lost, or the password forgotten")
    roles = command(people, "roles", _roles, "give a person other roles")
    disable = command(people, "disable", _disable, "shut a person out, now")
    enable = command(people, "enable", _enable, "let a person in again")
    factor = command(people, "remove-second-factor", _remove_factor, "for a person who lost the authenticator app")
    command(people, "list", _list, "every account")
    for parser in (add, link, roles, disable, enable, factor):
        parser.add_argument("username", metavar="USER")
    for parser in (add, roles):
        parser.add_argument("--role", action="append", required=True, choices=ROLES, help="may be repeated")

    token = groups.add_parser("token", help="programs that call the API").add_subparsers(
        required=True, metavar="COMMAND"
    )
    make = command(token, "add", _token_add, "make a program's token; it is printed this once")
    make.add_argument(
        "--scope", action="append", required=True, choices=sorted(TOKEN_PERMISSIONS), help="may be repeated"
    )
    make.add_argument("--days", type=int, default=90, metavar="N", help="1 to 366; 90 unless given")
    revoke = command(token, "revoke", _token_revoke, "end a token, now")
    for parser in (make, revoke):
        parser.add_argument("name", metavar="NAME")
    command(token, "list", _token_list, "every token")


@contextmanager
def _accounts(options: argparse.Namespace) -> Iterator[tuple["Accounts", Ledger]]:
    from cloud.api.accounts import AccountRefused, Accounts
    from cloud.identity.sealing import SealError, open_sealer

    data = DataFolder(options.data, options.passphrase_file)
    data.check()
    try:
        with Ledger(data.ledger) as ledger:
            yield Accounts(ledger, open_sealer(data.keys, data.passphrase()), now=lambda: datetime.now(UTC)), ledger
    except (AccountRefused, SealError) as error:
        raise registry.CommandError(str(error)) from error


def _console_link(data: Path, token: str) -> str:
    """The link as the running coordinator's console has it."""
    from cloud.api.access import welcome_link

    try:
        console = str(json.loads(DataFolder(data).run.read_text())["console"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise registry.CommandError(
            f"{data}: its console does not run, so there is no link; start `vpp-cloud run --data {data}` first"
        ) from error
    return welcome_link(console, token)


def _add(options: argparse.Namespace) -> int:
    _console_link(options.data, "")  # no account in vain
    with _accounts(options) as (accounts, _):
        token = accounts.invite(options.username, options.role, registry.actor())
    print(f"link for {options.username} (once, within a day): {_console_link(options.data, token)}")
    return 0


def _link(options: argparse.Namespace) -> int:
    _console_link(options.data, "")
    with _accounts(options) as (accounts, _):
        token = accounts.new_link(options.username, registry.actor())
    print(f"link for {options.username} (once, within a day): {_console_link(options.data, token)}")
    return 0


def _roles(options: argparse.Namespace) -> int:
    with _accounts(options) as (accounts, _):
        accounts.set_roles(options.username, options.role, registry.actor())
    print(f"{options.username} is {', '.join(sorted(set(options.role)))}")
    return 0


def _disable(options: argparse.Namespace) -> int:
    with _accounts(options) as (accounts, _):
        accounts.disable(options.username, registry.actor())
    print(f"{options.username} is disabled; sessions and links are over")
    return 0


def _enable(options: argparse.Namespace) -> int:
    with _accounts(options) as (accounts, _):
        accounts.enable(options.username, registry.actor())
    print(f"{options.username} is enabled")
    return 0


def _remove_factor(options: argparse.Namespace) -> int:
    with _accounts(options) as (accounts, _):
        accounts.remove_second_factor(options.username, registry.actor())
    print(f"{options.username} has no second factor; sessions are over")
    return 0


def _list(options: argparse.Namespace) -> int:
    with _accounts(options) as (_, ledger):
        rows = [
            (
                user.username,
                ", ".join(user.roles),
                "in force" if user.second_factor else "none",
                "disabled" if user.disabled_ms is not None else "invited" if user.password_hash is None else "active",
            )
            for user in ledger.users()
        ]
    registry.print_table([_COLUMNS, *rows])
    return 0


def _token_add(options: argparse.Namespace) -> int:
    with _accounts(options) as (accounts, _):
        print(accounts.add_token(options.name, options.scope, options.days, registry.actor()))
    return 0


def _token_revoke(options: argparse.Namespace) -> int:
    with _accounts(options) as (accounts, _):
        accounts.revoke_token(options.name, registry.actor())
    print(f"token {options.name} is revoked")
    return 0


def _token_list(options: argparse.Namespace) -> int:
    with _accounts(options) as (_, ledger):
        rows = [
            (
                token.name,
                ", ".join(token.scopes),
                f"{datetime.fromtimestamp(token.expires_ms / 1000, UTC):%Y-%m-%d}",
                "revoked" if token.revoked_ms is not None else "valid",
            )
            for token in ledger.api_tokens()
        ]
    registry.print_table([("token", "scopes", "until", "state"), *rows])
    return 0
