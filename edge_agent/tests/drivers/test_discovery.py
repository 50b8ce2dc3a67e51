"""What discovery finds in good and in faulty maps, in the words an installer reads."""

from typing import Any

import pytest

from edge_agent.model.devices import DeviceFault, DeviceTimeout


@pytest.mark.parametrize("base", [40000, 0, 50000])
async def test_a_map_is_found_at_each_of_the_three_addresses(serve: Any, opened: Any, base: int) -> None:
    device = await opened(await serve(base=base))
    assert device.nameplate.sunspec_models == (1, 701, 702, 704, 713, 714, 203)
    assert device.findings == ()


async def test_a_device_without_marker_is_a_fault_that_says_what_stood_there(serve: Any, opened: Any) -> None:
    server = await serve()
    server.registers[:2] = [0x1234, 0xABCD]
    with pytest.raises(DeviceFault) as told:
        await opened(server)
    text = str(told.value)
    assert f"device hybrid: no SunSpec map at 127.0.0.1:{server.port} unit_id 1" in text
    assert "at 40000 0x1234 0xABCD" in text
    assert "at 0 exception 2, illegal data address" in text
    assert text.endswith("that SunSpec is enabled on the device; one without it needs a profile")


async def test_a_wrong_unit_id_is_told_with_the_right_one(serve: Any, opened: Any) -> None:
    server = await serve(unit_id=126)
    with pytest.raises(DeviceFault, match=r"unit_id 5 \(.*\); unit 126 has one: set unit_id = 126"):
        await opened(server, unit_id=5)


async def test_a_unit_that_keeps_silent_may_be_a_wrong_unit_id(serve: Any, opened: Any) -> None:
    server = await serve(silent=True)
    with pytest.raises(DeviceTimeout, match=r"no answer .* unit 1 .*it accepts connections, so check unit_id = 1"):
        await opened(server, timeout_s=0.05)


async def test_nobody_there_is_a_timeout_that_names_host_and_port(serve: Any, opened: Any) -> None:
    server = await serve()
    config_of_a_closed_port = server.config()
    await server.stop()
    server.config = lambda **_: config_of_a_closed_port
    with pytest.raises(
        DeviceTimeout, match=rf"cannot connect to 127.0.0.1:{config_of_a_closed_port.port} .*check host"
    ):
        await opened(server)
    await server.start()


async def test_a_model_whose_length_is_wrong_is_told_and_used_as_far_as_it_goes(
    serve: Any, opened: Any, models: Any
) -> None:
    server = await serve(models)
    index, model = server.placed[704]
    server.registers[index + 1] = 57  # without the four groups at its end, as some devices have it
    del server.registers[index + 59 : index + model.len]
    moved = model.len - 59
    server.placed = {
        i: (at if at <= index else at - moved, placed) for i, (at, placed) in server.placed.items()
    }  # fmt: skip
    server.placed[704] = (index, model)
    device = await opened(server)
    assert device.findings == (
        f"model 704 at {40000 + index} says length 57, its definition with this device's groups has 65",
    )
    assert device.control is not None
    assert (await device.meter.read_meter()).power_w.good == -800.0


async def test_a_common_model_without_its_padding_is_no_finding(serve: Any, opened: Any) -> None:
    server = await serve()
    del server.registers[2 + 67]
    server.registers[3] = 65
    server.placed = {i: (at - 1 if i != 1 else at, model) for i, (at, model) in server.placed.items()}
    device = await opened(server)
    assert device.findings == ()
    assert device.nameplate.serial == "H5-0001"


async def test_a_model_of_zero_length_is_left_out(serve: Any, opened: Any) -> None:
    server = await serve()
    at, _ = server.placed[713]
    server.registers[at:at] = [802, 0]
    server.placed = {i: (start + 2 if start >= at else start, model) for i, (start, model) in server.placed.items()}
    device = await opened(server)
    assert device.findings == (f"model 802 at {40000 + at} has length 0 and is left out",)
    assert (await device.inverter.read_inverter()).soc.good == 0.625


async def test_a_model_that_nobody_has_published_is_stepped_over(serve: Any, opened: Any) -> None:
    server = await serve()
    at, _ = server.placed[713]
    server.registers[at:at] = [65000, 3, 1, 2, 3]
    server.placed = {i: (start + 5 if start >= at else start, model) for i, (start, model) in server.placed.items()}
    device = await opened(server)
    assert device.nameplate.sunspec_models == (1, 701, 702, 704, 65000, 713, 714, 203)
    assert (await device.inverter.read_inverter()).soc.good == 0.625


async def test_a_map_cut_off_inside_a_model_is_told_and_used_up_to_there(serve: Any, opened: Any) -> None:
    server = await serve()
    at, _ = server.placed[203]
    end = server.base + at + 40
    del server.registers[at + 40 :]
    device = await opened(server)
    (finding,) = device.findings
    assert f"the map breaks off inside model 203 at {server.base + at}, length 105" in finding
    assert finding.endswith("exception 2, illegal data address")
    assert device.meter is None
    assert (await device.inverter.read_inverter()).soc.good == 0.625
    assert all(address + count <= end for address, count in server.reads[-2:])


async def test_a_map_without_an_end_is_told(serve: Any, opened: Any) -> None:
    server = await serve()
    del server.registers[-2:]
    device = await opened(server)
    (finding,) = device.findings
    assert f"the map breaks off at {server.base + len(server.registers)} without an end (0xFFFF)" in finding
    assert device.meter is not None


async def test_an_end_without_a_length_is_an_end(serve: Any, opened: Any) -> None:
    server = await serve()
    del server.registers[-1]
    assert (await opened(server)).findings == ()


async def test_zeros_where_the_end_belongs_are_told(serve: Any, opened: Any) -> None:
    server = await serve()
    server.registers[-2:] = [0, 0, 0, 0]
    (finding,) = (await opened(server)).findings
    assert "the map breaks off" in finding
    assert "model 0" in finding


async def test_a_group_count_beyond_the_models_length_is_told(serve: Any, opened: Any) -> None:
    server = await serve()
    server.put(714, NPrt=40_000)
    device = await opened(server)
    (finding,) = device.findings
    assert (
        f"model 714 at {server.address(714, 'ID')} says length 68, its definition with this device's groups" in finding
    )
    assert (await device.inverter.read_inverter()).pv_power_w.good == 900.0


async def test_a_device_that_is_neither_inverter_nor_meter_is_a_fault(serve: Any, opened: Any, models: Any) -> None:
    with pytest.raises(DeviceFault, match=r"neither an inverter .* nor a meter .*, only 1, 713;"):
        await opened(await serve([models[0], models[4]]))
