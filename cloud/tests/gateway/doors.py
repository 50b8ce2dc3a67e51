"""Both gRPC servers of a coordinator, with what stands behind them, as the tests of enrolment knock at them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.gateway import servers
from cloud.gateway.credentials import CredentialIssuer
from cloud.gateway.enrolment import EnrolmentService
from cloud.gateway.ports import free_port
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
def ledger_place(tmp_path: Path) -> Path | str:
    return tmp_path / "ledger.db"


@pytest.fixture
async def gateway(tmp_path: Path, keyring: Keyring, ledger_place: Path | str) -> AsyncIterator[Gateway]:
    clock = Clock()
    ledger = Ledger(ledger_place)
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
