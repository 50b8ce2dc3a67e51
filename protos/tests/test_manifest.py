"""Manifests of updates: what is one, to the byte, and what is not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import manifest
from protos.manifest import ManifestError

GOOD: dict[str, Any] = {
    "kind": "firmware",
    "name": "relay",
    "version": [1, 2, 3],
    "minimum_version": [1, 0, 0],
    "board": "rp2",
    "files": [
        {
            "path": "lib/meter.mpy",
            "size": 3,
            "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        }
    ],
    "issued": 1_700_000_000_000,
}
FILE = GOOD["files"][0]


def test_the_bytes_are_fixed() -> None:
    assert manifest.encode(GOOD) == (
        b'{"board":"rp2","files":[{"path":"lib/meter.mpy",'
        b'"sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","size":3}],'
        b'"issued":1700000000000,"kind":"firmware","minimum_version":[1,0,0],"name":"relay","version":[1,2,3]}'
    )
    assert manifest.decode(manifest.encode(GOOD)) == GOOD


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        pytest.param({"kind": "virus"}, "kind is one of", id="another kind"),
        pytest.param({"name": "../x"}, "name", id="a name that is a path"),
        pytest.param({"name": ""}, "name", id="no name"),
        pytest.param({"board": ""}, "board", id="a firmware for no board"),
        pytest.param({"kind": "agent"}, "board", id="an agent for a board"),
        pytest.param({"version": [1, 2]}, "version", id="two parts"),
        pytest.param({"version": "1.2.3"}, "version", id="a version as text"),
        pytest.param({"version": [1, 2, True]}, "version", id="a truth"),
        pytest.param({"version": [1, 2, -3]}, "version", id="below zero"),
        pytest.param({"minimum_version": [2, 0, 0]}, "above version", id="a minimum above itself"),
        pytest.param({"issued": 1.5}, "issued", id="a fraction"),
        pytest.param({"files": []}, "1 to 64", id="no files"),
        pytest.param({"files": [FILE] * 65}, "1 to 64", id="too many files"),
        pytest.param({"files": [FILE, FILE]}, "twice", id="a path twice"),
        pytest.param({"files": [FILE | {"mode": 1}]}, "a file must have", id="a key too many in a file"),
        pytest.param({"files": [FILE | {"size": 2**31}]}, "size", id="beyond any flash"),
        pytest.param({"files": [FILE | {"sha256": FILE["sha256"].upper()}]}, "sha256", id="capitals"),
        pytest.param({"files": [FILE | {"sha256": "00"}]}, "sha256", id="a short hash"),
        *(
            pytest.param({"files": [FILE | {"path": path}]}, "path", id=f"path {path!r}")
            for path in ("/etc/passwd", "a/../b", "..", "a//b", "a\\b", "", "a/", "./a", "a b", "é")
        ),
        pytest.param({"extra": 1}, "exactly", id="a key too many"),
    ],
)
def test_what_is_no_manifest_is_refused(changed: dict[str, Any], says: str) -> None:
    bad = GOOD | changed
    with pytest.raises(ManifestError, match=says):
        manifest.encode(bad)
    with pytest.raises(ManifestError, match=says):
        manifest.decode(json.dumps(bad).encode())


def test_a_key_too_few_is_refused() -> None:
    for key in GOOD:
        with pytest.raises(ManifestError, match="exactly"):
            manifest.check({k: v for k, v in GOOD.items() if k != key})


@given(
    st.one_of(
        st.binary(max_size=200), st.recursive(st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
    )
)
def test_no_bytes_break_it(data: bytes) -> None:
    with pytest.raises(ManifestError):
        manifest.decode(data)


def test_no_depth_breaks_it() -> None:
    with pytest.raises(ManifestError):
        manifest.decode(b"[" * 10_000)
