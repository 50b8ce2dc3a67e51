"""A served home, seen through pysunspec2's own client and through pymodbus: map, values, control, and refusals."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest
import sunspec2.mb as mb
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from hil.plant.frequency import Timeline
from hil.plant.household import SteadyHousehold
from hil.plant.inverter import Setting
from hil.rigs.clock import ManualClock
from hil.rigs.home import HomeRig, serve_home
from hil.rigs.modbus_server import ListenError
from hil.rigs.registers import MODELS

Result = TypeVar("Result")
PV_W, LOAD_W = 2000.0, 750.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def rig(clock: ManualClock) -> AsyncIterator[HomeRig]:
    household = SteadyHousehold(load=LOAD_W, pv=PV_W)
    async with serve_home(household=household, frequency=lambda _: 59.876, clock=clock) as served:
        yield served


@pytest.fixture
async def client(rig: HomeRig) -> AsyncIterator[AsyncModbusTcpClient]:
    client = AsyncModbusTcpClient(rig.host, port=rig.port, timeout=2, retries=0)
    assert await client.connect()
    yield client
    client.close()


async def by_pysunspec2(rig: HomeRig, work: Callable[[Any], Result]) -> Result:
    """Does some work with pysunspec2's client after its scan, off the event loop (it blocks)."""

    def connected() -> Result:
        device = SunSpecModbusClientDeviceTCP(slave_id=rig.unit_id, ipaddr=rig.host, ipport=rig.port, timeout=5)
        try:
            device.scan()
            return work(device)
        finally:
            device.close()

    return await asyncio.wait_for(asyncio.to_thread(connected), timeout=20)


def values(device: Any, model: int) -> dict[str, Any]:
    found = device.models[model][0]
    found.read()
    return {name: point.cvalue for name, point in found.points.items()}


def test_address(rig: HomeRig) -> None:
    assert rig.registers.map.point(704, "WSet").address == 40000 + 2 + 68 + 155 + 52 + 24


async def test_every_model_is_found_with_the_length_its_definition_has(rig: HomeRig) -> None:
    def scan(device: Any) -> list[tuple[int, int, str]]:
        return [(m.model_id, m.len, m.error_info) for m in device.model_list]

    found = await by_pysunspec2(rig, scan)
    # 704 has four power-factor groups beyond its 59 fixed registers: 67 with ID and L. 714 has two ports of 25.
    lengths = {1: 66, 701: 153, 702: 50, 704: 65, 713: 7, 714: 68, 203: 105, 705: 49, 706: 39, 711: 32, 712: 36}
    assert found == [(model, lengths[model], "") for model in MODELS]


async def test_every_value_reads_back_as_the_plant_has_it(rig: HomeRig, clock: ManualClock) -> None:
    rig.plant.control.active = Setting(enabled=True, power_w=3210.0)
    clock.leap(1800)

    def read(device: Any) -> tuple[dict[int, dict[str, Any]], list[dict[str, Any]]]:
        ports = device.models[714][0]
        ports.read()
        return {m: values(device, m) for m in MODELS}, [
            {name: point.cvalue for name, point in port.points.items()} for port in ports.groups["Prt"]
        ]

    read_back, (pv, storage) = await by_pysunspec2(rig, read)
    rating, plant = rig.home.rating, rig.plant
    common, ac, capacity, control = (read_back[m] for m in (1, 701, 702, 704))
    assert (common["Mn"], common["SN"], common["DA"]) == ("Murmuration", "home-01", 1)

    assert ac["Hz"] == pytest.approx(59.876, abs=1e-9)
    assert (ac["W"], ac["WL1"], ac["VA"], ac["PF"]) == (3210, 3210, 3210, 1.0)
    assert ac["LNV"] == pytest.approx(240 + 0.1 * (3210 - LOAD_W) / 240, abs=0.05)
    assert ac["A"] == pytest.approx(3210 / ac["LNV"], abs=0.01)
    assert ac["TotWhInj"] == pytest.approx(3210 / 2, abs=1.5)
    assert ac["TotWhAbs"] == 0
    assert (ac["ACType"], ac["InvSt"], ac["ConnSt"], ac["Alrm"]) == (0, 3, 1, 0)
    assert ac["LLV"] is None, "not implemented on a single-phase inverter"

    assert (capacity["WMaxRtg"], capacity["WMax"]) == (rating.inverter.power_w, rating.inverter.power_w)
    assert (capacity["WChaRteMaxRtg"], capacity["WDisChaRteMaxRtg"]) == (5000, 5000)
    assert (capacity["VNom"], capacity["CtrlModes"]) == (240.0, 0b10)

    assert (control["WSetEna"], control["WSetMod"], control["WSet"]) == (1, 1, 3210)
    assert control["WMaxLimPct"] is None, "not implemented"

    assert read_back[713]["WHRtg"] == rating.battery.capacity_wh
    assert read_back[713]["SoC"] == pytest.approx(100 * plant.battery.soc, abs=0.006)
    expected_wh = rig.home.soc * rating.battery.capacity_wh - (3210 - PV_W) / 2 / 0.95
    assert read_back[713]["WHAvail"] == pytest.approx(expected_wh, abs=2)

    assert (read_back[714]["NPrt"], read_back[714]["DCW"]) == (2, 3210)
    assert (pv["PrtTyp"], pv["IDStr"], pv["DCW"]) == (0, "PV", PV_W)
    assert (storage["PrtTyp"], storage["IDStr"], storage["DCW"]) == (1, "ESS", 3210 - PV_W)
    assert storage["DCA"] * storage["DCV"] == pytest.approx(storage["DCW"], rel=0.01)

    meter = read_back[203]
    assert meter["W"] == 3210 - LOAD_W, "positive exports"
    assert meter["Hz"] == pytest.approx(59.88, abs=1e-9), "an int16 holds no more than 10 mHz here"
    assert meter["TotWhExp"] == pytest.approx((3210 - LOAD_W) / 2, abs=1.5)
    assert meter["PhVphA"] == ac["LNV"]


async def test_import_is_negative_at_the_meter_and_counted_apart(clock: ManualClock) -> None:
    async with serve_home(household=SteadyHousehold(load=1200.0), clock=clock) as rig:
        clock.leap(3600)
        meter = await by_pysunspec2(rig, lambda device: values(device, 203))
    assert (meter["W"], meter["TotWhImp"], meter["TotWhExp"]) == (-1200, 1200, None)
    assert mb.SUNS_UNIMPL_ACC32 == 0, "an accumulator of zero reads as not implemented in pysunspec2"


async def test_pysunspec2_sets_power_and_the_timer_lets_go(rig: HomeRig, clock: ManualClock) -> None:
    def command(device: Any) -> None:
        control = device.models[704][0]
        control.WSetMod.value, control.WSet.value, control.WSetRvrtTms.value, control.WSetEna.value = 1, -2500, 10, 1
        control.write()

    def state(device: Any) -> tuple[Any, ...]:
        control = values(device, 704)
        return values(device, 701)["W"], control["WSetEna"], control["WSetRvrtRem"]

    await by_pysunspec2(rig, command)
    clock.leap(1.0)
    assert await by_pysunspec2(rig, state) == (-2500, 1, 9)
    written_ms = clock.utc_ms() - 1000
    clock.leap(60.0)
    assert await by_pysunspec2(rig, state) == (PV_W, 0, 0)
    assert rig.plant.reversions_ms == [written_ms + 10_000]


async def test_a_setpoint_moves_the_plant_at_once_and_shows_in_the_recording(
    rig: HomeRig, client: AsyncModbusTcpClient, clock: ManualClock
) -> None:
    wset = rig.registers.map.point(704, "WSetEna").address
    written_ms = clock.utc_ms()
    assert not (await client.write_registers(wset, [1, 1, 0, 4000])).isError()
    clock.leap(0.01)  # 10 ms at 10 ratings a second
    reply = await client.read_holding_registers(rig.registers.map.point(701, "W").address, count=1)
    assert reply.registers == [round(PV_W + 0.01 * 50_000)]
    recorded = rig.recorder.arrays()
    first = int((recorded["setpoint_w"] == 4000).argmax())
    assert recorded["t_ms"][first] == written_ms
    assert recorded["power_w"][first] == PV_W, "the sample is taken before the plant moves"


async def test_writing_the_time_again_starts_the_timer_anew(
    rig: HomeRig, client: AsyncModbusTcpClient, clock: ManualClock
) -> None:
    find = rig.registers.map.point
    await client.write_registers(find(704, "WSetRvrtTms").address, [0, 10])
    await client.write_registers(find(704, "WSetEna").address, [1, 1, 0, 3000])
    clock.leap(9.0)
    await client.write_registers(find(704, "WSet").address, [0, 3100])
    reply = await client.read_holding_registers(find(704, "WSetRvrtRem").address, count=2)
    assert reply.registers == [0, 1], "a new setpoint alone does not"
    await client.write_registers(find(704, "WSetRvrtTms").address, [0, 10])
    clock.leap(9.5)
    rig.to_present()
    assert rig.plant.commanded_w == 3100
    assert rig.plant.reversions_ms == []


async def test_disabling_releases_at_once(rig: HomeRig, client: AsyncModbusTcpClient, clock: ManualClock) -> None:
    ena = rig.registers.map.point(704, "WSetEna").address
    await client.write_registers(ena, [1, 1, 0, 3000])
    await client.write_register(ena, 0)
    clock.leap(1.0)
    rig.to_present()
    assert (rig.plant.commanded_w, rig.plant.power_w) == (None, PV_W)


@pytest.mark.parametrize(
    ("model", "point", "words", "code"),
    [
        pytest.param(701, "W", [100], 2, id="a measurement"),
        pytest.param(704, "WSetRvrtRem", [0, 5], 2, id="read-only beside writable ones"),
        pytest.param(704, "WMaxLimPctEna", [1], 2, id="a control this inverter has not"),
        pytest.param(702, "WMax", [4000], 2, id="a setting this inverter has not"),
        pytest.param(704, "WSet", [0], 2, id="half a point"),
        pytest.param(704, "WSetRvrtTms", [0, 10, 0, 0], 2, id="runs on into a read-only point"),
        pytest.param(704, "WSet", [0, 5001], 3, id="above the rating"),
        pytest.param(704, "WSet", [0xFFFF, 0x10000 - 5001], 3, id="below the charging limit"),
        pytest.param(704, "WSetPct", [1001], 3, id="above 100 %"),
        pytest.param(704, "WSetEna", [2], 3, id="no such enable"),
        pytest.param(704, "WSetMod", [7], 3, id="no such mode"),
        pytest.param(704, "WSetRvrtTms", [0xFFFF, 0xFFFF], 3, id="the sentinel as a time"),
        pytest.param(704, "WSetEna", [1, 1, 0, 6000], 3, id="a good enable with a bad setpoint"),
    ],
)
async def test_a_bad_write_is_refused_and_changes_nothing(
    rig: HomeRig, client: AsyncModbusTcpClient, model: int, point: str, words: list[int], code: int
) -> None:
    at = rig.registers.map.point(model, point).address
    before = (await client.read_holding_registers(40277, count=67)).registers
    reply = await client.write_registers(at, words)
    assert (reply.isError(), reply.exception_code) == (True, code)
    assert rig.plant.commanded_w is None
    assert (await client.read_holding_registers(40277, count=67)).registers == before


async def test_function_6_reads_back_what_it_wrote(rig: HomeRig, client: AsyncModbusTcpClient) -> None:
    reply = await client.write_register(rig.registers.map.point(704, "WSetEna").address, 1)
    assert reply.registers == [1]


async def test_beyond_the_end_model_and_other_functions_are_refused(rig: HomeRig, client: AsyncModbusTcpClient) -> None:
    end = 40000 + len(rig.registers.map.registers)
    assert (await client.read_holding_registers(end - 2, count=2)).registers == [0xFFFF, 0]
    assert (await client.read_holding_registers(end - 1, count=2)).exception_code == 2
    assert (await client.read_coils(40000, count=1)).exception_code == 1


@pytest.mark.parametrize("unit_id", [0, 2, 247])
async def test_another_unit_id_is_answered_like_a_gateway(client: AsyncModbusTcpClient, unit_id: int) -> None:
    reply = await client.read_holding_registers(40000, count=2, device_id=unit_id)
    assert (reply.exception_code, reply.dev_id) == (0x0B, unit_id)


async def test_another_unit_id_can_be_its_own(clock: ManualClock) -> None:
    async with serve_home(clock=clock, unit_id=126) as rig:
        common = await by_pysunspec2(rig, lambda device: values(device, 1))
    assert common["DA"] == 126


async def test_a_frozen_device_is_silent_until_it_thaws(rig: HomeRig) -> None:
    client = AsyncModbusTcpClient(rig.host, port=rig.port, timeout=0.1, retries=0)
    assert await client.connect()
    rig.freeze()
    with pytest.raises(ModbusException):
        await client.read_holding_registers(40000, count=2)
    rig.thaw()
    reply = await client.read_holding_registers(40000, count=2)
    assert reply.registers == [0x5375, 0x6E53]
    client.close()


async def test_the_plant_lives_on_while_frozen(rig: HomeRig, clock: ManualClock) -> None:
    rig.freeze()
    clock.leap(3600)
    rig.tick()
    assert rig.plant.energy.load_wh == pytest.approx(LOAD_W)


async def test_an_occupied_port_is_named() -> None:
    async with serve_home() as rig:
        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{rig.port}"):
            async with serve_home(port=rig.port):
                pass


async def test_frequency_register_follows_an_injected_function(clock: ManualClock) -> None:
    timeline = Timeline()
    timeline.steps([(clock.utc_ms() + 500, 59.5)], now_ms=clock.utc_ms())
    async with serve_home(frequency=timeline, clock=clock) as rig:
        before = await by_pysunspec2(rig, lambda device: values(device, 701)["Hz"])
        clock.leap(0.5)
        after = await by_pysunspec2(rig, lambda device: values(device, 701)["Hz"])
    assert (before, after) == (60.0, 59.5)
