"""What is kept for an outage: enough that a simulated house without grid and coordinator stays lit, and no more."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.control.backup import kept_soc
from edge_agent.control.bounds import Storage, available
from edge_agent.control.energy import DISCHARGE_EFFICIENCY
from edge_agent.model.clock import VirtualClock
from edge_agent.model.config import ControlConfig
from edge_agent.model.forecast import Expectation
from edge_agent.model.intent import Intent, Schedule
from edge_agent.model.values import Nameplate, Quality, Sample, Snapshot
from edge_agent.runtime.broadcasts import Broadcasts
from edge_agent.runtime.decision import Decision
from edge_agent.runtime.flexible import FlexibleUnits
from edge_agent.runtime.guard_memory import GuardMemory
from edge_agent.runtime.intents import Intents
from edge_agent.runtime.messages import Reporter
from edge_agent.runtime.statistics import LoopStatistics
from edge_agent.runtime.stay_memory import StayMemory
from edge_agent.runtime.stop import Stops
from edge_agent.runtime.testing import UNGUARDED

PLATE = Nameplate(
    manufacturer="Example",
    model="Hybrid 5",
    serial="1",
    rated_power_w=5000.0,
    max_charge_w=5000.0,
    max_discharge_w=5000.0,
    storage_capacity_wh=10_000.0,
)
STORAGE = Storage(nameplate=PLATE, soc_min=0.1, soc_max=0.95)


def expecting(load_w: list[float], sun_w: list[float]) -> Expectation:
    return Expectation(start_ms=0, step_s=3600, load_w=tuple(load_w), sun_w=tuple(sun_w), source="a test")


@pytest.mark.parametrize(
    ("load_w", "sun_w", "hours", "soc"),
    [
        # 1,800 Wh at the terminals are 2,000 Wh of the cells, a fifth of them
        pytest.param([450.0] * 12, [], 4.0, 0.30, id="a dark evening"),
        pytest.param([900.0] * 12, [0.0] * 12, 2.0, 0.30, id="the same in half the time"),
        pytest.param([450.0] * 12, [900.0] * 12, 4.0, 0.10, id="more sun than load: nothing beyond the owner's limit"),
        pytest.param([900.0, 900.0, 0.0, 900.0], [0.0, 0.0, 900.0, 0.0], 4.0, 0.30, id="sun fills it before the rest"),
        pytest.param([0.0, 900.0, 900.0, 0.0], [900.0, 0.0, 0.0, 0.0], 4.0, 0.20, id="sun that comes first helps"),
        pytest.param([5000.0] * 12, [], 12.0, 0.90, id="more than there is: never up to the owner's other limit"),
    ],
)
def test_what_is_kept_brings_the_house_through(
    load_w: list[float], sun_w: list[float], hours: float, soc: float
) -> None:
    assert kept_soc(STORAGE, expecting(load_w, sun_w), now_ms=0.0, hours=hours) == pytest.approx(soc)


def test_it_is_kept_for_the_hours_that_begin_now() -> None:
    evening = expecting([0.0] * 6 + [900.0] * 4 + [0.0] * 14, [0.0] * 24)
    kept = [kept_soc(STORAGE, evening, now_ms=3.6e6 * at, hours=6.0) for at in (0, 3, 7.5, 10, 18, 19)]
    assert kept[:5] == [pytest.approx(soc) for soc in (0.1, 0.4, 0.35, 0.1, 0.1)]
    assert kept[5] is None, "so far it does not reach"


@given(
    load_w=st.lists(st.floats(0, 3000), min_size=6, max_size=6),
    sun_w=st.lists(st.floats(0, 3000), min_size=6, max_size=6),
)
def test_a_house_that_begins_with_what_is_kept_never_falls_below_the_owners_limit(
    load_w: list[float], sun_w: list[float]
) -> None:
    kept = kept_soc(STORAGE, expecting(load_w, sun_w), now_ms=0.0, hours=6.0)
    assert kept is not None
    if kept == pytest.approx(STORAGE.soc_max - 0.05):
        return  # it is not enough, and said to be all that can be kept
    cells_wh = kept * PLATE.storage_capacity_wh
    for used_w, shone_w in zip(load_w, sun_w, strict=True):
        cells_wh -= (used_w - shone_w) / DISCHARGE_EFFICIENCY
        assert cells_wh >= STORAGE.soc_min * PLATE.storage_capacity_wh - 1e-6


@pytest.mark.parametrize(
    ("hours", "alone", "scheduled", "power_w"),
    [
        pytest.param(6.0, True, False, 0.0, id="alone: the storage is kept, the grid feeds the house"),
        pytest.param(6.0, False, False, 800.0, id="the coordinator is there: self-consumption"),
        pytest.param(0.0, True, False, 800.0, id="the owner does not want that"),
        pytest.param(6.0, True, True, 1500.0, id="what was promised to the coordinator goes on"),
    ],
)
def test_it_binds_the_owners_default_alone(hours: float, alone: bool, scheduled: bool, power_w: float) -> None:
    clock = VirtualClock()
    reporter = Reporter(site="s", boot_id="b", clock=clock, send=lambda data: None)
    intents = Intents(lambda *_: None, lambda *_: None, lambda _: "", lambda _: None)
    config = ControlConfig(guard=UNGUARDED, backup_hours=hours)
    broadcasts, nowhere = Broadcasts(), Path("nowhere")
    flexible = FlexibleUnits(
        config,
        None,
        intents=intents,
        broadcasts=broadcasts,
        stops=Stops(nowhere),
        clock=clock,
        statistics=LoopStatistics(clock),
        refused=lambda _: None,
        memory=StayMemory(nowhere),
    )
    decision = Decision(config, intents, broadcasts, Stops(nowhere), reporter, GuardMemory(nowhere), flexible)
    if scheduled:
        body = Schedule(start_s=0.0, mtu_s=1e6, power_w=(1500.0,), plan_id="p")
        intents.offer(Intent(kind="schedule", sequence=1, starts_s=0.0, ends_s=1e9, body=body))
    decision.expect(expecting([900.0] * 200, []), alone=alone, ahead_ms=-1e3 * clock.now_s)

    def good(value: float) -> Sample:
        return Sample(value, Quality.GOOD, clock.now_s)

    snapshot = Snapshot(
        at_s=clock.now_s,
        utc_ms=0,
        soc=good(0.5),  # 6 h of 900 W need 0.7
        pv_power_w=good(0.0),
        inverter_power_w=good(0.0),
        grid_power_w=good(-800.0),
        bounds=available(STORAGE, good(0.5), good(0.0)),
    )
    merged = decision.decide(snapshot, STORAGE)
    assert merged is not None
    assert merged.setpoint.power_w == pytest.approx(power_w)
    assert decision.backup_soc == (pytest.approx(0.7) if hours and alone else None)
