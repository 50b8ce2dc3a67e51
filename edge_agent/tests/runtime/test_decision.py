"""All controllers together: bounds, what is stronger, and what stays whole whatever is below it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.control.bounds import Storage, available
from edge_agent.model.broadcast import Broadcast, Price, Regulation
from edge_agent.model.clock import VirtualClock
from edge_agent.model.config import ControlConfig
from edge_agent.model.intent import ArmService, Body, FollowPrice, Intent, PowerSetpoint, Schedule
from edge_agent.model.values import PowerBounds, Quality, Sample, Snapshot
from edge_agent.runtime.broadcasts import Broadcasts
from edge_agent.runtime.decision import Decision
from edge_agent.runtime.flexible import FlexibleUnits
from edge_agent.runtime.guard_memory import GuardMemory
from edge_agent.runtime.intents import Intents
from edge_agent.runtime.messages import Reporter
from edge_agent.runtime.statistics import LoopStatistics
from edge_agent.runtime.stay_memory import StayMemory
from edge_agent.runtime.stop import Stops
from edge_agent.runtime.testing import PLATE, UNGUARDED
from protos import services

STORAGE = Storage(nameplate=PLATE, soc_min=0.1, soc_max=0.95)
ORDER = ("service", "setpoint", "price", "schedule")  # from the strongest
SERVICES = {name: services.load(name) for name in ("gb-dc", "fcr-n", "pjm-regd", "afrr", "ercot-ffr")}


@dataclass(frozen=True)
class Case:
    """What is asked of a site, and how it is there."""

    asked: dict[str, Body]
    frequency_hz: float
    signal: float
    price: int
    soc: float
    pv_w: float
    load_w: float

    def decide(self, without: str = "") -> tuple[float, float, PowerBounds]:
        """Setpoint, the service's grant, and the bounds, after a few cycles."""
        clock = VirtualClock()
        broadcasts, reporter = Broadcasts(), Reporter(site="s", boot_id="b", clock=clock, send=lambda data: None)
        intents = Intents(lambda *_: None, lambda *_: None, lambda _: "", lambda _: None)
        nowhere = Path("nowhere")
        control, memory = ControlConfig(guard=UNGUARDED), GuardMemory(nowhere)
        stops = Stops(nowhere)
        flexible = FlexibleUnits(
            control,
            None,
            intents=intents,
            broadcasts=broadcasts,
            stops=stops,
            clock=clock,
            statistics=LoopStatistics(clock),
            refused=lambda _: None,
            memory=StayMemory(nowhere),
        )
        decision = Decision(control, intents, broadcasts, stops, reporter, memory, flexible)
        for kind, body in self.asked.items():
            if kind != without:
                intents.offer(Intent(kind=kind, sequence=1, starts_s=0.0, ends_s=1e9, body=body))
        until_s = clock.now_s + 1e6
        price, signal = Price(ticks=self.price, step_share=0.5), Regulation(signal=self.signal)
        broadcasts.take(Broadcast(group="north", sequence=1, heard_s=clock.now_s, ends_s=until_s, body=price))
        broadcasts.take(Broadcast(group="north", sequence=2, heard_s=clock.now_s, ends_s=until_s, body=signal))
        for _ in range(4):
            clock.now_s += 0.05
            snapshot = self._snapshot(clock.now_s)
            merged = decision.decide(snapshot, STORAGE)
        assert merged is not None
        assert snapshot.bounds is not None
        granted = merged.granted_w[0] if "service" in self.asked and without != "service" else 0.0
        return merged.setpoint.power_w, granted, snapshot.bounds

    def _snapshot(self, now_s: float) -> Snapshot:
        def good(value: float) -> Sample:
            return Sample(value, Quality.GOOD, now_s)

        return Snapshot(
            at_s=now_s,
            utc_ms=0,
            frequency_hz=good(self.frequency_hz),
            soc=good(self.soc),
            pv_power_w=good(self.pv_w),
            inverter_power_w=good(0.0),
            grid_power_w=good(-self.load_w),
            bounds=available(STORAGE, good(self.soc), good(self.pv_w)),
        )


bodies = st.fixed_dictionaries(
    {},
    optional={
        "service": st.builds(
            ArmService,
            award_id=st.just("a"),
            service=st.sampled_from(list(SERVICES.values())),
            contracted_w=st.floats(100, 5_000),
            group=st.just("north"),
        ),
        "setpoint": st.builds(PowerSetpoint, power_w=st.floats(-9_000, 9_000), reason=st.just("test")),
        "price": st.builds(FollowPrice, group=st.sampled_from(["north", "south"]), fallback_ticks=st.just(4_000)),
        "schedule": st.builds(
            Schedule,
            start_s=st.just(0.0),
            mtu_s=st.just(1e6),
            power_w=st.tuples(st.floats(-9_000, 9_000)),
            plan_id=st.just("p"),
            stored_value_ticks=st.sampled_from([(), (5_000,), (-5_000,)]),
        ),
    },
)
cases = st.builds(
    Case,
    asked=bodies,
    frequency_hz=st.floats(47.0, 60.5),
    signal=st.floats(-1, 1),
    price=st.integers(-10_000, 50_000),
    soc=st.floats(0.0, 1.0),
    pv_w=st.floats(0, 6_000),
    load_w=st.floats(0, 6_000),
)


@settings(deadline=None, max_examples=150)
@given(cases)
def test_whatever_is_asked_the_output_stays_inside_the_bounds(case: Case) -> None:
    power_w, granted_w, bounds = case.decide()
    assert bounds.lower_w <= power_w <= bounds.upper_w
    assert abs(granted_w) <= bounds.upper_w - bounds.lower_w + 1e-6


@settings(deadline=None, max_examples=150)
@given(cases, st.sampled_from(ORDER))
def test_without_a_controller_no_stronger_one_gets_less(case: Case, gone: str) -> None:
    power_w, granted_w, _ = case.decide()
    without_w, still_w, _ = case.decide(gone)
    stronger = [kind for kind in ORDER[: ORDER.index(gone)] if kind in case.asked]
    if "service" in stronger:
        assert still_w == granted_w
    if "setpoint" in stronger:  # it makes the baseline already: nothing below it can be seen at all
        assert without_w == power_w


@pytest.mark.parametrize(
    ("asked", "power_w"),
    [
        pytest.param((), 700.0, id="the owner's default: the home's load"),
        pytest.param(("schedule",), 500.0, id="a schedule"),
        pytest.param(("schedule", "price"), 5_000.0, id="a price over it"),
        pytest.param(("schedule", "price", "setpoint"), -1_000.0, id="a setpoint over both"),
        pytest.param(("schedule", "price", "setpoint", "service"), 0.0, id="and a service on top"),
        pytest.param(("schedule", "price", "service"), 5_000.0, id="a service keeps its room and answers"),
    ],
)
def test_who_is_stronger(asked: tuple[str, ...], power_w: float) -> None:
    everything: dict[str, Body] = {
        "schedule": Schedule(start_s=0.0, mtu_s=1e6, power_w=(500.0,), plan_id="p", stored_value_ticks=(5_000,)),
        "price": FollowPrice(group="north", fallback_ticks=0),
        "setpoint": PowerSetpoint(power_w=-1_000.0, reason="test"),
        "service": ArmService(award_id="a", service=SERVICES["pjm-regd"], contracted_w=1_000.0, group="north"),
    }
    case = Case(
        asked={kind: everything[kind] for kind in asked},
        frequency_hz=60.0,
        signal=1.0,
        price=9_000,
        soc=0.6,
        pv_w=0.0,
        load_w=700.0,
    )
    assert case.decide()[0] == pytest.approx(power_w)
