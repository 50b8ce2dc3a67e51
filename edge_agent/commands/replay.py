"""A recorded day through the agent's own control loop in virtual time, and what came of it against what was expected.

The inverter is an ideal one: it holds what it is told at once, by itself it hands on what the panels give, and its
storage fills and empties at EFFICIENCY each way unless the day tells the state of charge. Everything else is the
agent: sources of frequency, controllers, arbiter, safety, intents.
"""

import asyncio
import difflib
import math
import re
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec import structs

from edge_agent.commands.recorded_day import RecordedDay
from edge_agent.model.clock import VirtualClock
from edge_agent.model.config import AgentConfig, DeviceConfig
from edge_agent.model.devices import InverterReading, MeterReading
from edge_agent.model.values import MISSING, Admitted, Applied, Clipped, Nameplate, Quality, Sample, Verdict
from edge_agent.runtime.agent import Agent
from protos.vpp.v1 import local_pb2, report_pb2

EFFICIENCY: Final = 0.95  # of the storage, each way

_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a number may lie from the expected one."""

    power_w: float = 5.0
    other: float = 0.002  # hertz, share of the capacity, second


class _Home:
    """The recorded home behind an ideal inverter, as a driver would hand it over."""

    def __init__(self, day: RecordedDay, clock: VirtualClock) -> None:
        plate = day.nameplate
        self.name = "recorded"
        self.nameplate = Nameplate(
            manufacturer="recorded",
            model="ideal inverter",
            serial="",
            rated_power_w=plate.rated_power_w or 0.0,
            max_charge_w=plate.max_charge_w or 0.0,
            max_discharge_w=plate.max_discharge_w or 0.0,
            storage_capacity_wh=plate.storage_capacity_wh or 0.0,
        )
        self.findings: tuple[str, ...] = ()
        self.charger = self.load = self.switch = self.switch_control = self.microcontroller = None
        self.inverter = self.meter = self.control = self
        self.verdict: Verdict | None = None  # on what was last written since somebody looked
        self._day = day
        self._clock = clock
        self._begin_s = clock.monotonic_s()
        self._soc, self._soc_s = day.soc, self._begin_s
        self._held: tuple[float, float] | None = None  # power [W], instant it reverts

    async def read_inverter(self) -> InverterReading:
        self._reckon_on()
        soc = self._recorded("soc") if "soc" in self._day.columns else self._good(self._soc)
        if not self.nameplate.storage_capacity_wh:
            soc = MISSING
        return InverterReading(
            power_w=self._good(self._power_w()),
            frequency_hz=self._recorded("frequency_hz"),
            voltage_v=self._recorded("voltage_v") if "voltage_v" in self._day.columns else MISSING,
            pv_power_w=self._recorded("pv_w"),
            soc=soc,
        )

    async def read_meter(self) -> MeterReading:
        load = self._recorded("load_w")
        return MeterReading(power_w=load if load.good is None else self._good(self._power_w() - load.value))

    async def write_power(self, admitted: Admitted, lifetime_s: float) -> None:
        self._reckon_on()
        self.verdict = admitted
        self._held = (admitted.setpoint.power_w, self._clock.monotonic_s() + lifetime_s)

    async def release(self) -> None:
        self._reckon_on()
        self._held = None

    async def close(self) -> None:
        """Nothing to end."""

    def _power_w(self) -> float:
        """At the AC terminals now."""
        if self._held is not None and self._clock.monotonic_s() < self._held[1]:
            return self._held[0]
        return self._pv_w()

    def _pv_w(self) -> float:
        pv_w = self._day.at("pv_w", self._clock.monotonic_s() - self._begin_s)
        return 0.0 if math.isnan(pv_w) else pv_w

    def _reckon_on(self) -> None:
        """Lets what was held since the last reckoning fill or empty the storage."""
        now_s = self._clock.monotonic_s()
        from_storage_w = self._power_w() - self._pv_w()
        loss = 1 / EFFICIENCY if from_storage_w > 0 else EFFICIENCY
        capacity_wh = self.nameplate.storage_capacity_wh or math.inf
        moved = from_storage_w * loss * (now_s - self._soc_s) / 3600 / capacity_wh
        self._soc, self._soc_s = min(1.0, max(0.0, self._soc - moved)), now_s

    def _recorded(self, column: str) -> Sample:
        value = self._day.at(column, self._clock.monotonic_s() - self._begin_s)
        return MISSING if math.isnan(value) else self._good(value)

    def _good(self, value: float) -> Sample:
        return Sample(value, Quality.GOOD, self._clock.monotonic_s())


class _Replay:
    """The agent on the recorded home; this end of the channel plays sync."""

    def __init__(self, config: AgentConfig, day: RecordedDay, show_every_s: float, data_dir: Path) -> None:
        self._clock = VirtualClock(day.start_ms)
        self._begin_s = self._clock.monotonic_s()
        self._day = day
        self._home = _Home(day, self._clock)
        self._show_every_s = show_every_s
        self._next_show_s = 0.0
        self._shown: tuple[str, str] | None = None
        self._to_give = list(day.intents)
        self._stop = asyncio.Event()
        self.lines: list[str] = []
        device = DeviceConfig(name=self._home.name, driver="sunspec", host="recorded")
        self._agent = Agent(
            _on(config, device, data_dir),
            open_device=self._open,
            clock=self._clock,
            kick=self._cycle_done,
            sleep=self._clock.sleep,
        )
        ours, self._sync = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sync.setblocking(False)
        self._agent.channel.attach(ours)

    async def run(self) -> None:
        try:
            await self._agent.site.open_all()
            self._give()
            await self._agent.loop.run(self._stop)
        finally:
            self._agent.channel.detach()
            self._sync.close()

    async def _open(self, _config: DeviceConfig) -> _Home:
        return self._home

    @property
    def _t_s(self) -> float:
        return self._clock.monotonic_s() - self._begin_s

    def _cycle_done(self) -> None:
        self._hear()
        self._show()
        self._give()
        if self._t_s >= self._day.duration_s - 1e-9:
            self._stop.set()

    def _give(self) -> None:
        while self._to_give and self._to_give[0].issued_ms <= self._clock.utc_ms():
            self._sync.send(local_pb2.ToControl(intent=self._to_give.pop(0)).SerializeToString())

    def _hear(self) -> None:
        while True:
            try:
                said = local_pb2.ToSync.FromString(self._sync.recv(1 << 16))
            except BlockingIOError:
                return
            match said.WhichOneof("body"):
                case "event":
                    severity = report_pb2.Event.Severity.Name(said.event.severity).removeprefix("SEVERITY_").lower()
                    self._say(f"event     {severity} {said.event.code}: {said.event.text}")
                case "acknowledgement":
                    ack = said.acknowledgement
                    state = report_pb2.Acknowledgement.State.Name(ack.state).removeprefix("STATE_").lower()
                    self._say(f"{ack.kind:9} {ack.sequence} {state} {ack.reason}".rstrip())

    def _show(self) -> None:
        """A line every so often, and when whose word counts, or what becomes of it, changes."""
        merged, snapshot = self._agent.loop.merged, self._agent.loop.snapshot
        verdict, self._home.verdict = self._home.verdict, None
        became = _became(verdict)
        source = merged.setpoint.source if merged is not None else "nobody"
        if (source, became) == self._shown and self._t_s < self._next_show_s:
            return
        self._shown = (source, became)
        self._next_show_s = (math.floor(self._t_s / self._show_every_s + 1e-6) + 1) * self._show_every_s - 1e-6
        frequency_hz = snapshot.frequency_hz.good if snapshot is not None else None
        soc = snapshot.soc.good if snapshot is not None else None
        written = f"{verdict.setpoint.power_w:.0f}" if isinstance(verdict, Applied | Clipped) else "none"
        self._say(
            f"setpoint  {written} W, {became}, by {source}; "
            f"{'no' if frequency_hz is None else f'{frequency_hz:.3f}'} Hz, "
            f"soc {'unknown' if soc is None else f'{soc:.3f}'}"
        )

    def _say(self, text: str) -> None:
        self.lines.append(f"{self._t_s:9.1f} s  {text}")


def _on(config: AgentConfig, device: DeviceConfig, data_dir: Path) -> AgentConfig:
    """The owner's configuration, with the recorded device and a folder of its own in place of the site's.

    The random delay by which sites start apart is left out: a day is to come out the same each time.
    """
    guard = structs.replace(config.control.guard, start_spread_s=0.0)
    control = structs.replace(config.control, guard=guard)
    return structs.replace(config, data_dir=data_dir, devices=(device,), status_page=None, control=control)


def _became(verdict: Verdict | None) -> str:
    match verdict:
        case Applied():
            return "applied"
        case Clipped():
            return f"clipped by {verdict.by}"
        case _:
            return "not written"


def replay(config: AgentConfig, day: RecordedDay, *, show_every_s: float) -> list[str]:
    """What the agent of this configuration makes of the day: setpoints and verdicts, acknowledgements, events."""
    with tempfile.TemporaryDirectory(prefix="vpp-agent-") as folder:
        run = _Replay(config, day, show_every_s, Path(folder))
        asyncio.run(run.run())
    return run.lines


def differences(expected: Sequence[str], now: Sequence[str], tolerance: Tolerance) -> list[str]:
    """Lines that part, `-` as expected and `+` as they are now. Lines are matched by their words, numbers compared."""
    shapes, found = ([_NUMBER.sub("0", line) for line in lines] for lines in (expected, now))
    parted = []
    for kind, e1, e2, n1, n2 in difflib.SequenceMatcher(None, shapes, found, autojunk=False).get_opcodes():
        if kind == "equal":
            for before, after in zip(expected[e1:e2], now[n1:n2], strict=True):
                if not _near(before, after, tolerance):
                    parted += [f"- {before}", f"+ {after}"]
        else:
            parted += [f"- {line}" for line in expected[e1:e2]] + [f"+ {line}" for line in now[n1:n2]]
    return parted


def _near(before: str, after: str, tolerance: Tolerance) -> bool:
    for one, other in zip(_NUMBER.finditer(before), _NUMBER.finditer(after), strict=True):
        allowed = tolerance.power_w if before[one.end() :].startswith(" W") else tolerance.other
        if abs(float(one[0]) - float(other[0])) > allowed + 1e-9:
            return False
    return True
