"""`vpp-cloud update`: publishes agents, firmware and models, and says which sites are to have them."""

import argparse
import hashlib
import math
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cloud.commands import registry, update_files
from cloud.commands.registry import CommandError, actor, now_ms
from cloud.data_folder import DataFolder
from cloud.model.records import Site, SiteUpdate, Update
from cloud.store.ledger import Ledger
from protos import manifest as manifests

if TYPE_CHECKING:
    from cloud.identity.signing import CommandSigner

Register = Callable[..., argparse.ArgumentParser]

_BAD_STATES = ("refused", "rolled_back")


def register(groups: "argparse._SubParsersAction[argparse.ArgumentParser]", command: Register) -> None:
    """Adds the group of commands. command: makes one of them, with --data."""
    update = groups.add_parser("update", help="agents, firmware and models at the sites").add_subparsers(
        required=True, metavar="COMMAND"
    )
    publish = command(update, "publish", _publish, "sign files as an update, and keep them for download")
    publish.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="an agent: its wheel, and those it needs new"
    )
    publish.add_argument("--kind", choices=manifests.KINDS, default="agent", help="agent unless given")
    publish.add_argument("--name", default="vpp-agent", metavar="NAME", help="vpp-agent unless given")
    publish.add_argument("--version", type=_version, required=True, metavar="X.Y.Z")
    publish.add_argument(
        "--minimum-version",
        type=_version,
        default=[0, 0, 0],
        metavar="X.Y.Z",
        help="nothing below it is installed any more",
    )
    publish.add_argument("--board", default="", metavar="BOARD", help="that a firmware is for")
    publish.add_argument(
        "--key",
        type=Path,
        metavar="FILE.pem",
        help="an Ed25519 key that gateways name in [update] public_keys, instead of the command key",
    )
    order = command(update, "roll-out", _roll_out, "have sites install an update")
    order.add_argument("update", metavar="DIGEST", help="as `update list` shows it; its beginning is enough")
    whom = order.add_mutually_exclusive_group(required=True)
    whom.add_argument("--site", action="append", default=[], metavar="SITE", help="may be repeated")
    whom.add_argument("--group", metavar="G", help="every site of it")
    whom.add_argument("--all", action="store_true", help="every site")
    order.add_argument(
        "--share", type=_share, default=1.0, metavar="P", help="of these sites, 0 to 1; a larger one later adds to it"
    )
    command(update, "list", _list, "what was published, and at how many sites it stands how")
    command(update, "show", _show, "every site's updates and their states")


def _publish(options: argparse.Namespace) -> int:
    data = DataFolder(options.data, options.passphrase_file)
    data.check()
    files = []
    names = [path.name for path in options.files]
    if len(set(names)) != len(names):
        raise CommandError("update publish: two files have the same name; rename one")
    try:
        update_files.check(options.kind, options.files, name=options.name, board=options.board, version=options.version)
    except update_files.NoUpdate as error:
        raise CommandError(f"update publish: {error}") from error
    except OSError as error:
        raise CommandError(f"{error.filename}: cannot be read ({error.strerror}); give another file") from error
    data.updates.mkdir(mode=0o700, exist_ok=True)
    for path in options.files:
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            fresh = data.updates / f"{sha256}.new"
            shutil.copyfile(path, fresh)
            os.replace(fresh, data.updates / sha256)
            files.append({"path": path.name, "size": path.stat().st_size, "sha256": sha256})
        except OSError as error:
            raise CommandError(f"{path}: cannot be read ({error.strerror}); give another file") from error
    try:
        text = manifests.encode(
            {
                "kind": options.kind,
                "name": options.name,
                "version": options.version,
                "minimum_version": options.minimum_version,
                "board": options.board,
                "files": files,
                "issued": now_ms(),
            }
        )
    except manifests.ManifestError as error:
        raise CommandError(f"update publish: {error}") from error
    signer = _signer(data, options.key)
    update = Update(
        digest=hashlib.sha256(text).hexdigest(),
        kind=options.kind,
        name=options.name,
        version=".".join(map(str, options.version)),
        manifest=text.decode(),
        signature=signer.sign_manifest(text).hex(),
        key_id=signer.key_id.hex(),
        published_ms=now_ms(),
    )
    with Ledger(data.ledger) as ledger:
        ledger.add_update(update, actor())
    print(f"published {update.kind} {update.name} {update.version} as {update.digest}")
    return 0


def _signer(data: DataFolder, key: Path | None) -> "CommandSigner":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from cloud.identity.keyring import open_keyring
    from cloud.identity.signing import CommandSigner

    if key is None:
        return open_keyring(data.keys, None, now=datetime.now(UTC), passphrase=data.passphrase()).signer
    try:
        loaded = load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise CommandError(f"{key}: is no key in PEM without a passphrase ({error})") from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise CommandError(f"{key}: is no Ed25519 key; make one with `openssl genpkey -algorithm ed25519`")
    return CommandSigner(loaded)


def _roll_out(options: argparse.Namespace) -> int:
    data = DataFolder(options.data, options.passphrase_file)
    sites = [site for site in registry.list_sites(data) if _is_meant(options, site)]
    if not sites:
        raise CommandError("update roll-out: no such site; see vpp-cloud site list")
    with Ledger(data.ledger) as ledger:
        found = [update for update in ledger.updates() if update.digest.startswith(options.update)]
        if len(found) != 1:
            raise CommandError(
                f"update {options.update!r}: {len(found)} begin so; give one as vpp-cloud update list has it"
            )
        fresh = ledger.order_update(found[0], _share_of(sites, found[0], options.share), now_ms(), actor())
    print(f"{found[0].kind} {found[0].name} {found[0].version}: ordered for {len(fresh)} of {len(sites)} sites")
    return 0


def _is_meant(options: argparse.Namespace, site: Site) -> bool:
    return bool(options.all or site.site in options.site or options.group in site.groups)


def _share_of(sites: Sequence[Site], update: Update, share: float) -> list[str]:
    """So many of the sites, in an order that is each update's own: a larger share has the smaller one in it."""

    def place(site: Site) -> bytes:
        return hashlib.sha256(f"{update.digest} {site.site}".encode()).digest()

    ordered = sorted(sites, key=place)
    return [site.site for site in ordered[: math.ceil(len(ordered) * share)]]


def _list(options: argparse.Namespace) -> int:
    with Ledger(_checked(options).ledger) as ledger:
        at: dict[str, Counter[str]] = {}
        for each in ledger.site_updates():
            at.setdefault(each.digest, Counter())[each.state] += 1
        for update in ledger.updates():
            states = ", ".join(f"{count} {state}" for state, count in sorted(at.get(update.digest, Counter()).items()))
            print(f"{update.digest[:16]}  {update.kind} {update.name} {update.version}  {states or 'at no site'}")
    return 0


def _show(options: argparse.Namespace) -> int:
    """1 where an update was refused or rolled back."""
    with Ledger(_checked(options).ledger) as ledger:
        found: list[SiteUpdate] = ledger.site_updates()
        versions = {update.digest: update.version for update in ledger.updates()}
    for each in found:
        reason = f" ({each.reason})" if each.reason else ""
        print(f"{each.site}  {each.kind} {each.name} {versions[each.digest]}  {each.state}{reason}")
    bad = [each for each in found if each.state in _BAD_STATES]
    if bad:
        print(f"vpp-cloud: {len(bad)} sites did not take their update", file=sys.stderr)
    return 1 if bad else 0


def _checked(options: argparse.Namespace) -> DataFolder:
    data = DataFolder(options.data, options.passphrase_file)
    data.check()
    return data


def _version(text: str) -> list[int]:
    parts = text.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: give major.minor.patch")
    return [int(part) for part in parts]


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give more than 0 and at most 1")
    return share
