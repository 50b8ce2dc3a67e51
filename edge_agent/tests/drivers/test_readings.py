"""A hybrid inverter, encoded by pysunspec2, read over Modbus by the driver."""

import math
from typing import Any

import pytest

from edge_agent.model.devices import DeviceRejected
from edge_agent.model.values import Quality


async def test_everything_is_read_with_its_unit_and_sign(serve: Any, opened: Any, clock: Any) -> None:
    device = await opened(await serve())
    reading = await device.inverter.read_inverter()
    assert reading.power_w.good == 1200.0
    assert reading.frequency_hz.good == 60.010
    assert reading.voltage_v.good == 240.0
    assert reading.pv_power_w.good == 900.0
    assert reading.soc.good == 0.625
    assert reading.power_w.at_s == clock.now_s
    meter = await device.meter.read_meter()
    assert meter.power_w.good == -800.0  # importing
    assert meter.frequency_hz.good == 60.01
    assert meter.voltage_v.good == 239.8


async def test_nameplate_takes_the_smaller_of_rating_and_setting(serve: Any, opened: Any) -> None:
    plate = (await opened(await serve())).nameplate
    assert (plate.manufacturer, plate.model, plate.serial) == ("Oracle Power", "Hybrid 5", "H5-0001")
    assert plate.sunspec_models == (1, 701, 702, 704, 713, 714, 203)
    assert (plate.rated_power_w, plate.max_charge_w, plate.max_discharge_w) == (4800.0, 4000.0, 4500.0)
    assert plate.storage_capacity_wh == 13_500.0


async def test_one_cycle_costs_two_transactions_for_both_capabilities(serve: Any, opened: Any, clock: Any) -> None:
    server = await serve()
    device = await opened(server)
    server.reads.clear()
    for _ in range(5):
        clock.now_s += 0.05
        assert (await device.inverter.read_inverter()).power_w.at_s == clock.now_s
        assert (await device.meter.read_meter()).power_w.at_s == clock.now_s
    assert len(server.reads) == 10
    assert all(count <= 125 for _, count in server.reads)


async def test_the_same_reader_never_gets_the_same_picture_twice(serve: Any, opened: Any) -> None:
    server = await serve()
    device = await opened(server)
    await device.inverter.read_inverter()
    server.put(701, W=1300)
    assert (await device.inverter.read_inverter()).power_w.good == 1300.0


async def test_a_picture_is_not_shared_later_in_the_cycle(serve: Any, opened: Any, clock: Any) -> None:
    server = await serve()
    device = await opened(server)
    await device.inverter.read_inverter()
    server.put(203, W=55)
    clock.now_s += 0.05
    assert (await device.meter.read_meter()).power_w.good == 550.0


async def test_scale_factors_that_move_are_read_with_their_points(serve: Any, opened: Any, clock: Any) -> None:
    server = await serve()
    device = await opened(server)
    server.put(203, W=-8, W_SF=2)  # 203 does not call its scale factors static
    clock.now_s += 0.05
    assert (await device.meter.read_meter()).power_w.good == -800.0


async def test_ratings_and_static_scale_factors_are_read_again(serve: Any, opened: Any, clock: Any) -> None:
    server = await serve()
    device = await opened(server)
    server.put(702, WMax=300)
    server.put(701, W=120, W_SF=1)
    for _ in range(20):
        clock.now_s += 5.0
        reading = await device.inverter.read_inverter()
    assert device.nameplate.rated_power_w == 3000.0
    assert reading.power_w.good == 1200.0


BAD_FREQUENCY = [
    pytest.param({"Hz": 39_999}, Quality.BAD, id="below 40 Hz"),
    pytest.param({"Hz": 40_000}, Quality.GOOD, id="40 Hz"),
    pytest.param({"Hz": 70_000}, Quality.GOOD, id="70 Hz"),
    pytest.param({"Hz": 70_001}, Quality.BAD, id="above 70 Hz"),
    pytest.param({"Hz": 0}, Quality.BAD, id="0 Hz"),
    pytest.param({"Hz": None}, Quality.BAD, id="not implemented"),
    pytest.param({"LNV": 1199}, Quality.BAD, id="line below half its nominal voltage"),
    pytest.param({"LNV": 1200}, Quality.GOOD, id="line at half its nominal voltage"),
    pytest.param({"LNV": 0}, Quality.BAD, id="dead line"),
    pytest.param({"LNV": None}, Quality.GOOD, id="no voltage measured"),
    pytest.param({"Hz_SF": None}, Quality.BAD, id="scale factor not implemented"),
    pytest.param({"Hz_SF": 11}, Quality.BAD, id="scale factor beyond 10"),
]


@pytest.mark.parametrize(("changes", "quality"), BAD_FREQUENCY)
async def test_frequency_quality(
    serve: Any, opened: Any, models: Any, changes: dict[str, Any], quality: Quality
) -> None:
    models[1] |= changes
    reading = await (await opened(await serve(models))).inverter.read_inverter()
    assert reading.frequency_hz.quality is quality
    assert reading.power_w.good == 1200.0  # what does not depend on it stays


@pytest.mark.parametrize(
    ("ac", "rating", "voltage_v", "quality"),
    [
        pytest.param({"ACType": 1, "LNV": 1205}, 2400, 120.5, Quality.GOOD, id="split phase: VNom is line to line"),
        pytest.param({"ACType": 1, "LNV": 599}, 2400, 59.9, Quality.BAD, id="split phase: dead below 60 V"),
        pytest.param({"ACType": 1, "LNV": None, "LLV": 2410}, 2400, 120.5, Quality.GOOD, id="split phase: LLV only"),
        pytest.param({"ACType": 2, "LNV": 2309}, 4000, 230.9, Quality.GOOD, id="three phase: VNom is line to line"),
        pytest.param({"ACType": 2, "LNV": 1154}, 4000, 115.4, Quality.BAD, id="three phase: dead below 115.5 V"),
        pytest.param({"ACType": 0, "LNV": 499}, None, 49.9, Quality.BAD, id="nominal unknown: dead below 50 V"),
        pytest.param({"ACType": 0, "LNV": 501}, None, 50.1, Quality.GOOD, id="nominal unknown: alive above 50 V"),
    ],
)  # fmt: skip
async def test_voltage_is_line_to_neutral_and_tells_a_dead_line(
    serve: Any, opened: Any, models: Any, ac: Any, rating: int | None, voltage_v: float, quality: Quality
) -> None:
    models[1] |= ac
    models[2] |= {"VNom": rating, "VNomRtg": rating}
    reading = await (await opened(await serve(models))).inverter.read_inverter()
    assert reading.voltage_v.good == pytest.approx(voltage_v)
    assert reading.frequency_hz.quality is quality


async def test_insane_and_missing_values_are_bad(serve: Any, opened: Any, models: Any) -> None:
    models[1]["W"] = 9601  # over twice 4800 W
    models[4]["SoC"] = 10_001
    models[6]["W"] = None
    device = await opened(await serve(models))
    reading, meter = await device.inverter.read_inverter(), await device.meter.read_meter()
    assert (reading.power_w.quality, reading.soc.quality) == (Quality.BAD, Quality.BAD)
    assert meter.power_w.quality is Quality.BAD
    assert math.isnan(meter.power_w.value)
    assert meter.power_w.good is None


async def test_pv_power_is_the_sum_of_pv_ports_and_nothing_with_a_hole(serve: Any, opened: Any, models: Any) -> None:
    models[5]["NPrt"] = 3
    models[5]["Prt"].append({"PrtTyp": 0, "DCW": 250})
    server = await serve(models)
    device = await opened(server)
    assert (await device.inverter.read_inverter()).pv_power_w.good == 1150.0
    server.put(714, Prt__2__DCW=None)
    assert (await device.inverter.read_inverter()).pv_power_w.quality is Quality.BAD


async def test_a_device_without_storage_or_pv_lacks_just_those(serve: Any, opened: Any, models: Any) -> None:
    device = await opened(await serve([models[0], models[1], models[2]]))
    reading = await device.inverter.read_inverter()
    assert reading.power_w.good == 1200.0
    assert reading.soc.good is None
    assert reading.pv_power_w.good is None
    assert (device.meter, device.control) == (None, None)
    assert device.nameplate.storage_capacity_wh == 0.0


async def test_a_meter_alone_is_a_device(serve: Any, opened: Any, models: Any) -> None:
    device = await opened(await serve([models[0], models[6]]))
    assert device.inverter is None
    assert (await device.meter.read_meter()).power_w.good == -800.0


async def test_a_floating_point_meter_is_read_too(serve: Any, opened: Any, models: Any) -> None:
    meter = {"ID": 213, "W": -812.5, "PhV": 239.75, "Hz": 59.96875}
    reading = await (await opened(await serve([models[0], meter]))).meter.read_meter()
    assert (reading.power_w.good, reading.voltage_v.good, reading.frequency_hz.good) == (-812.5, 239.75, 59.96875)


async def test_a_device_that_refuses_to_answer_across_models_is_read_model_by_model(serve: Any, opened: Any) -> None:
    server = await serve()
    starts = [server.base + index for index, _ in server.placed.values()]
    server.refuse_reads = lambda address, count: any(address < start < address + count for start in starts)
    device = await opened(server)
    assert (await device.inverter.read_inverter()).soc.good == 0.625
    assert (await device.meter.read_meter()).power_w.good == -800.0


async def test_a_map_that_changes_under_way_is_told(serve: Any, opened: Any, clock: Any) -> None:
    server = await serve()
    device = await opened(server)
    index, _ = server.placed[713]
    server.registers[index] = 802

    async def read_on() -> None:
        for _ in range(20):
            clock.now_s += 5.0
            await device.inverter.read_inverter()

    with pytest.raises(DeviceRejected, match=r"map has changed: model 713 ID at \d+ was 713 and is 802; restart"):
        await read_on()
