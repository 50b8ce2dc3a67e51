"""`vpp-cloud group`, `resource` and `tariff`: how sites are grouped, what stands at them, what energy costs."""

import argparse
import csv
import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from cloud.commands.registry import CommandError, actor, now_ms, print_table
from cloud.data_folder import DataFolder
from cloud.model.assets import GroupKind, LedgerTariff, TariffRate
from cloud.store.ledger import Ledger
from protos import subjects

Register = Callable[..., argparse.ArgumentParser]
HEADER: Final = ["utc_start", "interval_s", "import", "export"]
_INTERVALS_S: Final = range(60, 86_401)
_MOST_PRICE: Final = Decimal(1000)  # of a kWh, in any currency


def register(groups: "argparse._SubParsersAction[argparse.ArgumentParser]", command: Register) -> None:
    """Adds the three groups of commands. command: makes one of them, with --data."""
    group = groups.add_parser("group", help="groups of sites, and how they nest").add_subparsers(
        required=True, metavar="COMMAND"
    )
    add = command(group, "add", _group_add, "say what a group is, and in which one it stands")
    add.add_argument("name", metavar="GROUP")
    add.add_argument("--kind", type=GroupKind, choices=tuple(GroupKind), required=True, help=", ".join(GroupKind))
    add.add_argument("--parent", metavar="GROUP", help="the group that it stands in")
    remove = command(group, "remove", _group_remove, "forget what was said of a group; its sites stay in it")
    remove.add_argument("name", metavar="GROUP")
    command(group, "list", _group_list, "every group, its kind, its parent and how many sites it has")

    resource = groups.add_parser("resource", help="devices of sites").add_subparsers(required=True, metavar="COMMAND")
    listed = command(resource, "list", _resource_list, "every device with its nameplate, as the sites' agents told it")
    listed.add_argument("--site", metavar="SITE", help="of this one only")

    tariff = groups.add_parser("tariff", help="what energy costs").add_subparsers(required=True, metavar="COMMAND")
    imported = command(tariff, "import", _tariff_import, "add rates to a tariff, which `[market]` may name")
    imported.add_argument("name", metavar="TARIFF")
    imported.add_argument("file", type=Path, metavar="FILE.csv", help=f"columns {', '.join(HEADER)} [currency/kWh]")
    imported.add_argument("--currency", required=True, metavar="CCC", help="ISO 4217")
    command(tariff, "list", _tariff_list, "every tariff and the time it covers")


def _group_add(options: argparse.Namespace) -> int:
    with _ledger(options) as ledger:
        group = ledger.set_group(options.name, options.kind, options.parent, now_ms(), actor())
    inside = f" in {group.parent}" if group.parent else ""
    print(f"group {group.name} is a {group.kind}{inside}")
    return 0


def _group_remove(options: argparse.Namespace) -> int:
    with _ledger(options) as ledger:
        ledger.remove_group(options.name, now_ms(), actor())
    print(f"nothing is said of group {options.name} any more")
    return 0


def _group_list(options: argparse.Namespace) -> int:
    with _ledger(options) as ledger:
        said = {group.name: group for group in ledger.groups()}
        sites = Counter(group for site in ledger.sites() for group in site.groups)
    rows: list[tuple[str, ...]] = [("group", "kind", "parent", "sites")]
    for name in sorted({*said, *sites}):
        group = said.get(name)
        rows.append((name, group.kind if group else "-", (group and group.parent) or "-", str(sites[name])))
    print_table(rows)
    return 0


def _resource_list(options: argparse.Namespace) -> int:
    with _ledger(options) as ledger:
        if options.site is not None and ledger.site(options.site) is None:
            raise CommandError(f"site {options.site!r} is unknown: see vpp-cloud site list")
        found = ledger.resources(options.site)
    rows: list[tuple[str, ...]] = [
        ("site", "device", "maker", "model", "serial", "rated W", "charge W", "discharge W", "storage Wh")
    ]
    for one in found:
        ratings = (one.rated_power_w, one.max_charge_w, one.max_discharge_w, one.storage_capacity_wh)
        told = (one.manufacturer or "-", one.model or "-", one.serial or "-")
        rows.append((one.site, one.name, *told, *(f"{rating:.0f}" if rating else "-" for rating in ratings)))
    print_table(rows)
    return 0


def _tariff_import(options: argparse.Namespace) -> int:
    try:
        subjects.check_name(options.name, "tariff")
    except ValueError as error:
        raise CommandError(str(error)) from error
    if not (len(options.currency) == 3 and options.currency.isascii() and options.currency.isupper()):
        raise CommandError(f"--currency {options.currency!r}: three capital letters, ISO 4217")
    try:
        with options.file.open(newline="", encoding="utf-8-sig") as file:
            rates, interval_ms = _rates(file, options.name, str(options.file))
    except OSError as error:
        raise CommandError(
            f"{options.file}: cannot be read ({error.strerror}); name a CSV file that is there"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise CommandError(f"{options.file}: cannot be read as a CSV file ({error})") from error
    tariff = LedgerTariff(name=options.name, currency=options.currency, interval_ms=interval_ms, created_ms=now_ms())
    with _ledger(options) as ledger:
        ledger.import_tariff(tariff, rates, actor())
    print(f"{len(rates)} rates are in tariff {options.name}")
    return 0


def _rates(lines: Iterable[str], tariff: str, name: str) -> tuple[list[TariffRate], int]:
    """The rates in order, and their one interval [ms]. Raises CommandError, naming file and row."""
    reader = csv.reader(lines)
    if (header := next(reader, [])) != HEADER:
        raise CommandError(
            f"{name}, row 1: the header must be {','.join(HEADER)}, found {','.join(header) or 'nothing'}"
        )
    rates: list[TariffRate] = []
    interval_ms = next_ms = 0
    for fields in reader:
        where = f"{name}, row {reader.line_num}"
        if not fields:
            continue
        if len(fields) != len(HEADER):
            raise CommandError(f"{where}: {len(HEADER)} fields expected, found {len(fields)}")
        start_ms, length_ms = _start_ms(fields[0], where), _interval_ms(fields[1], where)
        if rates and length_ms != interval_ms:
            raise CommandError(
                f"{where}: interval_s {fields[1]}: all of a tariff have the same, here {interval_ms // 1000}"
            )
        if start_ms % length_ms:
            raise CommandError(f"{where}: utc_start {fields[0]!r} is not a multiple of its interval")
        if rates and start_ms < next_ms:
            raise CommandError(f"{where}: utc_start {fields[0]!r} is before the row above ends: sort the rows by time")
        interval_ms, next_ms = length_ms, start_ms + length_ms
        rates.append(
            TariffRate(
                tariff=tariff,
                start_ms=start_ms,
                import_price=_price(fields[2], "import", where),
                export_price=_price(fields[3], "export", where),
            )
        )
    if not rates:
        raise CommandError(f"{name}: has no rows under its header")
    return rates, interval_ms


def _start_ms(text: str, where: str) -> int:
    try:
        start = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"{where}: utc_start {text!r} is not an ISO 8601 instant") from error
    if start.utcoffset() is None:
        raise CommandError(f"{where}: utc_start {text!r} has no time zone: write it with Z")
    return round(start.timestamp() * 1000)


def _interval_ms(text: str, where: str) -> int:
    if not text.isdecimal() or int(text) not in _INTERVALS_S:
        raise CommandError(f"{where}: interval_s {text!r}: whole seconds, from 60 to 86400")
    return int(text) * 1000


def _price(text: str, name: str, where: str) -> Decimal:
    try:
        price = Decimal(text)
    except InvalidOperation as error:
        raise CommandError(f"{where}: {name} {text!r} is not a number") from error
    if not price.is_finite() or abs(price) > _MOST_PRICE:
        raise CommandError(f"{where}: {name} {text!r}: a price of a kWh, at most {_MOST_PRICE}")
    return price


def _tariff_list(options: argparse.Namespace) -> int:
    with _ledger(options) as ledger:
        found = ledger.tariffs()
    rows: list[tuple[str, ...]] = [("tariff", "currency", "interval s", "rates", "from (UTC)", "to (UTC)")]
    for tariff, count, first_ms, end_ms in found:
        rows.append(
            (tariff.name, tariff.currency, str(tariff.interval_ms // 1000), str(count), _utc(first_ms), _utc(end_ms))
        )
    print_table(rows)
    return 0


def _utc(ms: int) -> str:
    return f"{dt.datetime.fromtimestamp(ms / 1000, dt.UTC):%Y-%m-%d %H:%M}"


def _ledger(options: argparse.Namespace) -> Ledger:
    data = DataFolder(options.data, options.passphrase_file)
    data.check()
    return Ledger(data.ledger)
