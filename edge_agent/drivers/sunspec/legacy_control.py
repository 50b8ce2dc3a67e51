"""The writable half of an older SunSpec inverter: signed AC power by model 124 (storage) and 123 (immediate controls).

These models know no power setpoint. What they know:

- 124 bounds the storage's power: at most InWRte % of WChaMax into it, and at most OutWRte % of the greatest discharge
  out of it. A negative rate forces the other direction, so that InWRte = -OutWRte pins the storage (as Fronius
  documents for its hybrids). AC power P is asked as storage power P - PV, written anew when the panels' power moves.
- 123 caps what leaves the inverter: WMaxLimPct % of WMax. It is engaged where the storage cannot take what the panels
  give beyond P - the storage being full, or P - PV beyond its rate - and always where there is no storage. From then on
  it follows P until release. Below zero it cannot cap: panels go on while the inverter imports.

Both have a time-out of their own after which the device returns to its default; it is written before the power, and
again at half its life. The models have no point that shows the time left.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_agent.drivers.sunspec import codec
from edge_agent.drivers.sunspec.access import WritableRegisters, read_points, write_points
from edge_agent.drivers.sunspec.control import CHECK_PERIOD_S, HOLDS_WITHIN_S, RELEASE_POLL_S
from edge_agent.drivers.sunspec.layout import Field, ModelMap
from edge_agent.drivers.sunspec.plan import Image
from edge_agent.drivers.sunspec.points import Points
from edge_agent.drivers.sunspec.readings import read_nameplate, read_pv_power_w
from edge_agent.model.clock import Clock
from edge_agent.model.devices import DeviceFault, DeviceRejected
from edge_agent.model.values import Admitted

_log = logging.getLogger(__name__)

_CHARGE, _DISCHARGE = 1, 2  # StorCtl_Mod, bits
_PINNED = _CHARGE | _DISCHARGE
_FROM_GRID = 1  # ChaGriSet
_ENABLED, _DISABLED = 1, 0  # WMaxLim_Ena

_RATES = ("OutWRte", "InWRte")
_RATES_TIMER = "InOutWRte_RvrtTms"
_CAP = ("WMaxLimPct", "WMaxLim_Ena")
_CAP_TIMER = "WMaxLimPct_RvrtTms"

PV_DRIFT_PU = 0.005  # of the rating: panels that move less do not make the storage's power be written anew
_OVER_PU = 0.02  # of the rating: more AC power than asked, by this much and for this long, brings the cap
_OVER_S = 1.0


@dataclass(frozen=True, slots=True)
class _Held:
    """What the device was made to hold, and since when."""

    power_w: float  # at the AC terminals
    storage_w: float  # positive out of the storage
    cap_w: float | None  # None: not capped
    raws: dict[Field, int]
    lifetime_s: int
    changed_s: float  # another power was last asked for
    over_since_s: float | None  # pictures show more AC power than asked for since then
    armed_s: float  # the timers were last started no earlier than this
    checked_s: float
    differs_since_s: float | None


class LegacyPowerControl:
    """Writes power setpoints. See PowerControl for what its methods promise."""

    def __init__(
        self,
        registers: WritableRegisters,
        controls: ModelMap | None,
        storage: ModelMap | None,
        points: Points,
        image: Image,
        pictured_s: Callable[[], float],
        clock: Clock,
        *,
        device_name: str,
    ) -> None:
        """`controls` is model 123, `storage` model 124; `image` holds a reading of `required_fields` of both.

        `pictured_s` tells the instant of the last picture in `image`. Raises DeviceFault where it cannot be controlled.
        """
        self._registers = registers
        self._points = points
        self._image = image
        self._pictured_s = pictured_s
        self._clock = clock
        self._name = device_name
        self._held: _Held | None = None  # None: not known to hold anything, so everything is written
        self._may_charge: int | None = None  # ChaGriSet as it was found, where it was changed
        plate = read_nameplate(image, points, ())
        self._rated_w, self._charge_w, self._discharge_w = (
            plate.rated_power_w,
            plate.max_charge_w,
            plate.max_discharge_w,
        )
        self._rates = self._usable(storage, ("StorCtl_Mod", *_RATES), plate.max_charge_w > 0)
        self._cap = self._usable(controls, _CAP, plate.rated_power_w > 0)
        if not self._rates and not self._cap:
            raise DeviceFault(
                f"device {device_name}: neither model 124 (StorCtl_Mod, InWRte, OutWRte, WChaMax) nor model 123 "
                "(WMaxLimPct, WMaxLim_Ena) is implemented far enough to set its power; enable remote power control on "
                "the device, or set read_only = true"
            )
        self._timers = tuple(
            fields[name]
            for fields, name in ((self._rates, _RATES_TIMER), (self._cap, _CAP_TIMER))
            if fields and image.raw(fields.get(name)) is not None
        )
        if len(self._timers) < bool(self._rates) + bool(self._cap):
            _log.warning(
                "device has not all reversion timers: it may hold its last setpoint if this agent dies: device=%s",
                device_name,
            )

    async def write_power(self, admitted: Admitted, lifetime_s: float) -> None:
        now_s = self._clock.monotonic_s()
        power_w = admitted.setpoint.power_w
        life_s = max(1, int(lifetime_s))  # whole seconds; 0 would stop the timers
        # Forgotten until all is written: after a failure half way nobody knows what the device holds.
        held, self._held = self._held, None
        if held is not None and (held.lifetime_s != life_s or now_s - held.armed_s >= life_s):
            held = None
        held = self._watched(held, power_w, now_s)
        storage_w, cap_w = self._split(power_w, held, now_s)
        if held is None or (cap_w is not None and held.cap_w is None):
            held = await self._engage(power_w, storage_w, cap_w, life_s)
        raws = self._raws(storage_w, cap_w)
        moved = abs(storage_w - held.storage_w) >= PV_DRIFT_PU * self._rated_w
        if raws != held.raws and (power_w != held.power_w or moved):
            await write_points(self._registers, {f: raw for f, raw in raws.items() if held.raws[f] != raw})
            changed_s = now_s if power_w != held.power_w else held.changed_s
            held = replace(
                held, power_w=power_w, storage_w=storage_w, cap_w=cap_w, raws=held.raws | raws, changed_s=changed_s
            )
        if now_s - held.armed_s >= life_s / 2:
            await self._start_timers(held.cap_w, life_s)
            held = replace(held, armed_s=now_s)
        if held.differs_since_s is not None or now_s - held.checked_s >= CHECK_PERIOD_S:
            held = await self._check(held)
        self._held = held

    async def release(self) -> None:
        self._held = None
        wanted: dict[Field, int] = {}
        if self._rates:
            wanted[self._rates["StorCtl_Mod"]] = 0
            if self._may_charge is not None:
                wanted[self._rates["ChaGriSet"]] = self._may_charge
        if self._cap:
            wanted[self._cap["WMaxLim_Ena"]] = _DISABLED
        for field, raw in wanted.items():
            await write_points(self._registers, {field: raw})
        for _ in range(int(HOLDS_WITHIN_S / RELEASE_POLL_S)):
            found = await read_points(self._registers, wanted)
            if found == wanted:
                self._may_charge = None
                _log.info("device released: device=%s", self._name)
                return
            await asyncio.sleep(RELEASE_POLL_S)
        wrong = "; ".join(f"{f} is still {found[f]}, {raw} was written" for f, raw in wanted.items() if found[f] != raw)
        raise DeviceRejected(f"device {self._name}: {wrong} to release it")

    def _split(self, power_w: float, held: _Held | None, now_s: float) -> tuple[float, float | None]:
        """(storage power, cap or None) [W] that make an AC power, by what the panels give now."""
        if abs(power_w) > self._rated_w > 0:
            raise DeviceRejected(
                f"device {self._name}: {power_w:.0f} W asked, and its rating is {self._rated_w:.0f} W (models 120, 121)"
            )
        if not self._rates:
            if power_w < 0:
                raise DeviceRejected(f"device {self._name}: {power_w:.0f} W asked, and it has no storage to charge")
            return 0.0, power_w
        pv_w = read_pv_power_w(self._image, self._points) or 0.0
        wanted_w = power_w - pv_w
        storage_w = max(-self._charge_w, min(self._discharge_w, wanted_w))
        beyond = wanted_w < -self._charge_w and power_w >= 0.0
        over = held is not None and held.over_since_s is not None and now_s - held.over_since_s >= _OVER_S
        if not self._cap or not (beyond or over or (held is not None and held.cap_w is not None)):
            return storage_w, None
        return storage_w, max(0.0, power_w)

    def _watched(self, held: _Held | None, power_w: float, now_s: float) -> _Held | None:
        """What is held, with a note since when the device gives too much though it holds what it was told."""
        if held is None:
            return None
        shown_w = self._image.number(self._points.power)
        over = (
            power_w == held.power_w
            and held.differs_since_s is None
            and self._pictured_s() > held.changed_s
            and shown_w is not None
            and shown_w > max(0.0, power_w) + _OVER_PU * self._rated_w
        )
        since_s = now_s if held.over_since_s is None else held.over_since_s
        return replace(held, over_since_s=since_s if over else None)

    def _raws(self, storage_w: float, cap_w: float | None) -> dict[Field, int]:
        raws: dict[Field, int] = {}
        if self._rates:
            out, into = (self._rates[name] for name in _RATES)
            raws[out] = self._percent(out, storage_w, self._discharge_w)
            raws[into] = self._percent(into, -storage_w, self._charge_w)
        if cap_w is not None:
            raws[self._cap["WMaxLimPct"]] = self._percent(self._cap["WMaxLimPct"], cap_w, self._rated_w)
        return raws

    def _percent(self, field: Field, power_w: float, base_w: float) -> int:
        power = self._image.power(field)
        if power is None:
            raise DeviceRejected(f"device {self._name}: {field} has no scale factor, so no power can be written to it")
        return codec.unscaled(100.0 * power_w / base_w, power)

    async def _engage(self, power_w: float, storage_w: float, cap_w: float | None, life_s: int) -> _Held:
        """Makes the device hold a power, the way back first, so that there is no instant without it."""
        now_s = self._clock.monotonic_s()
        raws = self._raws(storage_w, cap_w)
        await self._start_timers(cap_w, life_s)
        if self._rates:
            await self._let_charge()
            await write_points(self._registers, {f: raw for f, raw in raws.items() if f.model_id == 124})
            await write_points(self._registers, {self._rates["StorCtl_Mod"]: _PINNED})
            raws[self._rates["StorCtl_Mod"]] = _PINNED
        if cap_w is not None:
            await write_points(self._registers, {f: raw for f, raw in raws.items() if f.model_id == 123})
            await write_points(self._registers, {self._cap["WMaxLim_Ena"]: _ENABLED})
            raws[self._cap["WMaxLim_Ena"]] = _ENABLED
        # Some devices start a timer only when its time is written to an enabled function.
        await self._start_timers(cap_w, life_s)
        _log.info("device engaged: device=%s lifetime_s=%d capped=%s", self._name, life_s, cap_w is not None)
        return _Held(power_w, storage_w, cap_w, raws, life_s, now_s, None, now_s, now_s, differs_since_s=now_s)

    async def _let_charge(self) -> None:
        """Permits charging from the grid while the device is held; `release` puts the owner's own setting back."""
        setting = self._rates.get("ChaGriSet")
        found = self._image.raw(setting)
        if setting is None or not isinstance(found, int) or found == _FROM_GRID or self._may_charge is not None:
            return
        await write_points(self._registers, {setting: _FROM_GRID})
        self._may_charge = found

    async def _start_timers(self, cap_w: float | None, life_s: int) -> None:
        for timer in self._timers:
            if timer.model_id == 124 or cap_w is not None:
                await write_points(self._registers, {timer: life_s})

    async def _check(self, held: _Held) -> _Held:
        """Reads back what was written. Raises DeviceRejected once the device has shown something else for too long."""
        now_s = self._clock.monotonic_s()
        wanted = held.raws | {t: held.lifetime_s for t in self._timers if t.model_id == 124 or held.cap_w is not None}
        found = await read_points(self._registers, wanted)
        wrong = [f"{f} is {found[f]}, {raw} was written" for f, raw in wanted.items() if found[f] != raw]
        if not wrong:
            return replace(held, checked_s=now_s, differs_since_s=None)
        since_s = held.differs_since_s if held.differs_since_s is not None else now_s
        if now_s - since_s >= HOLDS_WITHIN_S:
            raise DeviceRejected(f"device {self._name} does not hold what it was told: {'; '.join(wrong)}")
        return replace(held, checked_s=now_s, differs_since_s=since_s)

    def _usable(self, model: ModelMap | None, names: tuple[str, ...], rated: bool) -> dict[str, Field]:
        """The model's fields where it implements all that are needed, else none."""
        if model is None or not rated or any(self._image.raw(model.fields.get(name)) is None for name in names):
            return {}
        return model.fields


def required_fields(*models: ModelMap | None) -> tuple[Field, ...]:
    """What must have been read before a LegacyPowerControl can be made."""
    names = ("StorCtl_Mod", *_RATES, _RATES_TIMER, "ChaGriSet", *_CAP, _CAP_TIMER)
    return tuple(model.fields[name] for model in models if model for name in names if name in model.fields)
