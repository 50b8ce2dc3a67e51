"""The keys that sign lie in a PKCS#11 token (SoftHSM): everything works as before, and none of them is on the disk."""

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.data_folder import DataFolder
from cloud.gateway.testing import utc_now
from cloud.identity import key_store
from cloud.identity.key_store import TokenPlace, read_online
from cloud.identity.keyring import open_keyring
from cloud.testing import DEADLINE_S, Plant
from protos.hardware import Token, TokenError
from protos.tests.softhsm import new_token

IN_TOKEN = ("issuing", "operator_signer", "system_signer", "account_signer", "devices", "devices_next", "command")
PIN = "a PIN of a token"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenPlace:
    """SoftHSM with one empty token, for this process and the commands it starts."""
    return TokenPlace(*new_token(tmp_path, monkeypatch, PIN))


async def keys_in_token(plant: Plant, place: TokenPlace, folder: Path) -> tuple[str, str]:
    """Made there; the option by which commands get at them."""
    pin = folder / "pin"
    pin.write_text(f"{PIN}\n")
    pin.chmod(0o600)
    plant.data = DataFolder(plant.data.path, pin)
    at = ("--passphrase-file", str(pin))
    assert await plant.command("init", "--pkcs11-module", place.module, "--pkcs11-token", place.label, *at) == 0
    return at


async def test_coordinator_runs_enrols_and_rotates_with_its_keys_in_a_token(
    plant: Plant, place: TokenPlace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = await keys_in_token(plant, place, tmp_path)
    before = read_online(plant.data.keys, PIN.encode())
    assert [name for name in IN_TOKEN if getattr(before, name).secret] == []
    async with plant.running():
        gateway = await plant.enrol(await plant.claim("home-01"))
        await (await gateway.connect()).close()
        for level in ("devices", "issuing", "command"):
            assert await plant.command("keys", "rotate", level, *at) == 0
        newcomer = await plant.enrol(await plant.claim("home-02"))
        await (await newcomer.connect()).close()
    assert await plant.command("keys", "show", *at) == 0
    shown = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert " token " in shown["issuing"]
    assert " disk " in shown["server"]
    after = read_online(plant.data.keys, PIN.encode())
    with Token(Path(place.module), place.label, PIN) as token:
        assert token.has(after.devices.name)
        assert not token.has(before.devices.name)  # destroyed when it was replaced


async def test_a_replaced_key_signs_until_who_runs_has_taken_the_new_one_up(
    plant: Plant, place: TokenPlace, tmp_path: Path
) -> None:
    at = await keys_in_token(plant, place, tmp_path)
    running = open_keyring(plant.data.keys, None, now=utc_now(), passphrase=PIN.encode())
    old, file = running.authority_key, plant.data.keys / key_store.ONLINE_FILE
    name, before = running.keys.issuing.name, file.stat().st_ino
    rotating = asyncio.create_task(plant.command("keys", "rotate", "issuing", *at))
    with Token(Path(place.module), place.label, PIN) as token:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if file.stat().st_ino != before:
                    break
                await asyncio.sleep(0.01)
        signature = old.sign(b"a certificate", ec.ECDSA(hashes.SHA256()))
        old.public_key().verify(signature, b"a certificate", ec.ECDSA(hashes.SHA256()))
        assert token.has(name)
        assert not rotating.done()
        assert running.refresh(utc_now())
        assert await rotating == 0
        assert not token.has(name)


async def test_one_who_closes_the_token_logs_nobody_else_out(plant: Plant, place: TokenPlace, tmp_path: Path) -> None:
    await keys_in_token(plant, place, tmp_path)
    name = read_online(plant.data.keys, PIN.encode()).devices.name
    first = Token(Path(place.module), place.label, PIN)
    with Token(Path(place.module), place.label, PIN) as second:
        key = second.ed25519(name)
        first.close()
        key.public_key().verify(key.sign(b"data"), b"data")
        with pytest.raises(TokenError, match="cannot be opened"):
            Token(Path(place.module), place.label, "another PIN")


async def test_a_token_that_is_not_there_is_named(
    plant: Plant, place: TokenPlace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await plant.command("init", "--pkcs11-module", place.module, "--pkcs11-token", "another") == 2
    assert f"PKCS#11 token 'another' of {place.module}: cannot be opened" in capsys.readouterr().err
    assert not plant.data.keys.exists()
