"""A simulated device of any profile: its registers show set values, and it obeys what its profile says it obeys.

Registers are encoded here from the profile's own description, by struct and not by the agent's codec. A request for a
register that the profile does not name, beyond the gaps it says may be read along, is answered by exception 2, and so
is a write to anything that is not on its list: the device stands for a strict one.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from edge_agent.drivers.profile import TABLES, UNITS, Check, Place, Point, Profile, Step, table_of
from edge_agent.drivers.transaction import Table, Write
from hil.rigs.served import ILLEGAL_ADDRESS, ILLEGAL_VALUE, Refused, ServedDevice

_FORMATS: Final = {
    "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q", "float32": "f", "bit": "H",
}  # fmt: skip
_ABSENT: Final = {"int16": 0x8000, "uint16": 0xFFFF, "int32": 0x80000000, "uint32": 0xFFFFFFFF}
_EXPONENTS: Final = {"Hz": -2, "V": -1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """What the device measures [SI], positive towards the grid; and its ratings."""

    own_power_w: float = 1200.0  # at its AC terminals while nobody commands it
    load_w: float = 2000.0
    pv_power_w: float = 900.0
    frequency_hz: float = 49.9
    voltage_v: float = 231.0
    soc: float = 0.62
    rated_power_w: float = 5000.0
    max_charge_w: float = 4000.0
    max_discharge_w: float = 4500.0
    storage_capacity_wh: float = 10_000.0
    model: str = "Simulated"
    serial: str = "42"


class ProfileDevice(ServedDevice):
    """Registers, the setpoint they hold, and when it lapses."""

    def __init__(self, profile: Profile, values: Values = Values(), *, now_s: Callable[[], float]) -> None:
        super().__init__()
        self.profile = profile
        self.values = values
        self._now_s = now_s
        self._registers: dict[tuple[Table, int], int] = {}
        self.written_s: float | None = None  # a setpoint's register, last
        self._on = False
        for _, step in profile.writes:
            for register in range(step.address, step.address + step.size):
                self._registers[_table(step), register] = 0

    @property
    def commanded_w(self) -> float | None:
        """The power at its AC terminals that it obeys now; None: its own default."""
        control = self.profile.control
        if control is None or self.written_s is None or self._now_s() - self.written_s >= self.lasts_s():
            return None
        constant = [s for s in (*control.engage, *control.setpoint) if s.value is not None and s.when is None]
        if any(self.raw(step) != step.value for step in constant):
            return None
        directions = {s.when for s in control.setpoint if s.when and s.value is not None and self.raw(s) == s.value}
        if not directions and any(step.when and step.value is not None for step in control.setpoint):
            return None
        power_w = next(
            self.raw(step) * step.factor * (1 if step.carries == "power" or "discharge" in directions else -1)
            for step in control.setpoint
            if step.carries in ("power", "magnitude") and (step.when is None or step.when in directions)
        )
        return power_w + (self.values.pv_power_w if control.reference == "storage" else 0.0)

    @property
    def power_w(self) -> float:
        """At its AC terminals: it follows at once."""
        commanded_w = self.commanded_w
        return commanded_w if commanded_w is not None else self.values.own_power_w

    @property
    def on(self) -> bool:
        return self._on

    # ---- what it is asked

    def read(self, table: Table, address: int, count: int) -> list[int]:
        """Raises Refused."""
        self._refresh()
        gap, found = 0, []
        for register in range(address, address + count):
            value = self._registers.get((table, register))
            gap = 0 if value is not None else gap + 1
            if gap > self.profile.link.widest_gap or (value is None and register in (address, address + count - 1)):
                raise Refused(ILLEGAL_ADDRESS)
            found.append(value or 0)
        if count > (2000 if table.bits else self.profile.link.longest_read):
            raise Refused(ILLEGAL_VALUE)
        return found

    def write(self, function: Write, address: int, words: list[int]) -> None:
        """Raises Refused."""
        table = Table.COIL if function is Write.COIL else Table.HOLDING
        allowed = {(TABLES[r.table], n) for r in self.profile.writable for n in range(r.first, r.last + 1)}
        if not {(table, register) for register in range(address, address + len(words))} <= allowed:
            raise Refused(ILLEGAL_ADDRESS)
        for offset, word in enumerate(words):
            self._registers[table, address + offset] = word
        if self.profile.switch is not None:
            self._on = bool(words[0])
        control = self.profile.control
        setpoints = control.setpoint if control is not None else ()
        if any(step.address in range(address, address + len(words)) for step in setpoints):
            self.written_s = self._now_s()

    # ---- what its registers show

    def shown(self) -> dict[str, float | str]:
        """What each role shows [SI], positive towards the grid; of a state, what stands in its register."""
        values, power_w = self.values, self.power_w
        return {
            "inverter.power_w": power_w,
            "inverter.pv_power_w": values.pv_power_w,
            "inverter.frequency_hz": values.frequency_hz,
            "inverter.voltage_v": values.voltage_v,
            "inverter.soc": values.soc,
            "meter.power_w": power_w - values.load_w,
            "meter.frequency_hz": values.frequency_hz,
            "meter.voltage_v": values.voltage_v,
            "switch.state": float(self._on),
            "nameplate.rated_power_w": values.rated_power_w,
            "nameplate.max_charge_w": values.max_charge_w,
            "nameplate.max_discharge_w": values.max_discharge_w,
            "nameplate.storage_capacity_wh": values.storage_capacity_wh,
        }

    def _refresh(self) -> None:
        shown = self.shown()
        roles: dict[str, list[Point]] = {}
        for role, point in self.profile.points:
            roles.setdefault(role, []).append(point)
        for role, points in roles.items():
            if role in ("nameplate.model", "nameplate.serial"):
                self._show_text(points[0], self.values.model if role == "nameplate.model" else self.values.serial)
                continue
            left = shown[role]
            if isinstance(left, str) or points[0].are:
                self._show_state(points[0], left)
                continue
            for point in points:
                fits = not point.type.startswith("uint") or left / point.factor >= 0
                self._show(point, left if fits else 0.0)
                left = 0.0 if fits else left
            if points[-1].optional and points[-1].type in _ABSENT:
                self._put(point, struct.pack(">Q", _ABSENT[point.type])[-2 * point.size :])
        self._show_what_it_is()

    def _show_what_it_is(self) -> None:
        """What its profile knows it by; what only has to be plausible is measured anyway, or stands in the middle."""
        for check in self.profile.identification.checks if self.profile.identification is not None else ():
            if check.pattern is not None:
                self._show_text(check, check.example)
            elif check.values:
                self._put(check, struct.pack(f">{_FORMATS[check.type]}", check.values[0]))
            elif check.between is not None and (table_of(self.profile, check), check.address) not in self._registers:
                self._show(check, sum(check.between) / 2)

    def _show(self, point: Point | Check, value: float) -> None:
        at = point.exponent if isinstance(point, Point) else None
        exponent = _EXPONENTS.get(point.unit, 0) if at is not None else 0
        if at is not None:
            self._registers[table_of(self.profile, point), at] = exponent & 0xFFFF
        raw = value / point.factor / 10.0**exponent
        self._put(point, struct.pack(f">{_FORMATS[point.type]}", raw if point.type == "float32" else round(raw)))

    def _show_state(self, point: Point, state: float | str) -> None:
        if isinstance(state, str):
            self._show_text(point, state)
        else:
            self._put(point, struct.pack(f">{_FORMATS[point.type]}", int(state)))

    def _show_text(self, point: Point | Check, text: str) -> None:
        if point.type == "string":
            self._put(point, text.encode()[: 2 * point.size].ljust(2 * point.size, b"\0"), swap=False)
        else:
            self._put(point, struct.pack(f">{_FORMATS[point.type]}", int(text)))

    def _put(self, point: Point | Check, data: bytes, *, swap: bool = True) -> None:
        words = list(struct.unpack(f">{point.size}H", data))
        if swap and self._word_order(point) == "little":
            words.reverse()
        for offset, word in enumerate(words):
            self._registers[table_of(self.profile, point), point.address + offset] = word

    # ---- what was written to it

    def raw(self, step: Step) -> float:
        """The number that stands in a step's registers."""
        words = [self._registers[_table(step), step.address + offset] for offset in range(step.size)]
        if self._word_order(step) == "little":
            words.reverse()
        number: float = struct.unpack(f">{_FORMATS[step.type]}", struct.pack(f">{step.size}H", *words))[0]
        return number

    def lasts_s(self) -> float:
        """How long it obeys after the last setpoint, by its registers [s]."""
        control = self.profile.control
        if control is None or control.reversion.kind == "none":
            return float("inf")
        if control.reversion.kind == "watchdog":
            return control.reversion.seconds or float("inf")
        return next(
            self.raw(step) * UNITS[step.unit] * step.scale for step in control.steps if step.carries == "lifetime"
        )

    def _word_order(self, place: Place) -> str:
        return place.word_order or self.profile.link.word_order

    def change(self, **values: float) -> None:
        """Sets what it measures."""
        self.values = replace(self.values, **values)  # type: ignore[arg-type]


def _table(step: Step) -> Table:
    return Table.COIL if step.function == "coil" else Table.HOLDING
