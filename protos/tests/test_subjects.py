"""Subjects and partitions. The partition values were computed by nats-server's own partition(64,1) mapping."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import subjects


@pytest.mark.parametrize(
    ("text", "fnv1a32"),
    [
        # Fowler, Noll, Vo: published test vectors of the 32 bit FNV-1a hash.
        pytest.param("a", 0xE40C292C, id="a"),
        pytest.param("b", 0xE70C2DE5, id="b"),
        pytest.param("foobar", 0xBF9CF968, id="foobar"),
    ],
)
def test_partition_is_fnv1a_modulo_64(text: str, fnv1a32: int) -> None:
    assert subjects.partition(text) == fnv1a32 % 64


def test_partition_agrees_with_what_the_broker_computed() -> None:
    assert subjects.partition_token("s1") == "9.s1"


@pytest.mark.parametrize("name", ["*", ">", "a.b", "", "A1", "a b", "../x", "-a", "a" * 64, "grp:x", "é"])
def test_names_that_could_be_a_wildcard_or_a_path_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="use 1 to 63"):
        subjects.check_name(name, "site")


@given(st.integers(1, 64))
def test_every_partition_is_in_exactly_one_stream(groups: int) -> None:
    dealt = [s for g in range(groups) for s in subjects.telemetry_stream_subjects(g, groups)]
    assert sorted(dealt) == sorted(f"vpp.tel.{p}.*" for p in range(subjects.PARTITIONS))


def test_an_unknown_kind_of_intent_is_refused() -> None:
    with pytest.raises(ValueError, match="schedule, service"):
        subjects.intent("home-01", "anything")


def test_a_site_may_publish_only_its_own_subjects() -> None:
    allowed = subjects.device_permissions()["pub"]["allow"]
    assert all("{{tag(pt)}}" in s or "{{name()}}" in s for s in allowed)
    assert not any(s.startswith("vpp.intent") for s in allowed)
