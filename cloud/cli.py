"""`vpp-cloud`: runs the coordinator, keeps its registry, shows what was earned.

A command imports what it needs when it is called: `site add` then takes a fraction of what loading `run` takes.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from cloud import config
from cloud.commands import approve, assets, claim_files, dispatch, key, people, registry, regulate, stop, update
from cloud.data_folder import DataFolder, DataFolderError
from cloud.identity.key_store import KeyringError
from cloud.model.dispatch import DispatchRefused
from cloud.model.records import Site
from cloud.model.role import Role
from cloud.store.errors import StoreError
from protos import subjects
from protos.settings import SettingsError

REFUSED: Final = 2
FAILED: Final = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0; 2 for what was refused with one line of why; 1 for what failed while it ran."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (registry.CommandError, DispatchRefused, SettingsError, DataFolderError, KeyringError, StoreError) as error:
        return _refuse(error)


def _refuse(error: Exception) -> int:
    print(f"vpp-cloud: {' '.join(str(error).split())}", file=sys.stderr)
    return REFUSED


def _run(options: argparse.Namespace) -> int:
    from cloud import coordinator
    from cloud.parts import PartFailed

    os.umask(0o077)  # what it writes is nobody else's to read
    settings = config.load(options.config) if options.config else config.CoordinatorConfig()
    if options.insecure_loopback_only:
        settings = config.without_tls(settings, "--insecure-loopback-only")
    _log_to_stderr(settings.observe.logs)
    try:
        roles = options.role or tuple(Role)
        coordinator.run(
            settings,
            _data(options),
            roles,
            options.partitions,
            lambda line: print(line, flush=True),
            configured_by=registry.account(options.config.stat().st_uid) if options.config else registry.actor(),
        )
    except coordinator.REFUSALS as error:
        return _refuse(error)
    except PartFailed:
        logging.getLogger(__name__).critical("the coordinator stopped", exc_info=True)
        return FAILED
    return 0


def _site_add(options: argparse.Namespace) -> int:
    lifetime = timedelta(hours=options.expires_hours)
    print(registry.add_site(_data(options), options.site, options.group, options.claim_file, lifetime, options.qr))
    return 0


def _site_claim(options: argparse.Namespace) -> int:
    lifetime = timedelta(hours=options.expires_hours)
    print(registry.claim_site(_data(options), options.site, options.claim_file, lifetime, options.qr))
    return 0


def _site_import(options: argparse.Namespace) -> int:
    lifetime = timedelta(hours=options.expires_hours)
    print(registry.import_sites(_data(options), options.file, options.claim_folder, lifetime, options.qr))
    return 0


def _site_revoke(options: argparse.Namespace) -> int:
    sites = registry.sites_of(_data(options), options.sites, options.group, options.file)
    for line in registry.revoke_sites(_data(options), sites, options.reason):
        print(line)
    print("a coordinator that runs cuts their connections within seconds; one that starts does not let them in")
    return 0


def _site_configure(options: argparse.Namespace) -> int:
    print(registry.configure_site(_data(options), options.site, options.file))
    return 0


def _site_list(options: argparse.Namespace) -> int:
    rows = [("slot", "site", "groups", "enrolled (UTC)", "rated W", "storage Wh")]
    registry.print_table(rows + [_site_row(site) for site in registry.list_sites(_data(options))])
    return 0


def _site_row(site: Site) -> tuple[str, ...]:
    told = site.description
    return (
        str(site.slot),
        site.site,
        ",".join(site.groups),
        f"revoked {_utc(site.revoked_ms)}"
        if site.revoked_ms is not None
        else _utc(site.enrolled_ms)
        if site.enrolled_ms is not None
        else "not yet",
        f"{told.rated_power_w:.0f}" if told else "-",
        f"{told.storage_capacity_wh:.0f}" if told else "-",
    )


def _site_concentrator(options: argparse.Namespace) -> int:
    print(registry.set_concentrator(_data(options), options.sites, options.by))
    return 0


def _history_show(options: argparse.Namespace) -> int:
    from cloud.commands import history

    rows = history.show(_data(options), options.history, history.Question.parse(options))
    if rows:
        registry.print_table(rows)
    else:
        print("the history has nothing of the kind")
    return 0


def _history_export(options: argparse.Namespace) -> int:
    from cloud.commands import history

    question = history.Question.parse(options)
    print(history.export(_data(options), options.history, question, options.file))
    return 0


def _history_frames(options: argparse.Namespace) -> int:
    from cloud.commands import history

    registry.print_table(history.frames(_data(options), options.history, options.site or (), options.group or ()))
    return 0


def _history_rejected(options: argparse.Namespace) -> int:
    from cloud.commands import history

    for line in history.rejected(_data(options), options.history):
        print(line)
    return 0


def _history_import(options: argparse.Namespace) -> int:
    print(registry.import_history(_data(options), options.site, options.file))
    return 0


def _settlement_show(options: argparse.Namespace) -> int:
    settled = registry.settled_awards(_data(options))
    if options.json:
        print(msgspec.json.encode(settled).decode())
        return 0
    if not settled:
        print("nothing is settled yet")
    for one in settled:
        award, total = one.award, one.settlement
        print(
            f"award {award.award_id}: {award.product} by {award.service_id}, {award.power_w} W, "
            f"{_utc(award.delivery_start_ms)} to {_utc(award.delivery_end_ms)} UTC, "
            f"{award.clearing_price_per_mw_h} {award.currency}/MW/h"
        )
        rows = [("site", "contracted W", "delivered", "factor", "energy Wh", "capacity", "energy", f"{total.currency}")]
        for line in one.lines:
            delivered = "yes" if line.delivered else "no"
            amounts = (str(line.capacity_amount), str(line.energy_amount), str(line.total_amount))
            rows.append(
                (
                    line.site,
                    str(line.contracted_w),
                    delivered,
                    str(line.performance_factor),
                    str(line.energy_wh),
                    *amounts,
                )
            )
        rows.append(
            ("sum", "", "", "", "", str(total.capacity_amount), str(total.energy_amount), str(total.total_amount))
        )
        registry.print_table(rows)
    return 0


def _audit_verify(options: argparse.Namespace) -> int:
    entries, checkpoints, found = registry.verify_audit(_data(options), options.anchor)
    for finding in found:
        print(finding)
    if found:
        print(f"vpp-cloud: the audit log of {options.data} was tampered with", file=sys.stderr)
        return FAILED
    print(
        f"{entries} entries and {checkpoints} signed checkpoints: nothing was changed, removed, inserted or reordered"
    )
    return 0


def _audit_export(options: argparse.Namespace) -> int:
    for line in registry.export_audit(_data(options)):
        print(line)
    return 0


def _migrate(options: argparse.Namespace) -> int:
    print(registry.migrate_ledger(_data(options), options.to))
    return 0


def _add_question(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--site", action="append", metavar="SITE", help="repeatable; without --site and --group: all")
    parser.add_argument("--group", action="append", metavar="G", help="every site of it; repeatable")
    parser.add_argument("--from", dest="from_", required=True, metavar="TIME", help="ISO 8601, UTC unless it says so")
    parser.add_argument("--to", required=True, metavar="TIME", help="up to but not including")
    parser.add_argument(
        "--point",
        action="append",
        metavar="P",
        help="e.g. grid_power_w or ev_power_w; repeatable",
    )
    parser.add_argument("--resolution", default="15m", metavar="R", help="raw, or minutes, hours, days: 1m 15m 1h 1d")
    parser.add_argument("--sum", action="store_true", help="all sites together: powers added, the rest as means")
    parser.add_argument("--history", metavar="WHERE", help="folder or address, where [history] path is not in --data")


def _data(options: argparse.Namespace) -> DataFolder:
    return DataFolder(options.data, options.passphrase_file)


def _utc(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _log_to_stderr(form: str) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if form == "json":
        from cloud.observe import JsonLines

        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each request
    # nats-py's reader answers eof_received with True, which asyncio mentions at the end of every TLS connection.
    logging.getLogger("asyncio").addFilter(lambda record: "eof_received" not in record.getMessage())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vpp-cloud", description="The coordinator of a virtual power plant.")
    parser.add_argument("--version", action="version", version=f"vpp-cloud {version('murmuration-vpp')}")
    groups = parser.add_subparsers(required=True, metavar="COMMAND")

    run = _command(groups, "run", _run, "serve until Ctrl-C: broker, gateways, history, desk and console")
    run.add_argument("--config", type=Path, metavar="FILE", help="TOML; without it everything is at its default")

    run.add_argument(
        "--role",
        action="append",
        type=Role,
        choices=tuple(Role),
        metavar="ROLE",
        help=f"only this one of {', '.join(Role)}; may be repeated; all unless given",
    )
    run.add_argument(
        "--insecure-loopback-only",
        action="store_true",
        help="the console in plain HTTP; refused where others than this machine could reach it",
    )
    run.add_argument(
        "--partitions",
        type=_partitions,
        default=range(subjects.PARTITIONS),
        metavar="FIRST-LAST",
        help=f"of the role ingest: only these, of 0-{subjects.PARTITIONS - 1}",
    )

    key.register(groups, _command)

    site = groups.add_parser("site", help="the registry of sites").add_subparsers(required=True, metavar="COMMAND")
    add = _command(site, "add", _site_add, "add a site, and write the claim by which its agent enrols")
    add.add_argument("site", metavar="SITE", help="1 to 63 of a-z 0-9 _ -")
    add.add_argument("--group", action="append", default=[], metavar="G", help="a group it belongs to; may be repeated")
    claim = _command(
        site, "claim", _site_claim, "write a further claim: the first was lost, or the gateway is replaced"
    )
    claim.add_argument("site", metavar="SITE")
    for command in (add, claim):
        command.add_argument("--claim-file", type=Path, required=True, metavar="FILE", help="to be written")
        command.add_argument(
            "--qr", type=Path, metavar="FILE", help="the claim as a QR code, too: .svg or .png; - shows it here"
        )
    many = _command(
        site, "import", _site_import, "add the sites of a CSV file, all or none, with a claim file for each"
    )
    many.add_argument("file", type=Path, metavar="FILE.csv", help="columns site, groups (several by spaces)")
    many.add_argument("--claim-folder", type=Path, required=True, metavar="DIR", help="to be made")
    many.add_argument("--qr", choices=claim_files.QR_FORMATS, help="a QR code beside each claim file")
    for command in (add, claim, many):
        command.add_argument("--expires-hours", type=_hours, default=72.0, metavar="H", help="72 unless given")
    revoke = _command(
        site, "revoke", _site_revoke, "shut out the gateways of sites, now; `site claim` lets one in again"
    )
    revoke.add_argument("sites", metavar="SITE", nargs="*")
    revoke.add_argument("--group", metavar="G", help="every site of the group")
    revoke.add_argument("--file", type=Path, metavar="FILE.csv", help="every site of its column `site`")
    revoke.add_argument("--reason", required=True, metavar="TEXT", help="for the audit log")
    configure = _command(
        site,
        "configure",
        _site_configure,
        "set limits and addresses at a site from afar; its agent checks and tries them",
    )
    configure.add_argument("site", metavar="SITE")
    what = configure.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "file", nargs="?", type=Path, metavar="FILE.toml", help="[control] and [[devices]]; see protos/remote.py"
    )
    what.add_argument("--remove", action="store_true", help="back to the owner's own file")
    _command(site, "list", _site_list, "every site, its groups and what its agent told of it")

    concentrator = _command(
        site, "concentrator", _site_concentrator, "let a site send the telemetry of others, in batches"
    )
    concentrator.add_argument("--by", metavar="SITE", help="who may; without it nobody any more")
    concentrator.add_argument("sites", metavar="SITE", nargs="+", help="whose telemetry")

    history = groups.add_parser("history", help="what sites measured").add_subparsers(required=True, metavar="COMMAND")
    load = _command(history, "import", _history_import, "keep a site's energy of before its agent measured it")
    load.add_argument("--site", required=True, metavar="SITE")
    load.add_argument("file", type=Path, metavar="FILE.csv", help="columns utc_start, interval_s, load_wh, pv_wh")

    asked = _command(history, "show", _history_show, "measurements of sites and groups, as a table")
    _add_question(asked)
    saved = _command(history, "export", _history_export, "the same into a file, however large")
    _add_question(saved)
    saved.add_argument("file", type=Path, metavar="FILE", help="ends in .csv or .parquet")
    frames = _command(
        history, "frames", _history_frames, "how many frames of each site are stored, missing, or thinned by itself"
    )
    frames.add_argument("--site", action="append", metavar="SITE", help="repeatable; without --site and --group: all")
    frames.add_argument("--group", action="append", metavar="G", help="every site of it; repeatable")
    frames.add_argument("--history", metavar="WHERE", help="folder or address, where [history] path is not in --data")
    refused = _command(
        history, "rejected", _history_rejected, "telemetry that was refused, by cause, and the newest of it"
    )
    refused.add_argument("--history", metavar="WHERE", help="folder or address, where [history] path is not in --data")

    settlement = groups.add_parser("settlement", help="what was earned").add_subparsers(
        required=True, metavar="COMMAND"
    )
    show = _command(settlement, "show", _settlement_show, "every settled award with each site's part")
    show.add_argument("--json", action="store_true", help="one JSON array")

    assets.register(groups, _command)
    people.register(groups, _command)
    stop.register(groups, _command)
    update.register(groups, _command)
    approve.register(groups, _command)
    dispatch.register(groups, _command)
    regulate.register(groups, _command)

    audit = groups.add_parser("audit", help="who did what").add_subparsers(required=True, metavar="COMMAND")
    verify = _command(
        audit, "verify", _audit_verify, "find what was changed, removed, inserted or reordered in the log"
    )
    verify.add_argument(
        "--anchor",
        type=_anchor,
        metavar="NUMBER:HASH",
        help='an entry as the coordinator\'s own log has it ("audit checkpoint"): finds an end that was cut off',
    )
    _command(audit, "export", _audit_export, "the log as JSON lines, with its checkpoints")
    migrate = _command(groups, "migrate", _migrate, "move the ledger to another database, also while everything runs")
    migrate.add_argument(
        "--to", required=True, metavar="PLACE", help="postgresql://... of an empty database, or sqlite"
    )
    return parser


def _command(
    among: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = among.add_parser(name, help=text, description=text)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the coordinator's data folder")
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="of the keys; unless given, systemd's credential vpp-cloud.passphrase or DIR.passphrase",
    )
    parser.set_defaults(command=command)
    return parser


def _partitions(text: str) -> range:
    first, _, last = text.partition("-")
    if not first.isdecimal() or not last.isdecimal() or not int(first) <= int(last) < subjects.PARTITIONS:
        raise argparse.ArgumentTypeError(f"{text!r}: give FIRST-LAST within 0-{subjects.PARTITIONS - 1}")
    return range(int(first), int(last) + 1)


def _anchor(text: str) -> tuple[int, str]:
    number, _, entry_hash = text.partition(":")
    if not number.isdecimal() or len(entry_hash) != 64:
        raise argparse.ArgumentTypeError("NUMBER:HASH, as in the coordinator's log")
    return int(number), entry_hash.lower()


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= 24 * 90:
        raise argparse.ArgumentTypeError(f"{text!r}: give more than 0 and at most 2160 hours")
    return hours


if __name__ == "__main__":
    sys.exit(main())
