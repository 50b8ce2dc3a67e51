"""A home's charger and heating rod, each a device of a shipped profile behind its own Modbus TCP port.

They hang behind the home's grid meter: `WithFlexible` is the household as that meter sees it. A vehicle stands there
from the first moment on, and wants more than a run has time for.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from edge_agent.drivers.profile_loading import load
from hil.plant.charger import Charger, ChargerRating, Visit
from hil.plant.heater import Heater, HeaterRating
from hil.plant.household import Household
from hil.rigs.profile_flexible import FlexibleProfileDevice
from hil.rigs.served import TcpDevice

CHARGER, HEATER = "keba-p30", "mypv-ac-elwa-2"
UNIT_IDS: Final = {CHARGER: 255, HEATER: 1}
PHASES, MOST_A, VOLTAGE_V = 3, 16.0, 230.0
_MOST_W, _LEAST_W = PHASES * VOLTAGE_V * MOST_A, PHASES * VOLTAGE_V * 6.0
ROD_W: Final = 3_000.0


class FlexibleDevices:
    """The two, on one clock."""

    def __init__(self, now_s: Callable[[], float], *, host: str = "127.0.0.1") -> None:
        self.car = Charger(ChargerRating(max_draw_w=_MOST_W, least_draw_w=_LEAST_W))
        self.car.plug(Visit(stored_wh=15_000.0, capacity_wh=60_000.0, wanted_wh=50_000.0, ready_at_s=float("inf")))
        self.tank = Heater(HeaterRating(power_w=ROD_W, least_w=100.0), temperature_c=55.0)
        self.wallbox = FlexibleProfileDevice(
            load(CHARGER), self.car, now_s=now_s, phases=PHASES, voltage_v=VOLTAGE_V, most_a=MOST_A
        )
        self.rod = FlexibleProfileDevice(load(HEATER), self.tank, now_s=now_s)
        self._served = {
            CHARGER: TcpDevice(self.wallbox, unit_id=UNIT_IDS[CHARGER], host=host),
            HEATER: TcpDevice(self.rod, unit_id=UNIT_IDS[HEATER], host=host),
        }
        self._host = host

    @property
    def power_w(self) -> float:
        """Of both, positive towards the grid."""
        return self.wallbox.power_w + self.rod.power_w

    async def listen(self, stack: AsyncExitStack) -> None:
        """Opens both ports; the stack closes them. Raises ListenError."""
        for served in self._served.values():
            await stack.enter_async_context(served)

    def agent_toml(self, *, owner: str = "") -> str:
        """Both as an agent's configuration has them; they must listen. owner: lines for [devices.ev_charger]."""
        rating = self.tank.rating

        def device(name: str, profile: str) -> str:
            return (
                f'\n[[devices]]\nname = "{name}"\ndriver = "profile"\nprofile = "{profile}"\nhost = "{self._host}"\n'
                f"port = {self._served[profile].port}\nunit_id = {UNIT_IDS[profile]}\n"
            )

        return (
            f"{device('wallbox', CHARGER)}\n[devices.ev_charger]\nmax_current_a = {MOST_A}\nphases = {PHASES}\n{owner}"
            f"{device('tank', HEATER)}\n[devices.flexible_load]\npower_w = {ROD_W}\n"
            f"comfort_min_c = {rating.comfort_min_c}\ncomfort_max_c = {rating.comfort_max_c}\n"
        )


class WithFlexible:
    """A household with its charger and its heater."""

    def __init__(self, household: Household, devices: FlexibleDevices) -> None:
        self._household = household
        self._devices = devices

    def load_w(self, utc_ms: float) -> float:
        """Of the household at that instant, with what the two draw now."""
        return self._household.load_w(utc_ms) - self._devices.power_w

    def pv_w(self, utc_ms: float) -> float:
        return self._household.pv_w(utc_ms)
