"""Keys, credentials and what becomes of them over the years."""

import asyncio
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec.structs import replace

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


def aged(held: HeldCredentials, hours: float) -> HeldCredentials:
    """The same credentials, got so many hours ago by this gateway's clock."""
    age_ms = int(hours * HOUR_MS)
    return replace(
        held, received_ms=held.received_ms - age_ms, certificate_received_ms=held.certificate_received_ms - age_ms
    )


class Renewing:
    """`keep_renewed` as it runs, what it got and what it told."""

    def __init__(self, site: Site, held: HeldCredentials) -> None:
        self.got: asyncio.Queue[HeldCredentials] = asyncio.Queue()
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self._task = asyncio.create_task(site.identity.keep_renewed(held, self.got.put_nowait, self.told.put_nowait))

    async def fresh(self) -> HeldCredentials:
        return await asyncio.wait_for(self.got.get(), DEADLINE_S)

    async def words(self) -> str:
        return await asyncio.wait_for(self.told.get(), DEADLINE_S)

    async def __aenter__(self) -> "Renewing":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_renewal_is_tried_until_the_coordinator_is_back(site: Site, coordinator: Coordinator) -> None:
    site.claim_file.write_text(coordinator.claim("home-01"))
    held = await site.identity.enrol()
    site_port = coordinator.site_address
    await coordinator.stop()
    async with Renewing(site, aged(held, 0.7)) as renewing:
        assert "could not be renewed yet" in await renewing.words()
        await coordinator.start(site_port=int(site_port.rpartition(":")[2]))
        fresh = await renewing.fresh()
    assert fresh.renew_at_ms > utc_ms()
    assert CredentialStore(site.data).load("home-01", site.keys) == fresh
    assert coordinator.renewals == 1


async def test_outage_longer_than_the_broker_credentials_is_mended_by_the_certificate(
    site: Site, coordinator: Coordinator
) -> None:
    """Broker credentials of one hour, eight hours without a coordinator: no claim is needed, nobody drives out."""
    site.claim_file.write_text(coordinator.claim("home-01"))
    held = aged(await site.identity.enrol(), 8)
    assert held.message.expires_ms - held.message.issued_ms < 8 * HOUR_MS
    async with Renewing(site, held) as renewing:
        fresh = await renewing.fresh()
    assert fresh.renew_at_ms > utc_ms()
    assert fresh.message.certificate == held.message.certificate  # not two thirds over
    assert fresh.certificate_received_ms == held.certificate_received_ms
    assert (coordinator.renewals, len(coordinator.enrolments)) == (1, 1)
    assert CredentialStore(site.data).load("home-01", site.keys) == fresh


@pytest.mark.parametrize(
    ("age_hours", "retiring", "renewed"),
    [
        pytest.param(15, False, False, id="before two thirds of a day"),
        pytest.param(17, False, True, id="after two thirds"),
        pytest.param(15, True, True, id="its authority is being retired"),
    ],
)
async def test_certificate_is_renewed_at_two_thirds_of_its_own_life(
    site: Site, coordinator: Coordinator, age_hours: float, retiring: bool, renewed: bool
) -> None:
    site.claim_file.write_text(coordinator.claim("home-01"))
    held = aged(await site.identity.enrol(), age_hours)
    coordinator.certificate_due = retiring
    async with Renewing(site, held) as renewing:
        fresh = await renewing.fresh()
    assert (fresh.message.certificate != held.message.certificate) is renewed
    assert not fresh.certificate_due(utc_ms())


async def test_refusal_of_the_broker_renews_at_once(
    site: Site, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retired signing key: the credentials are refused long before their time."""
    monkeypatch.setattr("edge_agent.sync.enrolment.SUSPICION_FIRST_S", 0.05)
    site.claim_file.write_text(coordinator.claim("home-01"))
    held = await site.identity.enrol()
    async with Renewing(site, held) as renewing:
        site.identity.suspect()
        fresh = await renewing.fresh()
    assert fresh.message.nats_jwt != held.message.nats_jwt or fresh.received_ms > held.received_ms
    assert coordinator.renewals == 1


@pytest.mark.parametrize("ahead_days", [-400, 400])
async def test_clock_that_is_wrong_by_a_year_neither_strands_nor_renews_without_end(
    site: Site, coordinator: Coordinator, ahead_days: int
) -> None:
    """Lives are as the coordinator told them, whatever this gateway's clock says."""
    message = coordinator.credentials(await site.keys.certificate_request("home-01"), site.keys.nats_public)
    now_ms = utc_ms() + ahead_days * 24 * HOUR_MS
    held = HeldCredentials.received(now_ms, message)
    assert held.renew_at_ms - now_ms == pytest.approx(2 / 3 * HOUR_MS, abs=1)
    assert not held.certificate_due(now_ms)
    assert not held.certificate_over(now_ms)


@pytest.mark.parametrize("with_certificate", [False, True])
async def test_a_renewal_that_names_no_first_frame_leaves_it_as_it_was(
    site: Site, coordinator: Coordinator, with_certificate: bool
) -> None:
    request = await site.keys.certificate_request("home-01")
    coordinator.first_seq = 500
    held = HeldCredentials.received(utc_ms(), coordinator.credentials(request, site.keys.nats_public))
    coordinator.first_seq = 0
    renewal = coordinator.credentials(request if with_certificate else b"", site.keys.nats_public, "home-01")
    assert HeldCredentials.received(utc_ms(), renewal, held).message.first_seq == 500


async def test_credentials_that_have_run_out_are_said_and_a_new_claim_file_is_taken_up(
    site: Site, coordinator: Coordinator
) -> None:
    site.claim_file.write_text(coordinator.claim("home-01"))
    over = aged(await site.identity.enrol(), 25)
    coordinator.refusal = "the certificate has run out"
    async with Renewing(site, over) as renewing:
        text = await renewing.words()
        assert "have expired" in text
        assert "vpp-cloud site claim home-01" in text
        site.claim_file.write_text(coordinator.claim("home-01", "token-2"))
        fresh = await renewing.fresh()
        assert renewing.told.empty()
    assert not fresh.certificate_over(utc_ms())
    assert [request.claim_token for request in coordinator.enrolments] == ["token-1", "token-2"]


async def test_revoked_gateway_takes_up_a_new_claim_file_before_anything_has_run_out(
    site: Site, coordinator: Coordinator
) -> None:
    site.claim_file.write_text(coordinator.claim("home-01"))
    held = aged(await site.identity.enrol(), 0.7)
    coordinator.refusal = "site home-01 was revoked"
    async with Renewing(site, held) as renewing:
        assert "was revoked; a new claim file" in await renewing.words()
        site.claim_file.write_text(coordinator.claim("home-01", "token-2"))
        await renewing.fresh()
    assert [request.claim_token for request in coordinator.enrolments] == ["token-1", "token-2"]


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
