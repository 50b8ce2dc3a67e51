"""Older models, encoded by pysunspec2: what is read of them, and what is written to make a signed AC power."""

from typing import Any

import pytest

from edge_agent.model.config import LocalDroopConfig
from edge_agent.model.devices import DeviceFault, DeviceRejected
from edge_agent.model.values import Applied, Setpoint

# Offsets by the published definitions.
MOD, OUT, RATES_TMS, FROM_GRID = 5, 12, 15, 17  # model 124
LIMIT, LIMIT_TMS, LIMIT_ENA = 5, 7, 9  # model 123


def power(power_w: float) -> Applied:
    return Applied(Setpoint(power_w=power_w, source="test", expires_s=float("inf")))


def taken(server: Any) -> list[tuple[int, int, list[int]]]:
    """The writes since the last look, as (model, offset in it, registers)."""
    origins = {model: server.address(model, "ID") for model in (123, 124) if model in server.placed}
    writes = []
    for address, registers in server.writes:
        model = max((m for m in origins if origins[m] <= address), key=lambda m: origins[m])
        writes.append((model, address - origins[model], registers))
    server.writes.clear()
    return writes


def signed(value: int) -> int:
    return value & 0xFFFF


@pytest.mark.parametrize("model", [101, 102, 103])
async def test_inverters_with_integers(serve: Any, opened: Any, legacy_models: Any, model: int) -> None:
    legacy_models[1]["ID"] = model
    reading = await (await opened(await serve(legacy_models))).inverter.read_inverter()
    assert (reading.power_w.good, reading.frequency_hz.good, reading.voltage_v.good) == (1200.0, 60.01, 240.0)
    assert (reading.pv_power_w.good, reading.soc.good) == (900.0, 0.625)


@pytest.mark.parametrize("model", [111, 112, 113])
async def test_inverters_with_floats(serve: Any, opened: Any, legacy_models: Any, model: int) -> None:
    legacy_models[1] = {"ID": model, "W": -1234.5, "PhVphA": 239.5, "Hz": 59.875}
    reading = await (await opened(await serve(legacy_models))).inverter.read_inverter()
    assert (reading.power_w.good, reading.frequency_hz.good, reading.voltage_v.good) == (-1234.5, 59.875, 239.5)


async def test_ratings_are_the_smaller_of_nameplate_and_settings(serve: Any, opened: Any, legacy_models: Any) -> None:
    plate = (await opened(await serve(legacy_models))).nameplate
    assert (plate.rated_power_w, plate.max_charge_w, plate.max_discharge_w) == (4800.0, 4000.0, 4500.0)
    assert (plate.storage_capacity_wh, plate.serial) == (13_500.0, "O5-1")


@pytest.mark.parametrize("model", [201, 202, 203, 204])
@pytest.mark.parametrize(("positive", "power_w"), [("export", -800.0), ("import", 800.0)])
async def test_what_a_meters_positive_power_means_is_configured(
    serve: Any, opened: Any, legacy_models: Any, model: int, positive: str, power_w: float
) -> None:
    legacy_models[-1] = {"ID": model, "W": -80, "PhV": 2398, "Hz": 6001, "W_SF": 1, "V_SF": -1, "Hz_SF": -2}
    device = await opened(await serve(legacy_models), meter_positive=positive)
    reading = await device.meter.read_meter()
    assert (reading.power_w.good, reading.voltage_v.good, reading.frequency_hz.good) == (power_w, 239.8, 60.01)


@pytest.mark.parametrize("model", [211, 212, 213, 214])
async def test_meters_with_floats(serve: Any, opened: Any, legacy_models: Any, model: int) -> None:
    legacy_models[-1]["ID"] = model
    reading = await (await opened(await serve(legacy_models))).meter.read_meter()
    assert reading.power_w.good == -800.0
    assert reading.voltage_v.good == pytest.approx(239.8, abs=1e-4)
    assert reading.frequency_hz.good == pytest.approx(60.01, abs=1e-4)


@pytest.mark.parametrize(
    ("asked_w", "out", "into"),
    [
        pytest.param(1800.0, 2000, -2250, id="900 W out of the storage: 20 % of 4500, -22.5 % of 4000"),
        pytest.param(900.0, 0, 0, id="the sun alone"),
        pytest.param(-700.0, signed(-3555), 4000, id="1600 W into the storage: -35.55 % of 4500, 40 % of 4000"),
        pytest.param(4800.0, 8666, signed(-9750), id="3900 W out of it: rounded towards zero"),
    ],
)
async def test_ac_power_is_the_suns_and_the_storages(
    serve: Any, opened: Any, legacy_models: Any, asked_w: float, out: int, into: int
) -> None:
    server = await serve(legacy_models)
    device = await opened(server)
    await device.control.write_power(power(asked_w), 10.0)
    assert taken(server) == [
        (124, RATES_TMS, [10]),
        (124, FROM_GRID, [1]),  # the owner's own setting comes back with the release
        (124, OUT, [out, signed(into)]),
        (124, MOD, [3]),
        (124, RATES_TMS, [10]),
    ]


async def test_a_changed_power_is_one_transaction_of_both_rates(
    serve: Any, opened: Any, legacy_models: Any, clock: Any
) -> None:
    server = await serve(legacy_models)
    device = await opened(server)
    await device.control.write_power(power(1800.0), 10.0)
    taken(server)
    clock.now_s += 0.05
    await device.control.write_power(power(0.0), 10.0)
    assert taken(server) == [(124, OUT, [signed(-2000), 2250])]


async def test_an_inverter_without_storage_is_capped_and_cannot_import(
    serve: Any, opened: Any, legacy_models: Any
) -> None:
    server = await serve([model for model in legacy_models if model["ID"] not in (124, 160)])
    device = await opened(server)
    await device.control.write_power(power(1200.0), 10.0)
    assert taken(server) == [
        (123, LIMIT_TMS, [10]),
        (123, LIMIT, [2500]),
        (123, LIMIT_ENA, [1]),
        (123, LIMIT_TMS, [10]),
    ]
    with pytest.raises(DeviceRejected, match="-1 W asked, and it has no storage to charge"):
        await device.control.write_power(power(-1.0), 10.0)
    await device.control.release()
    assert server.get(123, "WMaxLim_Ena") == 0


async def test_models_that_implement_nothing_to_write_are_a_fault_with_a_remedy(
    serve: Any, opened: Any, legacy_models: Any
) -> None:
    for model in legacy_models:
        for name in ("StorCtl_Mod", "WMaxLimPct"):
            model.pop(name, None)
    server = await serve(legacy_models)
    with pytest.raises(DeviceFault, match=r"neither model 124 .* nor model 123 .* or set read_only = true"):
        await opened(server)
    assert (await opened(server, read_only=True)).control is None


async def test_release_that_does_not_take_is_told(serve: Any, opened: Any, legacy_models: Any) -> None:
    server = await serve(legacy_models)
    device = await opened(server)
    await device.control.write_power(power(900.0), 10.0)
    server.deaf = True
    with pytest.raises(DeviceRejected, match="model 124 StorCtl_Mod is still 3, 0 was written"):
        await device.control.release()


def frequency_watt(**changes: Any) -> dict[str, Any]:
    """Model 134 with two curves, of which the first is the manufacturer's."""
    points = {name: value for n in range(1, 21) for name, value in ((f"Hz{n}", 6000), (f"W{n}", 100))}
    curves = [{"ActPt": 2, **points, "ReadOnly": flag} for flag in (1, 0)]
    model = {"ID": 134, "ActCrv": 1, "ModEna": 0, "NCrv": 2, "NPt": 20, "Hz_SF": -2, "W_SF": 0, "curve": curves}
    return model | changes


async def test_a_curve_of_power_over_frequency_is_an_older_inverters_droop(
    serve: Any, opened: Any, legacy_models: Any
) -> None:
    server = await serve([*legacy_models, frequency_watt()])
    droop = LocalDroopConfig(deadband_over_hz=0.2, droop_over=0.05)
    device = await opened(server, local_droop=droop)
    assert device.findings == ("local_droop: model 134 lowers power above nominal, and does nothing below it",)
    shown = device.local_droop.droop
    assert (shown.deadband_over_hz, shown.droop_over) == (pytest.approx(0.2), pytest.approx(0.05))
    # By hand: 60.20 Hz is the end of the deadband, and 5 % of 60 Hz further all power is gone.
    assert [server.get(134, name) for name in ("ActCrv", "ModEna")] == [2, 1]
    _, model = server.placed[134]  # as just read
    makers, ours = model.groups["curve"]
    assert [ours.points[name].value for name in ("ActPt", "Hz1", "W1", "Hz2", "W2")] == [2, 6020, 100, 6320, 0]
    assert makers.points["Hz1"].value == 6000  # the manufacturer's stays as it was
    chosen = [address for address, _ in server.writes].index(server.address(134, "ActCrv"))
    assert max(a for a, _ in server.writes[:chosen]) > server.address(134, "ActCrv")  # the curve was written before
