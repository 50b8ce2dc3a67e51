"""The firmware for the boards: compiled for each processor within its budget, its vendor models whole."""

import json
from pathlib import Path

import pytest

from hil.bench.firmware import ARCHITECTURES, bytecode_kb
from hil.rigs.firmware_node import FIRMWARE

BUDGET_KB = 64


def test_bytecode_for_all_processors_fits_its_budget(tmp_path: Path) -> None:
    assert set(ARCHITECTURES) == {"armv6m", "armv7emsp", "xtensawin", "rv32imc"}
    assert 10 < bytecode_kb(tmp_path) <= BUDGET_KB


@pytest.mark.parametrize("model", [64910, 64911, 64912])
def test_vendor_models_are_whole(model: int) -> None:
    definition = json.loads((FIRMWARE / "models" / f"model_{model}.json").read_text())
    points = definition["group"]["points"]
    assert definition["id"] == points[0]["value"] == model
    assert [point["name"] for point in points[:2]] == ["ID", "L"]
    assert len({point["name"] for point in points}) == len(points)
    sizes = {"uint16": 1, "int16": 1, "enum16": 1, "bitfield16": 1, "pad": 1, "uint32": 2, "int32": 2}
    assert all(point["size"] == sizes[point["type"]] for point in points if point["type"] != "string")
