"""SoftHSM with an empty token, for tests of keys that no file has."""

import os
import secrets
import shutil
import subprocess
from pathlib import Path

import pkcs11
import pytest

_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")


def new_token(folder: Path, monkeypatch: pytest.MonkeyPatch, pin: str) -> tuple[str, str]:
    """The library and the token's label, for this process and those that it starts; skips where SoftHSM is missing."""
    found = next((path for path in _MODULES if Path(path).exists()), None)
    if found is None or shutil.which("softhsm2-util") is None:
        text = "SoftHSM is missing; enable this test with: sudo apt-get install softhsm2"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
    label = f"vpp-{secrets.token_hex(4)}"  # no other test of this process has one of that name
    new = ("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "security officer")
    subprocess.run(new, check=True, capture_output=True)
    pkcs11.lib(found).reinitialize()  # SoftHSM reads its configuration once
    return found, label
