"""Helpers of the gateway's tests."""

import asyncio
import os
import select
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from nats.aio.client import Client

from cloud.identity import certificates, nkey
from cloud.identity.nkey import Nkey
from protos.vpp.v1 import site_pb2

HOST: Final = "127.0.0.1"
PASSPHRASE: Final = b"correct horse battery staple"


def utc_now() -> datetime:
    return datetime.now(UTC)


async def gone(pid: int, within_s: float) -> None:
    """Returns when the process has ended. Raises TimeoutError."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = await asyncio.to_thread(select.select, [descriptor], [], [], within_s)
    finally:
        os.close(descriptor)
    if not ready:
        raise TimeoutError(f"process {pid} still runs")


@dataclass
class SiteClient:
    """A site's connection, and what the broker objected to."""

    nc: Client
    errors: list[str] = field(default_factory=list)

    async def objections(self) -> list[str]:
        """What the broker said up to now: its answer to a ping comes after its errors.

        The client writes a ping ahead of what it has buffered, so the second one is the one that counts.
        """
        await self.nc.flush(5)
        await self.nc.flush(5)
        found, self.errors[:] = list(self.errors), []
        return found


class SiteConnect(Protocol):
    """Connects to the broker as a site."""

    async def __call__(self, site: str, groups: tuple[str, ...] = (), signer: Nkey = ...) -> SiteClient: ...


@dataclass
class Agent:
    """An agent's own keys, and the requests it makes with them."""

    key: ec.EllipticCurvePrivateKey
    nats_public_key: str

    def request(self) -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "what it would like to be called")])
        builder = x509.CertificateSigningRequestBuilder().subject_name(name)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def enrol(self, token: str) -> site_pb2.EnrolRequest:
        return site_pb2.EnrolRequest(
            claim_token=token, certificate_request=self.request(), nats_public_key=self.nats_public_key
        )


def new_agent() -> Agent:
    return Agent(certificates.make_key(), nkey.from_seed(nkey.make_seed(nkey.USER), nkey.USER).public)
