"""One home as a device: plant, registers, Modbus TCP server and recorder, sharing one clock.

For tests of other parts:

    async with serve_home(frequency=my_frequency, household=SteadyHousehold(pv=2000.0)) as rig:
        ... connect to rig.host, rig.port, rig.unit_id; look at rig.plant, rig.recorder
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

from hil.plant.frequency import Frequency, Timeline
from hil.plant.home import HomePlant
from hil.plant.household import Household
from hil.plant.legacy import LegacyControl
from hil.rigs.clock import RigClock, SteadyClock
from hil.rigs.device_registers import DeviceRegisters, Nameplate
from hil.rigs.history import household as recorded_household
from hil.rigs.legacy_registers import LegacyLayout, LegacyRegisters
from hil.rigs.modbus_server import HomeServer
from hil.rigs.recorded import RecordedTime
from hil.rigs.recorder import Recorder
from hil.rigs.registers import HomeRegisters
from hil.rigs.scenario import ScenarioHome, load

TICK_S: Final = 0.01


class HomeRig:
    """A home that can be served."""

    def __init__(
        self,
        home: ScenarioHome,
        *,
        household: Household,
        frequency: Frequency,
        clock: RigClock,
        host: str = "127.0.0.1",
        port: int = 0,
        unit_id: int = 1,
        layout: LegacyLayout | None = None,
    ) -> None:
        """`layout`: the older models that it speaks; None: those of IEEE 1547, unless the home is a legacy one."""
        self.home = home
        self.frequency = frequency
        self.host = host
        self.unit_id = unit_id
        self._clock = clock
        self.layout = layout = layout or (LegacyLayout() if home.legacy else None)
        legacy = LegacyControl() if layout is not None else None
        self.plant = HomePlant(
            home.rating,
            soc=home.soc,
            household=household,
            frequency=frequency,
            start_ms=clock.utc_ms(),
            legacy=legacy,
        )
        self.recorder = Recorder(self.plant)
        nameplate = Nameplate(serial=home.site, unit_id=unit_id)
        self.registers: DeviceRegisters = (
            HomeRegisters(self.plant, nameplate)
            if legacy is None or layout is None
            else LegacyRegisters(self.plant, legacy, nameplate, layout)
        )
        self.server = HomeServer(
            self.registers,
            unit_id=unit_id,
            host=host,
            port=port,
            to_present=self.to_present,
            written=self.recorder.sample,
        )

    @property
    def site(self) -> str:
        return self.home.site

    @property
    def port(self) -> int:
        """Where it listens. Raises ListenError before it does."""
        return self.server.port

    def to_present(self) -> float:
        """Brings the plant to the clock's instant and returns it [UTC ms]."""
        self.plant.advance(self._clock.utc_ms())
        return self.plant.utc_ms

    def tick(self) -> None:
        """Brings the plant to the present and records it."""
        self.to_present()
        self.recorder.sample()

    def freeze(self) -> None:
        """Has the device answer nothing, its connections open, until `thaw`. The plant lives on."""
        self.server.frozen = True

    def thaw(self) -> None:
        self.server.frozen = False


async def keep_ticking(rigs: Sequence[HomeRig]) -> None:
    """Ticks homes for ever, every TICK_S; a tick that comes too late is not made up for."""
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    while True:
        due_s = max(due_s + TICK_S, loop.time())
        await asyncio.sleep(due_s - loop.time())
        for rig in rigs:
            rig.tick()


@asynccontextmanager
async def serve_home(
    home: ScenarioHome | None = None,
    *,
    household: Household | None = None,
    frequency: Frequency | None = None,
    clock: RigClock | None = None,
    port: int = 0,
    unit_id: int = 1,
    layout: LegacyLayout | None = None,
) -> AsyncIterator[HomeRig]:
    """A home served and ticking inside the block. Raises ListenError.

    Without `home` the first one of the scenario `underfrequency`; without `household` its recorded one, as if the
    scenario began now; without `frequency` a quiet `Timeline` of 60 Hz; without `clock` the machine's.
    """
    home = home or load("underfrequency").home(0)
    rig = HomeRig(
        home,
        household=household or recorded_household(home, RecordedTime(datetime.now(UTC))),
        frequency=frequency or Timeline(),
        clock=clock or SteadyClock(),
        port=port,
        unit_id=unit_id,
        layout=layout,
    )
    await rig.server.start()
    ticking = asyncio.create_task(keep_ticking([rig]))
    try:
        yield rig
    finally:
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
        await rig.server.stop()
