"""The key of the gateway's certificate lies in a PKCS#11 token (SoftHSM): enrolment and mutual TLS by it."""

import os
import secrets
import shutil
import subprocess
from pathlib import Path

import pkcs11
import pytest

from edge_agent.model.clock import SystemClock
from edge_agent.model.config import TokenConfig
from edge_agent.sync.claim import load_claim
from edge_agent.sync.coordinator import CoordinatorClient
from edge_agent.sync.keys import Keys
from edge_agent.tests.sync.counterparts import Coordinator
from protos.settings import SettingsError
from protos.vpp.v1.site_pb2 import SiteDescription

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
PIN = "gateway's PIN"


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenConfig:
    module = next((path for path in MODULES if Path(path).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        text = "SoftHSM is missing; enable this test with: sudo apt-get install softhsm2"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    label = f"gateway-{secrets.token_hex(4)}"  # no other test of this process has one of that name
    new = (
        "softhsm2-util",
        "--init-token",
        "--free",
        "--label",
        label,
        "--pin",
        PIN,
        "--so-pin",
        "security officer",
    )
    subprocess.run(new, check=True, capture_output=True)
    pkcs11.lib(module).reinitialize()  # SoftHSM reads its configuration once
    (tmp_path / "pin").write_text(f"{PIN}\n")
    return TokenConfig(module=module, label=label, pin_file=str(tmp_path / "pin"))


async def test_enrols_and_speaks_as_the_site_with_a_key_that_no_file_has(
    tmp_path: Path, token: TokenConfig, coordinator: Coordinator
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    keys = Keys(data, token)
    (tmp_path / "claim.toml").write_text(coordinator.claim("home-01"))
    client = CoordinatorClient("home-01", keys, SystemClock(), "test")
    credentials = await client.enrol(load_claim(tmp_path / "claim.toml", "home-01"))
    configured = await client.configure(credentials, SiteDescription(rated_power_w=5000))
    assert configured.configuration.groups == ["fast"]
    assert (await coordinator.descriptions.get())[0] == "home-01"
    renewed = await client.renew(credentials, certificate=True)
    assert (await client.configure(renewed, SiteDescription())).configuration.telemetry_interval_ms == 100
    assert [path.name for path in data.iterdir()] == ["nats.nk"]
    assert Keys(data, token).client_digest == keys.client_digest
    # As the installer may have mistaken it; asked in a process of its own, like every request.
    elsewhere = TokenConfig(module=token.module, label="another", pin_file=token.pin_file)
    with pytest.raises(
        SettingsError, match=r"coordinator\.token: PKCS#11 token 'another'.*check module, label and PIN"
    ):
        await Keys(data, elsewhere).certificate_request("home-01")
