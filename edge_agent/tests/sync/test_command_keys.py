"""A command key is believed for the word of one that is believed already, and for nothing else."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.sync.command_keys import FILE, CommandKeyStore, key_id
from protos.vpp.v1.site_pb2 import CommandKeyRotation, Credentials

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(1, 5)]
RAW = [key.public_key().public_bytes_raw() for key in KEYS]
CLAIM = "claim 1"


def word(
    previous: int, following: int, *, signer: int | None = None, context: bytes | None = None
) -> CommandKeyRotation:
    by = KEYS[previous if signer is None else signer]
    text = b"murmuration command key 1\n" if context is None else context
    return CommandKeyRotation(
        public_key=RAW[following], previous_key_id=key_id(RAW[previous]), signature=by.sign(text + RAW[following])
    )


def credentials(named: list[int], *words: CommandKeyRotation) -> Credentials:
    return Credentials(command_keys=[RAW[i] for i in named], command_key_rotations=words)


@pytest.fixture
def store(tmp_path: Path) -> CommandKeyStore:
    store = CommandKeyStore(tmp_path)
    assert store.take(credentials([0]), CLAIM) == ([RAW[0]], "")
    return store


@pytest.mark.parametrize(
    ("named", "words", "believed"),
    [
        pytest.param([0], [], [0], id="as before"),
        pytest.param([0, 1], [word(0, 1)], [0, 1], id="both while they overlap"),
        pytest.param([1], [word(0, 1)], [1], id="the old one is retired"),
        pytest.param([2], [word(0, 1), word(1, 2)], [2], id="two rotations were slept through"),
        pytest.param([2], [word(1, 2), word(0, 1)], [2], id="in whatever order"),
    ],
)
def test_rotation(
    store: CommandKeyStore, tmp_path: Path, named: list[int], words: list[CommandKeyRotation], believed: list[int]
) -> None:
    keys, trouble = store.take(credentials(named, *words), CLAIM)
    assert (sorted(keys), trouble) == (sorted(RAW[i] for i in believed), "")
    assert sorted(CommandKeyStore(tmp_path).take(credentials(named), CLAIM)[0]) == sorted(keys), "after a restart, too"


@pytest.mark.parametrize(
    ("named", "words"),
    [
        pytest.param([0, 1], [], id="nobody's word"),
        pytest.param([1], [], id="nobody's word, and the old one gone"),
        pytest.param([0, 1], [word(0, 1, signer=1)], id="its own word"),
        pytest.param([0, 2], [word(1, 2)], id="the word of a stranger"),
        pytest.param([0, 1], [word(0, 1, context=b"")], id="something else that was signed once"),
        pytest.param([0, 2], [word(0, 1)], id="another key's word"),
        pytest.param(
            [0, 1], [CommandKeyRotation(public_key=RAW[1], previous_key_id=key_id(RAW[0]))], id="no signature"
        ),
    ],
)
def test_what_nobody_vouches_for_is_not_believed_and_told(
    store: CommandKeyStore, named: list[int], words: list[CommandKeyRotation]
) -> None:
    keys, trouble = store.take(credentials(named, *words), CLAIM)
    assert keys == [RAW[0]]
    assert key_id(RAW[named[-1]]).hex() in trouble


def test_a_retired_key_does_not_come_back(store: CommandKeyStore) -> None:
    store.take(credentials([1], word(0, 1)), CLAIM)
    keys, trouble = store.take(credentials([0, 1]), CLAIM)
    assert (keys, key_id(RAW[0]).hex() in trouble) == ([RAW[1]], True)


def test_a_new_enrolment_begins_anew(store: CommandKeyStore) -> None:
    assert store.take(credentials([3]), "claim 2") == ([RAW[3]], "")


def test_a_damaged_file_leaves_no_key_until_a_new_enrolment_would_be_made(
    store: CommandKeyStore, tmp_path: Path
) -> None:
    (tmp_path / FILE).write_bytes(b"{")
    keys, trouble = store.take(credentials([0]), CLAIM)
    assert keys == []
    assert "enrol" in trouble
