"""Sources of frequency in the real loop: which is acted upon, what is told, and what may be armed on it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.model.devices import InverterReading
from edge_agent.model.values import Quality, Sample
from edge_agent.runtime.testing import Bench
from protos import services


def live(now_s: float) -> float:
    return round(60.0 + 0.03 * math.sin(now_s / 3.0) + 0.02 * math.sin(now_s / 0.7), 3)


def renewed(every_s: float) -> Callable[[float], float]:
    return lambda now_s: live(math.floor(now_s / every_s + 1e-6) * every_s)


@pytest.fixture
def metered(tmp_path: Path) -> Iterator[Bench]:
    """A hybrid, and a meter for frequency that comes first."""
    built = Bench(tmp_path, meter_priority=1)
    yield built
    built.close()


def refusals(bench: Bench) -> list[str]:
    """Reasons of the refused intents."""
    messages = [m.acknowledgement for m in bench.received if m.WhichOneof("body") == "acknowledgement"]
    return [message.reason for message in messages if message.state == message.STATE_REFUSED]


async def test_a_service_is_refused_on_a_register_that_is_too_slow_for_it(bench: Bench, tmp_path: Path) -> None:
    await bench.agent.site.open_all()
    bench.home.frequency_hz = renewed(1.0)
    await bench.run_for(30.0)
    ffr = bench.arm("ercot-ffr", 3000)
    await bench.run_for(1.0)
    assert bench.acks() == [(ffr, "REFUSED")]
    assert "ercot-ffr must begin within 0.25 s, and frequency from hybrid comes up to 1.0" in refusals(bench)[0]
    assert "renewed every 1.0" in refusals(bench)[0]
    slow = tmp_path / "slow.toml"
    slow.write_text(services.text("nem-slow-raise").replace("nominal_hz = 50", "nominal_hz = 60"))
    contingency = bench.arm(str(slow), 3000)  # slow enough
    await bench.run_for(1.0)
    assert bench.acks()[-1] == (contingency, "ACTIVE")


async def test_a_fast_meter_makes_it_possible(metered: Bench) -> None:
    await metered.agent.site.open_all()
    metered.home.frequency_hz = renewed(1.0)
    metered.meter.frequency_hz = live
    await metered.run_for(30.0)
    metered.arm("ercot-ffr", 3000)
    await metered.run_for(1.0)
    assert metered.acks() == [(1, "ACTIVE")]
    summary = metered.agent.summary()
    assert summary["frequency_source"] == "clamp"
    assert summary["frequency_sources"]["hybrid"]["interval_s"] == pytest.approx(1.0, abs=0.06)
    assert summary["frequency_sources"]["clamp"]["interval_s"] == pytest.approx(0.05, abs=0.01)


async def test_what_becomes_too_slow_before_its_beginning_is_refused_then(metered: Bench) -> None:
    await metered.agent.site.open_all()
    metered.home.frequency_hz = renewed(1.0)
    metered.meter.frequency_hz = live
    metered.arm("ercot-ffr", 3000, start_s=60.0)
    await metered.run_for(5.0)
    assert metered.acks() == []
    metered.meter.voltage_v = 20.0  # the good meter has come off the line
    await metered.run_for(60.0)
    assert metered.acks() == [(1, "REFUSED")]
    assert "frequency from hybrid comes up to 1.0" in refusals(metered)[0]
    assert "service.armed" not in metered.codes()


async def test_what_is_armed_and_said_again_is_not_ended_by_a_slow_register(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.arm("ercot-ffr", 3000)
    bench.home.frequency_hz = renewed(1.0)
    await bench.run_for(30.0)
    bench.arm("ercot-ffr", 3000)
    await bench.run_for(1.0)
    assert bench.acks() == [(1, "ACTIVE"), (1, "RELEASED"), (2, "ACTIVE")]


async def test_the_meter_is_acted_upon_before_the_inverters_register(metered: Bench) -> None:
    await metered.agent.site.open_all()
    metered.schedule([500])
    metered.arm("ercot-ffr", 3000)
    await metered.run_for(5.0)
    metered.meter.frequency_hz = lambda now_s: 59.8
    crossed_s = metered.clock.now_s
    await metered.run_for(0.2)
    moved_s = next(at_s for at_s, power_w in metered.home.trace if power_w == 3500.0)
    assert moved_s - crossed_s <= 0.11, "the cycle that sees it, which is no jump"


async def test_a_meter_that_parts_from_the_inverter_triggers_nothing_for_long(metered: Bench) -> None:
    await metered.agent.site.open_all()
    metered.schedule([500])
    metered.arm("gb-dc", 3000)
    metered.home.frequency_hz = lambda now_s: 50.0
    metered.meter.frequency_hz = lambda now_s: 50.0 if now_s < 1010.0 else 49.7
    await metered.run_for(30.0)
    assert metered.codes() == ["service.armed", "service.triggered", "frequency.doubted", "service.released"]
    text = metered.events()[2].text
    assert "clamp: 49.700 Hz parts from hybrid 50.000 Hz" in text
    assert metered.home.power_w == 500.0
    assert "parts from" in metered.agent.summary()["services"][0]["note"]
    metered.meter.frequency_hz = lambda now_s: 50.0
    await metered.run_for(5.0)
    assert metered.codes()[-1] == "frequency.source"


async def test_a_dead_line_is_no_frequency_event(metered: Bench) -> None:
    """As recorded in the Iberian blackout: an analyser goes on from 47 to 40 Hz on a line without voltage."""
    await metered.agent.site.open_all()
    metered.arm("ercot-ffr", 3000)
    await metered.run_for(5.0)
    metered.meter.voltage_v = 20.0
    metered.meter.frequency_hz = lambda now_s: 47.0
    await metered.run_for(5.0)
    assert metered.codes() == ["service.armed", "frequency.source"]
    assert metered.events()[1].text == "frequency comes from hybrid (clamp: dead line (20 V))"
    assert metered.home.power_w == metered.home.load_w


async def test_nothing_is_armed_on_a_frequency_that_cannot_be_true(bench: Bench) -> None:
    await bench.agent.site.open_all()
    bench.home.frequency_hz = lambda now_s: 12.0
    await bench.run_for(5.0)
    bench.arm("ercot-ffr", 3000)
    await bench.run_for(1.0)
    assert bench.acks() == [(1, "REFUSED")]
    assert refusals(bench) == ["ercot-ffr: no frequency can be acted upon: hybrid: out of range (12.000 Hz)"]
    assert bench.codes() == ["frequency.doubted"]
    assert not bench.snapshots()[-1].HasField("frequency_hz")


async def test_a_meter_for_frequency_is_no_grid_meter(metered: Bench) -> None:
    await metered.agent.site.open_all()
    await metered.run_for(2.0)
    assert metered.snapshots()[-1].grid_power_w == 0.0, "the hybrid's own meter"
    assert [name for name, _ in metered.agent.site.nameplates] == ["hybrid", "clamp"]


@pytest.mark.parametrize(("priority", "used"), [(1, "clamp"), (5, "hybrid"), (9, "hybrid")])
async def test_priority_decides(tmp_path: Path, priority: int, used: str) -> None:
    bench = Bench(tmp_path, meter_priority=priority)
    try:
        await bench.agent.site.open_all()
        await bench.run_for(1.0)
        assert bench.agent.summary()["frequency_source"] == used
    finally:
        bench.close()


async def test_a_reason_of_the_driver_travels(bench: Bench) -> None:
    await bench.agent.site.open_all()
    read = bench.home.read_inverter

    async def dead() -> InverterReading:
        reading = await read()
        return replace(reading, frequency_hz=Sample(47.0, Quality.BAD, reading.soc.at_s, "dead line (3 V)"))

    await bench.run_for(1.0)
    inverter = bench.agent.site.plant.inverter
    assert inverter is not None
    inverter._read = dead
    await bench.run_for(3.0)
    assert bench.codes() == ["frequency.doubted"]
    assert bench.events()[0].text == "no frequency is acted upon: hybrid: dead line (3 V)"
