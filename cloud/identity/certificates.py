"""X.509: root and issuing authority, the servers' certificate, and client certificates for sites.

A site is named in its certificate by the URI `urn:murmuration:site:<site>` (and by the common name, for people). The
server's certificate carries DNS names and addresses only, so it can never pass for a site's.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protos import subjects

SITE_URI: Final = "urn:murmuration:site:"
AUTHORITY_LIFETIME: Final = timedelta(days=20 * 365)
ISSUING_LIFETIME: Final = timedelta(days=5 * 365)
SERVER_LIFETIME: Final = timedelta(days=2 * 365)
# A node of the broker's cluster is the client of another one. To be a site takes a site's name.
SERVER_USAGE: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
# A clock that is a little behind must not find a fresh certificate "not yet valid".
BACKDATE: Final = timedelta(minutes=5)


class RequestError(ValueError):
    """A certificate request that cannot be honoured; the text says why."""


def make_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def make_root(key: ec.EllipticCurvePrivateKey, *, number: int, now: datetime) -> x509.Certificate:
    """The certificate that everything hangs on, signed by itself."""
    name = _authority_name("root", number)
    builder = _builder(name, name, key.public_key(), now - BACKDATE, now + AUTHORITY_LIFETIME)
    return _authority(builder, key.public_key(), key, None, path_length=2)


def cross_sign(
    root: x509.Certificate, former: x509.Certificate, former_key: ec.EllipticCurvePrivateKey, *, now: datetime
) -> x509.Certificate:
    """The former root's word for the new one: who trusts the former only follows it to the new."""
    expires = min(root.not_valid_after_utc, former.not_valid_after_utc)
    key = _public(root)
    builder = _builder(root.subject, former.subject, key, now - BACKDATE, expires)
    return _authority(builder, key, former_key, former, path_length=1)


def make_issuing(
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
    *,
    number: int,
    now: datetime,
) -> x509.Certificate:
    """An authority that may sign servers' and sites' certificates and no further authority."""
    expires = min(now + ISSUING_LIFETIME, root.not_valid_after_utc)
    builder = _builder(_authority_name("issuing", number), root.subject, public_key, now - BACKDATE, expires)
    return _authority(builder, public_key, root_key, root, path_length=0)


def number_of(authority: x509.Certificate) -> int:
    """Which of its level an authority is, from 1."""
    (name,) = authority.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return int(str(name.value).rsplit(" ", 1)[1])


def make_server_certificate(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
    hosts: Sequence[str],
    *,
    now: datetime,
) -> x509.Certificate:
    """For the gRPC servers and the broker, under every name and address in `hosts`."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    expires = min(now + SERVER_LIFETIME, authority.not_valid_after_utc)
    return _issue(
        authority,
        authority_key,
        _builder(name, authority.subject, public_key, now - BACKDATE, expires)
        .add_extension(x509.SubjectAlternativeName(general_names(hosts)), critical=False)
        .add_extension(x509.ExtendedKeyUsage(SERVER_USAGE), critical=False),
        public_key,
    )


def parse_request(der: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a PKCS#10 request whose sender holds the private one. Raises RequestError.

    Only the key is taken from a request: what stands in the certificate is the coordinator's own word.
    """
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        valid = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise RequestError("certificate request: give PKCS#10 in DER, with a key on the curve P-256") from error
    if not valid:
        raise RequestError("certificate request: its signature does not fit its key (no proof of possession)")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RequestError("certificate request: give a key on the curve P-256")
    return key


def issue_site_certificate(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
    site: str,
    *,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """A client certificate for `site`. ValueError for a name that check_name refuses."""
    uri = x509.UniformResourceIdentifier(SITE_URI + subjects.check_name(site, "site"))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    expires = min(now + lifetime, authority.not_valid_after_utc)
    return _issue(
        authority,
        authority_key,
        _builder(name, authority.subject, public_key, now - BACKDATE, expires)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False),
        public_key,
    )


def site_from_names(names: Iterable[bytes]) -> str | None:
    """The site that a verified certificate's alternative names stand for; None if they name no site or several."""
    sites = [
        name.decode("utf-8", "replace").removeprefix(SITE_URI) for name in names if name.startswith(SITE_URI.encode())
    ]
    if len(sites) != 1:
        return None
    try:
        return subjects.check_name(sites[0], "site")
    except ValueError:
        return None


def general_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    """Alternative names for a server reached under `hosts`, addresses as addresses."""
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def now_utc() -> datetime:
    return datetime.now(UTC)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime, expires: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(expires)
    )


def _issue(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    builder: x509.CertificateBuilder,
    public_key: ec.EllipticCurvePublicKey,
) -> x509.Certificate:
    issuer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _authority_name(level: str, number: int) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Murmuration {level} {number}")])


def _authority(
    builder: x509.CertificateBuilder,
    public_key: ec.EllipticCurvePublicKey,
    signing_key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    *,
    path_length: int,
) -> x509.Certificate:
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    if issuer is not None:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
    return builder.sign(signing_key, hashes.SHA256())


def _public(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 (made here)
    return key


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
