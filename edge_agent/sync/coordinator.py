"""The coordinator's gRPC services, as an agent calls them."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc

from edge_agent.model.clock import Clock
from edge_agent.sync.claim import Claim
from edge_agent.sync.clock import Measurement, measured
from edge_agent.sync.keys import Keys
from protos.vpp.v1.site_pb2 import (
    Credentials,
    DownloadRequest,
    EnrolRequest,
    RenewRequest,
    SiteConfiguration,
    SiteDescription,
)
from protos.vpp.v1.site_pb2_grpc import EnrolmentStub, SiteServiceStub

CALL_TIMEOUT_S = 15.0
DOWNLOAD_TIMEOUT_S = 600.0  # then it goes on from where it was
# The NATS session goes straight to the coordinator, so this must be possible; a proxy for one of two is a trap.
CHANNEL_OPTIONS = (("grpc.enable_http_proxy", 0),)

Reply = TypeVar("Reply")


class Unreachable(Exception):
    """No answer now; a later attempt may succeed."""


class Refused(Exception):
    """The coordinator's answer is no; asking again does not change it."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Untrusted(Refused):
    """What answers cannot prove to be the coordinator."""

    def __init__(self, text: str) -> None:
        super().__init__(grpc.StatusCode.UNAUTHENTICATED, text)


@dataclass(frozen=True, slots=True)
class Configured:
    """The coordinator's answer to a site description, and what it says about this gateway's clock."""

    configuration: SiteConfiguration
    time: Measurement


_FINAL = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
}


class CoordinatorClient:
    """Calls the services, one at a time. A channel lives as long as its call: they are hours apart."""

    def __init__(self, site: str, keys: Keys, clock: Clock, agent_version: str) -> None:
        self._site = site
        self._keys = keys
        self._clock = clock
        self._agent_version = agent_version
        self._turn = asyncio.Lock()

    async def enrol(self, claim: Claim) -> Credentials:
        """Exchanges the claim for credentials. Raises Unreachable, Refused, Untrusted."""
        request = EnrolRequest(
            claim_token=claim.token,
            certificate_request=await self._keys.certificate_request(self._site),
            nats_public_key=self._keys.nats_public,
            agent_version=self._agent_version,
        )
        ca = claim.ca_certificates.encode()
        trust = grpc.ssl_channel_credentials(root_certificates=ca)
        return await self._call(claim.enrolment, trust, ca, _enrol, request)

    async def configure(self, credentials: Credentials, description: SiteDescription) -> Configured:
        """Tells what stands at the site. Raises Unreachable, Refused, Untrusted."""
        before_s = self._clock.monotonic_s()
        configuration = await self._as_site(credentials, lambda stub: stub.Configure, description)
        time = measured(before_s, self._clock.monotonic_s(), configuration.coordinator_time_ms)
        return Configured(configuration, time)

    async def renew(self, credentials: Credentials, *, certificate: bool) -> Credentials:
        """New credentials for the same keys, with a new certificate or without.

        Raises Unreachable, Refused, Untrusted.
        """
        request = RenewRequest(
            certificate_request=await self._keys.certificate_request(self._site) if certificate else b"",
            nats_public_key=self._keys.nats_public,
        )
        return await self._as_site(credentials, lambda stub: stub.Renew, request)

    async def download(self, held: Credentials, sha256: str, path: Path, size: int) -> None:
        """Appends to the file at `path` what is missing of it. Raises Unreachable, Refused, Untrusted, OSError."""
        ca = held.ca_certificates
        with path.open("ab") as file:

            async def fetch(request: DownloadRequest, timeout: float) -> None:
                async for chunk in stub.Download(request, timeout=DOWNLOAD_TIMEOUT_S):
                    if file.tell() + len(chunk.data) > size:
                        raise OSError(f"{sha256[:12]}: more than the {size} bytes that its manifest says")
                    file.write(chunk.data)

            stub: Any = None

            def method(channel: grpc.aio.Channel) -> Callable[..., Awaitable[None]]:
                nonlocal stub
                stub = _site_service(channel)
                return fetch

            request = DownloadRequest(sha256=sha256, offset=file.tell())
            await self._call(held.site_service, self._identity(held), ca, method, request)

    def _identity(self, held: Credentials) -> grpc.ChannelCredentials:
        return self._keys.channel_credentials(held.ca_certificates, held.certificate)

    async def _as_site(
        self, held: Credentials, method: Callable[[Any], Callable[..., Awaitable[Reply]]], request: Any
    ) -> Reply:
        return await self._call(
            held.site_service,
            self._identity(held),
            held.ca_certificates,
            lambda channel: method(_site_service(channel)),
            request,
        )

    async def _call(
        self,
        address: str,
        identity: grpc.ChannelCredentials,
        ca: bytes,
        method: Callable[[grpc.aio.Channel], Callable[..., Awaitable[Reply]]],
        request: Any,
    ) -> Reply:
        async with self._turn, grpc.aio.secure_channel(address, identity, options=CHANNEL_OPTIONS) as channel:
            try:
                return await method(channel)(request, timeout=CALL_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                code, text = error.code(), error.details() or error.code().name
        if code in _FINAL:
            raise Refused(code, text)
        if code is grpc.StatusCode.UNAVAILABLE and (finding := await _certificate_trouble(address, ca)):
            raise Untrusted(finding)
        raise Unreachable(f"{address}: {text}")


def _enrol(channel: grpc.aio.Channel) -> Callable[..., Awaitable[Credentials]]:
    stub: Any = EnrolmentStub(channel)  # type: ignore[no-untyped-call]
    method: Callable[..., Awaitable[Credentials]] = stub.Enrol
    return method


def _site_service(channel: grpc.aio.Channel) -> Any:
    return SiteServiceStub(channel)  # type: ignore[no-untyped-call]


async def _certificate_trouble(address: str, ca: bytes) -> str | None:
    """Why the certificate served at `address` does not prove the coordinator; None if it does, or nothing answers.

    gRPC reports a failed handshake like any other outage, so the difference is asked for with a handshake of our own.
    """
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cadata=ca.decode("ascii"))
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except (OSError, TimeoutError):
        return None
    writer.close()
    return None
