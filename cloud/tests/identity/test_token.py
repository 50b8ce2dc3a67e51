"""The keys that sign lie in a PKCS#11 token (SoftHSM): everything works as before, and none of them is on the disk."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cloud.data_folder import DataFolder
from cloud.identity.key_store import read_online
from cloud.testing import Plant
from protos.hardware import Token

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
IN_TOKEN = ("issuing", "operator_signer", "system_signer", "account_signer", "devices", "devices_next", "command")
PIN = "a PIN of a token"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """SoftHSM with one empty token, for this process and the commands it starts."""
    found = next((path for path in MODULES if Path(path).exists()), None)
    if found is None or shutil.which("softhsm2-util") is None:
        text = "SoftHSM is missing; enable this test with: sudo apt-get install softhsm2"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    new = ("softhsm2-util", "--init-token", "--free", "--label", "vpp", "--pin", PIN, "--so-pin", "security officer")
    subprocess.run(new, check=True, capture_output=True)
    return found


async def test_coordinator_runs_enrols_and_rotates_with_its_keys_in_a_token(
    plant: Plant, module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pin = tmp_path / "pin"
    pin.write_text(f"{PIN}\n")
    pin.chmod(0o600)
    plant.data = DataFolder(plant.data.path, pin)
    at = ("--passphrase-file", str(pin))
    assert await plant.command("init", "--pkcs11-module", module, "--pkcs11-token", "vpp", *at) == 0
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
    with Token(Path(module), "vpp", PIN) as token:
        assert token.has(after.devices.name)
        assert not token.has(before.devices.name)  # destroyed when it was replaced


async def test_a_token_that_is_not_there_is_named(
    plant: Plant, module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await plant.command("init", "--pkcs11-module", module, "--pkcs11-token", "another") == 2
    assert f"PKCS#11 token 'another' of {module}: cannot be opened" in capsys.readouterr().err
    assert not plant.data.keys.exists()
