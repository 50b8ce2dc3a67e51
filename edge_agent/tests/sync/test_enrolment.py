"""Keys, credentials and what becomes of them over the years."""

import asyncio
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_agent.model.clock import SystemClock
from edge_agent.model.config import load
from edge_agent.sync.backoff import Backoff
from edge_agent.sync.coordinator import CoordinatorClient
from edge_agent.sync.credentials import CredentialStore, HeldCredentials
from edge_agent.sync.enrolment import Identity
from edge_agent.sync.keys import Keys
from edge_agent.sync.state import AcceptedIntent, State
from edge_agent.tests.sync.agent import CONFIG
from edge_agent.tests.sync.counterparts import DEADLINE_S, Coordinator, utc_ms
from protos.settings import SettingsError

HOUR_MS = 3_600_000


class Site:
    """The parts that hold a site's identity, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.claim_file = folder / "claim.toml"
        (folder / "agent.toml").write_text(CONFIG.format(site="home-01"))
        self.data = folder / "data"
        self.data.mkdir(exist_ok=True)
        self.keys = Keys(self.data)
        self.store = CredentialStore(self.data)
        self.state = State(self.data)
        client = CoordinatorClient("home-01", self.keys, SystemClock(), "test")
        self.identity = Identity(
            load(folder / "agent.toml"),
            self.store,
            self.keys,
            self.state,
            client,
            SystemClock(),
            lambda: Backoff(0.02, 0.1),
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_keys_are_made_once_and_the_request_proves_them(site: Site) -> None:
    request = x509.load_der_x509_csr(await site.keys.certificate_request("home-01"))
    assert request.is_signature_valid
    assert request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "home-01"
    public = request.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert isinstance(public.curve, ec.SECP256R1)
    again = Keys(site.data)
    assert again.nats_public == site.keys.nats_public
    assert x509.load_der_x509_csr(await again.certificate_request("home-01")).public_key() == public


@pytest.mark.parametrize("name", ["client.key", "nats.nk"])
async def test_a_damaged_key_is_refused_by_name(site: Site, name: str) -> None:
    await site.keys.certificate_request("home-01")
    (site.data / name).write_bytes(b"damaged")
    with pytest.raises(SettingsError, match=f"{name}: is not the key this agent made"):
        await Keys(site.data).certificate_request("home-01")


async def test_credentials_are_kept_for_the_next_start(site: Site, coordinator: Coordinator) -> None:
    site.claim_file.write_text(coordinator.claim("home-01"))
    held = await site.identity.enrol()
    assert CredentialStore(site.data).load("home-01", Keys(site.data)) == held
    assert (held.message.site, held.message.slot) == ("home-01", 7)


async def test_credentials_of_another_site_or_key_are_refused(site: Site, coordinator: Coordinator) -> None:
    site.claim_file.write_text(coordinator.claim("home-01"))
    await site.identity.enrol()
    with pytest.raises(SettingsError, match=r"belongs to site 'home-01', but the configuration says site = 'home-02'"):
        site.store.load("home-02", site.keys)
    (site.data / "client.key").unlink()
    await site.keys.certificate_request("home-01")
    with pytest.raises(SettingsError, match="issued for another key"):
        site.store.load("home-01", site.keys)
    (site.data / "credentials.json").write_text("{")
    with pytest.raises(SettingsError, match=r"credentials\.json: is damaged"):
        site.store.load("home-01", site.keys)


async def test_renewal_is_tried_until_the_coordinator_is_back(site: Site, coordinator: Coordinator) -> None:
    site.claim_file.write_text(coordinator.claim("home-01"))
    message = (await site.identity.enrol()).message
    due = HeldCredentials(utc_ms() - 3 * HOUR_MS, message)  # made three hours ago for four
    renewed: asyncio.Queue[HeldCredentials] = asyncio.Queue()
    told: list[str] = []
    site_port = coordinator.site_address
    await coordinator.stop()
    task = asyncio.create_task(site.identity.keep_renewed(due, renewed.put_nowait, told.append))
    await coordinator.start(site_port=int(site_port.rpartition(":")[2]))
    fresh = await asyncio.wait_for(renewed.get(), DEADLINE_S)
    task.cancel()
    assert fresh.renew_at_ms > utc_ms()
    assert CredentialStore(site.data).load("home-01", site.keys) == fresh
    assert coordinator.renewals == 1


async def test_credentials_that_have_run_out_are_said_and_a_new_claim_file_is_taken_up(
    site: Site, coordinator: Coordinator
) -> None:
    site.claim_file.write_text(coordinator.claim("home-01"))
    message = (await site.identity.enrol()).message
    message.expires_ms = utc_ms() - HOUR_MS
    over = HeldCredentials(utc_ms() - 3 * HOUR_MS, message)
    renewed: asyncio.Queue[HeldCredentials] = asyncio.Queue()
    told: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(site.identity.keep_renewed(over, renewed.put_nowait, told.put_nowait))
    text = await asyncio.wait_for(told.get(), DEADLINE_S)
    assert "have expired" in text
    assert "vpp-cloud site claim home-01" in text
    site.claim_file.write_text(coordinator.claim("home-01", "token-2"))
    fresh = await asyncio.wait_for(renewed.get(), DEADLINE_S)
    task.cancel()
    assert fresh.message.expires_ms > utc_ms()
    assert [request.claim_token for request in coordinator.enrolments] == ["token-1", "token-2"]
    assert told.empty()


def test_state_survives_a_restart_and_its_own_loss(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.reserve_seq(164)
    state.reserve_seq(100)
    state.accept("service", AcceptedIntent(5, "aa"))
    again = State(tmp_path)
    assert (again.seq_reserved, again.accepted("service"), again.accepted("schedule")) == (
        164,
        AcceptedIntent(5, "aa"),
        None,
    )
    (tmp_path / "state.json").write_text("{")
    lost = State(tmp_path)
    assert (lost.seq_reserved, lost.accepted("service")) == (0, None)
