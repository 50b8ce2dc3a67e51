"""The codec against pysunspec2's own encoder and decoder, as the independent oracle."""

import math
import random
import re
from importlib.resources import files
from typing import Any

import pytest
import sunspec2.device as oracle
import sunspec2.mb as oracle_types
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drivers.sunspec import codec
from edge_agent.drivers.sunspec.definitions import load_model
from edge_agent.drivers.sunspec.layout import HEADER, count_points, lay_out, scale_raw

MODEL_IDS = sorted(
    int(found[1])
    for file in (files("sunspec2") / "models" / "json").iterdir()
    if (found := re.fullmatch(r"model_(\d+)\.json", file.name))
)
INTEGERS = {
    "int16": (-(2**15) + 1, 2**15 - 1),
    "uint16": (0, 2**16 - 2),
    "count": (0, 2**16 - 2),
    "acc16": (1, 2**16 - 1),
    "enum16": (0, 2**16 - 2),
    "bitfield16": (0, 2**16 - 2),
    "sunssf": (-10, 10),
    "int32": (-(2**31) + 1, 2**31 - 1),
    "uint32": (0, 2**32 - 2),
    "acc32": (1, 2**32 - 1),
    "enum32": (0, 2**32 - 2),
    "bitfield32": (0, 2**32 - 2),
    "ipaddr": (1, 2**32 - 1),
    "int64": (-(2**63) + 1, 2**63 - 1),
    "uint64": (0, 2**64 - 2),
    "acc64": (1, 2**64 - 1),
}
REGISTERS = {"16": 1, "32": 2, "64": 4}
SIZES = {"ipaddr": 2, "count": 1, "sunssf": 1, "string": 8, "eui48": 4, "ipv6addr": 8}


def size_of(point_type: str) -> int:
    return SIZES.get(point_type) or REGISTERS[point_type[-2:]]


def a_value(point: dict[str, Any], rng: random.Random) -> Any:
    kind = point["type"]
    if kind == "sunssf":
        return rng.randint(-4, 4)
    if kind in INTEGERS:
        # Ten digits are what a double keeps of a scaled value, on both sides alike.
        low, high = (max(-(10**10), INTEGERS[kind][0]), min(10**10, INTEGERS[kind][1]))
        return rng.choice([low, high, rng.randint(low, high), None])
    match kind:
        case "float32" | "float64":
            return rng.choice([0.0, -1.5, 2.0**20, None])
        case "string":
            return rng.choice(["A", "hybrid"[: point["size"] * 2], None])
        case "eui48":
            return "02:00:5E:10:00:00"
        case "ipv6addr":
            return "20010DB8:00000000:00000000:00000001"
        case _:
            return None


def a_group(definition: dict[str, Any], rng: random.Random, counts: dict[str, int]) -> dict[str, Any]:
    values = {point["name"]: counts.get(point["name"], a_value(point, rng)) for point in definition["points"]}
    for child in definition.get("groups", []):
        count = child.get("count")
        if count is None:
            values[child["name"]] = a_group(child, rng, counts)
        else:
            times = counts[count] if isinstance(count, str) else count or 2
            values[child["name"]] = [a_group(child, rng, counts) for _ in range(times)]
    return values


def alike(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, dict):
        return all(alike(ours[name], value) for name, value in theirs.items() if name in ours)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(alike(a, b) for a, b in zip(ours, theirs, strict=True))
    if isinstance(theirs, int | float):
        return ours is not None and math.isclose(ours, theirs, rel_tol=1e-12, abs_tol=1e-15)
    return bool(ours == theirs)


def test_all_published_models_are_there() -> None:
    assert len(MODEL_IDS) >= 112


@pytest.mark.parametrize("model_id", MODEL_IDS)
def test_a_model_reads_and_writes_as_the_oracle_does(model_id: int) -> None:
    definition = load_model(model_id)
    assert definition is not None
    counts = dict.fromkeys(count_points(definition), 2)
    given_ = a_group(oracle.get_model_def(model_id)["group"], random.Random(model_id), counts)
    del given_["ID"], given_["L"]
    theirs = oracle.Model(model_id=model_id, data={**given_, "ID": model_id})
    data = theirs.get_mb()
    assert not theirs.error_info

    ours = lay_out(model_id, definition, length=len(data) // 2 - HEADER, counts=counts)
    assert ours.defined_length == ours.length
    decoded = ours.decode(data)
    expected = theirs.get_dict(computed=True)
    assert set(decoded) <= set(expected)
    assert _paths(decoded) == _paths({name: value for name, value in expected.items() if name in decoded})
    assert alike(decoded, expected), [n for n in decoded if not alike(decoded[n], expected[n])]

    pads = {p for p, f in ours.fields.items() if f.point.type == "pad"}
    again = ours.encode(decoded)
    for path, field in ours.fields.items():
        if path not in pads:
            assert again[field.address * 2 : field.end * 2] == data[field.address * 2 : field.end * 2], path


def _paths(values: Any, prefix: str = "") -> set[str]:
    if isinstance(values, dict):
        return set().union(*(_paths(value, f"{prefix}.{name}") for name, value in values.items()))
    if isinstance(values, list):
        return set().union({f"{prefix}[]"}, *(_paths(value, f"{prefix}[{i}]") for i, value in enumerate(values)))
    return {prefix}


@given(data=st.data(), kind=st.sampled_from(sorted(INTEGERS)))
def test_every_integer_reads_and_writes_as_the_oracle_does(data: st.DataObject, kind: str) -> None:
    value = data.draw(st.integers(*INTEGERS[kind]))
    registers = oracle_types.point_type_info[kind].to_data(value)
    assert codec.decode(kind, registers) == value
    assert codec.encode(kind, size_of(kind), value) == registers


@given(value=st.floats(width=32, allow_nan=False))
def test_every_float_reads_and_writes_as_the_oracle_does(value: float) -> None:
    for kind, size in (("float32", 2), ("float64", 4)):
        registers = oracle_types.point_type_info[kind].to_data(value)
        assert codec.decode(kind, registers) == value
        assert codec.encode(kind, size, value) == registers


@pytest.mark.parametrize("kind", [*INTEGERS, "float32", "float64", "string", "eui48", "ipv6addr"])
def test_what_is_not_implemented_reads_as_nothing_and_is_written_as_the_oracle_does(kind: str) -> None:
    size = size_of(kind)
    registers = oracle_types.create_unimpl_value(kind, len=size * 2)
    assert codec.decode(kind, registers) is None
    assert codec.encode(kind, size, None) == registers


def test_any_nan_reads_as_nothing() -> None:
    assert codec.decode("float32", bytes.fromhex("ffc00001")) is None


@pytest.mark.parametrize(
    ("kind", "size", "value"),
    [("int16", 1, -32768), ("uint16", 1, 65535), ("uint32", 2, 2**32), ("int16", 1, 40_000), ("string", 2, "too long")],
)
def test_what_cannot_be_written_is_refused(kind: str, size: int, value: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(value))):
        codec.encode(kind, size, value)


def test_a_point_that_does_not_fit_is_named() -> None:
    definition = load_model(704)
    assert definition is not None
    model = lay_out(704, definition, length=65, counts={})
    with pytest.raises(ValueError, match="model 704 WSet: its scale factor has no value"):
        model.encode({"WSet": 100})
    with pytest.raises(ValueError, match="model 704 WSetEna: 70000"):
        model.encode({"WSetEna": 70000})


@given(power_w=st.floats(-1e6, 1e6), scale=st.integers(-3, 5))
def test_a_quantised_power_is_within_one_step_and_never_larger(power_w: float, scale: int) -> None:
    written_w = codec.scaled(codec.unscaled(power_w, scale), scale)
    assert abs(written_w) <= abs(power_w) + 1e-6 * 10.0**scale
    assert abs(written_w - power_w) < 10.0**scale * (1 + 1e-6)
    assert written_w == 0 or math.copysign(1, written_w) == math.copysign(1, power_w)


@pytest.mark.parametrize("power", [None, -32768, 11, -11])
def test_a_scale_factor_that_is_none_gives_no_value(power: int | None) -> None:
    assert scale_raw(100, power) is None


def test_scaling_is_exact_where_a_decimal_is() -> None:
    assert scale_raw(59997, -3) == 59.997
    assert scale_raw(3, -1) == 0.3
    assert scale_raw(-80, 1) == -800.0
