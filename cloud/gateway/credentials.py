"""What a site gets at enrolment and at each renewal: certificate, broker credentials, and where everything is."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.identity import certificates, jwt
from cloud.identity.claims import key_fingerprint
from cloud.identity.keyring import Keyring
from cloud.model.records import Site
from cloud.store.ledger import Ledger
from protos.vpp.v1 import site_pb2

# Broker credentials are renewed daily; the certificate that renews them outlives an outage of weeks.
BROKER_LIFETIME: Final = timedelta(hours=24)
CERTIFICATE_LIFETIME: Final = timedelta(days=45)


class CredentialIssuer:
    """Issues credentials for sites of the registry."""

    def __init__(
        self,
        keyring: Keyring,
        ledger: Ledger,
        *,
        nats_urls: Sequence[str],
        site_service: str,
        next_seq: Callable[[int], int],
    ) -> None:
        """ledger: keeps which broker keys were given out, so that they can be revoked.
        next_seq: the first frame number that a site, given by its slot, has not used as far as the history
            knows.
        """
        self._keyring = keyring
        self._ledger = ledger
        self._nats_urls = tuple(nats_urls)
        self._site_service = site_service
        self._next_seq = next_seq

    def first_seq(self, site: Site) -> int:
        """The first frame number that is free for the site. Reads the history: call it in a thread, holding nothing."""
        return self._next_seq(site.slot)

    def is_current(self, certificate: x509.Certificate) -> bool:
        """Whether the present authority issued it, rather than one that is being retired."""
        return self._keyring.is_current(certificate)

    def issue(
        self,
        site: Site,
        public_key: ec.EllipticCurvePublicKey | None,
        nats_public_key: str,
        *,
        now: datetime,
        certificate_due: bool = False,
    ) -> site_pb2.Credentials:
        """Credentials for the holder of the two keys. ValueError for a key that is not a NATS user's.

        public_key: None where the site's certificate stays as it is. Raises CredentialsRefused when the site was
        revoked meanwhile. Reads and writes the ledger: call it in a thread.
        """
        keyring = self._keyring
        issued_s = int(now.timestamp())
        expires_s = issued_s + int(BROKER_LIFETIME.total_seconds())
        token = jwt.site_jwt(
            keyring.devices,
            keyring.account,
            site.site,
            site.groups,
            nats_public_key,
            behind=self._ledger.behind(site.site),
            now_s=issued_s,
            expires_s=expires_s,
        )
        self._ledger.keep_credentials(
            site,
            nats_public_key,
            issued_ms=int(now.timestamp() * 1000),
            expires_ms=expires_s * 1000,
            gateway_key=None if public_key is None else key_fingerprint(public_key),
        )
        credentials = site_pb2.Credentials(
            site=site.site,
            slot=site.slot,
            partition_token=site.partition_token,
            ca_certificates=keyring.authority_pem,
            nats_jwt=token,
            nats_urls=self._nats_urls,
            site_service=self._site_service,
            command_keys=keyring.command_keys,
            command_key_rotations=[
                site_pb2.CommandKeyRotation(
                    public_key=word.public_key, previous_key_id=word.previous_key_id, signature=word.signature
                )
                for word in keyring.keys.command_rotations
            ],
            issued_ms=int(now.timestamp() * 1000),
            expires_ms=expires_s * 1000,
            certificate_due=certificate_due,
        )
        if public_key is not None:
            certificate = certificates.issue_site_certificate(
                keyring.authority, keyring.authority_key, public_key, site.site, now=now, lifetime=CERTIFICATE_LIFETIME
            )
            credentials.certificate = certificates.certificate_pem(certificate)
            credentials.certificate_expires_ms = int(certificate.not_valid_after_utc.timestamp()) * 1000
        return credentials
