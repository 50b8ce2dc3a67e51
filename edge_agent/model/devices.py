"""What a device can do, as small protocols. A driver offers those it has; a read-only device has no writable half."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from edge_agent.model.values import MISSING, Admitted, Nameplate, Sample


class DeviceTimeout(Exception):
    """The device did not answer in time; the next attempt may succeed."""


class DeviceRejected(Exception):
    """The device answered that it will not; says which point and what it said."""


class DeviceFault(Exception):
    """The device cannot be used as configured; names device, finding and remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReading:
    """One reading of a meter. Positive power flows towards the grid."""

    power_w: Sample = MISSING
    frequency_hz: Sample = MISSING
    frequency_interval_s: float | None = None  # between two renewals, where the meter says so itself
    voltage_v: Sample = MISSING


@dataclass(frozen=True, slots=True, kw_only=True)
class InverterReading:
    """One reading of an inverter, with its storage where it has one."""

    power_w: Sample = MISSING  # AC terminals, positive towards the grid
    frequency_hz: Sample = MISSING
    voltage_v: Sample = MISSING
    pv_power_w: Sample = MISSING
    soc: Sample = MISSING


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexiblePlate:
    """What a vehicle's charger, or a flexible load, can do. Powers are magnitudes at its AC terminals [W]."""

    max_draw_w: float
    least_draw_w: float  # the smallest it can draw without resting: a charger's least current, all of a heating rod
    max_feed_w: float = 0.0  # towards the grid; 0 where it only draws


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargerReading:
    """One reading of a vehicle's charger. Positive power flows towards the grid: charging is negative."""

    power_w: Sample = MISSING
    plugged: bool | None = None  # None: it does not tell
    session_wh: Sample = MISSING  # into the vehicle since it came, or since the charging before the one to come began
    # What few chargers know of the vehicle, and the owner has to say for the others.
    needed_wh: Sample = MISSING  # at its AC terminals until the vehicle is ready; below 0: so much more than that
    ready_in_s: Sample = MISSING  # until the owner wants it ready; below 0: it is late


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReading:
    """One reading of a flexible load. What it draws is negative."""

    power_w: Sample = MISSING
    # How full its store is within the owner's comfort: 0 at the least and 1 at the most, and beyond these outside.
    level: Sample = MISSING


class Meter(Protocol):
    async def read_meter(self) -> MeterReading:
        """A fresh reading. Raises DeviceTimeout, DeviceRejected."""
        ...


class Inverter(Protocol):
    @property
    def nameplate(self) -> Nameplate: ...

    async def read_inverter(self) -> InverterReading:
        """A fresh reading. Raises DeviceTimeout, DeviceRejected."""
        ...


class EvCharger(Protocol):
    @property
    def plate(self) -> FlexiblePlate: ...

    async def read_charger(self) -> ChargerReading:
        """A fresh reading. Raises DeviceTimeout, DeviceRejected."""
        ...


class FlexibleLoad(Protocol):
    @property
    def plate(self) -> FlexiblePlate: ...

    async def read_load(self) -> LoadReading:
        """A fresh reading. Raises DeviceTimeout, DeviceRejected."""
        ...


class PowerControl(Protocol):
    """The writable half of an inverter, a charger or a load. It takes only what safety admitted.

    A charger or a load draws no more than it is told: less than it can draw without resting makes it rest.
    """

    async def write_power(self, admitted: Admitted, lifetime_s: float) -> None:
        """Holds the setpoint; the device's own reversion timer lets go `lifetime_s` after the last write.

        Writes nothing where the device already holds this power and its timer needs no refreshing yet.
        Raises DeviceTimeout, DeviceRejected.
        """
        ...

    async def release(self) -> None:
        """Gives the device back to its own default now. Raises DeviceTimeout, DeviceRejected."""
        ...


class Switch(Protocol):
    async def read_switch(self) -> bool:
        """Whether it is on. Raises DeviceTimeout, DeviceRejected."""
        ...


class SwitchControl(Protocol):
    """The writable half of a switch."""

    async def write_switch(self, on: bool) -> None:
        """Switches it. Raises DeviceTimeout, DeviceRejected."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Droop:
    """A frequency droop that an inverter answers by itself. None: what the device does not have, or does not tell."""

    deadband_over_hz: float | None = None  # from nominal
    deadband_under_hz: float | None = None
    droop_over: float | None = None  # per-unit frequency change that is worth full power
    droop_under: float | None = None
    response_s: float | None = None  # open loop


class LocalDroop(Protocol):
    """The droop of an inverter's own, for a link too slow to answer frequency over it."""

    @property
    def droop(self) -> Droop | None:
        """What is in force, as last read back (no older than half a minute); None: switched off."""
        ...

    async def set_droop(self, droop: Droop | None) -> None:
        """Puts a droop in force, or switches it off; returns once the device shows it.

        Writes nothing that is so already. Raises DeviceTimeout, DeviceRejected.
        """
        ...

    def drift(self, droop: Droop) -> str | None:
        """How the device, as last read back, differs from a droop; None where it does not."""
        ...


class UpdateState(IntEnum):
    """Where a microcontroller stands with a new firmware; numbers of model 64912 St."""

    IDLE = 0
    RECEIVING = 1
    RECEIVED = 2
    VERIFYING = 3
    VERIFIED = 4
    SWITCHING = 5
    TRIAL = 6
    HEALTHY = 7
    REFUSED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStatus:
    """What a microcontroller says of its firmware and of the next one."""

    state: UpdateState
    why: str  # in words, where it was refused
    rolled_back: bool  # the last one was
    have: int  # bytes of the next one's image
    version: tuple[int, int, int]  # of what runs
    verify_s: float  # how long the last verification took


class Microcontroller(Protocol):
    """The writable half of a microcontroller that runs our firmware. Nothing in it moves power.

    All raise DeviceTimeout, DeviceRejected.
    """

    @property
    def update_chunk_bytes(self) -> int:
        """The longest chunk that `write_update` takes."""
        ...

    async def write_clock(self, clock_ms: int) -> None:
        """Tells what a monotonic clock shows now [ms], for it to calibrate its crystal by."""
        ...

    async def read_update(self) -> UpdateStatus: ...

    async def begin_update(self, image: bytes) -> None:
        """Announces an image; the device goes on with the one that it has begun, if it is the same."""
        ...

    async def write_update(self, offset: int, data: bytes) -> None:
        """A chunk of it. One that does not begin where the last one ended is left out: `have` tells."""
        ...

    async def verify_update(self) -> None: ...

    async def switch_update(self) -> None:
        """The device starts again with what was verified, on trial."""
        ...

    async def confirm_update(self) -> None:
        """What is on trial stays; taken once the device calls itself healthy."""
        ...


class Device(Protocol):
    """One device as a driver opened it. A capability that it lacks is None: it does not exist, rather than refusing."""

    @property
    def name(self) -> str: ...

    @property
    def nameplate(self) -> Nameplate: ...

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong with the device though it can be used, in words for whoever installs it."""
        ...

    @property
    def inverter(self) -> Inverter | None: ...

    @property
    def meter(self) -> Meter | None: ...

    @property
    def control(self) -> PowerControl | None:
        """None where the device has none, or is configured read-only."""
        ...

    @property
    def charger(self) -> EvCharger | None: ...

    @property
    def load(self) -> FlexibleLoad | None: ...

    @property
    def switch(self) -> Switch | None: ...

    @property
    def switch_control(self) -> SwitchControl | None:
        """None where the device is no switch, or is configured read-only."""
        ...

    @property
    def microcontroller(self) -> Microcontroller | None:
        """None where it does not run our firmware, or is configured read-only."""
        ...

    async def close(self) -> None:
        """Ends the connection. Does not release the device."""
        ...
