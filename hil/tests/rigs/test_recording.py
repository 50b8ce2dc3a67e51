"""Response times from synthetic recordings whose answers are known beforehand, and the file there and back."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hil.plant.frequency import Crossing, Timeline
from hil.plant.home import HomePlant
from hil.plant.household import SteadyHousehold
from hil.rigs.clock import ManualClock
from hil.rigs.home import serve_home
from hil.rigs.recorded import RecordedTime
from hil.rigs.recorder import Recorder
from hil.rigs.recording import DeviceRecording, RigRecording, level_lags, load_recording, responses
from hil.rigs.rig import Order, OrderError, Rig, parse_order
from hil.rigs.scenario import load

T0 = 1_800_000_000_000.0
Array = NDArray[np.float64]


def device(t_ms: Array, power_w: Array, setpoint_w: Array) -> DeviceRecording:
    zero = np.zeros_like(t_ms)
    return DeviceRecording(
        site="home-01",
        t_ms=t_ms,
        frequency_hz=zero + 60,
        power_w=power_w,
        setpoint_w=setpoint_w,
        soc=zero,
        pv_w=zero,
        load_w=zero,
        reversions_ms=np.array([]),
    )


@pytest.fixture
def stepped() -> DeviceRecording:
    """Ticks every 10 ms; a write of 3 kW 37 ms after the crossing at 1000 ms, then 50 kW/s; before it 1 kW held."""
    t = T0 + np.sort(np.append(np.arange(0, 3000, 10.0), 1037.0))
    power = 1000 + np.clip((t - T0 - 1037) * 50, 0, 2000)
    return device(t, power, np.where(t < T0 + 1037, 1000.0, 3000.0))


def test_command_and_movement_are_told_apart(stepped: DeviceRecording) -> None:
    (response,) = responses(stepped, [Crossing(T0 + 1000, True)], threshold_w=100)
    assert response.to_command_ms == pytest.approx(37.0)
    assert response.to_movement_ms == pytest.approx(39.0, abs=0.001), "100 W at 50 W/ms, between two ticks"


def test_the_crossing_need_not_be_a_sample(stepped: DeviceRecording) -> None:
    (response,) = responses(stepped, [Crossing(T0 + 1003.3, True)], threshold_w=100)
    assert response.to_command_ms == pytest.approx(33.7, abs=0.001)
    assert response.to_movement_ms == pytest.approx(35.7, abs=0.001)


def test_a_small_correction_is_no_answer(stepped: DeviceRecording) -> None:
    (response,) = responses(stepped, [Crossing(T0 + 1000, True)], threshold_w=2500)
    assert (response.commanded_ms, response.moved_ms) == (None, None)
    assert response.to_movement_ms is None


def test_an_answer_that_comes_too_late_is_none(stepped: DeviceRecording) -> None:
    (response,) = responses(stepped, [Crossing(T0 + 100, True)], threshold_w=100, within_ms=900)
    assert response.to_command_ms is None
    assert response.to_movement_ms is None


def test_without_a_setpoint_before_the_power_is_the_reference(stepped: DeviceRecording) -> None:
    free = device(stepped.t_ms, stepped.power_w, np.where(stepped.t_ms < T0 + 1037, np.nan, 3000.0))
    (response,) = responses(free, [Crossing(T0 + 1000, True)], threshold_w=100)
    assert response.to_command_ms == pytest.approx(37.0)


@pytest.mark.parametrize("at_ms", [T0 - 1, T0 + 5000])
def test_a_crossing_outside_the_recording_is_refused(stepped: DeviceRecording, at_ms: float) -> None:
    with pytest.raises(ValueError, match="does not cover"):
        responses(stepped, [Crossing(at_ms, True)], threshold_w=100)


def test_level_lag_of_a_delayed_curve_is_its_delay() -> None:
    t = T0 + np.arange(0, 20_000, 10.0)
    ideal = 1500 * np.sin((t - T0) / 2000)
    late = device(t, 1500 * np.sin((t - 80 - T0) / 2000), np.full_like(t, np.nan))
    lags = level_lags(late, t, ideal, [500.0, -500.0, 1000.0])
    found = [lag.lag_ms for lag in lags]
    assert len(found) == sum(
        int(np.sum((ideal[1:] <= level) != (ideal[:-1] <= level))) for level in (500.0, -500.0, 1000.0)
    )
    assert found == pytest.approx([80.0] * len(found), abs=0.1)
    assert {lag.rising for lag in lags} == {True, False}


def test_a_level_never_reached_has_no_lag() -> None:
    t = T0 + np.arange(0, 4000, 10.0)
    short = device(t, np.minimum(t - T0, 900.0), np.full_like(t, np.nan))
    (lag,) = level_lags(short, t, t - T0, [1000.0])
    assert lag.ideal_ms - T0 == pytest.approx(1000)
    assert (lag.register_ms, lag.lag_ms) == (None, None)


def test_frequency_of_a_recording_is_the_timeline() -> None:
    timeline = Timeline()
    timeline.steps([(T0, 59.7), (T0 + 100, 60.0)], now_ms=T0 - 1)
    recording = RigRecording(*timeline.breakpoints(), {})
    instants = T0 + np.array([-1000.0, -0.5, 0.0, 50.0, 99.9, 100.0, 5000.0])
    assert list(recording.frequency(instants)) == [timeline(t) for t in instants]
    assert [c.utc_ms for c in recording.crossings(59.85, from_ms=T0 + 1)] == [T0 + 100]


async def test_a_saved_recording_loads_as_what_happened(tmp_path: Path) -> None:
    clock = ManualClock(T0)
    scenario = load("underfrequency")
    rig = Rig(scenario, 2, RecordedTime(_utc(T0), scenario.recorded.start), clock, host="127.0.0.1", first_port=0)
    await rig.obey(Order(play_at_utc_ms=T0 + 1000))
    for _ in range(7000):  # 70 s: the fall to the trigger is at 66 s
        clock.leap(0.01)
        for home in rig.homes:
            home.tick()
    answer = await rig.obey(Order(save=str(tmp_path / "recording.npz")))
    assert answer == {"saved": str(tmp_path / "recording.npz")}

    recording = load_recording(tmp_path / "recording.npz")
    assert sorted(recording.homes) == ["home-01", "home-02"]
    saved = recording.homes["home-02"]
    assert saved.t_ms - T0 == pytest.approx(10 * np.arange(1, 7001), abs=0.001)
    assert saved.frequency_hz == pytest.approx(recording.frequency(saved.t_ms), abs=1e-9)
    assert np.isnan(saved.setpoint_w).all()
    assert saved.power_w == pytest.approx(saved.pv_w, abs=0.5)
    trigger = recording.crossings(59.85, to_ms=T0 + 68_000)[0]
    assert trigger.falling
    assert trigger.utc_ms - T0 == pytest.approx(1000 + 66_050, abs=17)


def test_a_long_recording_keeps_what_is_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.rigs.recorder._KEPT", 100)
    home = load("underfrequency").home(0)
    plant = HomePlant(home.rating, soc=0.5, household=SteadyHousehold(), frequency=Timeline(), start_ms=T0)
    recorder = Recorder(plant)
    for ms in range(1, 1001):
        plant.advance(T0 + ms)
        recorder.sample()
    kept = recorder.arrays()
    assert 100 <= len(kept["t_ms"]) <= 200
    assert list(kept["t_ms"] - T0) == list(range(1001 - len(kept["t_ms"]), 1001))
    assert {len(values) for name, values in kept.items() if name != "reversions_ms"} == {len(kept["t_ms"])}


async def test_writes_and_reversions_are_in_the_recording() -> None:
    clock = ManualClock(T0)
    async with serve_home(household=SteadyHousehold(pv=1000.0), clock=clock) as rig:
        ena = rig.registers.map.point(704, "WSetEna").address
        rig.registers.write(rig.registers.map.point(704, "WSetRvrtTms").address, [0, 2], T0)
        rig.registers.write(ena, [1, 1, 0, 2000], T0)
        rig.recorder.sample()
        clock.leap(5)
        rig.tick()
        arrays = rig.recorder.arrays()
    assert arrays["setpoint_w"][0] == 2000
    assert np.isnan(arrays["setpoint_w"][-1])
    assert list(arrays["reversions_ms"]) == [T0 + 2000]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param('{"play_at": 5}', "unknown field `play_at`", id="unknown key"),
        pytest.param("{}", "exactly one of play_at_utc_ms, steps, save", id="nothing"),
        pytest.param('{"save": "a", "freeze": "home-01"}', "exactly one", id="two"),
        pytest.param('{"steps": []}', "length >= 1", id="no steps"),
        pytest.param("play", "malformed", id="not JSON"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(line: str, reason: str) -> None:
    with pytest.raises(OrderError, match=reason):
        parse_order(line)


async def test_an_order_that_cannot_be_obeyed_says_why(tmp_path: Path) -> None:
    clock = ManualClock(T0)
    scenario = load("underfrequency")
    rig = Rig(scenario, 1, RecordedTime(_utc(T0), scenario.recorded.start), clock, host="127.0.0.1", first_port=0)
    with pytest.raises(OrderError, match="500 ms in the past"):
        await rig.obey(Order(play_at_utc_ms=T0 - 500))
    with pytest.raises(OrderError, match="no home is called 'home-07'"):
        await rig.obey(Order(freeze="home-07"))
    with pytest.raises(OrderError, match="No such file or directory"):
        await rig.obey(Order(save=str(tmp_path / "nowhere" / "recording.npz")))


def _utc(utc_ms: float) -> datetime:
    return datetime.fromtimestamp(utc_ms / 1000, UTC)
