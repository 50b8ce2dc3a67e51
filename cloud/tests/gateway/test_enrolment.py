"""Enrolment and the site service over real gRPC with TLS, as an agent meets them."""

import json
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.gateway import servers
from cloud.gateway.ports import PortError, listening_socket
from cloud.gateway.testing import HOST, new_agent
from cloud.identity import certificates
from cloud.identity.keyring import Keyring
from cloud.tests.gateway.doors import BEGIN, TIMEOUT_S, Gateway, refused
from protos.vpp.v1 import site_pb2

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
    (resource,) = gateway.ledger.resources(site.site)
    assert (resource.name, resource.manufacturer, resource.sunspec_models) == ("hybrid", "Acme", (1, 701))


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
