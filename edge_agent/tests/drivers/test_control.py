"""Power control by model 704: what is written, in which order, how often, and what happens when it does not stick."""

import asyncio
from typing import Any

import pytest

from edge_agent.model.devices import DeviceFault, DeviceRejected, DeviceTimeout
from edge_agent.model.values import Applied, Setpoint

# Offsets in model 704 by the published definition.
ENA, MOD, WSET, RVRT, ENA_RVRT, TMS = 22, 23, 24, 26, 30, 31


def power(power_w: float) -> Applied:
    return Applied(Setpoint(power_w=power_w, source="test", expires_s=float("inf")))


def taken(server: Any) -> list[tuple[int, list[int]]]:
    """The writes since the last look, as offsets in model 704."""
    origin = server.address(704, "ID")
    writes = [(address - origin, registers) for address, registers in server.writes]
    server.writes.clear()
    return writes


async def test_the_way_back_is_written_before_the_power(serve: Any, opened: Any) -> None:
    server = await serve()
    device = await opened(server)
    await device.control.write_power(power(1500.0), 10.0)
    writes = taken(server)
    assert writes == [
        (RVRT, [0, 0]),
        (ENA_RVRT, [0, 0, 10]),
        (ENA, [1, 1, 0, 1500]),
        (TMS, [0, 10]),
    ]
    assert (server.get(704, "WSetEna"), server.get(704, "WSetMod"), server.get(704, "WSet")) == (1, 1, 1500)


async def test_the_same_power_only_refreshes_the_timer_at_half_its_life(serve: Any, opened: Any, clock: Any) -> None:
    server = await serve()
    device = await opened(server)
    await device.control.write_power(power(1500.0), 10.0)
    taken(server)
    refreshed_at = []
    start_s = clock.now_s
    for step in range(1, 241):  # 12 s at 20 Hz
        clock.now_s = start_s + step * 0.05
        await device.control.write_power(power(1500.0), 10.0)
        if writes := taken(server):
            assert writes == [(TMS, [0, 10])]
            refreshed_at.append(clock.now_s - start_s)
    assert refreshed_at == [pytest.approx(5.0, abs=0.051), pytest.approx(10.0, abs=0.11)]
    assert server.get(704, "WSetEna") == 1


async def test_a_changed_power_is_one_transaction_of_its_own_two_registers(serve: Any, opened: Any, clock: Any) -> None:
    server = await serve()
    device = await opened(server)
    await device.control.write_power(power(1500.0), 10.0)
    taken(server)
    server.reads.clear()
    clock.now_s += 0.05
    await device.control.write_power(power(-2000.0), 10.0)
    assert taken(server) == [(WSET, [0xFFFF, 0xF830])]
    assert server.reads == []
    assert server.get(704, "WSet") == -2000


async def test_changing_powers_keep_the_timer_running(serve: Any, opened: Any, clock: Any) -> None:
    server = await serve()
    device = await opened(server)
    for step in range(400):  # 20 s at 20 Hz, another power each cycle
        await device.control.write_power(power(1000.0 + step), 4.0)
        clock.now_s += 0.05
        server.revert()
        assert server.get(704, "WSetEna") == 1
    assert sum(registers == [0, 4] for _, registers in taken(server)) == pytest.approx(10, abs=1)


async def test_after_a_pause_longer_than_the_timer_everything_is_written_again(
    serve: Any, opened: Any, clock: Any
) -> None:
    server = await serve()
    device = await opened(server)
    await device.control.write_power(power(1500.0), 4.0)
    clock.now_s += 4.0
    server.revert()
    assert server.get(704, "WSetEna") == 0
    taken(server)
    await device.control.write_power(power(1500.0), 4.0)
    assert [offset for offset, _ in taken(server)] == [RVRT, ENA_RVRT, ENA, TMS]
    assert (server.get(704, "WSetEna"), server.get(704, "WSet")) == (1, 1500)


async def test_another_lifetime_is_written_at_once(serve: Any, opened: Any, clock: Any) -> None:
    server = await serve()
    device = await opened(server)
    await device.control.write_power(power(1500.0), 10.0)
    clock.now_s += 0.05
    await device.control.write_power(power(1500.0), 6.0)
    assert server.get(704, "WSetRvrtTms") == 6
    assert server.expires_s == clock.now_s + 6


@pytest.mark.parametrize(("lifetime_s", "registers"), [(2.9, 2), (1.0, 1), (0.2, 1), (3600.0, 3600)])
async def test_a_lifetime_is_never_rounded_up_nor_to_no_timer(
    serve: Any, opened: Any, lifetime_s: float, registers: int
) -> None:
    server = await serve()
    await (await opened(server)).control.write_power(power(0.0), lifetime_s)
    assert server.get(704, "WSetRvrtTms") == registers


@pytest.mark.parametrize(
    ("scale", "power_w", "raw"),
    [
        pytest.param(0, 1234.9, 1234, id="whole watts"),
        pytest.param(0, -1234.9, -1234, id="charging: towards zero too"),
        pytest.param(2, 1299.0, 12, id="hundreds of watts: never more than admitted"),
        pytest.param(2, -1299.0, -12, id="hundreds of watts, charging"),
        pytest.param(-2, 0.29, 29, id="hundredths: not one less for want of a binary fraction"),
        pytest.param(1, 0.0, 0, id="nothing"),
    ],
)
async def test_power_is_scaled_to_the_register(
    serve: Any, opened: Any, models: Any, scale: int, power_w: float, raw: int
) -> None:
    models[3]["WSet_SF"] = scale
    server = await serve(models)
    await (await opened(server)).control.write_power(power(power_w), 10.0)
    assert server.get(704, "WSet") == raw


async def test_release_disables_and_the_next_write_starts_afresh(serve: Any, opened: Any) -> None:
    server = await serve()
    device = await opened(server)
    await device.control.write_power(power(1500.0), 10.0)
    taken(server)
    await device.control.release()
    assert taken(server) == [(ENA, [0])]
    assert server.get(704, "WSetEna") == 0
    await device.control.write_power(power(1500.0), 10.0)
    assert [offset for offset, _ in taken(server)] == [RVRT, ENA_RVRT, ENA, TMS]


async def test_a_device_that_forgets_what_it_is_told_is_named_with_both_values(
    serve: Any, opened: Any, clock: Any
) -> None:
    server = await serve()
    device = await opened(server)
    server.deaf = True
    await device.control.write_power(power(1500.0), 10.0)  # it has a second to show it (MOD-3)
    clock.now_s += 0.99
    await device.control.write_power(power(1500.0), 10.0)
    clock.now_s += 0.01
    with pytest.raises(
        DeviceRejected, match=r"device hybrid: model 704 .*WSetEna is 0, 1 was written.*WSet is 0 W, 1500 W was written"
    ):
        await device.control.write_power(power(1500.0), 10.0)
    server.deaf = False
    await device.control.write_power(power(1500.0), 10.0)  # told everything again, and heard
    assert server.get(704, "WSet") == 1500


async def test_a_setpoint_that_is_overwritten_by_somebody_else_is_found_out(
    serve: Any, opened: Any, clock: Any
) -> None:
    server = await serve()
    device = await opened(server)
    await device.control.write_power(power(1500.0), 10.0)
    server.put(704, WSet=700)

    async def hold() -> None:
        for _ in range(60):
            clock.now_s += 0.05
            await device.control.write_power(power(1500.0), 10.0)

    with pytest.raises(DeviceRejected, match="WSet is 700 W, 1500 W was written"):
        await hold()


async def test_a_timer_that_does_not_run_is_found_out(serve: Any, opened: Any, clock: Any) -> None:
    server = await serve()
    device = await opened(server)
    await device.control.write_power(power(1500.0), 10.0)

    async def hold() -> None:
        for _ in range(60):
            clock.now_s += 0.05
            server.expires_s = None
            await device.control.write_power(power(1500.0), 10.0)

    with pytest.raises(DeviceRejected, match="reversion timer does not run"):
        await hold()


async def test_a_refused_power_names_point_register_and_reason(serve: Any, opened: Any) -> None:
    server = await serve()
    device = await opened(server)
    address = server.address(704, "WSetEna")
    with pytest.raises(DeviceRejected, match=rf"704 WSet at {address}: exception 3, illegal data value"):
        await device.control.write_power(power(5001.0), 10.0)
    assert server.get(704, "WSetEna") == 0


async def test_a_power_beyond_the_register_is_refused_before_it_is_sent(serve: Any, opened: Any, models: Any) -> None:
    models[3]["WSet_SF"] = -10
    server = await serve(models)
    device = await opened(server)
    with pytest.raises(DeviceRejected, match="3000 W cannot be written"):
        await device.control.write_power(power(3000.0), 10.0)
    assert taken(server) == []


async def test_a_write_that_got_no_answer_is_followed_by_the_whole_sequence(
    serve: Any, opened: Any, clock: Any
) -> None:
    server = await serve()
    device = await opened(server, timeout_s=0.1)
    await device.control.write_power(power(1500.0), 10.0)
    taken(server)
    server.silent = True
    with pytest.raises(DeviceTimeout):
        await device.control.write_power(power(1600.0), 10.0)
    server.silent = False
    await device.control.write_power(power(1600.0), 10.0)
    assert [offset for offset, _ in taken(server)] == [RVRT, ENA_RVRT, ENA, TMS]


async def test_release_that_does_not_take_is_told(serve: Any, opened: Any) -> None:
    server = await serve()
    device = await opened(server)
    await device.control.write_power(power(1500.0), 10.0)
    server.deaf = True
    with pytest.raises(DeviceRejected, match="WSetEna is still 1, 0 was written"):
        await asyncio.wait_for(device.control.release(), 10)


async def test_read_only_has_no_writable_half_and_writes_nothing(serve: Any, opened: Any, clock: Any) -> None:
    server = await serve()
    device = await opened(server, read_only=True)
    assert device.control is None
    for _ in range(10):
        clock.now_s += 10.0
        await device.inverter.read_inverter()
        await device.meter.read_meter()
    await device.close()
    assert server.writes == []


async def test_a_device_without_a_reversion_timer_is_controlled_and_says_so(
    serve: Any, opened: Any, models: Any, caplog: Any
) -> None:
    for name in ("WSetRvrt", "WSetEnaRvrt", "WSetRvrtTms", "WSetRvrtRem"):
        models[3].pop(name)
    server = await serve(models)
    device = await opened(server)
    assert "no reversion timer" in caplog.text
    await device.control.write_power(power(1500.0), 10.0)
    assert taken(server) == [(ENA, [1, 1, 0, 1500])]


async def test_a_model_704_without_power_setpoint_is_a_fault_with_a_remedy(
    serve: Any, opened: Any, models: Any
) -> None:
    models[3].pop("WSet")
    server = await serve(models)
    with pytest.raises(DeviceFault, match=r"does not implement WSet,.* or set read_only = true"):
        await opened(server)
    assert (await opened(server, read_only=True)).control is None
