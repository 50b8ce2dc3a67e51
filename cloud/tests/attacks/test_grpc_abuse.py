"""The gRPC doors under abuse: too large, without end, silent, by the thousand. Others are served meanwhile."""

import asyncio
import resource
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest

from cloud.testing import DEADLINE_S, Plant
from protos.vpp.v1 import site_pb2, site_pb2_grpc

HALF_OPEN = 10_000

# The attacker, in a process of its own: each end needs a file descriptor for every connection.
ATTACKER = """
import resource, socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
opened = []
for number in range(count):
    one = socket.create_connection((host, port), timeout=30)
    if number % 2:
        one.sendall(bytes((22, 3, 1, 2, 0, 1)))  # the beginning of a ClientHello
    opened.append(one)
print(len(opened), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def door(claim: dict[str, str]) -> AsyncIterator[site_pb2_grpc.EnrolmentStub]:
    """Enrolment, which anybody on the network can reach."""
    trust = grpc.ssl_channel_credentials(claim["ca_certificates"].encode())
    async with grpc.aio.secure_channel(claim["enrolment"], trust) as channel:
        yield site_pb2_grpc.EnrolmentStub(channel)  # type: ignore[no-untyped-call]


async def test_oversize_message_is_refused_and_the_next_is_served(plant: Plant) -> None:
    async with plant.running():
        claim = await plant.claim("home-01")
        async with door(claim) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await stub.Enrol(site_pb2.EnrolRequest(claim_token="x" * 1_000_000), timeout=DEADLINE_S)
            assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await plant.enrol(claim)).credentials.site == "home-01"


async def test_endless_stream_where_one_message_belongs(plant: Plant) -> None:
    """A client that keeps sending on a call that takes one message gets its answer and is done with."""
    async with plant.running():
        claim = await plant.claim("home-01")
        trust = grpc.ssl_channel_credentials(claim["ca_certificates"].encode())
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < 1_000_000:
                sent += 1
                yield site_pb2.EnrolRequest(claim_token="guess").SerializeToString()

        async with grpc.aio.secure_channel(claim["enrolment"], trust) as channel:
            method = channel.stream_unary("/vpp.v1.Enrolment/Enrol", None, None)
            call = method(endless(), timeout=DEADLINE_S)
            with pytest.raises(grpc.aio.AioRpcError):
                await call
        assert sent < 1_000_000
        assert (await plant.enrol(claim)).credentials.site == "home-01"


async def test_ten_thousand_connections_that_say_nothing(plant: Plant, many_descriptors: None) -> None:
    """Opened and left half in their TLS handshake; meanwhile a gateway enrols and another is configured."""
    async with plant.running():
        gateway = await plant.enrol(await plant.claim("home-01"))
        claim = await plant.claim("home-02")
        host, port = claim["enrolment"].rsplit(":", 1)
        pipe = asyncio.subprocess.PIPE
        attacker = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ATTACKER, host, port, str(HALF_OPEN), stdin=pipe, stdout=pipe
        )
        try:
            assert attacker.stdout is not None
            async with asyncio.timeout(3 * DEADLINE_S):
                assert int(await attacker.stdout.readline()) == HALF_OPEN
            assert (await plant.enrol(claim)).credentials.site == "home-02"
            async with gateway.sites() as stub:
                answer = await stub.Configure(site_pb2.SiteDescription(rated_power_w=1), timeout=DEADLINE_S)
            assert answer.coordinator_time_ms > 0
        finally:
            attacker.kill()
            await attacker.communicate()


async def test_slow_client_holds_nobody_up(plant: Plant) -> None:
    """TLS is through and an HTTP/2 call is begun a byte at a time."""
    async with plant.running():
        claim = await plant.claim("home-01")
        host, port = claim["enrolment"].rsplit(":", 1)
        trust = ssl.create_default_context(cadata=claim["ca_certificates"])
        trust.set_alpn_protocols(["h2"])
        writers = []
        for _ in range(50):
            _, writer = await asyncio.open_connection(host, int(port), ssl=trust, server_hostname=host)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[:20])
            writers.append(writer)
        assert (await plant.enrol(claim)).credentials.site == "home-01"
        for writer in writers:
            writer.transport.abort()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_tls_downgrade_is_refused(plant: Plant, version: ssl.TLSVersion) -> None:
    async with plant.running() as run:
        await plant.claim("home-01")
        for address in (run["enrolment"], run["site_service"]):
            host, port = address.rsplit(":", 1)
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
            old.set_ciphers("ALL:@SECLEVEL=0")
            old.minimum_version = old.maximum_version = version
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection(host, int(port), ssl=old)


async def test_plaintext_is_refused(plant: Plant) -> None:
    async with plant.running() as run:
        await plant.claim("home-01")
        for address in (run["enrolment"], run["site_service"]):
            async with grpc.aio.insecure_channel(address) as channel:
                stub = site_pb2_grpc.EnrolmentStub(channel)  # type: ignore[no-untyped-call]
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await stub.Enrol(site_pb2.EnrolRequest(claim_token="x"), timeout=DEADLINE_S)
                assert error.value.code() is grpc.StatusCode.UNAVAILABLE
