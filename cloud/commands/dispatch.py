"""`vpp-cloud activate`, `setpoint`, `envelope` and `dispatch`: what groups and sites are asked, and what came of it.

They write what is wanted into the ledger; the coordinator that leads carries it out within a cycle of two seconds.
"""

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cloud.commands.registry import CommandError, actor, now_ms
from cloud.data_folder import DataFolder
from cloud.dispatch import asking
from cloud.dispatch.asking import Unit
from cloud.model.dispatch import SOURCES
from cloud.model.regulation import RegulationRecord
from cloud.store.ledger import Ledger
from cloud.store.regulations import Signal

Register = Callable[..., argparse.ArgumentParser]

_COLUMNS: Final = ["for", "utc_start", "minutes", "import_limit_w", "export_limit_w"]


def register(groups: "argparse._SubParsersAction[argparse.ArgumentParser]", command: Register) -> None:
    """Adds the commands. command: makes one of them, with --data."""
    activate = command(groups, "activate", _activate, "hold a group's inverters together at a power, for a time")
    activate.add_argument("--group", required=True, metavar="G")
    activate.add_argument("--source", choices=SOURCES, default="own", help="who wants it; own unless given")
    activate.add_argument("--in-minutes", type=_minutes, default=0.0, metavar="M", help="begin later; now unless given")
    setpoint = command(groups, "setpoint", _setpoint, "ask single sites for a power: a test run, an override")
    setpoint.add_argument("sites", nargs="+", metavar="SITE")
    for parser in (activate, setpoint):
        parser.add_argument("--power-w", type=_power, required=True, metavar="W", help="positive towards the grid")
        parser.add_argument("--minutes", type=_minutes, required=True, metavar="M", help="at most 1440")
        parser.add_argument("--reason", required=True, metavar="TEXT", help="for people and the audit log")

    envelope = groups.add_parser("envelope", help="what may be exchanged with the grid").add_subparsers(
        required=True, metavar="COMMAND"
    )
    limits = command(envelope, "set", _envelope_set, "limits of sites, or of a group's sites together")
    limits.add_argument("--file", type=Path, metavar="FILE.csv", help=f"columns {', '.join(_COLUMNS)}; see the README")
    whom = limits.add_mutually_exclusive_group()
    whom.add_argument("--site", metavar="SITE", help="this site's own limits")
    whom.add_argument("--each-of", metavar="G", help="every site of the group has these limits")
    whom.add_argument("--group", metavar="G", help="the sites of the group have these limits together")
    limits.add_argument("--import-w", type=_magnitude, metavar="W", help="at the grid meter")
    limits.add_argument("--export-w", type=_magnitude, metavar="W", help="at the grid meter")
    limits.add_argument("--minutes", type=_minutes, metavar="M", help="from now on")

    dispatch = groups.add_parser("dispatch", help="what was asked, and what came of it").add_subparsers(
        required=True, metavar="COMMAND"
    )
    status = command(dispatch, "status", _status, "activations, limits, and each addressed order with its state")
    status.add_argument("--json", action="store_true", help="one JSON object")
    show = command(dispatch, "show", _show, "an activation site by site, or a regulation with what was broadcast")
    show.add_argument("--json", action="store_true", help="one JSON object")
    end = command(dispatch, "end", _end, "end an activation now")
    show.add_argument("activation", metavar="ID", help="of an activation or a regulation")
    end.add_argument("activation", metavar="ID")


@contextmanager
def _ledger(options: argparse.Namespace) -> Iterator[Ledger]:
    data = DataFolder(options.data, options.passphrase_file)
    data.check()
    with Ledger(data.ledger) as ledger:
        yield ledger


def _activate(options: argparse.Namespace) -> int:
    wanted = asking.activation(
        group=options.group,
        power_w=options.power_w,
        minutes=options.minutes,
        in_minutes=options.in_minutes,
        source=options.source,
        reason=options.reason,
        actor=actor(),
        now_ms=now_ms(),
    )
    with _ledger(options) as ledger:
        ledger.add_activation(wanted)
    when = f"{_utc(wanted.start_ms)} to {_utc(wanted.end_ms)} UTC"
    print(f"{wanted.activation_id}: {wanted.target_w} W of {wanted.group}, {when}")
    return 0


def _setpoint(options: argparse.Namespace) -> int:
    orders = asking.setpoints(
        options.sites,
        power_w=options.power_w,
        minutes=options.minutes,
        reason=options.reason,
        actor=actor(),
        now_ms=now_ms(),
    )
    with _ledger(options) as ledger:
        asking.give(ledger, orders)
    print(f"ordered {options.power_w} W of {len(orders)} sites; see vpp-cloud dispatch status")
    return 0


def _envelope_set(options: argparse.Namespace) -> int:
    one = (options.site, options.each_of, options.group)
    with _ledger(options) as ledger, ledger.transaction():
        if options.file is not None:
            if any(one) or options.import_w is not None or options.export_w is not None or options.minutes is not None:
                raise CommandError("envelope set: --file alone, or whom, --import-w, --export-w and --minutes")
            rows = _read(options.file)
        else:
            if not any(one) or None in (options.import_w, options.export_w, options.minutes):
                raise CommandError(
                    "envelope set: whom (--site, --each-of or --group), --import-w, --export-w and --minutes; or --file"
                )
            kind = next(name for name, value in zip(("site", "each-of", "group"), one, strict=True) if value)
            limits = {"import_limit_w": options.import_w, "export_limit_w": options.export_w}
            rows = {(kind, next(filter(None, one))): [Unit(start_ms=now_ms(), minutes=options.minutes, **limits)]}
        sites = sum(
            asking.give_limits(ledger, kind, name, units, actor=actor(), now_ms=now_ms())
            for (kind, name), units in rows.items()
        )
    print(f"limits of {sites} sites and {sum(kind == 'group' for kind, _ in rows)} groups were given")
    return 0


def _read(path: Path) -> dict[tuple[str, str], list[Unit]]:
    """Rows of a file by whom they are for, in order of time. Raises CommandError with the line that is wrong."""
    found: dict[tuple[str, str], list[Unit]] = {}
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != _COLUMNS:
                raise CommandError(f"{path}: its first line is to be {','.join(_COLUMNS)}")
            for line, row in enumerate(reader, start=2):
                try:
                    kind, _, name = row["for"].partition(":")
                    if kind not in ("site", "each-of", "group") or not name:
                        raise ValueError("`for` is site:NAME, each-of:GROUP or group:NAME")
                    start = datetime.fromisoformat(row["utc_start"].replace("Z", "+00:00"))
                    start = start.replace(tzinfo=UTC) if start.tzinfo is None else start
                    unit = Unit(
                        start_ms=round(start.timestamp() * 1000),
                        minutes=_minutes(row["minutes"]),
                        import_limit_w=_magnitude(row["import_limit_w"]),
                        export_limit_w=_magnitude(row["export_limit_w"]),
                    )
                except (ValueError, TypeError, AttributeError, argparse.ArgumentTypeError) as error:
                    raise CommandError(f"{path}, line {line}: {error}") from error
                found.setdefault((kind, name), []).append(unit)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: cannot be read ({error})") from error
    if not found:
        raise CommandError(f"{path}: has no limits in it")
    return {key: sorted(units, key=lambda unit: unit.start_ms) for key, units in found.items()}


def _status(options: argparse.Namespace) -> int:
    with _ledger(options) as ledger:
        activations = ledger.activations(limit=20)
        limits = list(ledger.group_limits(now_ms()).values())
        regulations = ledger.regulations(limit=20)
        told = [_told(state) for state in asking.order_states(ledger)]
    if options.json:
        print(
            json.dumps(
                {
                    "activations": [asdict(each) for each in activations],
                    "limits": [asdict(each) for each in limits],
                    "regulations": [asdict(each) for each in regulations],
                    "orders": told,
                }
            )
        )
        return 0
    for each in activations:
        measured = "" if each.measured_wh is None else f", {each.measured_wh} of {each.target_wh} Wh"
        note = f" ({each.note})" if each.note else ""
        print(
            f"{each.activation_id}  {each.state:<8}  {each.target_w} W of {each.group}, {_utc(each.start_ms)} to "
            f"{_utc(each.end_ms)}, {each.source}: {each.reason}{measured}{note}"
        )
    for regulation in regulations:
        print(_regulation(regulation))
    for limit in limits:
        print(
            f"limit of {limit.group}: {limit.import_limit_w} W import, {limit.export_limit_w} W export until "
            f"{_utc(limit.end_ms)}"
        )
    for one in told:
        print(f"{one['kind']:<8}  {one['site']}  {one['state']}  {one['reason']}".rstrip())
    if not (activations or limits or regulations or told):
        print("nothing was asked yet")
    return 0


def _told(state: asking.OrderState) -> dict[str, object]:
    return {
        "order_id": state.order.order_id,
        "site": state.order.site,
        "kind": state.order.kind,
        "sequence": state.order.sequence,
        "state": state.state,
        "reason": state.reason,
        "expires_ms": state.order.expires_ms,
        "by": state.order.actor,
    }


def _show(options: argparse.Namespace) -> int:
    with _ledger(options) as ledger:
        activation = ledger.activation(options.activation)
        if activation is None and (regulation := ledger.regulation(options.activation)) is not None:
            return _show_regulation(options, regulation, ledger.regulation_signals(regulation.regulation_id))
        if activation is None:
            raise CommandError(f"activation {options.activation!r} is unknown: see vpp-cloud dispatch status")
        parts = ledger.activation_sites(activation.activation_id)
    if options.json:
        print(json.dumps({**asdict(activation), "sites": [asdict(part) for part in parts]}))
        return 0
    print(f"{activation.activation_id}  {activation.state}  {activation.target_w} W of {activation.group}")
    if activation.measured_wh is not None:
        print(
            f"asked for {activation.target_wh} Wh, expected {activation.expected_wh} Wh, measured "
            f"{activation.measured_wh} Wh; error p95 {activation.error_p95_w} W"
        )
    for part in parts:
        told = "did not do what it told" if part.deviated else ""
        print(f"{part.site}  expected {part.expected_wh} Wh, measured {part.measured_wh} Wh  {told}".rstrip())
    return 0


def _show_regulation(options: argparse.Namespace, regulation: RegulationRecord, signals: list[Signal]) -> int:
    if options.json:
        print(json.dumps({**asdict(regulation), "broadcast": signals}))
        return 0
    print(_regulation(regulation))
    for at_ms, signal_e6 in signals:
        print(f"{_utc(at_ms)}  {signal_e6 / 1e6:+.3f}")
    return 0


def _regulation(told: RegulationRecord) -> str:
    if told.score is not None:
        parts = ("correlation", "delay", "precision")
        by = ", ".join(f"{name} {value:.3f}" for name in parts if (value := getattr(told, name)) is not None)
        came = f"score {told.score:.3f}{f' ({by})' if by else ''}, {100 * (told.coverage or 0.0):.0f} % measured"
    else:
        came = told.note or ("not scored yet" if told.ended else "is followed")
    return (
        f"{told.regulation_id}  {told.service_id}  {told.power_w} W of {told.group}, {_utc(told.start_ms)} to "
        f"{_utc(told.end_ms)}, {told.signals} signals: {came}"
    )


def _end(options: argparse.Namespace) -> int:
    with _ledger(options) as ledger:
        ledger.end_activation(options.activation, now_ms(), actor())
    print(f"{options.activation} ends")
    return 0


def _utc(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes <= asking.LONGEST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text!r}: give 0 to 1440 minutes")
    return minutes


def _power(text: str) -> int:
    try:
        power_w = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give whole watts") from error
    if abs(power_w) > asking.MOST_W:
        raise argparse.ArgumentTypeError(f"{text!r}: at most {asking.MOST_W} W")
    return power_w


def _magnitude(text: str) -> int:
    power_w = _power(text)
    if power_w < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: a limit is a magnitude, 0 or more")
    return power_w
