"""The writable half of a device that a profile describes: programs of writes, and what keeps them alive."""

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from edge_agent.drivers.profile import UNITS, Control, Profile, Step
from edge_agent.drivers.sunspec import codec
from edge_agent.drivers.sunspec.plan import to_registers
from edge_agent.drivers.transaction import Connection, Table, Write
from edge_agent.model.clock import Clock
from edge_agent.model.devices import DeviceRejected
from edge_agent.model.values import Admitted, Nameplate

_log = logging.getLogger(__name__)

CHECK_PERIOD_S = 1.0
HOLDS_WITHIN_S = 1.0  # a device shows what it was written within this time
PV_KNOWN_S = 2.0  # how old the panels' power may be from which the storage's is reckoned

Pv = Callable[[], tuple[float, float | None]]


class Target(Protocol):
    """What of a power the registers are told."""

    def power_w(self, asked_w: float, now_s: float) -> float:
        """The power to write [W], by the profile's reference, in steps of the device. Raises DeviceRejected."""
        ...

    def amperes(self, step: Step, power_w: float) -> float:
        """What a step that carries a current carries [A]."""
        ...


class InverterTarget:
    """Of the terminals, or of the storage behind them, in whole steps towards zero."""

    def __init__(self, device_name: str, control: Control, limits: Callable[[], Nameplate], pv: Pv) -> None:
        """pv: when the panels' power was last read [s], and what it was [W]."""
        self._name = device_name
        self._control = control
        self._limits = limits
        self._pv = pv

    def power_w(self, asked_w: float, now_s: float) -> float:
        plate, step_w, power_w = self._limits(), self._control.step_w, asked_w
        if abs(power_w) > plate.rated_power_w:
            raise DeviceRejected(
                f"device {self._name}: writing {power_w:.0f} W: its rating is {plate.rated_power_w:.0f} W, so nothing "
                "was written"
            )
        if self._control.reference == "storage":
            at_s, pv_w = self._pv()
            if pv_w is None or now_s - at_s > PV_KNOWN_S:
                raise DeviceRejected(
                    f"device {self._name}: writing {power_w:.0f} W: the power of its panels is not known, from which "
                    "that of its storage follows"
                )
            power_w = max(-plate.max_charge_w, min(plate.max_discharge_w, power_w - pv_w))
        return math.trunc(round(power_w / step_w, 6)) * step_w

    def amperes(self, step: Step, power_w: float) -> float:
        raise DeviceRejected(f"device {self._name}: an inverter is not told currents")


@dataclass(frozen=True, slots=True)
class _Held:
    """What the device was made to hold, and since when."""

    raw: dict[Step, tuple[int, ...]]  # the registers of each write that stands
    lifetime_s: float
    renewed_s: float  # its timer was last started no earlier than this
    checked_s: float
    differs_since_s: float | None = None  # it was last seen holding this before; None: it was seen since


class ProfilePowerControl:
    """Writes power setpoints. See PowerControl for what its methods promise."""

    def __init__(
        self,
        connection: Connection,
        profile: Profile,
        control: Control,
        clock: Clock,
        *,
        device_name: str,
        target: Target,
    ) -> None:
        self._connection = connection
        self._control = control
        self._word_order = profile.link.word_order
        self._clock = clock
        self._name = device_name
        self._target = target
        self._held: _Held | None = None  # None: not known to hold anything, so everything is written

    async def write_power(self, admitted: Admitted, lifetime_s: float) -> None:
        now_s = self._clock.monotonic_s()
        target_w = self._target.power_w(admitted.setpoint.power_w, now_s)
        lasts_s = self._lasts_s(lifetime_s)
        wanted = {
            step: self._registers(step, target_w, lifetime_s) for step in self._control.setpoint if _due(step, target_w)
        }
        # Forgotten until all is written: after a failure half way nobody knows what the device holds.
        held, self._held = self._held, None
        if held is None or held.lifetime_s != lasts_s or now_s - held.renewed_s >= lasts_s:
            engaged = {step: self._registers(step, target_w, lifetime_s) for step in self._control.engage}
            await self._write({**engaged, **wanted})
            _log.info("device engaged: device=%s lifetime_s=%.0f", self._name, lasts_s)
            settle_s = self._control.settle_s
            renewed_s = now_s - max(0.0, lasts_s / 2 - settle_s) if settle_s else now_s
            held = _Held({**engaged, **wanted}, lasts_s, renewed_s, checked_s=now_s, differs_since_s=now_s)
        else:
            renews = now_s - held.renewed_s >= lasts_s / 2
            changed = {s: raw for s, raw in wanted.items() if held.raw.get(s) != raw or (renews and self._renews(s))}
            if changed:
                await self._write(changed)
                engaged = {step: raw for step, raw in held.raw.items() if step in self._control.engage}
                renewed = renews or (self._control.reversion.kind == "watchdog" and not self._control.settle_s)
                held = replace(held, raw={**engaged, **wanted}, renewed_s=now_s if renewed else held.renewed_s)
        if held.differs_since_s is not None or now_s - held.checked_s >= CHECK_PERIOD_S:
            held = await self._check(held, now_s)
        self._held = held

    async def release(self) -> None:
        self._held = None
        await self._write({step: self._registers(step, 0.0, 0.0) for step in self._control.release})
        _log.info("device released: device=%s by=%s", self._name, "write" if self._control.release else "its own timer")

    def _lasts_s(self, lifetime_s: float) -> float:
        """How long the device obeys after the last word [s]."""
        match self._control.reversion.kind:
            case "timer":
                step = next(s for s in self._control.steps if s.carries == "lifetime")
                return _lifetime_raw(step, lifetime_s) * step.factor
            case "watchdog":
                return self._control.reversion.seconds or math.inf
            case "none":
                return math.inf

    def _renews(self, step: Step) -> bool:
        """Whether writing it anew keeps the device obeying: a timer by its whole program, a watchdog by its power and
        what always goes with that."""
        always = step.value is not None and step.when is None
        return self._control.reversion.kind == "timer" or step.carries in ("power", "magnitude", "current") or always

    def _registers(self, step: Step, target_w: float, lifetime_s: float) -> tuple[int, ...]:
        match step.carries:
            case "power":
                raw: float = target_w / step.factor
            case "magnitude":
                raw = abs(target_w) / step.factor
            case "lifetime":
                raw = _lifetime_raw(step, lifetime_s)
            case "current" | "fallback" | "most":
                raw = self._target.amperes(step, target_w) / step.factor
            case None:
                raw = step.value or 0
        try:
            return encoded(step, raw, self._word_order)
        except ValueError as error:
            raise DeviceRejected(
                f"device {self._name}: writing {step.carries or 'a constant'} to {step.address}: {error}"
            ) from error

    async def _write(self, writes: dict[Step, tuple[int, ...]]) -> None:
        for address, registers, function, what in _joined(writes):
            await self._connection.write(address, registers, what, function)

    async def _check(self, held: _Held, now_s: float) -> _Held:
        """Reads back what was written. Raises DeviceRejected once the device has shown something else for too long."""
        wrong = []
        for address, registers, _, what in _joined({s: raw for s, raw in held.raw.items() if s.read_back}):
            found = await self._connection.read(address, len(registers), what, Table.HOLDING)
            if found != registers:
                wrong.append(f"{what} at {address} is {found}, {registers} was written")
        if not wrong:
            return replace(held, checked_s=now_s, differs_since_s=None)
        since_s = held.differs_since_s if held.differs_since_s is not None else now_s
        if now_s - since_s >= HOLDS_WITHIN_S + self._control.settle_s:
            raise DeviceRejected(f"device {self._name}: does not hold what it was told: {'; '.join(wrong)}")
        return replace(held, checked_s=now_s, differs_since_s=since_s)


def encoded(step: Step, raw: float, word_order: str) -> tuple[int, ...]:
    """The registers of a write. Raises ValueError where the number does not fit."""
    if step.type == "bit":
        return (int(raw),)
    number = raw if step.type == "float32" else int(round(raw, 6))
    registers = to_registers(codec.encode(step.type, step.size, number))
    return tuple(registers[::-1] if (step.word_order or word_order) == "little" else registers)


def _lifetime_raw(step: Step, lifetime_s: float) -> int:
    """The number that stands for a lifetime, within what the device takes."""
    unit_s = UNITS[step.unit]
    within_s = max((step.least or 0.0) * unit_s, min((step.greatest or math.inf) * unit_s, lifetime_s))
    return math.ceil(round(within_s / step.factor, 6))


def _due(step: Step, target_w: float) -> bool:
    match step.when:
        case None:
            return True
        case "charge":
            return target_w < 0
        case "rest":
            return target_w == 0
        case "discharge":
            return target_w >= 0


def _joined(writes: dict[Step, tuple[int, ...]]) -> Iterable[tuple[int, list[int], Write, str]]:
    """Writes that follow each other in the map and the program in one transaction."""
    run: list[Step] = []
    for step in writes:
        if run and not (
            step.write is run[-1].write is Write.MULTIPLE and step.address == run[-1].address + run[-1].size
        ):
            yield _one(run, writes)
            run = []
        run.append(step)
    if run:
        yield _one(run, writes)


def _one(run: list[Step], writes: dict[Step, tuple[int, ...]]) -> tuple[int, list[int], Write, str]:
    registers = [register for step in run for register in writes[step]]
    return run[0].address, registers, run[0].write, ", ".join(step.carries or "a constant" for step in run)
