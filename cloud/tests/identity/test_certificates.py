"""Certificates: issued only to who holds the key, and naming exactly one site."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from cloud.identity import certificates

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SITE_KEY = certificates.make_key()
AUTHORITY_KEY = certificates.make_key()
AUTHORITY = certificates.make_root(AUTHORITY_KEY, number=1, now=NOW)


def request_der(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str = "anything") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def issue(site: str) -> x509.Certificate:
    return certificates.issue_site_certificate(
        AUTHORITY, AUTHORITY_KEY, SITE_KEY.public_key(), site, now=NOW, lifetime=timedelta(days=30)
    )


def test_request_gives_the_key_of_its_sender() -> None:
    assert certificates.parse_request(request_der(SITE_KEY)) == SITE_KEY.public_key()


def tampered() -> bytes:
    """A request whose name was changed after it was signed."""
    der = request_der(SITE_KEY, "anything")
    assert b"anything" in der
    return der.replace(b"anything", b"everyone")


def of_an_unknown_key_type() -> bytes:
    """A request whose key says that it is of a type that there is not (id-publicKeyType with another last arc)."""
    der = request_der(SITE_KEY)
    known = bytes.fromhex("06072a8648ce3d0201")
    assert known in der
    return der.replace(known, bytes.fromhex("06072a8648ce3d0207"))


def of_an_unknown_version() -> bytes:
    der = request_der(SITE_KEY)
    assert b"\x02\x01\x00\x30" in der
    return der.replace(b"\x02\x01\x00\x30", b"\x02\x01\x25\x30", 1)


@pytest.mark.parametrize(
    ("der", "finding"),
    [
        pytest.param(of_an_unknown_version(), "PKCS#10", id="unknown version"),
        pytest.param(of_an_unknown_key_type(), "P-256", id="unknown key type"),
        pytest.param(b"", "PKCS#10", id="nothing"),
        pytest.param(b"\x30\x82garbage", "PKCS#10", id="garbage"),
        pytest.param(tampered(), "proof of possession", id="signature does not fit"),
        pytest.param(request_der(ec.generate_private_key(ec.SECP384R1())), "P-256", id="other curve"),
        pytest.param(request_der(rsa.generate_private_key(65537, 2048)), "P-256", id="RSA"),
    ],
)
def test_bad_requests_are_refused_with_the_reason(der: bytes, finding: str) -> None:
    with pytest.raises(certificates.RequestError, match=finding):
        certificates.parse_request(der)


def test_site_certificate_verifies_as_a_client_and_names_the_site() -> None:
    certificate = issue("home-01")
    verified = PolicyBuilder().store(Store([AUTHORITY])).time(NOW).build_client_verifier().verify(certificate, [])
    assert verified.subjects is not None
    assert [name.value for name in verified.subjects] == ["urn:murmuration:site:home-01"]
    assert certificate.subject.rfc4514_string() == "CN=home-01"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.not_valid_after_utc == NOW + timedelta(days=30)


@pytest.mark.parametrize("site", ["*", "a.b", "", "Home", "home-01\n"])
def test_no_certificate_for_a_name_that_is_none(site: str) -> None:
    with pytest.raises(ValueError, match="site"):
        issue(site)


@pytest.mark.parametrize(
    ("names", "site"),
    [
        pytest.param([b"urn:murmuration:site:home-01"], "home-01", id="one site"),
        pytest.param([b"127.0.0.1", b"urn:murmuration:site:home-01"], "home-01", id="beside an address"),
        pytest.param([], None, id="none"),
        pytest.param([b"localhost", b"127.0.0.1"], None, id="a server's"),
        pytest.param([b"home-01"], None, id="a DNS name is no site"),
        pytest.param([b"urn:murmuration:site:a", b"urn:murmuration:site:b"], None, id="two sites"),
        pytest.param([b"urn:murmuration:site:*"], None, id="wildcard"),
        pytest.param([b"urn:murmuration:site:\xff"], None, id="not UTF-8"),
    ],
)
def test_site_is_taken_from_the_uri_alone(names: list[bytes], site: str | None) -> None:
    assert certificates.site_from_names(names) == site
