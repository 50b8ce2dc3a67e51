"""Enrolment and the site service over real gRPC with TLS, as an agent meets them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.gateway import servers
from cloud.gateway.credentials import CredentialIssuer
from cloud.gateway.enrolment import ADDRESS_GUESSES, GUESS_WINDOW_S, EnrolmentService
from cloud.gateway.ports import PortError, free_port, listening_socket
from cloud.gateway.site_service import SiteGateway
from cloud.gateway.testing import HOST, Agent, new_agent
from cloud.identity import certificates
from cloud.identity.claims import issue_claim
from cloud.identity.keyring import Keyring
from cloud.store.ledger import Ledger
from protos.vpp.v1 import site_pb2, site_pb2_grpc

BEGIN = datetime.now(UTC)
TIMEOUT_S = 10


class Clock:
    """The coordinator's wall clock."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> datetime:
        return self.now

    def monotonic_s(self) -> float:
        return self.now.timestamp()

    @property
    def ms(self) -> int:
        return int(self.now.timestamp() * 1000)


@dataclass
class Gateway:
    """Both servers, what stands behind them, and channels to them."""

    ledger: Ledger
    clock: Clock
    keyring: Keyring
    enrolment: site_pb2_grpc.EnrolmentStub
    site_port: int
    open_channel: Callable[[int, grpc.ChannelCredentials], grpc.aio.Channel]

    def claim(self, site: str, groups: tuple[str, ...] = ("fast", "north"), hours: float = 1) -> str:
        if self.ledger.site(site) is None:
            self.ledger.add_site(site, groups, self.clock.ms)
        return issue_claim(self.ledger, site, now_ms=self.clock.ms, lifetime=timedelta(hours=hours))

    async def enrolled(self, site: str) -> tuple[Agent, site_pb2.Credentials]:
        agent = new_agent()
        return agent, await self.enrolment.Enrol(agent.enrol(self.claim(site)), timeout=TIMEOUT_S)

    def sites(self, key: ec.EllipticCurvePrivateKey | None, certificate: bytes | None) -> site_pb2_grpc.SiteServiceStub:
        """SiteService as seen by who holds this key and certificate."""
        pem = certificates.key_pem(key) if key is not None else None
        credentials = grpc.ssl_channel_credentials(self.keyring.authority_pem, pem, certificate)
        return site_pb2_grpc.SiteServiceStub(  # type: ignore[no-untyped-call]
            self.open_channel(self.site_port, credentials)
        )


@pytest.fixture
async def gateway(tmp_path: Path, keyring: Keyring) -> AsyncIterator[Gateway]:
    clock = Clock()
    ledger = Ledger(tmp_path / "ledger.db")
    enrolment_port, site_port = free_port(HOST), free_port(HOST)
    site_service = f"{HOST}:{site_port}"
    issuer = CredentialIssuer(
        keyring,
        ledger,
        nats_urls=["tls://127.0.0.1:4222"],
        site_service=site_service,
        next_seq=lambda slot: 1000 + slot,
    )
    enrolment, sites = servers.make_server(), servers.make_server()
    site_pb2_grpc.add_EnrolmentServicer_to_server(  # type: ignore[no-untyped-call]
        EnrolmentService(ledger, issuer, clock, clock.monotonic_s), enrolment
    )
    site_pb2_grpc.add_SiteServiceServicer_to_server(  # type: ignore[no-untyped-call]
        SiteGateway(ledger, issuer, updates=tmp_path, telemetry_interval_ms=100, now=clock), sites
    )
    bind = partial(servers.bind_tls, keyring=keyring, host=HOST, key="test")
    bind(enrolment, port=enrolment_port, client_certificates=False)
    bind(sites, port=site_port, client_certificates=True)
    await enrolment.start()
    await sites.start()
    channels: list[grpc.aio.Channel] = []

    def open_channel(port: int, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
        channels.append(grpc.aio.secure_channel(f"{HOST}:{port}", credentials))
        return channels[-1]

    trust = grpc.ssl_channel_credentials(keyring.authority_pem)
    stub = site_pb2_grpc.EnrolmentStub(open_channel(enrolment_port, trust))  # type: ignore[no-untyped-call]
    yield Gateway(ledger, clock, keyring, stub, site_port, open_channel)
    for channel in channels:
        await channel.close(None)
    await enrolment.stop(1)
    await sites.stop(1)
    ledger.close()


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), error.value.details() or ""


DESCRIPTION = site_pb2.SiteDescription(
    devices=[site_pb2.Device(name="hybrid", manufacturer="Acme", model="H5", serial="1", sunspec_models=[1, 701])],
    agent_version="0.1.0",
    rated_power_w=5000,
    max_charge_w=4800,
    max_discharge_w=4900,
    storage_capacity_wh=10_000,
    soc_min=0.1,
    soc_max=0.95,
)


async def test_token_becomes_the_sites_identity(gateway: Gateway) -> None:
    agent, credentials = await gateway.enrolled("home-01")
    certificate = x509.load_pem_x509_certificate(credentials.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert (credentials.site, credentials.slot) == ("home-01", 0)
    assert credentials.partition_token.endswith(".home-01")
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:murmuration:site:home-01"]
    assert certificate.public_key() == agent.key.public_key()
    assert credentials.ca_certificates == gateway.keyring.authority_pem
    assert list(credentials.command_keys) == [gateway.keyring.signer.public_key]
    assert credentials.site_service == f"{HOST}:{gateway.site_port}"
    assert credentials.first_seq == 1000
    assert credentials.certificate_expires_ms == int(certificate.not_valid_after_utc.timestamp()) * 1000
    assert credentials.expires_ms - credentials.issued_ms == pytest.approx(24 * 3_600_000, abs=1000)
    assert gateway.clock.now + timedelta(days=29) < certificate.not_valid_after_utc
    assert [event.code for event in gateway.ledger.events(site="home-01")] == ["site.enrolled"]


async def test_second_use_of_a_token_is_refused(gateway: Gateway) -> None:
    token = gateway.claim("home-01")
    await gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S)
    code, details = await refused(gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert "used before" in details
    assert "\n" not in details


async def test_lost_answer_is_given_again_to_the_same_keys(gateway: Gateway) -> None:
    token, agent = gateway.claim("home-01"), new_agent()
    first = await gateway.enrolment.Enrol(agent.enrol(token), timeout=TIMEOUT_S)
    gateway.clock.now += timedelta(minutes=1)
    again = await gateway.enrolment.Enrol(agent.enrol(token), timeout=TIMEOUT_S)
    certificate = x509.load_pem_x509_certificate(again.certificate)
    assert certificate.public_key() == agent.key.public_key()
    assert (again.site, again.slot, again.first_seq) == (first.site, first.slot, first.first_seq)
    assert (await gateway.sites(agent.key, again.certificate).Configure(DESCRIPTION, timeout=TIMEOUT_S)).groups
    assert [event.code for event in gateway.ledger.events(site="home-01")] == ["site.enrolled"]


async def test_copy_of_a_request_is_refused_recorded_and_said(gateway: Gateway) -> None:
    """The same keys may ask again, for an answer gets lost; the same bytes are somebody else's copy."""
    token, agent = gateway.claim("home-01"), new_agent()
    request = agent.enrol(token)
    await gateway.enrolment.Enrol(request, timeout=TIMEOUT_S)
    again = agent.enrol(token)
    await gateway.enrolment.Enrol(again, timeout=TIMEOUT_S)
    for copy in (request, again):
        code, details = await refused(gateway.enrolment.Enrol(copy, timeout=TIMEOUT_S))
        assert code is grpc.StatusCode.ALREADY_EXISTS
        assert "it is a copy" in details
    told = [json.loads(entry.detail) for entry in gateway.ledger.audit_entries() if entry.action == "claim.refused"]
    assert [detail["problem"] for detail in told] == ["replayed", "replayed"]


async def test_guessing_tokens_is_slowed_down_recorded_and_costs_nobody_else_anything(gateway: Gateway) -> None:
    token = gateway.claim("home-01")
    for _ in range(ADDRESS_GUESSES):
        code, _ = await refused(gateway.enrolment.Enrol(new_agent().enrol("a" * 32), timeout=TIMEOUT_S))
        assert code is grpc.StatusCode.NOT_FOUND
    code, details = await refused(gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "come back in 15 minutes" in details
    actions = [entry.action for entry in gateway.ledger.audit_entries()]
    assert (actions.count("claim.refused"), actions.count("claim.locked")) == (ADDRESS_GUESSES, 1)
    gateway.clock.now += timedelta(seconds=GUESS_WINDOW_S)
    token = gateway.claim("home-01")
    assert (await gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S)).site == "home-01"


async def test_half_of_the_keys_is_another_gateway(gateway: Gateway) -> None:
    token, agent = gateway.claim("home-01"), new_agent()
    await gateway.enrolment.Enrol(agent.enrol(token), timeout=TIMEOUT_S)
    for other in (Agent(agent.key, new_agent().nats_public_key), Agent(new_agent().key, agent.nats_public_key)):
        code, _ = await refused(gateway.enrolment.Enrol(other.enrol(token), timeout=TIMEOUT_S))
        assert code is grpc.StatusCode.ALREADY_EXISTS


async def test_replaced_gateway_does_not_come_back_by_its_old_token(gateway: Gateway) -> None:
    token, old = gateway.claim("home-01"), new_agent()
    await gateway.enrolment.Enrol(old.enrol(token), timeout=TIMEOUT_S)
    gateway.clock.now += timedelta(minutes=1)
    await gateway.enrolled("home-01")
    code, _ = await refused(gateway.enrolment.Enrol(old.enrol(token), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.ALREADY_EXISTS


async def test_used_token_is_not_answered_again_for_ever(gateway: Gateway) -> None:
    token, agent = gateway.claim("home-01", hours=1), new_agent()
    await gateway.enrolment.Enrol(agent.enrol(token), timeout=TIMEOUT_S)
    gateway.clock.now += timedelta(hours=1)
    code, _ = await refused(gateway.enrolment.Enrol(agent.enrol(token), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.FAILED_PRECONDITION


async def test_of_many_at_once_one_is_enrolled(gateway: Gateway) -> None:
    token = gateway.claim("home-01")
    calls = [gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S) for _ in range(6)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    codes = [o.code() for o in outcomes if isinstance(o, grpc.aio.AioRpcError)]
    assert codes == [grpc.StatusCode.ALREADY_EXISTS] * 5


async def test_unknown_token_is_refused(gateway: Gateway) -> None:
    code, _ = await refused(gateway.enrolment.Enrol(new_agent().enrol("a" * 32), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_expired_token_is_refused(gateway: Gateway) -> None:
    token = gateway.claim("home-01", hours=1)
    gateway.clock.now += timedelta(hours=1)
    code, details = await refused(gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "expired" in details


@pytest.mark.parametrize(
    ("field", "value", "finding"),
    [
        pytest.param("certificate_request", b"", "certificate request", id="no request"),
        pytest.param("certificate_request", b"garbage", "certificate request", id="garbage"),
        pytest.param("nats_public_key", "", "NATS public key", id="no NATS key"),
        pytest.param("nats_public_key", "A" * 56, "NATS public key", id="no user's key"),
    ],
)
async def test_bad_request_is_refused_and_costs_no_token(
    gateway: Gateway, field: str, value: bytes | str, finding: str
) -> None:
    token = gateway.claim("home-01")
    request = new_agent().enrol(token)
    setattr(request, field, value)
    code, details = await refused(gateway.enrolment.Enrol(request, timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert finding in details
    assert (await gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S)).site == "home-01"


async def test_site_describes_itself_and_is_configured(gateway: Gateway) -> None:
    agent, credentials = await gateway.enrolled("home-01")
    stub = gateway.sites(agent.key, credentials.certificate)
    answer = await stub.Configure(DESCRIPTION, timeout=TIMEOUT_S)
    assert (answer.telemetry_interval_ms, list(answer.groups)) == (100, ["fast", "north"])
    assert answer.coordinator_time_ms == gateway.clock.ms
    site = gateway.ledger.site("home-01")
    assert site is not None
    assert site.description is not None
    assert (site.description.rated_power_w, site.description.storage_capacity_wh) == (5000, 10_000)
    assert site.description.devices[0].sunspec_models == (1, 701)


async def test_identity_is_the_certificates(gateway: Gateway) -> None:
    """Two sites, one after the other on the same server: each description lands at its own site."""
    for number, site in enumerate(("home-01", "home-02"), start=1):
        agent, credentials = await gateway.enrolled(site)
        description = site_pb2.SiteDescription(rated_power_w=number)
        await gateway.sites(agent.key, credentials.certificate).Configure(description, timeout=TIMEOUT_S)
    told = {site.site: site.description.rated_power_w for site in gateway.ledger.sites() if site.description}
    assert told == {"home-01": 1, "home-02": 2}


async def test_without_client_certificate_nobody_gets_in(gateway: Gateway) -> None:
    code, _ = await refused(gateway.sites(None, None).Configure(DESCRIPTION, timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.UNAVAILABLE


async def test_certificate_of_a_stranger_is_refused(gateway: Gateway) -> None:
    await gateway.enrolled("home-01")
    key, authority_key = certificates.make_key(), certificates.make_key()
    authority = certificates.make_root(authority_key, number=1, now=BEGIN)
    forged = certificates.issue_site_certificate(
        authority, authority_key, key.public_key(), "home-01", now=BEGIN, lifetime=timedelta(days=1)
    )
    stub = gateway.sites(key, certificates.certificate_pem(forged))
    code, _ = await refused(stub.Configure(DESCRIPTION, timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.UNAVAILABLE


async def test_servers_certificate_is_no_sites(gateway: Gateway) -> None:
    key = serialization.load_pem_private_key(gateway.keyring.server_key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    stub = gateway.sites(key, gateway.keyring.server_certificate_file.read_bytes())
    code, _ = await refused(stub.Configure(DESCRIPTION, timeout=TIMEOUT_S))
    assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED)


async def test_site_that_is_not_in_the_registry_is_refused(gateway: Gateway) -> None:
    key = certificates.make_key()
    certificate = certificates.issue_site_certificate(
        gateway.keyring.authority,
        gateway.keyring.authority_key,
        key.public_key(),
        "home-99",
        now=BEGIN,
        lifetime=timedelta(days=1),
    )
    stub = gateway.sites(key, certificates.certificate_pem(certificate))
    code, details = await refused(stub.Configure(DESCRIPTION, timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "home-99" in details


async def test_replaced_gateway_is_out(gateway: Gateway) -> None:
    old, old_credentials = await gateway.enrolled("home-01")
    gateway.clock.now += timedelta(seconds=10)
    new, new_credentials = await gateway.enrolled("home-01")
    stub = gateway.sites(old.key, old_credentials.certificate)
    code, details = await refused(stub.Configure(DESCRIPTION, timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "enrolled anew" in details
    stub = gateway.sites(new.key, new_credentials.certificate)
    assert (await stub.Configure(DESCRIPTION, timeout=TIMEOUT_S)).telemetry_interval_ms == 100


async def test_renewal_gives_a_later_certificate_for_the_new_keys(gateway: Gateway) -> None:
    agent, credentials = await gateway.enrolled("home-01")
    gateway.clock.now += timedelta(days=7)
    fresh = new_agent()
    stub = gateway.sites(agent.key, credentials.certificate)
    request = site_pb2.RenewRequest(certificate_request=fresh.request(), nats_public_key=fresh.nats_public_key)
    renewed = await stub.Renew(request, timeout=TIMEOUT_S)
    assert renewed.site == "home-01"
    assert renewed.expires_ms - credentials.expires_ms == 7 * 86_400_000
    assert x509.load_pem_x509_certificate(renewed.certificate).public_key() == fresh.key.public_key()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rated_power_w", -1.0),
        ("rated_power_w", float("nan")),
        ("storage_capacity_wh", float("inf")),
        ("soc_min", 0.96),
        ("soc_max", 1.1),
    ],
)
async def test_impossible_description_is_refused_naming_the_field(gateway: Gateway, field: str, value: float) -> None:
    agent, credentials = await gateway.enrolled("home-01")
    description = site_pb2.SiteDescription()
    description.CopyFrom(DESCRIPTION)
    setattr(description, field, value)
    stub = gateway.sites(agent.key, credentials.certificate)
    code, details = await refused(stub.Configure(description, timeout=TIMEOUT_S))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert field in details


async def test_port_in_use_is_refused(keyring: Keyring) -> None:
    with listening_socket(HOST, 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=rf"port {port} .*listen\.site_port"):
            servers.bind_tls(
                servers.make_server(), keyring, host=HOST, port=port, key="site_port", client_certificates=True
            )


async def test_claims_made_used_and_refused_are_in_the_audit_log(gateway: Gateway) -> None:
    token = gateway.claim("home-01", hours=1)
    await gateway.enrolment.Enrol(new_agent().enrol(token), timeout=TIMEOUT_S)
    for attempt in (token, "a" * 32):
        await refused(gateway.enrolment.Enrol(new_agent().enrol(attempt), timeout=TIMEOUT_S))
    told = [(entry.action, entry.subject) for entry in gateway.ledger.audit_entries()]
    assert told[:3] == [("site.added", "home-01"), ("claim.made", "home-01"), ("claim.used", "home-01")]
    assert told[3:] == [("claim.refused", "home-01"), ("claim.refused", "")]
    problems = [json.loads(entry.detail)["problem"] for entry in gateway.ledger.audit_entries(3)]
    assert problems == ["used", "unknown"]
    assert all(token not in entry.detail for entry in gateway.ledger.audit_entries())


async def test_changed_limits_are_in_the_audit_log_once(gateway: Gateway) -> None:
    agent, credentials = await gateway.enrolled("home-01")
    stub = gateway.sites(agent.key, credentials.certificate)
    for rated_power_w in (5000, 5000, 9000):
        description = site_pb2.SiteDescription(rated_power_w=rated_power_w)
        await stub.Configure(description, timeout=TIMEOUT_S)
    told = [json.loads(e.detail) for e in gateway.ledger.audit_entries() if e.action == "limits.told"]
    assert [detail["rated_power_w"] for detail in told] == ["5000.0", "9000.0"]
