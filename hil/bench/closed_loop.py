"""A whole agent on a simulated home in virtual time: its own loop, decisions, arbiter and safety, on hil's plant.

The device is a hybrid inverter with a fast meter's frequency (a fresh value at every reading, 1 mHz steps) that takes
a millisecond a transaction; its power follows setpoints with the plant's own lag and slope limit. A service that
follows a signal hears it broadcast to its group as often as it says.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.model.clock import VirtualClock
from edge_agent.model.devices import InverterReading
from edge_agent.model.values import Admitted
from edge_agent.runtime.testing import PLATE, Bench, FakeHome
from hil.plant.battery import BatteryRating
from hil.plant.home import HomePlant, HomeRating
from hil.plant.household import SteadyHousehold
from hil.plant.inverter import InverterRating, Setting
from protos import services
from protos.vpp.v1 import broadcast_pb2

Array = NDArray[np.float64]

CONTRACTED_W: Final = 2000
BASELINE_W: Final = 300
GROUP: Final = "regulation"
RESOLUTION_HZ: Final = 0.001
_SETTLE_S: Final = 5.0  # from the start of the agent until its first setpoint holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What the device did: one value a sample, `dt_s` apart, the first at the instant the frequency begins."""

    dt_s: float
    followed: Array  # the frequency as the device measures it [Hz], or the share that was last broadcast
    share: Array  # beyond the baseline, of the contracted power
    soc: Array  # 0..1
    soc_limits: tuple[float, float]  # the owner's

    def every(self, dt_s: float) -> "Trace":
        """The same, sampled at a multiple of its own distance."""
        step = round(dt_s / self.dt_s)
        return replace(self, dt_s=dt_s, followed=self.followed[::step], share=self.share[::step], soc=self.soc[::step])


class PlantHome(FakeHome):
    """A home whose power is the plant's, recorded at fixed instants."""

    def __init__(
        self, clock: VirtualClock, frequency_hz: Callable[[float], float], sample_s: float, soc: float
    ) -> None:
        """frequency_hz: at a monotonic instant [s]."""
        super().__init__(clock)
        self.frequency_hz = frequency_hz
        battery = BatteryRating(
            capacity_wh=PLATE.storage_capacity_wh,
            max_charge_w=PLATE.max_charge_w,
            max_discharge_w=PLATE.max_discharge_w,
        )
        self._plant = HomePlant(
            HomeRating(inverter=InverterRating(power_w=PLATE.rated_power_w), battery=battery, pv_w=0.0),
            soc=soc,
            household=SteadyHousehold(load=self.load_w),
            frequency=lambda utc_ms: frequency_hz(utc_ms / 1e3),
            start_ms=clock.now_s * 1e3,
        )
        self._sample_s = sample_s
        self._next_sample = 0
        self._start_s = clock.now_s
        self.samples: list[tuple[float, float, float]] = []  # (Hz, W, state of charge) every sample_s from the start

    @property
    def power_w(self) -> float:
        self._advance()
        return self._plant.power_w

    async def read_inverter(self) -> InverterReading:
        self._answer()
        self._advance()
        self.soc = self._plant.battery.soc
        return InverterReading(
            power_w=self._good(self._plant.power_w),
            frequency_hz=self._good(self._measured_hz(self._clock.now_s)),
            voltage_v=self._good(self._plant.voltage_v),
            pv_power_w=self._good(self._plant.pv_w),
            soc=self._good(self.soc),
        )

    async def write_power(self, admitted: Admitted, lifetime_s: float) -> None:
        self._answer()
        self._advance()
        self._plant.control.active = Setting(enabled=True, power_w=admitted.setpoint.power_w)
        self._plant.control.reversion_time_s = round(lifetime_s)
        self._plant.control.rearm(self._plant.utc_ms)

    async def release(self) -> None:
        self._answer()
        self._advance()
        self._plant.control.revert()

    def _measured_hz(self, at_s: float) -> float:
        return round(round(self.frequency_hz(at_s) / RESOLUTION_HZ) * RESOLUTION_HZ, 6)

    def _advance(self) -> None:
        while (at_s := self._start_s + self._next_sample * self._sample_s) <= self._clock.now_s:
            self._plant.advance(at_s * 1e3)
            self.samples.append((self._measured_hz(at_s), self._plant.power_w, self._plant.battery.soc))
            self._next_sample += 1
        self._plant.advance(self._clock.now_s * 1e3)


class _PlantBench(Bench):
    """The agent's bench, on a plant."""

    def __init__(self, folder: Path, frequency_hz: Callable[[float], float], sample_s: float, soc: float) -> None:
        super().__init__(folder)
        self.plant = PlantHome(self.clock, frequency_hz, sample_s, soc)
        self.home = self.plant

        self.said: list[tuple[float, float]] = []  # (instant, share) of each signal
        self._signal: tuple[Callable[[float], float], float] | None = None
        self._next_s = 0.0

    def say(self, share: Callable[[float], float], every_s: float, begin_s: float) -> None:
        """From `begin_s` on broadcasts a signal; share: at an instant of the agent's clock [s]."""
        self._signal, self._next_s = (share, every_s), begin_s

    def _kick(self) -> None:
        super()._kick()
        if self._signal is not None and self.clock.now_s >= self._next_s:
            at, every_s = self._signal
            share = at(self._next_s)
            regulation = broadcast_pb2.Regulation(signal_e6=round(share * 1e6))
            self.broadcast(broadcast_pb2.Broadcast(regulation=regulation), group=GROUP)
            self.said.append((self.clock.now_s, share))
            self._next_s += every_s
        self.received.clear()  # hours of pictures are not needed here


async def run(
    service_reference: str,
    followed: Callable[[float], float],
    duration_s: float,
    *,
    sample_s: float = 0.1,
    soc: float = 0.5,
    baseline_w: int = BASELINE_W,
) -> Trace:
    """The device under a service of CONTRACTED_W on top of a scheduled baseline; what it follows plays from instant 0.

    followed: the frequency [Hz], or the share of a service that follows a signal. The service is armed at instant 0;
    before it the frequency stands where it begins. Raises ServiceError.
    """
    service = services.load(service_reference)
    with tempfile.TemporaryDirectory(prefix="vpp-hil-") as folder:
        begin_s = VirtualClock().now_s + _SETTLE_S
        signal, nominal_hz = service.signal, float(service.nominal_hz)

        def play(now_s: float) -> float:
            return followed(max(0.0, now_s - begin_s))

        bench = _PlantBench(Path(folder), play if signal is None else lambda now_s: nominal_hz, sample_s, soc)
        try:
            await bench.agent.site.open_all()
            lasts_s = duration_s + 60.0
            bench.schedule([baseline_w], mtu_s=round(lasts_s), end_s=lasts_s)
            group = "" if signal is None else GROUP
            bench.arm(service_reference, CONTRACTED_W, start_s=begin_s - bench.clock.now_s, end_s=lasts_s, group=group)
            if signal is not None:
                bench.say(play, signal.interval_s, begin_s)
            await bench.run_for(_SETTLE_S + duration_s)
            samples = np.array(bench.plant.samples)[round(_SETTLE_S / sample_s) :]
        finally:
            bench.close()
    heard = (
        samples[:, 0]
        if signal is None
        else _held(bench.said, np.arange(len(samples), dtype=np.float64) * sample_s + begin_s)
    )
    return Trace(
        dt_s=sample_s,
        followed=heard,
        share=(samples[:, 1] - baseline_w) / CONTRACTED_W,
        soc=samples[:, 2],
        soc_limits=(bench.config.control.soc_min, bench.config.control.soc_max),
    )


def _held(said: list[tuple[float, float]], at_s: Array) -> Array:
    """What had last been said at each instant; nothing before the first."""
    instants, shares = np.array(said).T
    heard: Array = np.concatenate(([0.0], shares))[np.searchsorted(instants, at_s, side="right")]
    return heard
