"""Reading profiles: one that is shipped, by name, or one of somebody's own, by path.

A profile that contradicts itself is refused: registers that overlap, a write outside its own list, a power that does
not say which way it counts.
"""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from edge_agent.drivers.profile import (
    CURRENT,
    PARTS,
    POWER,
    ROLES,
    Check,
    Control,
    Place,
    Point,
    Profile,
    Step,
    table_of,
)
from edge_agent.drivers.transaction import Table
from protos import settings
from protos.settings import SettingsError

SHIPPED = "profiles"  # the folder beside this module


def shipped() -> tuple[str, ...]:
    """Names of the profiles that come with the agent."""
    folder = files(__package__) / SHIPPED
    return tuple(sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")))


def load(name: str) -> Profile:
    """The profile of this name, or at this path if it ends in .toml. Raises SettingsError."""
    path = Path(name) if name.endswith(".toml") else Path(str(files(__package__) / SHIPPED / f"{name}.toml"))
    if not name.endswith(".toml") and name not in shipped():
        raise SettingsError(
            f"there is no profile {name}; give one of {', '.join(shipped())}, or the path of one of your own (.toml)"
        )
    profile = settings.read(path, Profile)
    for finding in _contradictions(profile):
        raise SettingsError(f"{path}: {finding}")
    return profile


def _contradictions(profile: Profile) -> Iterator[str]:
    """What is wrong, as key: finding; remedy."""
    parts = [part for part in PARTS if getattr(profile, part) is not None]
    if not parts:
        yield f"$: describes none of {', '.join(PARTS)}; give one of these tables"
    if len(steered := [part for part in parts if part not in ("meter", "switch")]) > 1:
        yield f"$.{steered[1]}: stands beside [{steered[0]}]; give each a profile of its own"
    for where, point in profile.points:
        yield from _wrong_place(where, point)
        yield from _wrong_point(profile, where, point)
    yield from _overlaps(profile)
    for where, step in profile.writes:
        yield from _wrong_place(where, step)
        yield from _wrong_step(where, step)
        yield from _outside(profile, where, step)
    for check in profile.identification.checks if profile.identification is not None else ():
        yield from _wrong_place("identification.checks", check)
        yield from _wrong_check(check)
    if profile.control is not None:
        yield from _wrong_control(profile, profile.control)
    if profile.writable and not any(profile.writes):
        yield "$.writable: nothing of the profile writes; leave it out"


def _wrong_place(where: str, place: Place) -> Iterator[str]:
    if (place.type == "string") != (place.words is not None):
        yield f"$.{where}: address {place.address}: words belongs to a string and to nothing else; give it there only"
    if place.address + place.size > 65536:
        yield f"$.{where}: address {place.address}: ends beyond 65535; mend address or type"


def _wrong_point(profile: Profile, where: str, point: Point) -> Iterator[str]:
    units, signed = ROLES[where.split(".")[1]]
    if point.unit not in units:
        yield f"$.{where}: address {point.address}: unit {point.unit!r}; give one of {sorted(units)}"
    if signed != (point.positive is not None):
        remedy = 'say which way it counts: positive = "export" or "import"' if signed else "leave positive out"
        yield f"$.{where}: address {point.address}: {remedy}"
    if (where == "ev_charger.plugged") != bool(point.are):
        yield f"$.{where}: address {point.address}: `are` belongs to a state, and a state needs it"
    if point.are and {str} != {type(each) for each in point.are} and (point.type == "string"):
        yield f"$.{where}: address {point.address}: a string is never a number; give texts in `are`"
    if point.mask is not None and not point.type.startswith(("uint", "int")):
        yield f"$.{where}: address {point.address}: mask belongs to whole numbers; leave it out"
    if table_of(profile, point).bits != (point.type == "bit"):
        yield f'$.{where}: address {point.address}: coils and discrete inputs are of type "bit", registers of another'


def _wrong_check(check: Check) -> Iterator[str]:
    where = f"$.identification.checks: address {check.address}"
    if sum((check.pattern is not None, bool(check.values), check.between is not None)) != 1:
        yield f"{where}: give one of pattern, values and between"
    if (check.type == "string") != (check.pattern is not None):
        yield f"{where}: pattern belongs to a string, values and between to numbers"
    try:
        fits = check.pattern is None or re.match(check.pattern, check.example) is not None
    except re.error as error:
        yield f"{where}: pattern {check.pattern!r}: {error}; mend it"
    else:
        if not fits:
            yield f"{where}: pattern {check.pattern!r} does not match its example {check.example!r}; mend one of them"


def _wrong_step(where: str, step: Step) -> Iterator[str]:
    if (step.value is None) == (step.carries is None):
        yield f"$.{where}: address {step.address}: give either value or carries"
    if (step.carries == "power") != (step.positive is not None):
        yield f"$.{where}: address {step.address}: positive belongs to what carries power; give it there only"
    if step.carries in ("power", "magnitude") and step.unit not in POWER:
        yield f"$.{where}: address {step.address}: unit {step.unit!r}; give W or kW"
    if step.carries in ("current", "fallback", "most") and step.unit not in CURRENT:
        yield f"$.{where}: address {step.address}: unit {step.unit!r}; give A or mA"
    if step.carries == "lifetime" and step.unit not in ("s", "min"):
        yield f"$.{where}: address {step.address}: unit {step.unit!r}; give s or min"
    if (step.function == "coil") != (step.type == "bit") or (step.function == "single" and step.size != 1):
        yield f"$.{where}: address {step.address}: {step.type} cannot be written with function {step.function}"


def _wrong_control(profile: Profile, control: Control) -> Iterator[str]:
    carried = {step.carries for step in control.steps}
    if not carried & {"power", "magnitude", "current"}:
        yield '$.control.setpoint: no write carries the power; give one carries = "power", "magnitude" or "current"'
    if "magnitude" in carried and profile.inverter is not None and not any(step.when for step in control.setpoint):
        yield "$.control.setpoint: a magnitude says no direction; give writes with when"
    if ("lifetime" in carried) != (control.reversion.kind == "timer"):
        yield '$.control.reversion: kind "timer" needs a write that carries = "lifetime", and nothing else does'
    if (control.reversion.seconds is not None) != (control.reversion.kind == "watchdog"):
        yield '$.control.reversion: seconds belongs to kind "watchdog"; give it there only'
    draws = profile.ev_charger is not None or profile.flexible_load is not None
    if not control.release and not (
        control.reversion.kind == "watchdog" or (draws and control.reversion.kind == "timer")
    ):
        yield "$.control.release: is missing, and no watchdog lets go; give the writes that give the device back"
    if profile.ev_charger is None and carried & {"current", "fallback", "most"}:
        yield "$.control: currents belong to a charger; give a table [ev_charger], or writes that carry power"
    if profile.inverter is None and not draws:
        yield "$.control: there is nothing to control; give a table [inverter], [ev_charger] or [flexible_load]"
    elif control.reference == "storage" and (profile.inverter is None or not profile.inverter.pv_power_w):
        yield "$.control.reference: the storage's power follows from the panels'; give inverter.pv_power_w, or \"ac\""


def _outside(profile: Profile, where: str, step: Step) -> Iterator[str]:
    allowed = profile.allowance.registers
    table = Table.COIL if step.function == "coil" else Table.HOLDING
    for register in range(step.address, step.address + step.size):
        if isinstance(allowed, frozenset) and (table, register) not in allowed:
            yield f"$.{where}: register {register} is not in [[writable]]; add it there, or leave the write out"


def _overlaps(profile: Profile) -> Iterator[str]:
    taken: dict[tuple[Table, int], Point] = {}
    for where, point in profile.points:
        for register in range(point.address, point.address + point.size):
            other = taken.setdefault((table_of(profile, point), register), point)
            if (other.address, other.type, other.size) != (point.address, point.type, point.size):
                yield (
                    f"$.{where}: address {point.address}: overlaps {other.type} at {other.address}; mend one of them"
                )
                return
