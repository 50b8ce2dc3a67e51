"""Maps that lie: whatever a device's registers say, the driver ends in a device with readings or in a named refusal."""

import asyncio
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.drivers.device import open_sunspec
from edge_agent.drivers.transaction import ModbusRejected, Table, Write
from edge_agent.model.config import DeviceConfig
from edge_agent.model.devices import DeviceFault, DeviceRejected, DeviceTimeout
from edge_agent.model.values import Applied, Sample, Setpoint

BASE = 40000
CONFIG = DeviceConfig(name="liar", driver="sunspec", host="nowhere")


class Registers:
    """A device without a wire."""

    unit_id = 1

    def __init__(self, registers: list[int]) -> None:
        self.registers = registers

    async def read(self, address: int, count: int, what: object, table: Table = Table.HOLDING) -> list[int]:
        index = address - BASE
        if index < 0 or index + count > len(self.registers):
            raise ModbusRejected(f"device liar: reading {what} at {address}", 2)
        return self.registers[index : index + count]

    async def write(self, address: int, registers: list[int], what: object, function: Write = Write.MULTIPLE) -> None:
        index = address - BASE
        if index < 0 or index + len(registers) > len(self.registers):
            raise ModbusRejected(f"device liar: writing {what} at {address}", 2)
        self.registers[index : index + len(registers)] = registers

    async def connect(self) -> None: ...

    async def close(self) -> None: ...


def named(error: Exception) -> str:
    """The text of a refusal, which says whose it is."""
    text = str(error)
    assert "liar" in text
    return text


async def use(registers: list[int], clock: Any) -> tuple[str, ...]:
    """Opens a device, reads all and writes a power; its findings, or the text of its refusal."""
    try:
        device = await open_sunspec(CONFIG, Registers(registers), clock)
    except (DeviceFault, DeviceRejected, DeviceTimeout) as error:
        return (named(error),)
    plate = device.nameplate
    assert plate.rated_power_w >= 0
    for reading in (
        await device.inverter.read_inverter() if device.inverter is not None else None,
        await device.meter.read_meter() if device.meter is not None else None,
    ):
        if reading is not None:
            for name in reading.__slots__:
                sample = getattr(reading, name)
                if name == "frequency_interval_s":
                    assert sample is None  # only our own firmware tells
                    continue
                assert isinstance(sample, Sample)
                assert sample.good is None or abs(sample.good) < float("inf")
    if device.control is not None:
        try:
            await device.control.write_power(Applied(Setpoint(power_w=100.0, source="t", expires_s=1e9)), 10.0)
        except DeviceRejected as error:
            named(error)
    return device.findings


@pytest.fixture(params=["ieee1547", "legacy"])
def truth(request: pytest.FixtureRequest, encode: Any, models: Any, legacy_models: Any) -> Any:
    """(registers, where each model begins) of a device that tells the truth."""
    return encode(models if request.param == "ieee1547" else legacy_models)


async def test_the_truth_has_no_findings(truth: Any, clock: Any) -> None:
    assert await use(list(truth[0]), clock) == ()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_registers_end_in_a_device_or_a_named_refusal(truth: Any, clock: Any, data: st.DataObject) -> None:
    registers = list(truth[0])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(registers) - 1))
        registers[at] = data.draw(st.sampled_from([0, 1, 0x7FFF, 0x8000, 0xFFFF]) | st.integers(0, 0xFFFF))
    registers = registers[: data.draw(st.integers(2, len(registers)))]
    told = asyncio.run(use(registers, clock))
    assert all(finding and "\n" not in finding for finding in told)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_map_that_breaks_off_says_where(truth: Any, clock: Any, data: st.DataObject) -> None:
    registers = list(truth[0])
    cut = data.draw(st.integers(4, len(registers) - 3))
    told = " ".join(asyncio.run(use(registers[:cut], clock)))
    assert "breaks off" in told


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_wrong_length_is_found(truth: Any, clock: Any, data: st.DataObject) -> None:
    registers, placed = list(truth[0]), truth[1]
    model = data.draw(st.sampled_from(sorted(set(placed) - {1, 160})))
    index, _ = placed[model]
    right = registers[index + 1]
    registers[index + 1] = data.draw(st.integers(0, 400).filter(lambda length: length != right))
    assert asyncio.run(use(registers, clock)) != ()


def swap_words(registers: list[int], index: int) -> None:
    registers[index], registers[index + 1] = registers[index + 1], registers[index]


async def test_a_word_swapped_inverter_is_named(encode: Any, models: Any, clock: Any) -> None:
    registers, placed = encode(models)
    index, model = placed[701]
    swap_words(registers, index + int(model.points["Hz"].offset))
    findings = await use(registers, clock)
    assert len(findings) == 1
    assert "model 701 Hz reads" in findings[0]
    assert "60.01 Hz with its registers exchanged: the device writes the low word first" in findings[0]


async def test_a_word_swapped_float_meter_is_named(encode: Any, legacy_models: Any, clock: Any) -> None:
    registers, placed = encode(legacy_models)
    index, model = placed[213]
    for name in ("W", "PhV", "Hz"):
        swap_words(registers, index + int(model.points[name].offset))
    findings = await use(registers, clock)
    assert any("model 213 Hz reads" in text and "60.01 Hz with its registers exchanged" in text for text in findings)


@pytest.mark.parametrize(
    ("model", "point", "value", "finding"),
    [
        ("103", "W_SF", 11, r"model 103 W has a value but no scale factor that SunSpec allows \(W_SF = 11\)"),
        ("103", "W_SF", None, r"model 103 W has a value but no scale factor .*\(W_SF \(not implemented\)\)"),
        ("103", "Hz", 1200, r"model 103 Hz reads 12 Hz, which no grid has"),
        ("103", "W", 12000, r"model 103 W reads 12000 W at a rating of 4800 W, so it is not believed"),
        ("122", "StorConn", 0, r"model 122 StorConn says that no storage is connected"),
        ("122", "ECPConn", 0, r"model 122 ECPConn says that the inverter is not connected to the grid"),
    ],
)
async def test_a_value_that_gives_itself_away_is_named(
    encode: Any, legacy_models: Any, clock: Any, model: str, point: str, value: int | None, finding: str
) -> None:
    next(m for m in legacy_models if m["ID"] == int(model))[point] = value
    (found,) = await use(encode(legacy_models)[0], clock)
    assert re.search(finding, found)


async def test_panels_whose_power_is_not_told_are_a_finding(encode: Any, legacy_models: Any, clock: Any) -> None:
    legacy_models = [model for model in legacy_models if model["ID"] != 160]
    (found,) = await use(encode(legacy_models)[0], clock)
    assert found.startswith("there is no model 160, so what its panels give is not known")


async def test_night_is_no_finding(encode: Any, legacy_models: Any, clock: Any) -> None:
    """Every measured value reads as not implemented while the inverter sleeps."""
    for name in ("W", "PhVphA", "Hz"):
        legacy_models[1][name] = None
    assert await use(encode(legacy_models)[0], clock) == ()


async def test_a_battery_that_is_not_installed_leaves_its_model_out(encode: Any, models: Any, clock: Any) -> None:
    """Model 802 without a value beside a model 713 that has one, and the other way round."""
    models[4] |= {"SoC": None, "WHRtg": None}
    models.append({"ID": 802, "SoC": 5150, "SoC_SF": -2, "WHRtg": 1200, "WHRtg_SF": 1})
    device = await open_sunspec(CONFIG, Registers(encode(models)[0]), clock)
    assert device.inverter is not None
    assert (await device.inverter.read_inverter()).soc.good == 0.515
    assert device.nameplate.storage_capacity_wh == 12_000
