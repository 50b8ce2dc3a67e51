"""A recorded day: what a site measured, and what it was asked. Written by a rig, or by hand from anybody's meters.

A TOML file names the samples and what the samples do not tell:

    samples = "day.csv"                 # columns t_s, frequency_hz, load_w, pv_w; also soc, voltage_v
    start_utc = 2026-03-29T00:00:00Z
    soc = 0.5                           # at the start, for samples without soc: storage is then reckoned on
    nameplate = { rated_power_w = 5000, max_charge_w = 5000, max_discharge_w = 5000, storage_capacity_wh = 10000 }

    [[intents]]
    given_s = 0
    valid_from_s = 60
    expires_s = 600
    asks.arm = { award_id = "a", service_id = "ercot-ffr", contracted_w = 3000 } # a body of protos/vpp/v1/intent.proto

All instants are seconds from the first sample. Between two samples a straight line is drawn; an empty cell is a reading
that failed. Load is what the house takes and PV what its panels give, both magnitudes.
"""

import bisect
import csv
import itertools
import math
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from google.protobuf import json_format
from msgspec import Meta

from edge_agent.model.config import NameplateConfig, Share
from protos import services, settings
from protos.settings import SettingsError
from protos.vpp.v1 import intent_pb2

REQUIRED = ("t_s", "frequency_hz", "load_w", "pv_w")
OPTIONAL = ("soc", "voltage_v")

Seconds = Annotated[float, Meta(ge=0.0, description="seconds from the first sample")]


class RecordedIntent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something the site was asked."""

    given_s: Seconds = 0.0
    valid_from_s: Seconds
    expires_s: Seconds
    asks: Annotated[dict[str, Any], Meta(description="one body of protos/vpp/v1/intent.proto, e.g. asks.arm = {...}")]

    def message(self, site: str, sequence: int, start_ms: int) -> intent_pb2.Intent:
        """As the coordinator would have sent it. start_ms: UTC of the first sample. Raises SettingsError."""
        bodies = [field.name for field in intent_pb2.Intent.DESCRIPTOR.oneofs_by_name["body"].fields]
        if len(self.asks) != 1 or not self.asks.keys() <= set(bodies):
            raise SettingsError(f"asks: holds {', '.join(self.asks) or 'nothing'}; give one of {', '.join(bodies)}")
        intent, [body] = intent_pb2.Intent(), self.asks
        try:
            json_format.ParseDict(self.asks, intent)
        except json_format.ParseError as error:
            raise SettingsError(f"asks: {' '.join(str(error).split())}; see protos/vpp/v1/intent.proto") from error
        intent.site, intent.sequence = site, sequence
        intent.issued_ms = start_ms + round(1e3 * self.given_s)
        intent.valid_from_ms = start_ms + round(1e3 * self.valid_from_s)
        intent.expires_ms = start_ms + round(1e3 * self.expires_s)
        if body == "arm" and not intent.arm.service_toml:
            try:
                service = services.load(intent.arm.service_id)
            except services.ServiceError as error:
                raise SettingsError(f"asks.arm: {error}") from error
            intent.arm.service_version = service.version
            intent.arm.service_toml = services.text(intent.arm.service_id)
        if body == "schedule" and not intent.schedule.start_ms:
            intent.schedule.start_ms = intent.valid_from_ms
        return intent


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    samples: Annotated[Path, Meta(description='a CSV file, e.g. samples = "day.csv"')]
    start_utc: Annotated[datetime, Meta(tz=True, description="an instant with Z, e.g. 2026-03-29T00:00:00Z")]
    soc: Annotated[Share, Meta(description="a share of the capacity at the start, 0 to 1")] = 0.5
    nameplate: Annotated[NameplateConfig, Meta(description="a table with the ratings of the inverter")]
    intents: Annotated[tuple[RecordedIntent, ...], Meta(description="tables [[intents]]")] = ()


@dataclass(frozen=True, slots=True)
class RecordedDay:
    """What a day's file holds. Columns are of one length; NaN: not measured."""

    start_ms: int  # UTC of the first sample
    soc: float  # at the start
    nameplate: NameplateConfig
    intents: tuple[intent_pb2.Intent, ...]  # by the instant at which they were given
    columns: dict[str, list[float]]  # by name; t_s ascending from 0

    @property
    def duration_s(self) -> float:
        return self.columns["t_s"][-1]

    def at(self, column: str, t_s: float) -> float:
        """The value on the line between the samples before and after; NaN where one of them is missing."""
        times, values = self.columns["t_s"], self.columns[column]
        after = bisect.bisect_right(times, t_s)
        if after == len(times):
            return values[-1]
        before_s, value = times[after - 1], values[after - 1]
        if t_s == before_s:
            return value
        return value + (values[after] - value) * (t_s - before_s) / (times[after] - before_s)


def load_day(path: Path, site: str) -> RecordedDay:
    """The day in the file at `path`. Raises SettingsError."""

    def resolve(_kind: type, value: object) -> Path:
        if not isinstance(value, str) or not value:
            raise ValueError("Expected a path in quotes")
        return path.absolute().parent / value

    file = settings.read(path, _File, dec_hook=resolve)
    start_ms = round(file.start_utc.timestamp() * 1e3)
    intents = []
    for index, given in enumerate(file.intents):
        try:
            intents.append(given.message(site, index + 1, start_ms))
        except SettingsError as error:
            raise SettingsError(f"{path}: $.intents[{index}]: {error}") from error
    return RecordedDay(
        start_ms=start_ms,
        soc=file.soc,
        nameplate=file.nameplate,
        intents=tuple(sorted(intents, key=lambda intent: intent.issued_ms)),
        columns=_columns(file.samples),
    )


def _columns(path: Path) -> dict[str, list[float]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            header = [name.strip() for name in next(rows, [])]
            _check_header(header, path)
            columns: dict[str, list[float]] = {name: [] for name in header}
            for row in rows:
                if len(row) != len(header):
                    raise SettingsError(f"{path}: line {rows.line_num}: has {len(row)} cells, the header {len(header)}")
                for name, cell in zip(header, row, strict=True):
                    columns[name].append(_number(cell, name, path, rows.line_num))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); name a CSV file that is there") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{path}: is no CSV text ({error}); save it as UTF-8 with commas") from error
    times = columns["t_s"]
    if len(times) < 2:
        raise SettingsError(f"{path}: has {len(times)} samples; give at least two")
    for index, (before_s, after_s) in enumerate(itertools.pairwise(times)):
        if not after_s > before_s:
            raise SettingsError(f"{path}: line {index + 3}: t_s {after_s} is not after {before_s}; sort the samples")
    first_s = times[0]
    columns["t_s"] = [at_s - first_s for at_s in times]
    return columns


def _check_header(header: list[str], path: Path) -> None:
    for name in REQUIRED:
        if name not in header:
            raise SettingsError(f"{path}: column {name} is missing; give {', '.join(REQUIRED)}")
    for name in header:
        if name not in REQUIRED + OPTIONAL or header.count(name) > 1:
            known = ", ".join(REQUIRED + OPTIONAL)
            raise SettingsError(f"{path}: column {name!r} is unknown, or there twice; known: {known}")


def _number(cell: str, name: str, path: Path, line: int) -> float:
    if not cell.strip() and name != "t_s":
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SettingsError(f"{path}: line {line}: {name} is {cell!r}; give a number, or nothing where it failed")
    return value
