"""The writable half of a SunSpec inverter: active power by model 704, always under the device's own reversion timer.

Offsets of the points in register order: WSetEna, WSetMod, WSet (2), WSetRvrt (2), WSetPct, WSetPctRvrt, WSetEnaRvrt,
WSetRvrtTms (2), WSetRvrtRem (2). When the timer runs out, the device takes WSetEnaRvrt for WSetEna and WSetRvrt for
WSet.
"""

import asyncio
import logging
from dataclasses import dataclass, replace

from edge_agent.drivers.sunspec import codec
from edge_agent.drivers.sunspec.access import WritableRegisters, read_points, write_points
from edge_agent.drivers.sunspec.layout import Field, ModelMap
from edge_agent.drivers.sunspec.plan import Image
from edge_agent.model.clock import Clock
from edge_agent.model.devices import DeviceFault, DeviceRejected
from edge_agent.model.values import Admitted

_log = logging.getLogger(__name__)

DISABLED, ENABLED = 0, 1  # WSetEna, WSetEnaRvrt
WATTS = 1  # WSetMod

HOLDS_WITHIN_S = 1.0  # a device shows a value it was written within 1000 ms (SunSpec conformance test MOD-3)
CHECK_PERIOD_S = 1.0
RELEASE_POLL_S = 0.05

_SETPOINT = ("WSetEna", "WSetMod", "WSet")
_TIMER = ("WSetEnaRvrt", "WSetRvrtTms")


@dataclass(frozen=True, slots=True)
class _Held:
    """What the device was made to hold, and since when."""

    raw: int  # WSet
    lifetime_s: int
    armed_s: float  # the timer was last started no earlier than this
    checked_s: float
    differs_since_s: float | None = None  # it was last seen holding this before; None: it was seen since


class SunSpecPowerControl:
    """Writes power setpoints. See PowerControl for what its methods promise."""

    def __init__(
        self, registers: WritableRegisters, model: ModelMap, image: Image, clock: Clock, *, device_name: str
    ) -> None:
        """`image` holds a reading of `required_fields(model)`. Raises DeviceFault where it cannot be controlled."""
        self._registers = registers
        self._fields = model.fields
        self._image = image
        self._clock = clock
        self._name = device_name
        self._held: _Held | None = None  # None: not known to hold anything, so everything is written
        missing = [n for n in ("WSetEna", "WSet") if image.raw(model.fields.get(n)) is None]
        if missing:
            raise DeviceFault(
                f"device {device_name}: model 704 does not implement {' and '.join(missing)}, so its power cannot be "
                "set; enable remote power control on the device, or set read_only = true"
            )
        self._has_timer = all(image.raw(model.fields.get(name)) is not None for name in _TIMER)
        if not self._has_timer:
            _log.warning(
                "device has no reversion timer: it holds its last setpoint if this agent dies: device=%s", device_name
            )
        read_back = [*_SETPOINT, *_TIMER, "WSetRvrtRem"] if self._has_timer else _SETPOINT
        self._read_back = tuple(model.fields[name] for name in read_back if name in model.fields)

    async def write_power(self, admitted: Admitted, lifetime_s: float) -> None:
        now_s = self._clock.monotonic_s()
        raw = self._to_raw(admitted.setpoint.power_w)
        life_s = max(1, int(lifetime_s))  # whole seconds; 0 would stop the timer
        # Forgotten until all is written: after a failure half way nobody knows what the device holds.
        held, self._held = self._held, None
        if held is None or held.lifetime_s != life_s or now_s - held.armed_s >= life_s:
            held = await self._engage(raw, life_s)
        if raw != held.raw:
            await self._write(("WSet",), {"WSet": raw})
            held = replace(held, raw=raw)
        if self._has_timer and now_s - held.armed_s >= life_s / 2:
            await self._write(("WSetRvrtTms",), {"WSetRvrtTms": life_s})
            held = replace(held, armed_s=now_s)
        if held.differs_since_s is not None or now_s - held.checked_s >= CHECK_PERIOD_S:
            held = await self._check(held)
        self._held = held

    async def release(self) -> None:
        self._held = None
        await self._write(("WSetEna",), {"WSetEna": DISABLED})
        enabled = self._fields["WSetEna"]
        for _ in range(int(HOLDS_WITHIN_S / RELEASE_POLL_S)):
            if (await read_points(self._registers, (enabled,)))[enabled] != ENABLED:
                _log.info("device released: device=%s", self._name)
                return
            await asyncio.sleep(RELEASE_POLL_S)
        raise DeviceRejected(f"device {self._name}: {enabled} is still {ENABLED}, {DISABLED} was written to release it")

    async def _engage(self, raw: int, life_s: int) -> _Held:
        """Makes the device hold a power, the way back first, so that there is no instant without it."""
        now_s = self._clock.monotonic_s()
        if self._has_timer:
            if self._image.raw(self._fields.get("WSetRvrt")) is not None:
                await self._write(("WSetRvrt",), {"WSetRvrt": 0})
            await self._write(_TIMER, {"WSetEnaRvrt": DISABLED, "WSetRvrtTms": life_s})
        await self._write(_SETPOINT, {"WSetEna": ENABLED, "WSetMod": WATTS, "WSet": raw})
        if self._has_timer:  # some devices start the timer only when the time is written to an enabled function
            await self._write(("WSetRvrtTms",), {"WSetRvrtTms": life_s})
        _log.info("device engaged: device=%s lifetime_s=%d", self._name, life_s)
        return _Held(raw, life_s, armed_s=now_s, checked_s=now_s, differs_since_s=now_s)

    async def _check(self, held: _Held) -> _Held:
        """Reads back what was written. Raises DeviceRejected once the device has shown something else for too long."""
        now_s = self._clock.monotonic_s()
        found = await read_points(self._registers, self._read_back)
        wanted = {"WSetEna": ENABLED, "WSet": held.raw}
        if self._image.raw(self._fields.get("WSetMod")) is not None:  # else it knows no mode but watts
            wanted["WSetMod"] = WATTS
        if self._has_timer:
            wanted |= {"WSetEnaRvrt": DISABLED, "WSetRvrtTms": held.lifetime_s}
        wrong: list[str] = []
        for field, value in found.items():
            name = field.point.name
            if name == "WSetRvrtRem" and value == 0:
                wrong.append("WSetRvrtRem is 0, so the reversion timer does not run")
            elif name in wanted and value != wanted[name]:
                wrong.append(f"{name} is {self._shown(field, value)}, {self._shown(field, wanted[name])} was written")
        if not wrong:
            return replace(held, checked_s=now_s, differs_since_s=None)
        since_s = held.differs_since_s if held.differs_since_s is not None else now_s
        if now_s - since_s >= HOLDS_WITHIN_S:
            raise DeviceRejected(f"device {self._name}: model 704 does not hold what it was told: {'; '.join(wrong)}")
        return replace(held, checked_s=now_s, differs_since_s=since_s)

    def _to_raw(self, power_w: float) -> int:
        field = self._fields["WSet"]
        power = self._image.power(field)
        if power is None:
            raise DeviceRejected(f"device {self._name}: {field} has no scale factor, so no power can be written to it")
        raw = codec.unscaled(power_w, power)
        try:
            codec.encode(field.point.type, field.point.size, raw)
        except ValueError as error:
            raise DeviceRejected(f"device {self._name}: {field}: {power_w:.0f} W cannot be written: {error}") from error
        return raw

    def _shown(self, field: Field, raw: object) -> str:
        power = self._image.power(field) if field.point.name == "WSet" else None
        return f"{codec.scaled(raw, power):g} W" if isinstance(raw, int) and power is not None else str(raw)

    async def _write(self, names: tuple[str, ...], values: dict[str, int]) -> None:
        await write_points(self._registers, {self._fields[name]: values[name] for name in names})


def required_fields(model: ModelMap) -> tuple[Field, ...]:
    """What must have been read before a SunSpecPowerControl can be made."""
    names = (*_SETPOINT, *_TIMER, "WSetRvrt")
    return tuple(model.fields[name] for name in names if name in model.fields)
