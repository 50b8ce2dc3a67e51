"""Devices that are there, that come later, that cannot be used."""

import asyncio

import msgspec
import pytest

from edge_agent.model.config import AgentConfig, DeviceConfig
from edge_agent.model.devices import DeviceFault, DeviceTimeout, Inverter
from edge_agent.runtime.messages import Reporter, Severity
from edge_agent.runtime.site import Site
from edge_agent.runtime.testing import Bench, FakeDevice


def with_device(bench: Bench, device: DeviceConfig) -> AgentConfig:
    return msgspec.structs.replace(bench.config, devices=(*bench.config.devices, device))


async def test_unreachable_at_the_start_runs_degraded_and_says_so(bench: Bench) -> None:
    bench.unreachable = True
    await bench.agent.site.open_all()
    bench.agent.describe()
    bench.arm("ercot-ffr", 3000)
    await bench.run_for(5.0)
    assert bench.codes() == ["device.lost"]
    assert bench.agent.site.silent == ["hybrid"]
    assert len(bench.snapshots()) >= 95
    description = bench.received[1].description
    assert (description.devices[0].name, description.rated_power_w) == ("hybrid", 0.0)


async def test_found_later_it_is_described_and_controlled(bench: Bench) -> None:
    bench.unreachable = True
    await bench.agent.site.open_all()
    bench.arm("ercot-ffr", 3000)
    await bench.run_for(1.0)
    bench.unreachable = False
    await bench.agent.site.find_missing(bench.agent.describe)
    bench.home.frequency_hz = lambda now_s: 59.8
    await bench.run_for(2.0)
    assert bench.codes() == ["device.lost", "device.found", "service.armed", "service.triggered"]
    description = next(m.description for m in bench.received if m.WhichOneof("body") == "description")
    assert description.devices[0].sunspec_models == [1, 701, 702, 704, 713, 714, 203]
    assert (description.rated_power_w, description.storage_capacity_wh) == (5000.0, 10_000.0)
    # What may be planned with: a hundredth inside the owner's limits, so that a plan is kept to the watt.
    assert (description.soc_min, description.soc_max) == pytest.approx((0.11, 0.94))
    assert bench.home.power_w == pytest.approx(3700.0)


async def test_retries_wait_longer_and_longer(bench: Bench) -> None:
    bench.unreachable = True
    await bench.agent.site.open_all()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        bench.unreachable = len(waits) < 8

    async def open_device(config: DeviceConfig) -> FakeDevice:
        if bench.unreachable:
            raise DeviceTimeout("nobody answers")
        return FakeDevice(config.name, bench.home)

    site = Site(
        bench.config, open_device, bench.agent.flexible, clock=bench.clock, reporter=bench.agent.reporter, sleep=sleep
    )
    await site.open_all()
    await site.find_missing(lambda: None)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


async def test_a_fault_at_the_start_is_raised(bench: Bench) -> None:
    bench.fault = "device hybrid: no SunSpec map at unit 3; unit 1 has one: set unit_id = 1"
    with pytest.raises(DeviceFault, match="set unit_id = 1"):
        await bench.agent.site.open_all()


async def test_a_fault_found_later_is_told_once(bench: Bench) -> None:
    bench.unreachable = True
    await bench.agent.site.open_all()
    bench.unreachable, bench.fault = False, "device hybrid: no SunSpec map"
    seeking = asyncio.create_task(bench.agent.site.find_missing(bench.agent.describe))
    await bench.run_for(300.0)
    assert bench.codes() == ["device.lost", "device.fault"]
    bench.fault = ""
    await seeking
    await bench.run_for(0.1)
    assert bench.codes() == ["device.lost", "device.fault", "device.found"]


async def test_two_inverters_are_refused_and_closed(bench: Bench) -> None:
    opened: list[FakeDevice] = []

    async def open_device(config: DeviceConfig) -> FakeDevice:
        opened.append(FakeDevice(config.name, bench.home))
        return opened[-1]

    other = DeviceConfig(name="second", driver="sunspec", host="192.0.2.2")
    reporter = Reporter(site="home-01", boot_id="b", clock=bench.clock, send=lambda message: None)
    site = Site(with_device(bench, other), open_device, bench.agent.flexible, clock=bench.clock, reporter=reporter)
    with pytest.raises(DeviceFault, match=r"device second: is an inverter, and the site has one already"):
        await site.open_all()
    await site.close()
    assert [device.closed for device in opened] == [True, True]


async def test_a_meter_of_its_own_is_read_as_the_grid(bench: Bench) -> None:
    async def open_device(config: DeviceConfig) -> FakeDevice:
        device = FakeDevice(config.name, bench.home)
        if config.name == "meter":
            device.inverter, device.control = None, None
        else:
            device.meter = None
        return device

    meter = DeviceConfig(name="meter", driver="sunspec", host="192.0.2.2")
    agent = bench.agent
    site = Site(with_device(bench, meter), open_device, agent.flexible, clock=bench.clock, reporter=agent.reporter)
    await site.open_all()
    plant = site.plant
    assert plant.meter is not None
    assert plant.inverter is not None
    await plant.meter.refresh()
    assert plant.meter.reading is not None
    assert plant.meter.reading.power_w.good == bench.home.power_w - bench.home.load_w
    inverter: Inverter = bench.home
    assert plant.storage is not None
    assert plant.storage.nameplate is inverter.nameplate


async def test_what_is_wrong_with_a_device_is_told_once_and_drift_is_an_alarm(bench: Bench) -> None:
    device = FakeDevice("hybrid", bench.home)
    device.findings = ("model 704 says length 57",)
    drift = "local droop (model 711) is not as configured: Ctl[0].KOf is 0.08, 0.05 is configured"
    rounds = 0

    async def sleep(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            device.findings = ("model 704 says length 57", drift)
        elif rounds == 5:
            device.findings = ("model 704 says length 57",)
        elif rounds == 7:
            raise asyncio.CancelledError

    async def open_device(config: DeviceConfig) -> FakeDevice:
        return device

    site = Site(
        bench.config, open_device, bench.agent.flexible, clock=bench.clock, reporter=bench.agent.reporter, sleep=sleep
    )
    await site.open_all()
    with pytest.raises(asyncio.CancelledError):
        await site.watch_findings()
    await bench.run_for(0.1)
    told = [(event.code, event.severity, event.text) for event in bench.events()]
    assert told == [
        ("device.finding", Severity.WARNING.value, "hybrid: model 704 says length 57"),
        ("device.finding", Severity.ALARM.value, f"hybrid: {drift}"),
        ("device.settled", Severity.INFO.value, f"hybrid: no longer: {drift}"),
    ]
