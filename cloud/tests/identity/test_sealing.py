"""What is sealed opens with its key and for its purpose, and for nothing else."""

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.gateway.testing import PASSPHRASE
from cloud.identity.sealing import KEY_BYTES, KEY_FILE, Sealer, SealError, open_sealer

SEALER = Sealer(bytes(range(KEY_BYTES)))


@given(st.binary(max_size=64))
def test_opens_what_it_sealed(secret: bytes) -> None:
    sealed = SEALER.seal(secret, "second factor of ada")
    assert SEALER.open(sealed, "second factor of ada") == secret
    with pytest.raises(SealError, match="second factor of eve"):
        SEALER.open(sealed, "second factor of eve")
    with pytest.raises(SealError):
        Sealer(bytes(KEY_BYTES)).open(sealed, "second factor of ada")


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_an_altered_byte_is_noticed(place: int, change: int) -> None:
    data = bytearray(base64.b64decode(SEALER.seal(b"secret", "x")))
    data[place % len(data)] ^= change
    with pytest.raises(SealError):
        SEALER.open(base64.b64encode(data).decode(), "x")


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    sealed = open_sealer(tmp_path, PASSPHRASE).seal(b"secret", "x")
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert open_sealer(tmp_path, PASSPHRASE).open(sealed, "x") == b"secret"
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(SealError, match=r"people\.key: cannot be used .*restore it from a backup"):
        open_sealer(tmp_path, PASSPHRASE)
