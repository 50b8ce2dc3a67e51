"""Typed readers of the recorded series beside this module.

Recorded local times are naive on purpose: they are labels of a recording, not instants of this run. What ties them to
the wall clock is `hil.rigs.recorded.RecordedTime`.
"""

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import resources
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HOMES: Final = 11  # recorded homes in the Fontana data
_FONTANA_FIRST: Final = datetime(2016, 9, 1)  # noqa: DTZ001  start of the first recorded hour, local
_FONTANA_FIRST_INDEX: Final = 745  # hour_index of that hour; 0 is the hour that ends 31 July 2016


class RecordingError(ValueError):
    """A recording that is not there or not what it should be; says which and what."""


@dataclass(frozen=True, slots=True)
class FrequencyRecording:
    """Grid frequency at one bus, as a phasor measurement unit reported it."""

    time_s: Array  # from the recording's first frame
    frequency_hz: Array

    @property
    def duration_s(self) -> float:
        return float(self.time_s[-1])

    def between(self, from_s: float, to_s: float) -> "FrequencyRecording":
        """The frames of a stretch, timed from its first. Raises RecordingError where there are fewer than two."""
        inside = (self.time_s >= from_s) & (self.time_s <= to_s)
        if inside.sum() < 2:
            raise RecordingError(f"no frames between {from_s:g} s and {to_s:g} s of {self.duration_s:g} s")
        return FrequencyRecording(self.time_s[inside] - self.time_s[inside][0], self.frequency_hz[inside])


@dataclass(frozen=True, slots=True)
class HomeRecording:
    """One home's hours. Row h covers [first + h, first + h + 1 h), local time."""

    first: datetime  # naive local
    load_wh: Array  # consumed in the hour
    pv_w_per_kw: Array  # mean over the hour, per kW of installed PV


@dataclass(frozen=True, slots=True)
class RegionRecording:
    """What the homes share, in the same hours."""

    first: datetime  # naive local
    temperature_c: Array
    diffuse_irradiance_w_m2: Array
    direct_irradiance_w_m2: Array
    price_usd_per_kwh: tuple[Decimal, ...]  # retail tariff


@dataclass(frozen=True, slots=True)
class ReservePrice:
    """Synchronised-reserve clearing price of one hour."""

    start: datetime  # UTC
    subzone: str
    usd_per_mw_h: Decimal


def underfrequency_event(bus: int = 1) -> FrequencyRecording:
    """The recorded under-frequency event, 30 frames a second, at bus 1 or 2. Raises RecordingError."""
    if bus not in (1, 2):
        raise RecordingError(f"us_pmu_underfrequency_event_30fps: bus {bus} is not recorded: 1 or 2")
    rows = list(_rows("us_pmu_underfrequency_event_30fps.csv.gz"))
    return FrequencyRecording(_column(rows, "time_s"), _column(rows, f"bus{bus}_f_hz"))


def grid_ten_minutes() -> FrequencyRecording:
    """Ten lively minutes of an ordinary day, both sides of nominal, a value a second; per unit, as 60 Hz."""
    rows = list(_rows("us_grid_day_1s_normalised_600s.csv.gz"))
    return FrequencyRecording(_column(rows, "t_s") - float(rows[0]["t_s"]), _column(rows, "f_pu") * 60.0)


@dataclass(frozen=True, slots=True)
class SignalRecording:
    """What an operator's automatic generation control asked for."""

    time_s: Array  # from the recording's first value
    share: Array  # -1..1, positive raises output

    def between(self, from_s: float, to_s: float) -> "SignalRecording":
        """The values of [from, to), timed from the first. Raises RecordingError where there are none."""
        inside = (self.time_s >= from_s) & (self.time_s < to_s)
        if not inside.any():
            raise RecordingError(f"no signal between {from_s:g} s and {to_s:g} s of {self.time_s[-1]:g} s")
        return SignalRecording(self.time_s[inside] - self.time_s[inside][0], self.share[inside])


def pjm_rega(day: int) -> SignalRecording:
    """PJM's RegA signal, a value every 2 s, 20:00 to 24:00 on 1 or 2 August 2017. Raises RecordingError."""
    if day not in (1, 2):
        raise RecordingError(f"pjm_rega_2s_2017-08: day {day} is not recorded: 1 or 2")
    share = _column(list(_rows("pjm_rega_2s_2017-08-01_02_20h.csv.gz")), f"rega_2017_08_0{day}")
    return SignalRecording(np.arange(share.size, dtype=np.float64) * 2, share)


@dataclass(frozen=True, slots=True)
class WaveformRecording:
    """Mains voltage, and what its frequency was by least squares over a centred 2 s window (derived, not measured)."""

    rate_hz: int
    counts: Array  # of 16 bits, signed
    time_s: Array  # of the reference
    frequency_hz: Array


def wuhan_mains(number: int) -> WaveformRecording:
    """Recorded mains in Wuhan, 400 samples/s: 100 is clean, 60 noisy. Raises RecordingError."""
    stretches = {100: "100_60_240s", 60: "060_60_120s"}
    if number not in stretches:
        raise RecordingError(f"wuhan_mains_400hz: recording {number} is not here: 100 or 60")
    name = f"wuhan_mains_400hz_{stretches[number]}"
    reference = list(_rows(f"{name}_ref2s.csv.gz"))
    counts = _column(list(_rows(f"{name}.csv.gz")), "counts")
    return WaveformRecording(400, counts, _column(reference, "t_s"), _column(reference, "f_hz_2s_ls"))


@dataclass(frozen=True, slots=True)
class ChargingSession:
    """One stay of a vehicle at a workplace's charger."""

    energy_wh: float  # charged
    duration_s: float  # plugged in


def workplace_sessions() -> list[ChargingSession]:
    """Stays in June 2015, in the file's order."""
    return [
        ChargingSession(float(row["kwh_total"]) * 1000.0, float(row["duration_h"]) * 3600.0)
        for row in _rows("ev_workplace_sessions_2015-06.csv.gz")
    ]


def fontana_home(number: int) -> HomeRecording:
    """Recorded home 1..11. Raises RecordingError."""
    if not 1 <= number <= HOMES:
        raise RecordingError(f"citylearn2022_fontana: home {number} is not recorded: 1..{HOMES}")
    rows = _fontana_rows()
    return HomeRecording(
        _FONTANA_FIRST, _column(rows, f"b{number}_load_kwh") * 1000.0, _column(rows, f"b{number}_pv_w_per_kw")
    )


@dataclass(frozen=True, slots=True)
class QuarterHours:
    """One home's load and PV over months, each recorded interval as so many equal quarter hours."""

    first: datetime  # naive local (Fontana), else UTC, of the first quarter hour's beginning
    load_w: Array  # mean power, NaN where not recorded
    pv_w: Array
    recorded: int  # quarter hours of one recorded interval


def fontana_year(number: int) -> QuarterHours:
    """A year of recorded home 1..11, PV per kW installed, from 1 August 2016. Raises RecordingError."""
    if not 1 <= number <= HOMES:
        raise RecordingError(f"citylearn2022_fontana: home {number} is not recorded: 1..{HOMES}")
    rows = list(_rows("citylearn2022_fontana_load_pv_hourly_year.csv.gz"))[1:]  # the first is an hour of July
    load_w, pv_w = _column(rows, f"b{number}_load_kwh") * 1000.0, _column(rows, f"b{number}_pv_w_per_kw")
    first = datetime(2016, 8, 1)  # noqa: DTZ001  local
    return QuarterHours(first, np.repeat(load_w, 4), np.repeat(pv_w, 4), 4)


def french_home() -> QuarterHours:
    """Nine months of a home in France from 29 February 2024, UTC."""
    rows = list(_rows("emhass_home_30min_2024-02_2024-11.csv.gz"))[6:]  # what is before midnight reads 0
    load_w = np.array([float(row["load_w"] or "nan") for row in rows])
    pv_w = np.array([float(row["pv_w"] or 0.0) for row in rows])  # blank at night
    first = datetime.fromisoformat(rows[0]["time_utc"]).replace(tzinfo=None)
    return QuarterHours(first, np.repeat(load_w, 2), np.repeat(pv_w, 2), 2)


def fontana_region() -> RegionRecording:
    """Weather and tariff around the homes."""
    rows = _fontana_rows()
    return RegionRecording(
        _FONTANA_FIRST,
        _column(rows, "outdoor_dry_bulb_temperature"),
        _column(rows, "diffuse_solar_irradiance"),
        _column(rows, "direct_solar_irradiance"),
        tuple(Decimal(row["electricity_pricing"]) for row in rows),
    )


def reserve_prices() -> list[ReservePrice]:
    """PJM synchronised-reserve prices as recorded, both subzones, in the file's order."""
    return [
        ReservePrice(
            datetime.strptime(row["gmt_hour_ending"], "%m/%d/%Y %H").replace(tzinfo=UTC) - timedelta(hours=1),
            row["subzone"],
            Decimal(row["srmcp_usd_mwh"]),
        )
        for row in _rows("pjm_sync_reserve_srmcp_hourly_2017-09-15_25.csv.gz")
    ]


def _fontana_rows() -> list[dict[str, str]]:
    rows = list(_rows("citylearn2022_fontana_hourly_2016-09-01_24.csv.gz"))
    if int(rows[0]["hour_index"]) != _FONTANA_FIRST_INDEX:
        raise RecordingError(f"citylearn2022_fontana: first hour_index {rows[0]['hour_index']}, not 745")
    return rows


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (
        (resources.files(__package__) / name).open("rb") as packed,
        gzip.open(packed, "rt", encoding="utf-8", newline="") as text,
    ):
        yield from csv.DictReader(text)


def _column(rows: list[dict[str, str]], name: str) -> Array:
    return np.array([float(row[name]) for row in rows])
