"""`vpp-cloud init` and `vpp-cloud keys`: the key hierarchy made, its root taken away, each level rotated."""

import argparse
import getpass
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cloud.commands import registry
from cloud.data_folder import DataFolder
from cloud.identity import key_store, passphrase
from cloud.identity.key_store import KeyringError, RootKeys
from cloud.model.records import Move
from cloud.model.role import Role
from cloud.store.engine import POSTGRES
from cloud.store.ledger import Ledger

if TYPE_CHECKING:
    from cloud.identity.rotation import Rotation

Register = Callable[..., argparse.ArgumentParser]
LEVELS = ("root", "issuing", "account", "devices", "command", "server")


def register(groups: "argparse._SubParsersAction[argparse.ArgumentParser]", command: Register) -> None:
    """Adds `init` and the group `keys`. command: makes one of them, with --data and --passphrase-file."""
    init = command(
        groups, "init", _init, "make the keys on an empty folder; `run` does it by itself where there are none"
    )
    init.add_argument("--pkcs11-module", type=Path, metavar="FILE.so", help="keys that sign are made in a token")
    init.add_argument("--pkcs11-token", metavar="LABEL", help="the token; its PIN is the passphrase")
    keys = groups.add_parser("keys", help="the key hierarchy").add_subparsers(required=True, metavar="COMMAND")
    command(keys, "show", _show, "every level, since when, and which old keys are still accepted")
    export = command(
        keys, "export-root", _export_root, "write the root's keys to a file and take them from this machine"
    )
    export.add_argument("file", type=Path, metavar="FILE")
    share = command(keys, "export", _export, "the keys of some roles alone, as a data folder for another machine")
    share.add_argument("folder", type=Path, metavar="FOLDER", help="to be made, or one that was exported before")
    share.add_argument("--role", action="append", type=Role, choices=tuple(Role), required=True, metavar="ROLE")
    share.add_argument("--host", action="append", default=[], metavar="NAME", help="by which it is reached; repeatable")
    rotate = command(keys, "rotate", _rotate, "a new key beside the old one; both are accepted until `keys retire`")
    rotate.add_argument("--leaked", action="store_true", help="accept the old key no longer, from now on")
    rotate.add_argument("--root", type=Path, metavar="FILE", help="where the root was exported to, if it was")
    rotate.add_argument("--new-root", type=Path, metavar="FILE", help="where a new root goes, if not on this machine")
    retire = command(keys, "retire", _retire, "accept the old key no longer")
    retire.add_argument("--now", action="store_true", help="although some gateway may still need it")
    for parser in (rotate, retire):
        parser.add_argument("level", choices=LEVELS, metavar="LEVEL", help=", ".join(LEVELS))
    for parser in (export, rotate):
        parser.add_argument(
            "--root-passphrase-file", type=Path, metavar="FILE", help="of the exported root; asked for unless given"
        )


def _init(options: argparse.Namespace) -> int:
    from cloud.identity.key_making import make_keys
    from protos.hardware import Token, TokenError

    data = DataFolder(options.data.absolute(), options.passphrase_file)
    if (options.pkcs11_module is None) != (options.pkcs11_token is None):
        raise registry.CommandError("--pkcs11-module and --pkcs11-token go together")
    with data.owned():
        if data.keys.exists():
            raise registry.CommandError(f"{data.keys}: exists; `vpp-cloud keys` shows and rotates what is there")
        secret = data.passphrase(make=True)
        now = datetime.now(UTC)
        if options.pkcs11_module is None:
            make_keys(data.keys, secret, now=now)
        else:
            place = key_store.TokenPlace(str(options.pkcs11_module.absolute()), options.pkcs11_token)
            try:
                with Token(options.pkcs11_module, options.pkcs11_token, secret.decode()) as token:
                    make_keys(data.keys, secret, now=now, place=place, token=token)
            except TokenError as error:
                raise registry.CommandError(str(error)) from error
    print(f"keys are in {data.keys}, sealed with the passphrase in {_passphrase_place(data)}")
    print(f"take the root away: vpp-cloud keys export-root FILE --data {options.data}")
    return 0


def _passphrase_place(data: DataFolder) -> str:
    beside = passphrase.beside_of(data.path)
    if data.passphrase_file is not None:
        return str(data.passphrase_file)
    return f"{beside}: keep a copy elsewhere, not in a backup of the folder" if beside.exists() else "the credential"


def _show(options: argparse.Namespace) -> int:
    rows = [("level", "name", "since (UTC)", "kept", "old ones accepted", "retire from (UTC)")]
    for one in _rotation(options).standing():
        due = _utc(one.due_ms) if one.due_ms is not None else "-"
        rows.append((one.level, one.name, _utc(one.made_ms), one.where, str(one.former), due))
    registry.print_table(rows)
    return 0


def _export_root(options: argparse.Namespace) -> int:
    rotation = _rotation(options)
    rotation.export_root(options.file, _root_passphrase(options, "passphrase of the exported root: ", again=True))
    _audit(options, "keys.root_exported", "root")
    print(f"the root is in {options.file} and no longer on this machine; keep it and its passphrase apart, twice")
    return 0


def _export(options: argparse.Namespace) -> int:
    from cloud.identity.keyring import open_keyring
    from cloud.identity.role_keys import export

    data, target, now = DataFolder(options.data, options.passphrase_file), DataFolder(options.folder), datetime.now(UTC)
    data.check()
    keyring = open_keyring(data.keys, None, now=now, passphrase=data.passphrase())
    hosts = dict.fromkeys((*options.host, "localhost", "127.0.0.1"))
    with target.owned(("export",)):
        secret = target.passphrase(make=True)
        export(keyring, (data.keys, data.passphrase()), (target.keys, secret), options.role, hosts, now)
        _lead_to_ledger(data, target)
    _audit(options, "keys.exported", ",".join(options.role))
    print(f"the keys of {', '.join(options.role)} are in {target.path}, sealed with the passphrase in")
    print(f"{passphrase.beside_of(target.path)}: take both to the machine, apart; export again after a rotation")
    return 0


def _lead_to_ledger(data: DataFolder, target: DataFolder) -> None:
    """Where the ledger is in a database that other machines reach, the share knows the way."""
    with Ledger(data.ledger) as ledger:
        if ledger.place.startswith(POSTGRES) and not target.ledger.exists():
            with Ledger(target.ledger) as signpost:
                signpost.mark_moved(Move(number=1, place=ledger.place, at_ms=registry.now_ms()))


def _rotate(options: argparse.Namespace) -> int:
    from cloud.identity.rotation import LOSES, Level

    rotation, level = _rotation(options), Level(options.level)
    root, keep = None, None
    if level in (Level.ROOT, Level.ISSUING):
        secret = (
            _root_passphrase(options, "passphrase of the exported root: ") if options.root or options.new_root else None
        )
        root = rotation.read_root(options.root, secret)
        if options.root is not None and level is Level.ROOT and options.new_root is None:
            raise registry.CommandError("the root is kept elsewhere: say with --new-root where the new one goes")
        if options.new_root is not None and secret is not None:
            if options.new_root.exists():
                raise registry.CommandError(f"{options.new_root}: exists; give another file")
            keep = partial(_write_root, options.new_root, secret)
    rotation.rotate(level, root=root, keep_root=keep)
    _audit(options, "keys.rotated", level, leaked=options.leaked)
    if not options.leaked:
        print(f"{level}: a new key is in use beside the old one; a coordinator that runs takes it up within a second")
        if level is not Level.SERVER:
            print(f"when `vpp-cloud keys show` says so: vpp-cloud keys retire {level} --data {options.data}")
        return 0
    if level is Level.DEVICES:
        rotation.rotate(level)  # the one that was to follow lay beside it
    rotation.retire(level, now=True)
    _audit(options, "keys.retired", level, leaked=True)
    print(f"{level}: the old key is worth nothing any more; {LOSES[level] or 'nobody loses contact'}")
    if level is Level.COMMAND:
        # What makes every gateway ask for credentials within seconds, and so hear of the new command key.
        rotation.rotate(Level.DEVICES)
        rotation.retire(Level.DEVICES, now=True)
        _audit(options, "keys.rotated", Level.DEVICES, leaked=False)
        print("devices: rotated with it, so that every gateway comes for the new command key within seconds")
    return 0


def _retire(options: argparse.Namespace) -> int:
    from cloud.identity.rotation import Level

    level = Level(options.level)
    count = _rotation(options).retire(level, now=options.now)
    _audit(options, "keys.retired", level, leaked=False)
    print(f"{level}: {count} old key{'' if count == 1 else 's'} retired")
    return 0


def _rotation(options: argparse.Namespace) -> "Rotation":
    from cloud.identity.rotation import Rotation

    data = DataFolder(options.data, options.passphrase_file)
    data.check()
    return Rotation(data.keys, data.passphrase(), datetime.now(UTC))


def _write_root(path: Path, secret: bytes, keys: RootKeys) -> None:
    try:
        key_store.write_root(path, keys, secret)
    except OSError as error:
        raise KeyringError(f"{path}: cannot be written ({error.strerror}); nothing was rotated") from error


def _root_passphrase(options: argparse.Namespace, prompt: str, *, again: bool = False) -> bytes:
    if options.root_passphrase_file is not None:
        try:
            return passphrase.read(options.root_passphrase_file)
        except passphrase.PassphraseError as error:
            raise registry.CommandError(str(error)) from error
    try:
        secret = getpass.getpass(prompt).encode()
        if again and getpass.getpass("once more: ").encode() != secret:
            raise registry.CommandError("the two are not the same")
    except EOFError as error:
        raise registry.CommandError("there is nobody to ask: give --root-passphrase-file") from error
    if len(secret) < passphrase.SHORTEST:
        raise registry.CommandError(f"a passphrase has at least {passphrase.SHORTEST} characters")
    return secret


def _audit(options: argparse.Namespace, action: str, level: str, **detail: bool) -> None:
    with Ledger(DataFolder(options.data, options.passphrase_file).ledger) as ledger:
        ledger.audit(action, actor=registry.actor(), subject=level, at_ms=registry.now_ms(), **detail)


def _utc(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"
