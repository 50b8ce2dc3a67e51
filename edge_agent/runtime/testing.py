"""A home without hardware and a clock without waiting: the real loop runs on them in tests."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import structs

from edge_agent.model.clock import VirtualClock
from edge_agent.model.config import AgentConfig, ControlConfig, CoordinatorConfig, DeviceConfig, GuardConfig
from edge_agent.model.devices import (
    Device,
    DeviceFault,
    DeviceRejected,
    DeviceTimeout,
    EvCharger,
    FlexibleLoad,
    Inverter,
    InverterReading,
    Meter,
    MeterReading,
    Microcontroller,
    PowerControl,
)
from edge_agent.model.values import Admitted, Nameplate, Quality, Sample
from edge_agent.runtime.agent import Agent
from protos import services
from protos.vpp.v1 import broadcast_pb2, intent_pb2, local_pb2, report_pb2

PLATE = Nameplate(
    manufacturer="Example",
    model="Hybrid 5",
    serial="1",
    sunspec_models=(1, 701, 702, 704, 713, 714, 203),
    rated_power_w=5000.0,
    max_charge_w=5000.0,
    max_discharge_w=5000.0,
    storage_capacity_wh=10_000.0,
)

# So wide that it shows in nothing: most tests are about what stands below it.
UNGUARDED = GuardConfig(
    ramp_percent_per_s=10_000.0,
    direction_changes_per_hour=3600,
    regulation_mileage_per_hour=1e6,
    cycles_per_day=100.0,
    start_spread_s=0.0,
)


class FakeHome:
    """An ideal hybrid with its own reversion timer, a load, and a meter between them and the grid."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.nameplate = PLATE
        self.frequency_hz: Callable[[float], float] = lambda now_s: 60.0
        self.load_w = 700.0
        self.pv_w = 0.0
        self.others_w: Callable[[], float] = lambda: 0.0  # what else hangs behind the meter; positive feeds
        self.soc = 0.5
        self.own_default_w = 0.0  # what it does when nobody tells it
        self.fails = False  # nobody answers
        self.rejects = ""  # it answers that it will not be set, and why
        self.soc_is_known = True
        self.stall_s = 0.0  # the next reading takes so long
        self.hanging: asyncio.Event | None = None  # readings never come; set by the first of them
        self.reads: list[float] = []  # instants
        self.trace: list[tuple[float, float]] = []  # (instant, power) at each write
        self.releases = 0
        self._held: tuple[float, float] | None = None  # (power, instant it reverts)

    @property
    def power_w(self) -> float:
        """At the inverter's terminals now."""
        if self._held is not None and self._clock.now_s < self._held[1]:
            return self._held[0]
        return self.own_default_w

    @property
    def holds_setpoint(self) -> bool:
        return self._held is not None and self._clock.now_s < self._held[1]

    def _answer(self) -> None:
        if self.fails:
            self._clock.now_s += 0.25
            raise DeviceTimeout("hybrid at 192.0.2.1:502: no answer within 0.25 s")
        self._clock.now_s += 0.001

    def _good(self, value: float) -> Sample:
        return Sample(value, Quality.GOOD, self._clock.now_s)

    async def read_inverter(self) -> InverterReading:
        self.reads.append(self._clock.now_s)
        if self.hanging is not None:
            self.hanging.set()
            await asyncio.Event().wait()
        self._clock.now_s += self.stall_s
        self.stall_s = 0.0
        self._answer()
        return InverterReading(
            power_w=self._good(self.power_w),
            frequency_hz=self._good(self.frequency_hz(self._clock.now_s)),
            voltage_v=self._good(240.0),
            pv_power_w=self._good(self.pv_w),
            soc=self._good(self.soc) if self.soc_is_known else Sample(float("nan"), Quality.BAD, self._clock.now_s),
        )

    async def read_meter(self) -> MeterReading:
        self._answer()
        return MeterReading(power_w=self._good(self.power_w - self.load_w + self.others_w()))

    async def write_power(self, admitted: Admitted, lifetime_s: float) -> None:
        self._answer()
        if self.rejects:
            raise DeviceRejected(self.rejects)
        self._held = (admitted.setpoint.power_w, self._clock.now_s + lifetime_s)
        self.trace.append((self._clock.now_s, admitted.setpoint.power_w))

    async def release(self) -> None:
        self._answer()
        self._held = None
        self.releases += 1


class FakeDevice:
    """The home as a driver would hand it over."""

    def __init__(self, name: str, home: FakeHome, *, read_only: bool = False, inverter: bool = True) -> None:
        self.name = name
        self.nameplate = home.nameplate
        self.findings: tuple[str, ...] = ()
        self.switch = None
        self.charger: EvCharger | None = None
        self.load: FlexibleLoad | None = None
        self.switch_control = None
        self.microcontroller: Microcontroller | None = None
        self.inverter: Inverter | None = home if inverter else None
        self.meter: Meter | None = home
        self.control: PowerControl | None = home if inverter and not read_only else None
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class FakeMeter:
    """A meter for frequency and nothing else, as a driver would hand it over."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.name = "clamp"
        self.nameplate = Nameplate(manufacturer="Example", model="Clamp", serial="2")
        self.findings: tuple[str, ...] = ()
        self.switch = None
        self.charger: EvCharger | None = None
        self.load: FlexibleLoad | None = None
        self.switch_control = None
        self.microcontroller: Microcontroller | None = None
        self.inverter: Inverter | None = None
        self.meter: Meter | None = self
        self.control: PowerControl | None = None
        self.frequency_hz: Callable[[float], float] = lambda now_s: 60.0
        self.voltage_v = 240.0

    async def read_meter(self) -> MeterReading:
        now_s = self._clock.now_s
        return MeterReading(
            frequency_hz=Sample(self.frequency_hz(now_s), Quality.GOOD, now_s),
            voltage_v=Sample(self.voltage_v, Quality.GOOD, now_s),
        )

    async def close(self) -> None:
        """Nothing to end."""


class _Deadline(asyncio.Event):
    """Is set once an instant has come."""

    def __init__(self, clock: VirtualClock, at_s: float) -> None:
        super().__init__()
        self._clock = clock
        self._at_s = at_s

    def is_set(self) -> bool:
        return self._clock.now_s >= self._at_s - 1e-9


class Bench:
    """An agent on a fake home; the test plays sync at the other end of the channel."""

    def __init__(
        self,
        folder: Path,
        control: ControlConfig | None = None,
        *,
        read_only: bool = False,
        meter_priority: int | None = None,
        guard: GuardConfig = UNGUARDED,
        others: Callable[[VirtualClock], Sequence[tuple[DeviceConfig, Device]]] = lambda _: (),
        inverter: bool = True,
    ) -> None:
        """
        Args:
            meter_priority: there is a meter for frequency, too.
            guard: of what the coordinator asks, in `control`.
            others: makes further devices on the bench's clock.
            inverter: False: the home has a grid meter only.
        """
        self.clock = VirtualClock()
        self.home = FakeHome(self.clock)
        self.meter = FakeMeter(self.clock)
        self.unreachable = False
        self.fault = ""
        self.kicks = 0
        self.received: list[local_pb2.ToSync] = []
        self._read_only = read_only
        self._inverter = inverter
        self._others = {config.name: (config, device) for config, device in others(self.clock)}
        self._sequence = 0
        (folder / "data").mkdir(exist_ok=True)
        self.config = AgentConfig(
            site="home-01",
            data_dir=folder / "data",
            coordinator=CoordinatorConfig(claim_file=folder / "claim.toml"),
            control=structs.replace(control or ControlConfig(), guard=guard),
            time_zone="Europe/Berlin",
            devices=(
                DeviceConfig(name="hybrid", driver="sunspec", host="192.0.2.1"),
                *_meters(meter_priority),
                *(device_config for device_config, _ in self._others.values()),
            ),
        )
        self.agent = Agent(
            self.config, open_device=self._open, clock=self.clock, kick=self._kick, sleep=self.clock.sleep
        )
        ours, self._sync = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sync.setblocking(False)
        self.agent.channel.attach(ours)

    async def _open(self, config: DeviceConfig) -> Device:
        if config.frequency_only:
            return self.meter
        if config.name in self._others:
            return self._others[config.name][1]
        if self.fault:
            raise DeviceFault(self.fault)
        if self.unreachable:
            raise DeviceTimeout("hybrid at 192.0.2.1:502: nobody answers")
        return FakeDevice(config.name, self.home, read_only=self._read_only, inverter=self._inverter)

    def _kick(self) -> None:
        self.kicks += 1
        self.drain()

    async def run_for(self, seconds: float) -> None:
        """The loop, until so much virtual time has passed."""
        until_s = self.clock.now_s + seconds
        await self.agent.loop.run(_Deadline(self.clock, until_s))

    def arm(
        self, service_id: str, contracted_w: int, *, start_s: float = 0.0, end_s: float = 3600.0, group: str = ""
    ) -> int:
        """Sends an ArmService from now + start_s to now + end_s; its sequence."""
        service = services.load(service_id)
        arm = intent_pb2.ArmService(
            award_id="award-1",
            service_id=service.id,
            service_version=service.version,
            contracted_w=contracted_w,
            service_toml=services.text(service_id),
            group=group,
        )
        return self.send(start_s, end_s, intent_pb2.Intent(arm=arm))

    def schedule(
        self, power_w: list[int], *, mtu_s: int = 900, end_s: float = 3600.0, stored_value_ticks: tuple[int, ...] = ()
    ) -> int:
        body = intent_pb2.Schedule(
            start_ms=self.clock.utc_ms(),
            mtu_s=mtu_s,
            inverter_power_w=power_w,
            plan_id="plan-1",
            stored_value_ticks=stored_value_ticks,
        )
        return self.send(0.0, end_s, intent_pb2.Intent(schedule=body))

    def release_service(self, award_id: str = "") -> int:
        return self.send(0.0, 60.0, intent_pb2.Intent(release=intent_pb2.Release(award_id=award_id)))

    def send(self, start_s: float, end_s: float, intent: intent_pb2.Intent) -> int:
        """Sends an intent with this body from now + start_s to now + end_s; its sequence."""
        self._sequence += 1
        now_ms = self.clock.utc_ms()
        intent.site = "home-01"
        intent.sequence = self._sequence
        intent.issued_ms = now_ms
        intent.valid_from_ms = now_ms + round(start_s * 1e3)
        intent.expires_ms = now_ms + round(end_s * 1e3)
        self._sync.send(local_pb2.ToControl(intent=intent).SerializeToString())
        return self._sequence

    def broadcast(self, message: broadcast_pb2.Broadcast, *, group: str = "north", lasts_s: float = 60.0) -> int:
        """Sends what is said to a group now; its sequence."""
        self._sequence += 1
        now_ms = self.clock.utc_ms()
        message.group = group
        message.sequence = self._sequence
        message.issued_ms = now_ms
        message.expires_ms = now_ms + round(lasts_s * 1e3)
        self._sync.send(local_pb2.ToControl(broadcast=message).SerializeToString())
        return self._sequence

    def say_linked(self, connected: bool) -> None:
        self._sync.send(local_pb2.ToControl(link=local_pb2.Link(connected=connected)).SerializeToString())

    def say_coordinator_time(self, utc_ms: int) -> None:
        """Sync has measured the coordinator's clock: this is its time now."""
        time = local_pb2.CoordinatorTime(ahead_ms=utc_ms - 1e3 * self.clock.now_s, uncertainty_ms=5.0)
        self._sync.send(local_pb2.ToControl(coordinator_time=time).SerializeToString())

    def drain(self) -> None:
        """Takes what the agent sent."""
        while self._sync.fileno() >= 0:
            try:
                data = self._sync.recv(1 << 16)
            except BlockingIOError:
                return
            self.received.append(local_pb2.ToSync.FromString(data))

    def hang_up(self) -> None:
        """Sync goes."""
        self._sync.close()

    def close(self) -> None:
        self.agent.channel.detach()
        self.agent.close()
        self._sync.close()

    def events(self) -> list[report_pb2.Event]:
        return [m.event for m in self.received if m.WhichOneof("body") == "event"]

    def codes(self) -> list[str]:
        return [event.code for event in self.events()]

    def acks(self) -> list[tuple[int, str]]:
        """(sequence, state) of each acknowledgement that is not of an acceptance."""
        names = report_pb2.Acknowledgement.State.Name
        return [
            (told.sequence, names(told.state).removeprefix("STATE_"))
            for told in self._acknowledgements()
            if told.state != report_pb2.Acknowledgement.STATE_ACCEPTED
        ]

    def accepted(self) -> list[int]:
        """Sequences of the intents that were accepted."""
        accepted = report_pb2.Acknowledgement.STATE_ACCEPTED
        return [told.sequence for told in self._acknowledgements() if told.state == accepted]

    def _acknowledgements(self) -> list[report_pb2.Acknowledgement]:
        return [m.acknowledgement for m in self.received if m.WhichOneof("body") == "acknowledgement"]

    def snapshots(self) -> list[local_pb2.SnapshotReport]:
        return [m.snapshot for m in self.received if m.WhichOneof("body") == "snapshot"]


def _meters(priority: int | None) -> tuple[DeviceConfig, ...]:
    if priority is None:
        return ()
    meter = DeviceConfig(
        name="clamp", driver="sunspec", host="192.0.2.2", frequency_priority=priority, frequency_only=True
    )
    return (meter,)
