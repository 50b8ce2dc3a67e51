"""Keys: made once and whole, read by nobody else, and never silently replaced."""

import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from cloud.identity.keyring import KeyringError, open_keyring
from cloud.identity.nkey import public

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOSTS = ("vpp.example.org", "127.0.0.1")


def test_first_use_makes_keys_for_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    open_keyring(folder, HOSTS, now=NOW)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert len(modes) == 12
    assert set(modes.values()) == {0o600}


def test_second_use_finds_the_same_keys(tmp_path: Path) -> None:
    first = open_keyring(tmp_path / "keys", HOSTS, now=NOW)
    second = open_keyring(tmp_path / "keys", HOSTS, now=NOW)
    for name in ("operator", "system", "account", "devices", "backend"):
        assert public(getattr(first, name)) == public(getattr(second, name))
    assert first.signer.public_key == second.signer.public_key
    assert first.authority_pem == second.authority_pem
    assert first.server_certificate_file.read_bytes() == second.server_certificate_file.read_bytes()


def test_keys_are_of_the_kinds_the_broker_wants(tmp_path: Path) -> None:
    keys = open_keyring(tmp_path / "keys", HOSTS, now=NOW)
    kinds = [public(key)[0] for key in (keys.operator, keys.system, keys.account, keys.devices, keys.backend)]
    assert kinds == ["O", "A", "A", "A", "U"]


@pytest.mark.parametrize("name", ["account.nk", "ca.key", "command.key", "server.pem"])
def test_key_that_others_may_read_is_refused_with_the_remedy(tmp_path: Path, name: str) -> None:
    open_keyring(tmp_path / "keys", HOSTS, now=NOW)
    (tmp_path / "keys" / name).chmod(0o640)
    with pytest.raises(KeyringError, match=rf"{re.escape(name)}: others may use it .*chmod 600"):
        open_keyring(tmp_path / "keys", HOSTS, now=NOW)


def test_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    open_keyring(tmp_path / "keys", HOSTS, now=NOW)
    (tmp_path / "keys").chmod(0o755)
    with pytest.raises(KeyringError, match="chmod 700"):
        open_keyring(tmp_path / "keys", HOSTS, now=NOW)


@pytest.mark.parametrize(
    "name", ["operator.nk", "account.nk", "devices.nk", "ca.key", "ca.pem", "command.key", "audit.key"]
)
def test_lost_key_is_refused_not_made_anew(tmp_path: Path, name: str) -> None:
    open_keyring(tmp_path / "keys", HOSTS, now=NOW)
    (tmp_path / "keys" / name).unlink()
    with pytest.raises(KeyringError, match=rf"{re.escape(name)}: is missing; restore it"):
        open_keyring(tmp_path / "keys", HOSTS, now=NOW)
    assert not (tmp_path / "keys" / name).exists()


@pytest.mark.parametrize("name", ["account.nk", "ca.key", "ca.pem", "command.key"])
def test_damaged_key_is_refused(tmp_path: Path, name: str) -> None:
    open_keyring(tmp_path / "keys", HOSTS, now=NOW)
    (tmp_path / "keys" / name).write_bytes(b"SAAB")
    with pytest.raises(KeyringError, match="restore the folder from a backup"):
        open_keyring(tmp_path / "keys", HOSTS, now=NOW)


def test_seed_of_another_kind_is_refused(tmp_path: Path) -> None:
    open_keyring(tmp_path / "keys", HOSTS, now=NOW)
    folder = tmp_path / "keys"
    (folder / "operator.nk").write_bytes((folder / "backend.nk").read_bytes())
    with pytest.raises(KeyringError, match="another kind"):
        open_keyring(folder, HOSTS, now=NOW)


@pytest.mark.parametrize(
    ("hosts", "later", "reissued"),
    [
        pytest.param(HOSTS, timedelta(days=1), False, id="same hosts, fresh"),
        pytest.param(("other.example.org", "127.0.0.1"), timedelta(0), True, id="other host"),
        pytest.param(HOSTS, timedelta(days=700), True, id="runs out soon"),
    ],
)
def test_server_certificate_follows_hosts_and_time(
    tmp_path: Path, hosts: tuple[str, ...], later: timedelta, reissued: bool
) -> None:
    before = open_keyring(tmp_path / "keys", HOSTS, now=NOW).server_certificate_file.read_bytes()
    after = open_keyring(tmp_path / "keys", hosts, now=NOW + later).server_certificate_file.read_bytes()
    assert (after != before) is reissued


def test_server_certificate_verifies_for_its_hosts_and_no_other(tmp_path: Path) -> None:
    keys = open_keyring(tmp_path / "keys", HOSTS, now=NOW)
    leaf = x509.load_pem_x509_certificate(keys.server_certificate_file.read_bytes())
    policy = PolicyBuilder().store(Store([keys.authority])).time(NOW)
    chain = policy.build_server_verifier(x509.DNSName("vpp.example.org")).verify(leaf, [])
    assert chain[-1] == keys.authority
    with pytest.raises(VerificationError):
        policy.build_server_verifier(x509.DNSName("elsewhere.example.org")).verify(leaf, [])
    with pytest.raises(VerificationError):
        policy.build_client_verifier().verify(leaf, [])
