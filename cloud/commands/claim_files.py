"""Claims as a person hands them over: a file for the installer, a QR code for the box, a folder of them for a fleet."""

import csv
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Final

from cloud.data_folder import DataFolder
from cloud.identity.claims import issue_claim
from cloud.identity.keyring import read_authority_pem
from cloud.store.ledger import Ledger
from protos import subjects

QR_FORMATS: Final = ("svg", "png")
TERMINAL: Final = "-"
_COLUMNS: Final = (["site", "groups"], ["site"])
_AT_ONCE: Final = 500  # sites a transaction: a coordinator that runs is kept from writing for a moment, not a minute


class ClaimFileError(Exception):
    """A file of claims or of sites that cannot be used: one line with the remedy."""


@dataclass(frozen=True, slots=True)
class ClaimWriter:
    """Writes claims of one coordinator."""

    enrolment: str  # where gateways enrol
    authority: str  # PEM, by which they know it

    @classmethod
    def of(cls, data: DataFolder) -> "ClaimWriter":
        """Raises ClaimFileError, KeyringError."""
        try:
            address = str(json.loads(data.addresses.read_text())["enrolment"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ClaimFileError(
                f"{data.addresses}: does not tell where agents enrol; start `vpp-cloud run --data {data.path}` once"
            ) from error
        return cls(address, read_authority_pem(data.keys).decode("ascii"))

    def text(self, site: str, token: str) -> str:
        """The claim as a TOML file; a QR code holds the same text, so that reading one gives the file."""
        return (
            f"# The right to enrol once as {site}: keep it secret until its agent has used it.\n"
            f"site = {json.dumps(site)}\n"
            f"enrolment = {json.dumps(self.enrolment)}\n"
            f"token = {json.dumps(token)}\n"
            f'ca_certificates = """\n{self.authority}"""\n'
        )


def reserve(path: Path) -> None:
    """Makes an empty file for its owner alone, before a claim is issued for it. Raises ClaimFileError."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        raise ClaimFileError(f"{path}: exists; remove it, or give another file") from error
    except OSError as error:
        raise ClaimFileError(f"{path}: cannot be written ({error.strerror}); give another file") from error


def qr_code(text: str, path: Path) -> None:
    """Writes the text as a QR code into a reserved file, in the format of its suffix, or to the terminal for "-"."""
    import segno

    code = segno.make(text, error="l", micro=False)
    if str(path) == TERMINAL:
        code.terminal(out=sys.stdout, compact=True)
        return
    picture = BytesIO()
    code.save(picture, kind=path.suffix.lstrip("."), scale=4)
    path.write_bytes(picture.getvalue())


def check_qr_path(path: Path) -> None:
    """Raises ClaimFileError for what is neither a picture that can be made nor the terminal."""
    if str(path) != TERMINAL and path.suffix.lstrip(".") not in QR_FORMATS:
        raise ClaimFileError(f"{path}: give a name that ends in .svg or .png, or - for the terminal")


def read_sites(path: Path) -> dict[str, tuple[str, ...]]:
    """Site to groups, from a CSV file with the columns site and groups. Raises ClaimFileError naming row and remedy."""
    sites: dict[str, tuple[str, ...]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = [name.strip() for name in next(rows, [])]
            if header not in _COLUMNS:
                raise ClaimFileError(f"{path}: row 1: give the header `site,groups`; several groups go by spaces")
            for row in rows:
                where = f"{path}: row {rows.line_num}"
                if len(row) > len(header):
                    raise ClaimFileError(f"{where}: has {len(row)} columns; separate groups by spaces")
                if not row:
                    continue
                site, groups = row[0].strip(), tuple(row[1].split()) if len(row) > 1 else ()
                try:
                    subjects.check_name(site, "site")
                    for group in groups:
                        subjects.check_name(group, "group")
                except ValueError as error:
                    raise ClaimFileError(f"{where}: {error}") from error
                if site in sites or len(set(groups)) != len(groups):
                    raise ClaimFileError(f"{where}: site {site!r}, or one of its groups, stands there twice")
                sites[site] = groups
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClaimFileError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from error
    if not sites:
        raise ClaimFileError(f"{path}: names no site")
    return sites


def import_sites(
    ledger: Ledger,
    writer: ClaimWriter,
    sites: dict[str, tuple[str, ...]],
    folder: Path,
    *,
    lifetime: timedelta,
    now_ms: int,
    actor: str,
    qr: str | None = None,
) -> int:
    """Adds sites that were read and checked, and writes a claim for each into a new folder; how many.

    None is added where one of them exists already. Each claim is in its file before its site is in the registry.
    qr: the format of a QR code beside each. Raises ClaimFileError, LedgerError.
    """
    if known := sorted(site.site for site in ledger.sites() if site.site in sites):
        more = f" and {len(known) - 1} more" if len(known) > 1 else ""
        raise ClaimFileError(f"site {known[0]!r}{more} exists already: leave it out; nothing was added")
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise ClaimFileError(f"{folder}: cannot be made ({error.strerror}); give a folder that is not there") from error
    for some in _in_parts(list(sites)):
        with ledger.transaction():
            for site in some:
                ledger.add_site(site, sites[site], now_ms, actor)
                token = issue_claim(ledger, site, now_ms=now_ms, lifetime=lifetime, actor=actor)
                text = writer.text(site, token)
                path = folder / f"{site}.claim.toml"
                reserve(path)
                path.write_text(text)
                if qr is not None:
                    picture = folder / f"{site}.{qr}"
                    reserve(picture)
                    qr_code(text, picture)
    return len(sites)


def _in_parts(sites: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(sites), _AT_ONCE):
        yield sites[start : start + _AT_ONCE]
