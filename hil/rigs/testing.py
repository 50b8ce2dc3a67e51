"""A served home as the device contract wants it, for the tests of every kind of home."""

from edge_agent.model.config import DeviceConfig
from hil.contract import Truth
from hil.rigs.clock import ManualClock
from hil.rigs.home import HomeRig


class AgentClock:
    """The rig's clock as the agent reads it."""

    def __init__(self, rig_clock: ManualClock) -> None:
        self._rig_clock = rig_clock

    def monotonic_s(self) -> float:
        return self._rig_clock.now_ms / 1000.0

    def utc_ms(self) -> int:
        return int(self._rig_clock.now_ms)


class HomeBench:
    """A served home as the device contract wants it."""

    def __init__(self, rig: HomeRig, clock: ManualClock) -> None:
        self.clock = AgentClock(clock)
        self._rig, self._rig_clock = rig, clock
        rating, layout = rig.home.rating, rig.layout
        self._storage = layout is None or layout.storage
        self._tells_pv = layout is None or layout.strings > 0
        self.rated_power_w = rating.inverter.power_w
        self.max_charge_w = self._storage * min(rating.inverter.power_w, rating.battery.max_charge_w)
        self.max_discharge_w = self._storage * min(rating.inverter.power_w, rating.battery.max_discharge_w)
        self.storage_capacity_wh = self._storage * rating.battery.capacity_wh

    @property
    def writes(self) -> int:
        return self._rig.server.writes

    @property
    def commanded_w(self) -> float | None:
        self._rig.to_present()
        return self._rig.plant.commanded_w

    @property
    def truth(self) -> Truth:
        self._rig.to_present()
        plant = self._rig.plant
        return Truth(
            inverter_power_w=plant.power_w,
            meter_power_w=plant.grid_w,
            pv_power_w=plant.pv_w if self._tells_pv else None,
            frequency_hz=plant.frequency_hz,
            voltage_v=plant.voltage_v,
            meter_frequency_hz=plant.frequency_hz,
            meter_voltage_v=plant.voltage_v,
            soc=plant.battery.soc if self._storage else None,
        )

    def config(self, *, timeout_s: float, read_only: bool) -> DeviceConfig:
        rig = self._rig
        return DeviceConfig(
            name=rig.site,
            driver="sunspec",
            host=rig.host,
            port=rig.port,
            unit_id=rig.unit_id,
            timeout_s=timeout_s,
            read_only=read_only,
        )

    def pass_time(self, seconds: float) -> None:
        self._rig_clock.leap(seconds)

    def keep_silent(self, silent: bool) -> None:
        if silent:
            self._rig.freeze()
        else:
            self._rig.thaw()
