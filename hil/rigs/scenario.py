"""Scenarios as data: what the homes are and what they will live through. `load` reads one from a TOML file."""

import random
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec

from hil.data.recordings import HOMES
from hil.plant.battery import BatteryRating
from hil.plant.home import HomeRating
from hil.plant.inverter import InverterRating

Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ScenarioError(ValueError):
    """A scenario that cannot be used; says which file, which key and why."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where in the household recording the run begins."""

    start: Annotated[datetime, msgspec.Meta(tz=False)]  # recorded local time
    days_between_reuses: Annotated[int, msgspec.Meta(ge=1)]  # a recorded home used again lives this many days earlier


class FrequencyEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The recorded disturbance."""

    bus: Annotated[int, msgspec.Meta(ge=1, le=2)]
    window_s: tuple[float, float] | None = None  # only this stretch of the recording is played; None: all of it
    quiet_hz: Positive  # before it, and after the return
    return_hz_per_s: Positive  # from the recording's last frame back to quiet


class Homes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nameplates. Pairs are ranges a home's own value is drawn from, by seed and site."""

    seed: int
    inverter_w: Positive
    charge_w: Positive
    discharge_w: Positive
    storage_wh: tuple[Positive, Positive]
    pv_w: tuple[Positive, Positive]
    soc: tuple[Share, Share]
    legacy: tuple[str, ...] = ()  # homes whose inverter speaks the older SunSpec models, e.g. ["home-03"]
    flexible: tuple[str, ...] = ()  # homes with a vehicle's charger and a heating rod


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scenario file."""

    id: str
    title: str
    recorded: Recorded
    frequency: FrequencyEvent
    homes: Homes

    def home(self, index: int) -> "ScenarioHome":
        """The home at an index from 0: the same for the same file, however many homes run."""
        site = f"home-{index + 1:02d}"
        draw = random.Random(f"{self.homes.seed}/{site}")
        storage_wh = round(draw.uniform(*self.homes.storage_wh), -2)
        pv_w = round(draw.uniform(*self.homes.pv_w), -2)
        return ScenarioHome(
            site=site,
            recorded_home=index % HOMES + 1,
            days_earlier=index // HOMES * self.recorded.days_between_reuses,
            soc=round(draw.uniform(*self.homes.soc), 3),
            seed=f"{self.homes.seed}/{site}",
            legacy=site in self.homes.legacy,
            flexible=site in self.homes.flexible,
            rating=HomeRating(
                inverter=InverterRating(power_w=self.homes.inverter_w),
                battery=BatteryRating(
                    capacity_wh=storage_wh, max_charge_w=self.homes.charge_w, max_discharge_w=self.homes.discharge_w
                ),
                pv_w=pv_w,
            ),
        )


class ScenarioHome(msgspec.Struct, frozen=True, kw_only=True):
    """One home of a scenario."""

    site: str
    recorded_home: int  # whose load and PV it lives, 1..11
    days_earlier: int  # than the scenario's recorded start
    soc: float  # at the start, 0..1
    seed: str  # of the minutes inside its hours
    legacy: bool  # speaks the models of before IEEE 1547-2018
    flexible: bool  # has a charger and a heating rod
    rating: HomeRating


def load(name_or_path: str) -> Scenario:
    """A scenario that ships with the product, by name, or one from a file. Raises ScenarioError."""
    shipped = resources.files("hil.scenarios") / f"{name_or_path}.toml"
    source = shipped if shipped.is_file() else Path(name_or_path)
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise ScenarioError(
            f"scenario {name_or_path!r}: neither a file ({error.strerror}) nor one of {', '.join(shipped_names())}"
        ) from error
    try:
        return msgspec.toml.decode(text, type=Scenario)
    except msgspec.DecodeError as error:
        raise ScenarioError(f"scenario {name_or_path}: {error}") from error


def shipped_names() -> list[str]:
    """Names of the scenarios that ship with the product."""
    return sorted(f.name[:-5] for f in resources.files("hil.scenarios").iterdir() if f.name.endswith(".toml"))
