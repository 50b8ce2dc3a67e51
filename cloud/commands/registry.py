"""What the `vpp-cloud` commands beside `run` do on a data folder, whether or not a coordinator runs on it."""

import dataclasses
import json
import os
import pwd
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec

from cloud.commands import claim_files
from cloud.data_folder import DataFolder
from cloud.identity.audit import Finding, verify
from cloud.identity.claims import issue_claim
from cloud.identity.keyring import read_audit_public_key
from cloud.model.approval import Limits
from cloud.model.records import AwardRecord, Settlement, SettlementLine, Site
from cloud.store.ledger import Ledger
from protos import settings
from protos.remote import MOST_CHARACTERS, RemoteSettings

_LOGIN_UID = Path("/proc/self/loginuid")
_NO_LOG_IN = 2**32 - 1  # of a process that nobody's log-in started


class CommandError(Exception):
    """A command that cannot be done: one line with the remedy."""


class SettledAward(msgspec.Struct, frozen=True, kw_only=True):
    """An award, what it came to, and each site's part."""

    award: AwardRecord
    settlement: Settlement
    lines: list[SettlementLine]


def add_site(
    data: DataFolder, site: str, groups: Sequence[str], claim_file: Path, lifetime: timedelta, qr: Path | None = None
) -> str:
    """Add a site to the registry and write a claim for its agent; what to tell the person.

    Raises CommandError, DataFolderError, KeyringError, LedgerError.
    """
    with _ledger(data) as ledger, _claim(data, claim_file, qr) as write:
        added = ledger.add_site(site, tuple(groups), now_ms(), actor())
        write(site, issue_claim(ledger, site, now_ms=now_ms(), lifetime=lifetime, actor=actor()))
    return f"added {site} as slot {added.slot}; give {claim_file} to its agent"


def claim_site(data: DataFolder, site: str, claim_file: Path, lifetime: timedelta, qr: Path | None = None) -> str:
    """Write a further claim for a site of the registry: the first was lost or ran out, or its gateway is replaced.

    Raises CommandError, DataFolderError, KeyringError, LedgerError.
    """
    with _ledger(data) as ledger, _claim(data, claim_file, qr) as write:
        write(site, issue_claim(ledger, site, now_ms=now_ms(), lifetime=lifetime, actor=actor()))
    return f"give {claim_file} to the agent of {site}"


def import_sites(data: DataFolder, file: Path, folder: Path, lifetime: timedelta, qr: str | None) -> str:
    """Add the sites of a CSV file, all or none, with a claim file for each; what to tell the person.

    Raises CommandError, DataFolderError, KeyringError, LedgerError.
    """
    try:
        sites = claim_files.read_sites(file)
        writer = claim_files.ClaimWriter.of(data)
        with _ledger(data) as ledger:
            count = claim_files.import_sites(
                ledger, writer, sites, folder, lifetime=lifetime, now_ms=now_ms(), actor=actor(), qr=qr
            )
    except claim_files.ClaimFileError as error:
        raise CommandError(str(error)) from error
    return f"added {count} sites; give each agent its file from {folder}"


def sites_of(data: DataFolder, sites: Sequence[str], group: str | None, file: Path | None) -> list[str]:
    """The sites that were named, those of a group and those of a CSV file. Raises CommandError where there is none."""
    found = list(sites)
    try:
        if file is not None:
            found += claim_files.read_sites(file)
    except claim_files.ClaimFileError as error:
        raise CommandError(str(error)) from error
    if group is not None:
        found += [site.site for site in list_sites(data) if group in site.groups]
    if not found:
        raise CommandError("no site is named: give SITE, --group or --file")
    return found


def revoke_sites(data: DataFolder, sites: Sequence[str], reason: str) -> list[str]:
    """Shut out the gateways of sites, all of them or none; what to tell the person.

    Raises CommandError, DataFolderError, LedgerError.
    """
    if not reason.strip():
        raise CommandError("--reason is empty: say why, it goes to the audit log")
    with _ledger(data) as ledger, ledger.transaction():
        keys = {site: ledger.revoke_site(site, reason, now_ms(), actor()) for site in dict.fromkeys(sites)}
    return [f"revoked {site}: {count} broker keys, its certificate and its open claims" for site, count in keys.items()]


def configure_site(data: DataFolder, site: str, file: Path | None) -> str:
    """Ask for what a site's agent is to be beyond its owner's file (None: nothing any more); what to tell the person.

    Raises CommandError, DataFolderError, LedgerError, SettingsError.
    """
    text = ""
    if file is not None:
        settings.read(file, RemoteSettings)
        text = file.read_text(encoding="utf-8")
        if len(text) > MOST_CHARACTERS:
            raise CommandError(f"{file}: has {len(text)} characters; at most {MOST_CHARACTERS}")
    with _ledger(data) as ledger:
        asked = ledger.ask_change(Limits.SITE, site, text, f"limits of {site}", now_ms(), actor())
        who = "you may grant it yourself" if ledger.single_operator() else "a second person grants it"
    return (
        f"asked for, nothing is set yet: {who} within a week by `vpp-cloud approve grant {asked.number}`, or in the "
        f"console on the page Dispatch; then {site} is told at once, or fetches it when it next connects"
    )


def set_concentrator(data: DataFolder, sites: Sequence[str], concentrator: str | None) -> str:
    """Let a site of the registry send for others, or nobody; what to tell the person.

    Raises DataFolderError, LedgerError.
    """
    with _ledger(data) as ledger:
        ledger.set_concentrator(sites, concentrator, now_ms(), actor())
    if concentrator is None:
        return f"{', '.join(sites)}: speak for themselves alone"
    return f"{concentrator} may send for {', '.join(sites)}, from its next credentials on"


def list_sites(data: DataFolder) -> list[Site]:
    """The registry. Raises DataFolderError, LedgerError."""
    with _ledger(data) as ledger:
        return ledger.sites()


def import_history(data: DataFolder, site: str, file: Path) -> str:
    """Keep a site's past energy from a CSV file. Raises CommandError, DataFolderError, HistoryError, LedgerError."""
    from cloud.store.history import History
    from cloud.store.imports import import_csv

    with _ledger(data) as ledger:
        known = ledger.site(site)
    if known is None:
        raise CommandError(f"site {site!r} is unknown; add it with `vpp-cloud site add`")
    rows = import_csv(History(data.history), known.slot, file)
    return f"imported {rows} intervals of {site} from {file}"


def settled_awards(data: DataFolder) -> list[SettledAward]:
    """All that was settled, in the order of settlement. Raises DataFolderError, LedgerError."""
    with _ledger(data) as ledger:
        awards = {award.award_id: award for award in ledger.awards()}
        return [
            SettledAward(
                award=awards[settlement.award_id],
                settlement=settlement,
                lines=ledger.settlement_lines(settlement.award_id),
            )
            for settlement in ledger.settlements()
        ]


def verify_audit(data: DataFolder, anchor: tuple[int, str] | None) -> tuple[int, int, list[Finding]]:
    """How many entries and checkpoints the audit log has, and where it was tampered with.

    Raises DataFolderError, KeyringError, LedgerError.
    """
    public_key = read_audit_public_key(data.keys)
    with _ledger(data) as ledger:
        # Checkpoints first: an entry that is added meanwhile is no contradiction, a checkpoint would be.
        checkpoints = ledger.audit_checkpoints()
        last = ledger.last_audit_entry()
        found = verify(ledger.audit_entries(), checkpoints, public_key, anchor=anchor)
    return last.number if last else 0, len(checkpoints), found


def export_audit(data: DataFolder) -> Iterator[str]:
    """The audit log as JSON lines: every entry, and behind it the checkpoint that stands at it.

    Raises DataFolderError, LedgerError.
    """
    with _ledger(data) as ledger:
        checkpoints = {checkpoint.number: checkpoint for checkpoint in ledger.audit_checkpoints()}
        for entry in ledger.audit_entries():
            fields = {**dataclasses.asdict(entry), "detail": json.loads(entry.detail)}
            yield json.dumps({"type": "entry", **fields}, sort_keys=True)
            if checkpoint := checkpoints.get(entry.number):
                yield json.dumps({"type": "checkpoint", **dataclasses.asdict(checkpoint)}, sort_keys=True)


def migrate_ledger(data: DataFolder, to: str) -> str:
    """Move the ledger to an empty PostgreSQL database, or to the data folder's own file ("sqlite"); what to tell.

    Processes that have it open follow by themselves. Raises CommandError, DataFolderError, KeyringError, LedgerError.
    """
    from cloud.store.moves import lead_on, move

    public_key = read_audit_public_key(data.keys)

    def check(ledger: Ledger) -> list[Finding]:
        return verify(ledger.audit_entries(), ledger.audit_checkpoints(), public_key)

    with _ledger(data) as source:
        if to == "sqlite":
            if source.place.startswith("sqlite:"):
                raise CommandError(f"the ledger is an SQLite file already: {source.name}")
            # Under a name that nobody can still have open: SQLite takes a file's log away by its name.
            fresh = data.ledger.with_name(f"{data.ledger.stem}-{now_ms()}{data.ledger.suffix}")
            target = Ledger(fresh if data.ledger.exists() else data.ledger)
        else:
            target = Ledger(to)
            if target.place == source.place:
                target.close()
                raise CommandError(f"the ledger is there already: {source.name}")
        with target:
            moved = move(source, target, now_ms(), check)
            if to == "sqlite":
                lead_on(data.ledger, target)
            return (
                f"moved the ledger to {target.name}: {moved.rows} rows of {moved.tables} tables, compared row by row, "
                f"the audit log verified; writers waited {moved.pause_s:.2f} s"
            )


def actor() -> str:
    """Who runs this command, for the audit log: who logged in on this machine, whoever sudo made of him since.

    The kernel says so, and nothing in the environment.
    """
    uid = os.getuid()
    try:
        logged_in = int(_LOGIN_UID.read_text())
        uid = logged_in if logged_in != _NO_LOG_IN else uid
    except (OSError, ValueError):
        pass  # a kernel without audit
    return account(uid)


def account(uid: int) -> str:
    """How the audit log names an account of this machine."""
    try:
        return f"command:{pwd.getpwuid(uid).pw_name}"
    except KeyError:  # an account without a name
        return f"command:uid {uid}"


def print_table(rows: Iterable[tuple[str, ...]]) -> None:
    """Prints rows in columns, the first being the heading."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def _ledger(data: DataFolder) -> Iterator[Ledger]:
    data.check()
    with Ledger(data.ledger) as ledger:
        yield ledger


@contextmanager
def _claim(data: DataFolder, path: Path, qr: Path | None) -> Iterator[Callable[[str, str], None]]:
    """A function that writes site and token as a claim; its files are made first, so that none is issued in vain."""
    made: list[Path] = []
    try:
        if qr is not None:
            claim_files.check_qr_path(qr)
        writer = claim_files.ClaimWriter.of(data)
        for file in (path, *([qr] if qr is not None and str(qr) != claim_files.TERMINAL else [])):
            claim_files.reserve(file)
            made.append(file)

        def write(site: str, token: str) -> None:
            text = writer.text(site, token)
            path.write_text(text)
            if qr is not None:
                claim_files.qr_code(text, qr)

        yield write
    except BaseException as error:
        for file in made:
            file.unlink(missing_ok=True)
        if isinstance(error, claim_files.ClaimFileError):
            raise CommandError(str(error)) from error
        raise
