"""Keys: made once and whole, read by nobody else, sealed, and never silently replaced."""

import re
import stat
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import nkeys
import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from hypothesis import given
from hypothesis import strategies as st

from cloud.gateway.testing import PASSPHRASE
from cloud.identity import certificates, nkey, passphrase, vault
from cloud.identity.key_store import KeyringError
from cloud.identity.keyring import open_keyring
from cloud.identity.passphrase import PassphraseError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOSTS = ("vpp.example.org", "127.0.0.1")
opened = partial(open_keyring, passphrase=PASSPHRASE)
SECRETS = ("online.sealed", "root.sealed", "ca.pem", "audit.pub")


def test_first_use_makes_keys_for_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    opened(folder, HOSTS, now=NOW)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(modes) == {*SECRETS, "server.pem"}
    assert set(modes.values()) == {0o600}


def test_no_private_key_lies_in_the_folder_as_it_is(tmp_path: Path) -> None:
    keys = opened(tmp_path / "keys", HOSTS, now=NOW)
    raw = [stored.secret for stored in (keys.keys.command, keys.keys.devices, keys.keys.issuing, keys.keys.server)]
    for path in (tmp_path / "keys").iterdir():
        data = path.read_bytes()
        assert b"PRIVATE KEY" not in data
        assert not any(secret in data or secret.hex().encode() in data for secret in raw)


def test_second_use_finds_the_same_keys(tmp_path: Path) -> None:
    first = opened(tmp_path / "keys", HOSTS, now=NOW)
    second = opened(tmp_path / "keys", HOSTS, now=NOW)
    assert first.keys == second.keys
    assert first.signer.public_key == second.signer.public_key
    assert first.server_pem == second.server_pem


def test_keys_are_of_the_kinds_the_broker_wants(tmp_path: Path) -> None:
    keys = opened(tmp_path / "keys", HOSTS, now=NOW)
    pairs = (keys.operator_signer, keys.system_signer, keys.account_signer, keys.devices, keys.backend)
    assert [pair.public[0] for pair in pairs] == ["O", "A", "A", "A", "U"]


@given(st.binary(min_size=32, max_size=32), st.sampled_from([nkey.OPERATOR, nkey.ACCOUNT, nkey.USER]), st.binary())
def test_an_nkey_is_the_librarys(raw: bytes, prefix: int, data: bytes) -> None:
    seed = nkeys.encode_seed(raw, prefix)
    ours, theirs = nkey.from_seed(seed, prefix), nkeys.from_seed(bytearray(seed))
    assert (ours.public, ours.seed, ours.sign(data)) == (theirs.public_key.decode(), seed, theirs.sign(data))


@pytest.mark.parametrize("name", [*SECRETS, "server.pem"])
def test_key_that_others_may_read_is_refused_with_the_remedy(tmp_path: Path, name: str) -> None:
    opened(tmp_path / "keys", HOSTS, now=NOW)
    (tmp_path / "keys" / name).chmod(0o640)
    with pytest.raises(KeyringError, match=rf"{re.escape(name)}: others may use it .*chmod 600"):
        opened(tmp_path / "keys", HOSTS, now=NOW)


def test_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    opened(tmp_path / "keys", HOSTS, now=NOW)
    (tmp_path / "keys").chmod(0o755)
    with pytest.raises(KeyringError, match="chmod 700"):
        opened(tmp_path / "keys", HOSTS, now=NOW)


@pytest.mark.parametrize("name", ["online.sealed", "audit.pub"])
def test_lost_key_is_refused_not_made_anew(tmp_path: Path, name: str) -> None:
    opened(tmp_path / "keys", HOSTS, now=NOW)
    (tmp_path / "keys" / name).unlink()
    with pytest.raises(KeyringError, match=rf"{re.escape(name)}: is missing; restore it"):
        opened(tmp_path / "keys", HOSTS, now=NOW)
    assert not (tmp_path / "keys" / name).exists()


def test_runs_without_the_root(tmp_path: Path) -> None:
    before = opened(tmp_path / "keys", HOSTS, now=NOW)
    (tmp_path / "keys" / "root.sealed").unlink()
    assert opened(tmp_path / "keys", HOSTS, now=NOW).keys == before.keys


def test_another_passphrase_opens_nothing(tmp_path: Path) -> None:
    opened(tmp_path / "keys", HOSTS, now=NOW)
    with pytest.raises(KeyringError, match=r"online\.sealed: does not open with this passphrase"):
        open_keyring(tmp_path / "keys", HOSTS, now=NOW, passphrase=b"another passphrase")


@pytest.mark.parametrize("data", [b"", b"SAAB", b"{}", b'{"purpose":"x"}'])
def test_damaged_keys_are_refused(tmp_path: Path, data: bytes) -> None:
    opened(tmp_path / "keys", HOSTS, now=NOW)
    (tmp_path / "keys" / "online.sealed").write_bytes(data)
    with pytest.raises(KeyringError, match=r"online\.sealed: is damaged, .*restore the file from a backup"):
        opened(tmp_path / "keys", HOSTS, now=NOW)


SEALED = vault.seal(b"the secret", PASSPHRASE, "test")


@pytest.mark.parametrize("place", range(0, len(SEALED) - 1, 23))
def test_an_altered_vault_does_not_open(place: int) -> None:
    assert vault.unseal(SEALED, PASSPHRASE, "test") == b"the secret"
    altered = bytearray(SEALED)
    altered[place] ^= 1
    with pytest.raises(vault.VaultError):
        vault.unseal(bytes(altered), PASSPHRASE, "test")
    with pytest.raises(vault.VaultError, match="not 'other'"):
        vault.unseal(SEALED, PASSPHRASE, "other")


def test_where_the_passphrase_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that was named, else systemd's credential, else the file beside the folder; made only if asked for."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    data = tmp_path / "vpp"
    with pytest.raises(PassphraseError, match=r"vpp\.passphrase: .*--passphrase-file"):
        passphrase.find(data, None)
    made = passphrase.find(data, None, make=True)
    assert len(made) >= 40
    assert passphrase.find(data, None, make=True) == made
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    for name, text in (("vpp-cloud.passphrase", "from systemd's store"), ("named", "named by a person")):
        (credentials / name).write_text(f"{text}\n")
        (credentials / name).chmod(0o600)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert passphrase.find(data, None) == b"from systemd's store"
    assert passphrase.find(data, credentials / "named") == b"named by a person"
    (credentials / "named").chmod(0o644)
    with pytest.raises(PassphraseError, match="others may read the passphrase; run `chmod 600"):
        passphrase.find(data, credentials / "named")
    (credentials / "short").write_text("short\n")
    (credentials / "short").chmod(0o600)
    with pytest.raises(PassphraseError, match="at least 12"):
        passphrase.find(data, credentials / "short")


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
    before = opened(tmp_path / "keys", HOSTS, now=NOW).server_pem
    after = opened(tmp_path / "keys", hosts, now=NOW + later).server_pem
    assert (after != before) is reissued


def test_server_certificate_verifies_for_its_hosts_and_no_other(tmp_path: Path) -> None:
    keys = opened(tmp_path / "keys", HOSTS, now=NOW)
    leaf, *chain = x509.load_pem_x509_certificates(keys.server_pem)
    roots = x509.load_pem_x509_certificates(keys.authority_pem)
    policy = PolicyBuilder().store(Store(roots)).time(NOW)
    found = policy.build_server_verifier(x509.DNSName("vpp.example.org")).verify(leaf, chain)
    assert found == [leaf, keys.authority, roots[0]]
    with pytest.raises(VerificationError):
        policy.build_server_verifier(x509.DNSName("elsewhere.example.org")).verify(leaf, chain)
    # Nodes of the broker are each other's clients by it; but it stands for no site.
    client = policy.build_client_verifier().verify(leaf, chain)
    assert client.subjects is not None
    assert [str(name.value) for name in client.subjects] == list(HOSTS)
    assert certificates.site_from_names(str(name.value).encode() for name in client.subjects) is None
