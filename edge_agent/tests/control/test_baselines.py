"""Schedule, self-consumption and idle."""

import math

import pytest

from edge_agent.control import idle, self_consumption
from edge_agent.control import schedule as schedule_control
from edge_agent.control.bounds import Storage
from edge_agent.control.self_consumption import LoadState
from edge_agent.model.intent import Schedule
from edge_agent.model.values import MISSING, Nameplate, Quality, Sample, Snapshot

PLATE = Nameplate(
    manufacturer="Example",
    model="Hybrid 5",
    serial="1",
    rated_power_w=5000.0,
    max_charge_w=4000.0,
    max_discharge_w=4500.0,
    storage_capacity_wh=10_000.0,
)
STORAGE = Storage(nameplate=PLATE, soc_min=0.1, soc_max=0.9)
PV_ONLY = Storage(
    nameplate=Nameplate(manufacturer="Example", model="PV", serial="1", rated_power_w=3000.0), soc_min=0.1, soc_max=0.9
)


def snapshot(at_s: float, *, grid_w: float, inverter_w: float, pv_w: float = 0.0, soc: float = 0.5) -> Snapshot:
    def good(value: float) -> Sample:
        return Sample(value, Quality.GOOD, at_s)

    return Snapshot(
        at_s=at_s,
        utc_ms=0,
        grid_power_w=good(grid_w),
        inverter_power_w=good(inverter_w),
        pv_power_w=good(pv_w),
        soc=good(soc),
    )


@pytest.mark.parametrize(
    ("now_s", "power_w"),
    [(99.9, None), (100.0, 500.0), (159.9, 500.0), (160.0, -250.0), (219.9, -250.0), (220.0, None)],
)
def test_schedule_by_market_time_unit(now_s: float, power_w: float | None) -> None:
    schedule = Schedule(start_s=100.0, mtu_s=60.0, power_w=(500.0, -250.0), plan_id="p")
    assert schedule_control.propose(schedule, now_s).power_w == power_w


def test_self_consumption_follows_the_load_not_its_own_effect() -> None:
    """1.2 kW of load: whatever the inverter gives at the moment, the wish is 1.2 kW."""
    for inverter_w in (0.0, 1200.0, 4200.0, -3000.0):
        at = snapshot(1.0, grid_w=inverter_w - 1200.0, inverter_w=inverter_w)
        assert self_consumption.propose(LoadState(), at, STORAGE)[1].power_w == 1200.0


def test_self_consumption_smooths_a_step_of_load() -> None:
    state, _ = self_consumption.propose(LoadState(), snapshot(0.0, grid_w=-500.0, inverter_w=0.0), STORAGE)
    state, proposal = self_consumption.propose(state, snapshot(1.0, grid_w=-1500.0, inverter_w=0.0), STORAGE)
    assert proposal.power_w == pytest.approx(500.0 + 1000.0 * (1 - math.exp(-1)), abs=1.0)


def test_self_consumption_does_not_write_for_a_few_watts() -> None:
    state, first = self_consumption.propose(LoadState(), snapshot(0.0, grid_w=-500.0, inverter_w=0.0), STORAGE)
    _, second = self_consumption.propose(state, snapshot(10.0, grid_w=-508.0, inverter_w=0.0), STORAGE)
    assert second.power_w == first.power_w == 500.0


def test_the_same_meter_reading_counts_once() -> None:
    state, _ = self_consumption.propose(LoadState(), snapshot(0.0, grid_w=-500.0, inverter_w=0.0), STORAGE)
    state, first = self_consumption.propose(state, snapshot(1.0, grid_w=-1500.0, inverter_w=0.0), STORAGE)
    for _ in range(100):
        state, again = self_consumption.propose(state, snapshot(1.0, grid_w=-1500.0, inverter_w=0.0), STORAGE)
    assert again.power_w == first.power_w


@pytest.mark.parametrize(
    ("soc", "power_w"),
    [
        pytest.param(0.5, 300.0, id="room: the sun goes into storage"),
        pytest.param(0.9, 4200.0, id="full: the surplus goes to the grid"),
    ],
)
def test_self_consumption_never_curtails_the_sun(soc: float, power_w: float) -> None:
    at = snapshot(0.0, grid_w=-300.0, inverter_w=0.0, pv_w=4200.0, soc=soc)
    assert self_consumption.propose(LoadState(), at, STORAGE)[1].power_w == power_w


def test_self_consumption_has_no_wish_without_a_meter_or_storage() -> None:
    blind = Snapshot(at_s=0.0, utc_ms=0, inverter_power_w=Sample(1.0, Quality.GOOD, 0.0), grid_power_w=MISSING)
    _, proposal = self_consumption.propose(LoadState(), blind, STORAGE)
    assert (proposal.power_w, proposal.note) == (None, "grid meter is bad")
    _, proposal = self_consumption.propose(LoadState(), snapshot(0.0, grid_w=0.0, inverter_w=0.0), PV_ONLY)
    assert proposal.power_w is None


def test_idle_passes_the_sun_on() -> None:
    assert idle.propose(snapshot(0.0, grid_w=0.0, inverter_w=0.0, pv_w=1234.4), STORAGE).power_w == 1234.0
    assert idle.propose(snapshot(0.0, grid_w=0.0, inverter_w=0.0, pv_w=1234.4), PV_ONLY).power_w is None
