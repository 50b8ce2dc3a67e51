"""Profiles: a device that is registers, described by a TOML file.

A profile says where the numbers stand, what they mean and which way they count, how the device wants to be asked, which
registers may be written, and what becomes of a setpoint when nobody renews it. Files are read by `profile_loading`.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_agent.drivers.transaction import Pacing, Table, Write, WriteAllowance

TableName = Literal["holding", "input", "coil", "discrete"]
TABLES: dict[TableName, Table] = {
    "holding": Table.HOLDING,
    "input": Table.INPUT,
    "coil": Table.COIL,
    "discrete": Table.DISCRETE,
}
Kind = Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "string", "bit"]
_WORDS: dict[str, int] = {
    "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "int64": 4, "uint64": 4, "float32": 2, "bit": 1,
}  # fmt: skip
UNITS = {
    "mW": 1e-3, "W": 1.0, "kW": 1e3, "Wh": 1.0, "kWh": 1e3, "V": 1.0, "mA": 1e-3, "A": 1.0, "Hz": 1.0, "%": 0.01,
    "C": 1.0, "s": 1.0, "min": 60.0, "": 1.0,
}  # fmt: skip
WordOrder = Literal["big", "little"]
Address = Annotated[int, Meta(ge=0, le=65535, description="as it is on the wire, 0 to 65535")]

POWER, _ENERGY, CURRENT = frozenset({"mW", "W", "kW"}), frozenset({"Wh", "kWh"}), frozenset({"mA", "A"})
# role -> the units its points may have, and whether they have to say which way they count
ROLES = {
    "power_w": (POWER, True),
    "pv_power_w": (POWER, False),
    "frequency_hz": (frozenset({"Hz"}), False),
    "voltage_v": (frozenset({"V"}), False),
    "soc": (frozenset({"%"}), False),
    "plugged": (frozenset({""}), False),
    "session_wh": (_ENERGY, False),
    "temperature_c": (frozenset({"C"}), False),
    "max_current_a": (CURRENT, False),
    "rated_power_w": (POWER, False),
    "max_charge_w": (POWER, False),
    "max_discharge_w": (POWER, False),
    "storage_capacity_wh": (_ENERGY, False),
    "model": (frozenset({""}), False),
    "serial": (frozenset({""}), False),
    "state": (frozenset({""}), False),
}

PARTS = ("inverter", "meter", "switch", "ev_charger", "flexible_load")  # what a device can be


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Registers of one value."""

    address: Address
    type: Annotated[Kind, Meta(description='e.g. "int32"')]
    words: Annotated[int | None, Meta(description="registers of a string, 1 to 125")] = None
    word_order: Annotated[WordOrder | None, Meta(description='"big" (high word first) or "little"')] = None
    scale: Annotated[float, Meta(gt=0, description="what one count is in the unit; the sign stands in `positive`")] = (
        1.0
    )
    unit: Annotated[
        Literal["mW", "W", "kW", "Wh", "kWh", "V", "mA", "A", "Hz", "%", "C", "s", "min", ""],
        Meta(description='e.g. "W"; "" for none'),
    ] = ""
    # Which way a positive number counts. A storage's "discharge" and a load in an energy balance count as "export".
    positive: Annotated[Literal["export", "import"] | None, Meta(description='"export" or "import"')] = None

    @property
    def size(self) -> int:
        """Registers, or bits."""
        return self.words or _WORDS[self.type]

    @property
    def factor(self) -> float:
        """SI units for one count, positive towards the grid."""
        return UNITS[self.unit] * self.scale * (-1.0 if self.positive == "import" else 1.0)


class Point(Place, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value to read."""

    table: Annotated[TableName | None, Meta(description='"holding", "input", "coil" or "discrete"')] = None
    exponent: Annotated[Address | None, Meta(description="the register (int16) with the power of ten")] = None
    # Counts as nothing in a sum where the device does not implement it: a string that is not there.
    optional: bool = False
    mask: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="which bits of a number count")] = None
    # Of a state: what it shows while it is so; the value is 1 then, and else 0.
    are: Annotated[tuple[int | str, ...], Meta(description="a list of numbers or texts, e.g. [5, 7]")] = ()


Points = Annotated[
    tuple[Point, ...], Meta(description="a list of points, whose sum is the value: [{ address = 1, type = ... }]")
]


class Step(Place, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One write of a program. What it writes is either `value`, or what it `carries`."""

    function: Annotated[Literal["multiple", "single", "coil"], Meta(description='"multiple", "single", "coil"')] = (
        "multiple"
    )
    value: Annotated[int | None, Meta(description="the number to write")] = None
    # power: signed, by `positive`. magnitude: without sign. lifetime: until the device lets go by itself.
    # current: of each phase. fallback: the current that it falls back to then. most: the most that it may have.
    carries: Annotated[
        Literal["power", "magnitude", "lifetime", "current", "fallback", "most"] | None,
        Meta(description='"power", "magnitude", "current", "lifetime", "fallback" or "most"'),
    ] = None
    # "rest": at 0 W.
    when: Annotated[
        Literal["charge", "discharge", "rest"] | None,
        Meta(description='written only for this direction: "charge", "discharge", "rest"'),
    ] = None
    # Within which the device takes a number, in the unit: a lifetime outside of them is moved to the nearer one.
    least: float | None = None
    greatest: float | None = None
    read_back: Annotated[bool, Meta(description="whether the register shows what was written")] = True

    @property
    def write(self) -> Write:
        return Write[self.function.upper()]


class Range(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Registers from first to last."""

    first: Address
    last: Address
    table: Annotated[Literal["holding", "coil"], Meta(description='"holding" or "coil"')] = "holding"


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the device wants to be asked."""

    table: TableName = "holding"  # of the points that do not say
    word_order: WordOrder = "big"  # of the values that do not say
    longest_read: Annotated[int, Meta(ge=1, le=125, description="registers in one transaction, 1 to 125")] = 125
    # Registers between two points that may be read along; many devices refuse a block with a hole in it.
    widest_gap: Annotated[int, Meta(ge=0, le=124, description="registers, 0 to 124")] = 0
    pause_s: Annotated[float, Meta(ge=0, le=5, description="seconds from a reply to the next request")] = 0.0
    # Where it is longer than that.
    pause_after_write_s: Annotated[float, Meta(ge=0, le=5, description="seconds from a reply to a write on")] = 0.0
    latest_reply_s: Annotated[float, Meta(gt=0, le=10, description="seconds after which no reply comes any more")] = 1.0

    @property
    def pacing(self) -> Pacing:
        return Pacing(
            pause_s=self.pause_s, pause_after_write_s=self.pause_after_write_s, latest_reply_s=self.latest_reply_s
        )


class InverterPoints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes the device an inverter."""

    power_w: Points = ()  # AC terminals
    pv_power_w: Points = ()
    frequency_hz: Points = ()
    voltage_v: Points = ()  # line to neutral
    soc: Points = ()


class MeterPoints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes the device the meter at the grid connection."""

    power_w: Points
    frequency_hz: Points = ()
    voltage_v: Points = ()


class EvChargerPoints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes the device a vehicle's charger."""

    power_w: Points
    plugged: Points  # 1 while a vehicle stands there: a state with `are`
    session_wh: Points = ()
    least_current_a: Annotated[float, Meta(ge=0, le=80, description="amperes, below which it rests")] = 6.0  # IEC 61851


class FlexibleLoadPoints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes the device a load that can wait."""

    power_w: Points
    temperature_c: Points = ()  # of what it heats
    least_w: Annotated[float, Meta(gt=0, description="watts, below which it rests")]


class SwitchPoints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes the device a switch."""

    state: Points
    on: Annotated[Step, Meta(description="the write that switches on")]
    off: Annotated[Step, Meta(description="the write that switches off")]


class NameplatePoints(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the device says it is. What it does not tell has to stand in the agent's configuration."""

    manufacturer: str
    model: Point | str
    serial: Point | None = None
    rated_power_w: Point | None = None
    max_charge_w: Point | None = None
    max_discharge_w: Point | None = None
    storage_capacity_wh: Point | None = None
    max_current_a: Point | None = None  # of a charger, each phase


class Reversion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of a setpoint that nobody renews.

    timer: the device lets go after the lifetime that a step carries. watchdog: after its own `seconds`. none: never.
    """

    kind: Annotated[Literal["timer", "watchdog", "none"], Meta(description='"timer", "watchdog" or "none"')]
    seconds: Annotated[float | None, Meta(description="seconds of the watchdog")] = None


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the device is given a power, in programs of writes."""

    # Whose power the registers set: the AC terminals', or the storage's, to which the panels' power is added.
    reference: Annotated[Literal["ac", "storage"], Meta(description='"ac" or "storage"')]
    reversion: Reversion
    setpoint: Annotated[tuple[Step, ...], Meta(min_length=1, description="a list of writes")]
    engage: tuple[Step, ...] = ()  # before the first setpoint
    release: tuple[Step, ...] = ()  # nothing: the watchdog, or the timer, releases it
    step_w: Annotated[float, Meta(gt=0, le=1000, description="watts; a smaller change is not written")] = 1.0
    # Until then it may overhear a setpoint, so that the first one is written once more.
    settle_s: Annotated[float, Meta(ge=0, le=10, description="seconds from engaging it, 0 to 10")] = 0.0

    @property
    def steps(self) -> tuple[Step, ...]:
        return (*self.engage, *self.setpoint, *self.release)


class Check(Place, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A register by which a device of the profile is known: it matches `pattern`, is one of `values`, or `between`."""

    table: Annotated[TableName | None, Meta(description='"holding", "input", "coil" or "discrete"')] = None
    pattern: Annotated[str | None, Meta(description="a regular expression for a text, from its beginning")] = None
    example: str = ""  # a text that the pattern matches
    values: Annotated[tuple[int, ...], Meta(description="a list of numbers, e.g. [0xE00, 0xE01]")] = ()
    between: Annotated[tuple[float, float] | None, Meta(description="the least and the greatest [SI; % as 0 to 1]")] = (
        None
    )


class Identification(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a device of the profile is known by its registers. All checks have to hold."""

    source: Annotated[str, Meta(description="where the expected values come from")]
    # by type: a code or name that the maker gives to these devices alone; by plausibility: numbers that could be its.
    by: Annotated[Literal["type", "plausibility"], Meta(description='"type" or "plausibility"')]
    checks: Annotated[tuple[Check, ...], Meta(min_length=1, description="a list of checks")]
    # Where its maker puts it from the factory, if that is not 1 to 3.
    unit_ids: tuple[Annotated[int, Meta(ge=0, le=255, description="0 to 255")], ...] = ()


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    title: str
    sources: Annotated[tuple[str, ...], Meta(min_length=1, description="where each fact comes from, at least one")]
    caveats: tuple[str, ...] = ()  # what could not be verified, or has to be set on the device; shown to the installer
    link: Link = Link()
    identification: Identification | None = None
    nameplate: NameplatePoints
    inverter: InverterPoints | None = None
    meter: MeterPoints | None = None
    switch: SwitchPoints | None = None
    ev_charger: EvChargerPoints | None = None
    flexible_load: FlexibleLoadPoints | None = None
    control: Control | None = None
    writable: tuple[Range, ...] = ()  # nothing else is ever written

    @property
    def allowance(self) -> WriteAllowance:
        return WriteAllowance(
            frozenset((TABLES[r.table], register) for r in self.writable for register in range(r.first, r.last + 1))
        )

    @property
    def points(self) -> Iterator[tuple[str, Point]]:
        """Every value that is read, with its role: `inverter.soc`."""
        for part in (*PARTS, "nameplate"):
            group = getattr(self, part)
            for role in ROLES if group is not None else ():
                for point in _as_points(getattr(group, role, ())):
                    yield f"{part}.{role}", point

    @property
    def writes(self) -> Iterator[tuple[str, Step]]:
        """Every write, with where it stands: `control.engage`."""
        if self.control is not None:
            for program in ("engage", "setpoint", "release"):
                for step in getattr(self.control, program):
                    yield f"control.{program}", step
        if self.switch is not None:
            yield "switch.on", self.switch.on
            yield "switch.off", self.switch.off


def table_of(profile: Profile, point: Point | Check) -> Table:
    return TABLES[point.table or profile.link.table]


def _as_points(given: object) -> tuple[Point, ...]:
    if isinstance(given, Point):
        return (given,)
    return given if isinstance(given, tuple) else ()
