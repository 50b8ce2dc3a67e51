"""The key of the gateway's certificate lies in a PKCS#11 token (SoftHSM): enrolment and mutual TLS by it."""

from pathlib import Path

import pytest

from edge_agent.model.clock import SystemClock
from edge_agent.model.config import TokenConfig
from edge_agent.sync.claim import load_claim
from edge_agent.sync.coordinator import CoordinatorClient
from edge_agent.sync.keys import Keys
from edge_agent.tests.sync.counterparts import Coordinator
from protos.settings import SettingsError
from protos.tests.softhsm import new_token
from protos.vpp.v1.site_pb2 import SiteDescription

PIN = "gateway's PIN"


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenConfig:
    module, label = new_token(tmp_path, monkeypatch, PIN)
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
